"""Low-rank factors of a layer's weight: fewer numbers that multiply out to nearly the same.

All are computed in float64. Nothing here is trained: training of the factors comes behind.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Spectrum(NamedTuple):
    """Singular vectors and values of a matrix: ``matrix = left @ diag(values) @ right``.

    Args:
        left: (rows, k).
        values: (k), falling.
        right: (k, columns).
    """

    left: Tensor
    values: Tensor
    right: Tensor


def spectrum(matrix: Tensor) -> Spectrum:
    """The singular value decomposition of a matrix (rows, columns), in float64."""
    return Spectrum(*torch.linalg.svd(matrix.detach().double().cpu(), full_matrices=False))


def rank_of(values: Tensor, energy: float) -> int:
    """The least rank that keeps a share of the energy, the sum of squared singular values; at least 1.

    Args:
        values: singular values, falling.
        energy: 0 to 1.

    >>> rank_of(torch.tensor([3.0, 2.0, 1.0]), 0.9)
    2
    """
    kept = torch.cumsum(values.double().square(), 0)
    enough = kept >= energy * kept[-1] * (1 - 1e-12)  # 1 is reached, whatever rounding says
    return int(torch.argmax(enough.int())) + 1


def pair(found: Spectrum, rank: int) -> tuple[Tensor, Tensor]:
    """Two factors whose product is the best approximation of its rank.

    The error ``||matrix - second @ first||²`` is the sum of the squares of the singular values that are left out (Eckart and Young 1936). Both get
    the square root of each value, so that neither has a much wider range than the other when it is quantized.

    Returns:
        First (rank, columns), and second (rows, rank).

    >>> first, second = pair(spectrum(torch.diag(torch.tensor([4.0, 1.0]))), 1)
    >>> (second @ first).round().tolist()
    [[4.0, 0.0], [0.0, 0.0]]
    """
    root = found.values[:rank].sqrt()
    return root[:, None] * found.right[:rank], found.left[:, :rank] * root


def unfolded(weight: Tensor, axis: int) -> Tensor:
    """A weight as a matrix whose rows are one of its axes."""
    return weight.detach().movedim(axis, 0).flatten(1)


def tucker(weight: Tensor, outputs: Spectrum, inputs: Spectrum, ranks: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
    """Tucker-2: a convolution as one of 1 x 1, one of its own size between fewer channels, and one of 1 x 1.

    ``weight[o, i, ...] ~ sum over p, q of last[o, p] core[p, q, ...] first[q, i]``, last and first being the leading singular vectors of the
    unfoldings (higher-order SVD). No channel axis that keeps its full rank loses anything.

    Args:
        weight: (outputs, inputs, ...).
        outputs, inputs: of `unfolded(weight, 0)` and `unfolded(weight, 1)`.
        ranks: channels that the core gives, and takes.

    Returns:
        First (inputs' rank, inputs), core (outputs' rank, inputs' rank, ...), last (outputs, outputs' rank).

    Reference: Kim et al. 2016, "Compression of Deep Convolutional Neural Networks for Fast and Low Power Mobile Applications", section 3.1; ranks
    there come from variational Bayesian matrix factorization, here from energy.
    """
    last, first = outputs.left[:, : ranks[0]], inputs.left[:, : ranks[1]].T
    core = torch.einsum("oi...,op,qi->pq...", weight.detach().double().cpu(), last, first)
    return first, core, last


def spatial_matrix(weight: Tensor) -> Tensor:
    """A weight (outputs, inputs, height, width) as the matrix (outputs x width, inputs x height) that `spatial` takes apart."""
    return weight.detach().permute(0, 3, 1, 2).flatten(0, 1).flatten(1)


def spatial(weight: Tensor, found: Spectrum, rank: int) -> tuple[Tensor, Tensor]:
    """A convolution as a column of its height, and a row of its width.

    Args:
        weight: (outputs, inputs, height, width).
        found: of `spatial_matrix(weight)`.
        rank: channels between them.

    Returns:
        First (rank, inputs, height, 1), and second (outputs, rank, 1, width).

    Reference: Denton et al. 2014, "Exploiting Linear Structure Within Convolutional Networks for Efficient Evaluation", section 3.2 (there of inputs
    and outputs apart); the matrix is that of Jaderberg et al. 2014, "Speeding up Convolutional Neural Networks with Low Rank Expansions", scheme 2.
    """
    outputs, inputs, height, width = weight.shape
    first, second = pair(found, rank)
    return first.reshape(rank, inputs, height, 1), second.reshape(outputs, width, rank).permute(0, 2, 1)[:, :, None, :].contiguous()
