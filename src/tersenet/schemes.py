"""Number formats as data: which integers a real number becomes.

An affine grid represents a real number ``r`` by an integer ``q`` with ``r = scale * (q - zero_point)``
(Jacob et al. 2018, "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
Inference", equation 1). A `Scheme` says which integers there are and how scales are shared; an `Encoding`
is a scheme with its scales and zero points filled in for one tensor.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from tersenet.errors import RecipeError, unknown

# name -> (bits, signed)
INTEGERS = {
    **{f"int{bits}": (bits, True) for bits in range(2, 9)},
    "uint8": (8, False),
    "int16": (16, True),
    "int32": (32, True),
}
LARGEST = 127  # of int8
GRANULARITIES = ("per-tensor", "per-channel", "per-group")


@dataclass(frozen=True)
class Scheme:
    """Which integers represent a tensor, and how many scales it has.

    Args:
        dtype: one of `INTEGERS`.
        symmetric: the zero point is the middle of the grid (0 for signed integers, 128 for uint8).
        granularity: one scale for the tensor, one for each index of an axis, or one for each group of
            `group_size` neighbours along the last axis within each index of the axis.
        group_size: elements in a group; 0 unless `granularity` is ``per-group``.
        restricted: leave out the lowest integer, so that the grid is symmetric about zero ([-127, 127]).
        power_of_two: scales are powers of two (fixed point, Qm.n).
    """

    dtype: str = "int8"
    symmetric: bool = False
    granularity: str = "per-tensor"
    group_size: int = 0
    restricted: bool = False
    power_of_two: bool = False

    def __post_init__(self) -> None:
        if self.dtype not in INTEGERS:
            raise RecipeError(unknown("integer type", self.dtype, INTEGERS))
        if self.granularity not in GRANULARITIES:
            raise RecipeError(unknown("granularity", self.granularity, GRANULARITIES))
        if (self.granularity == "per-group") != (self.group_size > 0):
            raise RecipeError(f"group_size must be positive for per-group scales and 0 otherwise, got {self.group_size} with {self.granularity}.")

    @property
    def bits(self) -> int:
        return INTEGERS[self.dtype][0]

    @property
    def signed(self) -> bool:
        return INTEGERS[self.dtype][1]

    @property
    def lowest(self) -> int:
        """The smallest integer of the grid."""
        return (-(1 << (self.bits - 1)) if self.signed else 0) + int(self.restricted)

    @property
    def highest(self) -> int:
        """The largest integer of the grid."""
        return (1 << (self.bits - 1)) - 1 if self.signed else (1 << self.bits) - 1


@dataclass(frozen=True)
class Encoding:
    """A scheme with its numbers: what one tensor's real values become.

    Args:
        scheme: the grid.
        scale: positive, float32-representable; one for a tensor, or one for each index of `axis`, or, per group,
            ``size(axis) * groups`` of them, groups of one index side by side.
        zero_point: as many integers as `scale` has numbers.
        axis: the axis that scales run along; None for one scale.
        role: input, weight, bias, activation, constant, gate, state or output.
        shared: name of the group of tensors that must have equal numbers, or "" where none is.
    """

    scheme: Scheme
    scale: tuple[float, ...]
    zero_point: tuple[int, ...]
    axis: int | None = None
    role: str = "activation"
    shared: str = ""

    def __post_init__(self) -> None:
        if len(self.scale) != len(self.zero_point):
            raise RecipeError(f"an encoding needs as many zero points as scales, got {len(self.zero_point)} and {len(self.scale)}.")
        if self.axis is None and len(self.scale) != 1:
            raise RecipeError(f"an encoding of {len(self.scale)} scales must name their axis.")

    @property
    def range(self) -> tuple[float, float]:
        """The smallest and the largest real number of the grid (over all its scales)."""
        lows = [scale * (self.scheme.lowest - zero) for scale, zero in zip(self.scale, self.zero_point, strict=True)]
        highs = [scale * (self.scheme.highest - zero) for scale, zero in zip(self.scale, self.zero_point, strict=True)]
        return min(lows), max(highs)

    def stored_as(self, dtype: str) -> Encoding:
        """The same grid in the other 8-bit type: int8 and uint8 differ by 128 in the zero point alone."""
        if dtype == self.scheme.dtype:
            return self
        if {dtype, self.scheme.dtype} != {"int8", "uint8"}:
            raise RecipeError(f"a grid of {self.scheme.dtype} cannot be stored as {dtype}.")
        shift = 128 if dtype == "uint8" else -128
        scheme = Scheme(**{**asdict(self.scheme), "dtype": dtype})
        return Encoding(scheme, self.scale, tuple(zero + shift for zero in self.zero_point), self.axis, self.role, self.shared)

    def in_bytes(self) -> Encoding:
        """A grid of fewer than 8 bits among the integers of int8, its largest on 127, where kernels clip by themselves; every other stays.

        >>> Encoding(Scheme("int4"), (0.5,), (-8,)).in_bytes().zero_point
        (112,)
        """
        if self.scheme.bits >= 8:
            return self
        shift = LARGEST - self.scheme.highest
        scheme = Scheme(**{**asdict(self.scheme), "dtype": "int8", "symmetric": False})
        return Encoding(scheme, self.scale, tuple(zero + shift for zero in self.zero_point), self.axis, self.role, self.shared)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> Encoding:
        return cls(
            Scheme(**record["scheme"]),
            tuple(record["scale"]),
            tuple(record["zero_point"]),
            record["axis"],
            record["role"],
            record["shared"],
        )
