"""Windows that slide: how much Keras pads for ``same``, and how that is said to torch, which pads both sides alike."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

Sides = list[tuple[int, int]]


def same(lengths: Sequence[int], window: Sequence[int], strides: Sequence[int], dilation: Sequence[int]) -> Sides:
    """The padding before and behind each axis for ``same``: as much as gives ceil(length / stride) places, the odd one behind.

    Args:
        lengths: of the axes that the window slides over.
        window, strides, dilation: one for each.
    """
    sides = []
    for length, size, stride, spread in zip(lengths, window, strides, dilation, strict=True):
        reach = (size - 1) * spread + 1
        # Not by the length where the stride is one: it may be open.
        total = reach - 1 if stride == 1 else max(0, (-(-length // stride) - 1) * stride + reach - length)
        sides.append((total // 2, total - total // 2))
    return sides


def padded(x: Tensor, sides: Sides) -> tuple[Tensor, list[int]]:
    """A tensor that is padded with zeros where the two sides differ, and what is left for the operator to pad: alike on both."""
    if all(before == behind for before, behind in sides):
        return x, [before for before, _ in sides]
    return F.pad(x, [side for pair in reversed(sides) for side in pair]), [0] * len(sides)
