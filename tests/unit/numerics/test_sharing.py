"""Codebooks against scikit-learn's k-means, and spans that undo what was folded into channels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import KMeans

from tersenet.errors import RecipeError
from tersenet.numerics.sharing import INITIALIZATIONS, codebook, means, shared_span


@pytest.mark.parametrize("count", [2, 5, 16])
def test_a_codebook_is_that_of_k_means_from_the_same_start(count: int) -> None:
    numbers = np.random.default_rng(count).triangular(-1, 0.2, 1, 400)
    start = np.linspace(numbers.min(), numbers.max(), count)[:, None]
    reference = KMeans(count, init=start, n_init=1, tol=0, max_iter=300).fit(numbers[:, None])
    values, places = codebook(torch.from_numpy(numbers), count)
    assert np.allclose(values.numpy(), np.sort(reference.cluster_centers_[:, 0]), atol=1e-9)
    assert float((values[places] - torch.from_numpy(numbers)).square().sum()) == pytest.approx(reference.inertia_)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(-10, 10, width=32), min_size=1, max_size=60), st.integers(1, 9), st.sampled_from(INITIALIZATIONS))
def test_each_number_has_the_nearest_value_and_each_value_is_the_mean_of_its_numbers(numbers: list[float], count: int, start: str) -> None:
    tensor = torch.tensor(numbers, dtype=torch.float64)
    values, places = codebook(tensor, count, start)
    again, same = codebook(tensor, count, start)
    assert torch.equal(values, again)
    assert torch.equal(places, same)
    assert len(values) <= count
    distances = (tensor[:, None] - values).abs()
    assert torch.allclose(distances.gather(1, places[:, None])[:, 0], distances.amin(1), atol=1e-9)
    assert torch.allclose(means(tensor, places, len(values)), values, atol=1e-6)


def test_few_different_numbers_stay_as_they_are() -> None:
    values, places = codebook(torch.tensor([[3.0, 1.0], [1.0, 3.0]]), 8)
    assert values.tolist() == [1.0, 3.0]
    assert places.tolist() == [[1, 0], [0, 1]]


def test_an_unknown_start_is_refused() -> None:
    with pytest.raises(RecipeError, match="did you mean 'linear'"):
        codebook(torch.zeros(3), 2, "linaer")


def test_spans_have_the_factors_of_the_channels() -> None:
    source = torch.tensor([[0.5, -1.0], [0.25, 0.5], [0.0, 0.0]])
    factors = torch.tensor([[2.0], [-4.0], [3.0]])
    assert shared_span(source * factors, source, 0).tolist() == [2.0, 4.0, 4.0], "a channel of zeros takes any"
    integers = torch.round(source * factors / shared_span(source * factors, source, 0)[:, None] * 127)
    assert integers.tolist() == [[64.0, -127.0], [-32.0, -64.0], [0.0, 0.0]]
    assert shared_span(torch.zeros(2, 3), torch.zeros(2, 3), 0).tolist() == [1.0, 1.0]
