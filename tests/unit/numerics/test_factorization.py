"""Factors against numpy's own singular values."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tersenet.numerics.factorization import pair, rank_of, spatial, spatial_matrix, spectrum, tucker, unfolded


def weight(*shape: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(3).standard_normal(shape)).float()


@pytest.mark.parametrize("shape", [(6, 10), (10, 6), (5, 5)])
def test_what_a_truncated_svd_loses_is_the_singular_values_that_it_leaves_out(shape: tuple[int, int]) -> None:
    matrix = weight(*shape)
    values = np.linalg.svd(matrix.double().numpy(), compute_uv=False)
    for rank in range(1, 6):
        first, second = pair(spectrum(matrix), rank)
        assert first.shape == (rank, shape[1])
        assert second.shape == (shape[0], rank)
        lost = float((matrix - second @ first).square().sum())
        assert lost == pytest.approx(float((values[rank:] ** 2).sum()), abs=1e-10)


def test_a_rank_is_the_least_that_keeps_the_energy() -> None:
    values = torch.tensor([4.0, 2.0, 1.0, 0.0])
    squares = values.double().square().numpy()
    for rank in range(1, 4):
        share = float(squares[:rank].sum() / squares.sum())
        assert rank_of(values, share) == rank
        assert rank_of(values, share - 1e-6) == rank
    assert rank_of(values, 1.0) == 3, "a value of 0 keeps nothing"
    assert rank_of(values, 0.0) == 1


def test_tucker_at_full_ranks_is_the_weight_itself() -> None:
    kernel = weight(6, 4, 3, 2)
    first, core, last = tucker(kernel, spectrum(unfolded(kernel, 0)), spectrum(unfolded(kernel, 1)), (6, 4))
    assert torch.allclose(torch.einsum("op,pqhw,qi->oihw", last, core, first), kernel.double(), atol=1e-10)


def test_tucker_loses_no_more_than_what_both_unfoldings_leave_out() -> None:
    """De Lathauwer et al. 2000, "A Multilinear Singular Value Decomposition", property 10; and no less than the worse of both alone."""
    kernel = weight(6, 4, 3, 3)
    first, core, last = tucker(kernel, spectrum(unfolded(kernel, 0)), spectrum(unfolded(kernel, 1)), (3, 2))
    lost = float((torch.einsum("op,pqhw,qi->oihw", last, core, first) - kernel).square().sum())
    left_out = [float((np.linalg.svd(unfolded(kernel, axis).numpy(), compute_uv=False)[rank:] ** 2).sum()) for axis, rank in ((0, 3), (1, 2))]
    assert max(left_out) <= lost <= sum(left_out) + 1e-6


def test_spatial_factors_lose_the_singular_values_that_they_leave_out() -> None:
    kernel = weight(5, 4, 3, 2)
    found = spectrum(spatial_matrix(kernel))
    values = np.linalg.svd(kernel.permute(0, 3, 1, 2).reshape(10, 12).double().numpy(), compute_uv=False)
    for rank in (1, 4, 10):
        column, row = spatial(kernel, found, rank)
        assert column.shape == (rank, 4, 3, 1)
        assert row.shape == (5, rank, 1, 2)
        whole = torch.einsum("rihx,orxw->oihw", column, row)
        assert float((whole - kernel).square().sum()) == pytest.approx(float((values[rank:] ** 2).sum()), abs=1e-10)
