"""What goes in and comes out: of a network (`TensorSpec`) and of a file that ships (`Port`). Plain data, no framework."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class TensorSpec:
    """An input or output of a network.

    Args:
        name: as the source names it.
        shape: sizes; None where any size is taken (the batch, a sequence's length).
        dtype: numpy's name: float32, int64, bool ...
        layout: NCHW, NHWC, NCW, NWC ... where known, else "".
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: str
    layout: str = ""


def class_axis(shape: Sequence[int], layout: str = "") -> int:
    """Where an output's classes are, where no labels tell.

    Args:
        shape: of the output, the samples first: (n, classes), (n, classes, height, width), (n, length, classes) ...
        layout: of the network's first input (NCHW, NHWC ...), which dense outputs of as many axes have too; "" where it is not known.

    Returns:
        The only axis with several sizes; where there are more, that of the layout's channels; without a layout the last of (n, length, classes),
        and of images whichever of axis 1 and the last differs from all others, or is the shorter one.

    >>> class_axis((8, 3, 16, 16)), class_axis((8, 16, 16, 3)), class_axis((8, 150, 32, 64), "NCHW"), class_axis((8, 10, 1, 1))
    (1, 3, 1, 1)
    """
    last = len(shape) - 1
    wide = [axis for axis in range(1, len(shape)) if shape[axis] != 1]
    if len(wide) == 1:
        return wide[0]
    if len(layout) == len(shape) > 3 and "C" in layout:
        return layout.index("C")
    if len(shape) <= 3:  # sequences: a convolution's input says nothing of what comes behind a permute
        return last
    for axis, others in ((1, set(shape[2:])), (last, set(shape[1:last]))):
        if len(others) == 1 and shape[axis] not in others:
            return axis
    return 1 if shape[1] < shape[last] else last


@dataclass(frozen=True)
class Port:
    """An input or output of a file, as whoever deploys it must feed it.

    Args:
        name: the tensor's name in the file.
        shape: in the file; None where any size is taken.
        dtype: in the file.
        layout: in the file, where known, else "".
        source: the name of the network's own input or output.
        axes: the source's axes in the order in which the file has them ((0, 2, 3, 1) for NCHW laid out as NHWC).
        scale, zero_point: for integer ports: real = scale * (integer - zero_point); None for others.
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: str
    layout: str = ""
    source: str = ""
    axes: tuple[int, ...] = ()
    scale: float | None = None
    zero_point: int | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain data, in which axes are always written out."""
        return {**asdict(self), "axes": list(self.axes or range(len(self.shape)))}

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> Port:
        return cls(**{**record, "shape": tuple(record["shape"]), "axes": tuple(record["axes"])})
