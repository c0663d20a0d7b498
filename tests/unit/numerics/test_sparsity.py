"""Masks against plain loops."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tersenet.errors import RecipeError
from tersenet.numerics import sparsity


@given(st.integers(1, 40), st.floats(0, 1), st.integers(0, 99))
def test_the_smallest_go(size, ratio, seed):
    values = torch.rand(size, generator=torch.Generator().manual_seed(seed))
    mask = sparsity.smallest(values, ratio)
    assert int((~mask).sum()) == round(ratio * size)
    if 0 < mask.sum() < size:
        assert values[mask].min() >= values[~mask].max()


@given(st.integers(1, 9), st.integers(1, 11), st.integers(1, 3), st.integers(2, 5), st.integers(0, 99))
def test_n_of_m_by_a_loop(rows, columns, n, m, seed):
    if n >= m:
        return
    values = torch.rand(rows, columns, 2, generator=torch.Generator().manual_seed(seed))
    mask = sparsity.n_of_m(values, n, m)
    for row in range(rows):
        for place in range(2):
            for start in range(0, columns, m):
                part = values[row, start : start + m, place]
                wanted = torch.zeros(len(part), dtype=torch.bool)
                wanted[part.argsort(descending=True)[:n]] = True
                assert torch.equal(mask[row, start : start + m, place], wanted)


def test_blocks_by_a_loop():
    values = torch.rand(6, 5, generator=torch.Generator().manual_seed(0))
    mask = sparsity.blocks(values, (4, 2), 0.5)
    means = {(r, c): float(values[r : r + 4, c : c + 2].mean()) for r in (0, 4) for c in (0, 2, 4)}
    gone = sorted(means, key=means.__getitem__)[:3]
    for r, c in means:
        assert bool(mask[r : r + 4, c : c + 2].any()) == bool(mask[r : r + 4, c : c + 2].all()) == ((r, c) not in gone)


def test_no_pattern():
    with pytest.raises(RecipeError, match="got 4:4"):
        sparsity.n_of_m(torch.ones(4, 4), 4, 4)
