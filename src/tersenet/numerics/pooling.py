"""Means as integer kernels compute them: over integers, with the kernel's own rounding of halves.

With windows of four every fourth mean is a half; in floats the rounding of the scale decides such ties at random.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import avg_pool1d, avg_pool2d


def mean_of_integers(
    tensor: Tensor, window: Sequence[Sequence[int]], ceil_mode: bool, count_include_pad: bool, scale: float, zero_point: int, halves: str
) -> Tensor:
    """Average pooling whose input and result share a grid.

    Args:
        tensor: (n, channels, length) or (n, channels, height, width), values of the grid.
        window: kernel, stride and padding, each a number for each axis.
        ceil_mode, count_include_pad: as in torch.
        scale, zero_point: of the grid.
        halves: ``even``, or ``away`` (from the integer zero, not the real one).

    Returns:
        Values of the grid.

    >>> grid = torch.tensor([[[0.5, 1.0]]])
    >>> [float(mean_of_integers(grid, ([2], [2], [0]), False, True, 0.5, 0, halves)) for halves in ("even", "away")]
    [1.0, 1.0]
    >>> [float(mean_of_integers(grid, ([2], [2], [0]), False, True, 0.5, -2, halves)) for halves in ("even", "away")]
    [1.0, 0.5]
    """
    kernel, stride, padding = (list(numbers) for numbers in window)
    pool = avg_pool1d if tensor.dim() == 3 else avg_pool2d
    mean = pool(torch.div(tensor, scale).round_(), kernel, stride, padding, ceil_mode, count_include_pad)
    if halves == "even":
        return mean.round().mul_(scale)
    stored = mean + zero_point
    return (stored.abs().add_(0.5).floor_().mul_(stored.sign()) - zero_point).mul_(scale)
