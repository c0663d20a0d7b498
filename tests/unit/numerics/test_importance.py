"""Criteria of importance against plain loops and hand-made numbers."""

import numpy as np
import pytest
import torch

from tersenet.errors import RecipeError
from tersenet.numerics import importance


@pytest.fixture
def weight() -> torch.Tensor:
    return torch.randn(5, 4, 3, 3, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("power", [1, 2])
def test_magnitude(weight, axis, power):
    wanted = [float((weight.select(axis, i).abs() ** power).sum() ** (1 / power)) for i in range(weight.shape[axis])]
    assert np.allclose(importance.magnitude(weight, axis, power=power).numpy(), wanted, rtol=1e-5)


def test_taylor_is_the_change_of_a_linear_loss(weight):
    """Of a loss that is linear in the weights the estimate is exact."""
    gradient = torch.randn(weight.shape, generator=torch.Generator().manual_seed(1))
    loss = float((weight * gradient).sum())
    for channel in range(5):
        without = weight.clone()
        without[channel] = 0
        change = abs(float((without * gradient).sum()) - loss)
        assert np.isclose(float(importance.taylor(weight, gradient)[channel]), change, rtol=1e-4, atol=1e-5)


def test_fisher_is_half_the_mean_square(weight):
    gradients = [torch.randn(weight.shape, generator=torch.Generator().manual_seed(seed)) for seed in (1, 2, 3)]
    wanted = np.mean([[float((weight[i] * g[i]).sum()) ** 2 / 2 for i in range(5)] for g in gradients], 0)
    assert np.allclose(importance.fisher(weight, gradients).numpy(), wanted, rtol=1e-4)


def test_activations():
    values = torch.tensor([[[1.0, -3.0], [0.0, 0.0]], [[0.0, 4.0], [0.0, 2.0]]])  # (samples, channels, places)
    assert importance.activation(values).tolist() == [2.0, 0.5]
    assert importance.nonzeros(values).tolist() == [0.75, 0.25]


def test_the_median_is_what_others_can_replace(weight):
    rows = weight.reshape(5, -1).numpy()
    wanted = [sum(np.linalg.norm(row - other) for other in rows) for row in rows]
    assert np.allclose(importance.median_distance(weight).numpy(), wanted, rtol=1e-4)
    line = torch.tensor([[0.0], [1.0], [2.0], [3.0], [10.0]])
    assert int(importance.median_distance(line).argmin()) == 2


def test_chance_is_seeded():
    assert torch.equal(importance.random(7, 3), importance.random(7, 3))
    assert not torch.equal(importance.random(7, 3), importance.random(7, 4))


def test_groups_are_compared_by_their_mean():
    scores = [torch.tensor([1.0, 3.0]), torch.tensor([5.0, 7.0])]
    assert importance.aggregate(scores, "sum", normalize=False).tolist() == [6.0, 10.0]
    assert np.isclose(float(importance.aggregate(scores).mean()), 1.0)
    assert importance.aggregate(scores, "max", normalize=False).tolist() == [5.0, 7.0]
    assert importance.aggregate(scores, "first", normalize=False).tolist() == [1.0, 3.0]
    with pytest.raises(RecipeError, match="unknown reduction 'median'"):
        importance.aggregate(scores, "median")
