"""Which single weights go: masks by rank, by blocks, and N of every M neighbours.

A mask is True where a weight stays. Importance is larger for what matters more; equal importances leave in the order in which they stand.
"""

from __future__ import annotations

import torch
from torch.nn import functional

from tersenet.errors import RecipeError


def smallest(importance: torch.Tensor, ratio: float) -> torch.Tensor:
    """Take out the share `ratio` of all weights that matters least.

    Args:
        importance: any shape.
        ratio: 0 to 1; rounded to a whole number of weights.

    Returns:
        A mask of the same shape.

    >>> smallest(torch.tensor([3.0, 1.0, 2.0, 4.0]), 0.5)
    tensor([ True, False, False,  True])

    Reference: Han et al. 2015, "Learning both Weights and Connections for Efficient Neural Networks".
    """
    flat = importance.reshape(-1)
    mask = torch.ones(len(flat), dtype=torch.bool)
    mask[torch.argsort(flat, stable=True)[: round(ratio * len(flat))]] = False
    return mask.reshape(importance.shape)


def blocks(importance: torch.Tensor, shape: tuple[int, int], ratio: float) -> torch.Tensor:
    """Take out whole blocks: the share `ratio` of them whose summed importance per weight is least.

    Args:
        importance: (rows, ...); all axes behind the first are one, as a matrix product reads them. Blocks at the ends may be smaller.
        shape: rows and columns of a block.
        ratio: 0 to 1; rounded to a whole number of blocks.

    Returns:
        A mask of the shape of `importance`.

    Reference: Narang et al. 2017, "Block-Sparse Recurrent Neural Networks" (there the maximum of a block; here its mean).
    """
    matrix = importance.reshape(len(importance), -1).float()
    rows, columns = (-(-size // part) for size, part in zip(matrix.shape, shape, strict=True))
    padding = (0, columns * shape[1] - matrix.shape[1], 0, rows * shape[0] - matrix.shape[0])
    sums = _blocked(functional.pad(matrix, padding), shape)
    counts = _blocked(functional.pad(torch.ones_like(matrix), padding), shape)
    kept = smallest(sums / counts, ratio)
    whole = kept.repeat_interleave(shape[0], 0).repeat_interleave(shape[1], 1)
    return whole[: matrix.shape[0], : matrix.shape[1]].reshape(importance.shape)


def _blocked(matrix: torch.Tensor, shape: tuple[int, int]) -> torch.Tensor:
    return matrix.reshape(matrix.shape[0] // shape[0], shape[0], matrix.shape[1] // shape[1], shape[1]).sum((1, 3))


def n_of_m(importance: torch.Tensor, n: int, m: int, axis: int = 1) -> torch.Tensor:
    """Keep the n that matter most of every m neighbours along an axis; the last neighbours, fewer than m, keep n at most.

    Args:
        importance: any shape.
        n, m: 0 < n < m.
        axis: inputs of a layer (1 of a convolution's or a linear layer's weight), which a kernel's products run along.

    Returns:
        A mask of the same shape.

    Raises:
        RecipeError: n and m make no pattern.

    >>> n_of_m(torch.tensor([[3.0, 1.0, 2.0, 4.0]]), 2, 4)
    tensor([[ True, False, False,  True]])

    Reference: Mishra et al. 2021, "Accelerating Sparse Deep Neural Networks" (2:4).
    """
    if not 0 < n < m:
        raise RecipeError(f"a pattern n:m keeps n of every m neighbours, with 0 < n < m; got {n}:{m}.")
    rows = importance.movedim(axis, -1)
    size = rows.shape[-1]
    padded = functional.pad(rows.float(), (0, -size % m), value=-torch.inf)
    grouped = padded.reshape(*padded.shape[:-1], -1, m)
    order = torch.argsort(grouped, dim=-1, descending=True, stable=True)
    mask = torch.zeros_like(grouped, dtype=torch.bool).scatter(-1, order[..., :n], True)
    return mask.reshape(padded.shape)[..., :size].movedim(-1, axis).contiguous()


def sparsity(mask: torch.Tensor) -> float:
    """Share of weights that a mask takes out."""
    return 1 - float(mask.float().mean()) if mask.numel() else 0.0
