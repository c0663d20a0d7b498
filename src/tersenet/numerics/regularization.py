"""What is added to the loss for a tensor, what a tensor is held to, and noise: as layers of Keras have them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

EPSILON = 1e-7  # that Keras has beside a length that it divides by


def penalty(tensor: Tensor, l1: float, l2: float, orthogonal: float = 0.0, axes: Sequence[int] = ()) -> Tensor:
    """``l1 sum |w| + l2 sum w^2 + orthogonal mean |cos(w_i, w_j)|``, the mean over all pairs of different vectors.

    Args:
        tensor: of any shape.
        axes: those that one vector lies along.

    Returns:
        One number, float32, with a gradient.

    >>> penalty(torch.tensor([[3.0, 4.0]]), 0.1, 0.01)
    tensor(0.9500)
    """
    tensor = tensor.float()
    total = l1 * tensor.abs().sum() + l2 * tensor.square().sum()
    return total + orthogonal * cosines(tensor, axes) if orthogonal else total


def cosines(tensor: Tensor, axes: Sequence[int]) -> Tensor:
    """The mean magnitude of the cosines between different vectors; 0 where there is one alone.

    >>> cosines(torch.tensor([[1.0, 0.0], [1.0, 1.0]]), [1])
    tensor(0.7071)
    """
    across = [axis for axis in range(tensor.dim()) if axis not in axes]
    vectors = F.normalize(tensor.permute(*across, *axes).flatten(len(across)).flatten(0, len(across) - 1), dim=1, eps=EPSILON)
    count = len(vectors)
    products = (vectors @ vectors.T).abs()
    return (products.sum() - products.diagonal().sum()) / max(count * (count - 1), 1)


def scaled(tensor: Tensor, lowest: float, highest: float, rate: float, axes: Sequence[int]) -> Tensor:
    """Vectors w scaled so that their lengths n become ``rate clip(n, lowest, highest) + (1 - rate) n``.

    Args:
        tensor: of any shape.
        axes: those that one vector lies along; none: each number is one.

    >>> scaled(torch.tensor([[3.0, 4.0], [0.3, 0.4]]), 0.0, 2.0, 1.0, [1])
    tensor([[1.2000, 1.6000],
            [0.3000, 0.4000]])
    """
    lengths = torch.linalg.vector_norm(tensor, dim=tuple(axes), keepdim=True) if axes else tensor.abs()
    wanted = rate * lengths.clamp(lowest, highest) + (1 - rate) * lengths
    return tensor * (wanted / (lengths + EPSILON))


def noisy(tensor: Tensor, kind: str, amount: float, shared: Sequence[int] = ()) -> Tensor:
    """A value with noise, drawn from torch's own generator.

    Args:
        tensor: of any shape.
        kind: add, factor or dropout, as `tersenet.annotations.Noise` has them.
        amount: a standard deviation, or of dropout a share.
        shared: axes along which the random numbers are the same.

    Reference: Srivastava et al. 2014, "Dropout: A Simple Way to Prevent Neural Networks from Overfitting", section 10, for the factor.
    """
    sizes = [1 if axis in shared else size for axis, size in enumerate(tensor.shape)]
    if kind == "dropout":
        return tensor * F.dropout(tensor.new_ones(sizes), amount)
    drawn = amount * torch.randn(sizes, dtype=tensor.dtype, device=tensor.device)
    return tensor + drawn if kind == "add" else tensor * (1 + drawn)
