"""Means of integers, against plain Python integers."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tersenet.numerics.pooling import mean_of_integers


def away(total: int, count: int) -> int:
    """As C writes it in the reference kernels: add half, cut the fraction off."""
    return (total + count // 2) // count if total > 0 else -((-total + count // 2) // count)


@given(st.lists(st.integers(-128, 127), min_size=4, max_size=4), st.integers(-128, 127), st.floats(1e-4, 10))
def test_windows_of_four(stored, zero_point, scale):
    scale = float(torch.tensor(scale))
    values = (torch.tensor(stored, dtype=torch.float32) - zero_point).reshape(1, 1, 2, 2) * scale
    window = ([2, 2], [2, 2], [0, 0])
    found = {halves: mean_of_integers(values, window, False, True, scale, zero_point, halves) / scale + zero_point for halves in ("even", "away")}
    assert round(float(found["away"])) == away(sum(stored), 4)
    assert round(float(found["even"])) == zero_point + round((sum(stored) - 4 * zero_point) / 4)
    assert all(math.isclose(float(value), round(float(value)), abs_tol=1e-3) for value in found.values())


@pytest.mark.parametrize("rank", [3, 4])
def test_padding_counts_as_zero(rank):
    values = torch.full([1, 1, *[2] * (rank - 2)], 4.0)
    axes = rank - 2
    window = ([3] * axes, [1] * axes, [1] * axes)
    result = mean_of_integers(values, window, False, True, 1.0, 5, "even")
    assert torch.equal(result, torch.full_like(values, round(4 * 2**axes / 3**axes)))
