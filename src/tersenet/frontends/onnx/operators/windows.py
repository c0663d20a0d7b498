"""What a window slides over: sizes, steps and padding of convolutions and pooling, as ONNX states them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tersenet.errors import ModelError
from tersenet.frontends.onnx.node import Node


@dataclass(frozen=True)
class Window:
    """One number for each spatial axis.

    Args:
        kernel, strides, dilations: of the window.
        before, after: padding on both sides of each axis.
    """

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    before: tuple[int, ...]
    after: tuple[int, ...]

    @property
    def is_even(self) -> bool:
        """The two sides of each axis are padded alike."""
        return self.before == self.after

    @property
    def spans(self) -> tuple[int, ...]:
        """What the window covers, its gaps counted."""
        return tuple((size - 1) * gap + 1 for size, gap in zip(self.kernel, self.dilations, strict=True))

    @property
    def sides(self) -> list[int]:
        """The padding in the order of torch: last axis first."""
        return [side for pair in zip(self.before[::-1], self.after[::-1], strict=True) for side in pair]


def window(node: Node, sizes: Sequence[Any], kernel: Sequence[int]) -> Window:
    """The window of a node.

    Args:
        sizes: of the spatial axes of what it slides over.
        kernel: of the window.
    """
    rank = len(sizes)
    if not 1 <= rank <= 3 or len(kernel) != rank:
        raise ModelError(f"a window must slide over one to three axes, and have a size for each; got {rank} axes and the window {list(kernel)}.")
    strides, dilations = numbers(node, "strides", rank), numbers(node, "dilations", rank)
    mode = node.get("auto_pad", "NOTSET")
    if mode in ("NOTSET", ""):
        pads = list(node.get("pads", [0] * 2 * rank))
        if len(pads) != 2 * rank:
            raise ModelError(f"pads must have two numbers for each of {rank} axes, got {pads}.")
        return Window(tuple(kernel), strides, dilations, tuple(pads[:rank]), tuple(pads[rank:]))
    if mode == "VALID":
        return Window(tuple(kernel), strides, dilations, (0,) * rank, (0,) * rank)
    if mode not in ("SAME_UPPER", "SAME_LOWER"):
        raise ModelError(f"auto_pad must be NOTSET, VALID, SAME_UPPER or SAME_LOWER, got {mode[:40]!r}.")
    totals = [_same(*each) for each in zip(sizes, kernel, strides, dilations, strict=True)]
    small, large = tuple(total // 2 for total in totals), tuple(total - total // 2 for total in totals)
    return Window(tuple(kernel), strides, dilations, *((small, large) if mode == "SAME_UPPER" else (large, small)))


def numbers(node: Node, name: str, rank: int) -> tuple[int, ...]:
    """An attribute with a positive number for each axis; ones where it is left out."""
    values = tuple(node.get(name) or (1,) * rank)
    if len(values) != rank or min(values) < 1:
        raise ModelError(f"{name} must have a positive number for each of {rank} axes, got {list(values)}.")
    return values


def _same(size: Any, kernel: int, stride: int, dilation: int) -> int:
    """Padding that makes the result ceil(size / stride) large."""
    if not isinstance(size, int):
        raise ModelError("padding by auto_pad needs a size of the image that is known; leave open the batch alone.")
    return max((-(-size // stride) - 1) * stride + (kernel - 1) * dilation + 1 - size, 0)
