"""Means over a stream, against numpy's over all of it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tersenet.numerics.means import Mean


@pytest.mark.parametrize("features", [False, True])
def test_batches_of_unequal_sizes(features):
    x = np.random.default_rng(0).standard_normal((21, 3, 5)).astype(np.float32)
    mean = Mean(features)
    for part in (x[:8], x[8:16], x[16:]):
        mean.observe(torch.from_numpy(part))
    expected = x.astype(float).mean((0, 1))[None] if features else x.astype(float).mean(0)[None]
    np.testing.assert_allclose(mean.value().numpy(), expected, atol=1e-6)


def test_a_mean_of_nothing_is_refused():
    with pytest.raises(ValueError, match="at least one batch"):
        Mean().value()
