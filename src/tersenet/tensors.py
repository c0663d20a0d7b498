"""What goes in and comes out: of a network (`TensorSpec`) and of a file that ships (`Port`). Plain data, no framework."""

from __future__ import annotations

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
