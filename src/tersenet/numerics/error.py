"""How far an approximation is from what it stands for."""

from __future__ import annotations

import math

from torch import Tensor

from tersenet.errors import DataError
from tersenet.schemes import Encoding


def sqnr_db(reference: Tensor, approximation: Tensor) -> float:
    """Signal to quantization noise, ``10 log10(sum(r^2) / sum((r - a)^2))``, in decibels.

    Args:
        reference, approximation: of one shape.

    Returns:
        infinity where the two are equal, minus infinity where a reference of zeros alone is missed.

    >>> import torch
    >>> sqnr_db(torch.tensor([3.0, 4.0]), torch.tensor([3.0, 3.5]))
    20.0
    """
    if reference.shape != approximation.shape:
        raise DataError(f"two tensors to compare must have one shape, got {tuple(reference.shape)} and {tuple(approximation.shape)}.")
    reference, approximation = reference.detach().double(), approximation.detach().double()
    signal, noise = float(reference.square().sum()), float((reference - approximation).square().sum())
    if noise == 0:
        return math.inf
    return 10 * math.log10(signal / noise) if signal > 0 else -math.inf


def range_use(tensor_min: float, tensor_max: float, encoding: Encoding) -> float:
    """The share of the grid that a tensor's values span, 0 to 1; what lies outside counts as on the grid's end.

    >>> from tersenet.schemes import Scheme
    >>> range_use(0.0, 127.0, Encoding(Scheme("uint8"), (1.0,), (0,)))
    0.4980392156862745
    """
    low, high = encoding.range
    return (min(max(tensor_max, low), high) - min(max(tensor_min, low), high)) / (high - low)
