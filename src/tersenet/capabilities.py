"""What a runtime can do, as a table of data. Each target has one such table in its own ``capabilities.py``."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field


@dataclass(frozen=True)
class Kernel:
    """What a runtime can do with one kind of operator in integers.

    Args:
        weights: integer types of stored weights, best first; empty for operators without weights.
        activations: types of inputs and result; ``float32`` where weights alone are integers (`dynamic`).
        granularities: of the weights' scales, best first; ``per-gate`` for recurrent ones that have a scale for each gate.
        fuses: kinds of activation that the kernel applies to its own result.
        shares: "" where input and result have scales of their own; ``"result"`` where the result must have the first
            input's numbers; ``"all"`` where all inputs and the result must have equal numbers.
        result: scale and zero point, on the int8 grid, that the kernel demands of its result (softmax, sigmoid, tanh).
        bias: the type that the bias is stored in, ``int32`` (scale = input scale x weight scale) or ``float``.
        halves: how a mean over a window is rounded where it falls between two integers: "even", "away" from zero (of the integers as they are
            stored), or "" where the kernel computes in floats.
        rounding: of results: "nearest" (once, as floats do), or "twice" (in fixed point: after a product with a multiplier of 31 bits, and again
            after its shift, as `tersenet.numerics.fixed_point` says of each kind).
        arithmetic: the library whose kernel it is, where results are not one rounding of what reals give and `tersenet.graph.kernels` follows them:
            "xnnpack" or "mlas"; "" for all others. No part of a plan: the numbers in it are the same.
        constant_operands: whether an operand may be a constant of the file.
        dynamic: for a kernel whose weights alone are integers in the file, what it does with the floats that it multiplies them by, at each run:
            "whole" (all that one product takes goes on one uint8 grid of its extremes and zero), "rows" (each row on an int8 grid of its largest
            magnitude), "never" (weights become floats again, and the arithmetic is theirs); "" for every other kernel.
        four_bits: where files hold its weights of at most 4 bits two a byte, because it computes the same with them in no more time: "always",
            "one row" (where it multiplies one row), "one scale" (where all channels share a scale), "on request" alone (slower, or rounding
            otherwise), or "" (never; it takes none).
        given_states: whether a recurrent kernel can start from a given state and return its last cell state; where one cannot, each step of such
            a layer is written out, its weights as in "never".
        note: a limit worth knowing, for the documentation.
    """

    weights: tuple[str, ...] = ()
    activations: tuple[str, ...] = ("int8",)
    granularities: tuple[str, ...] = ("per-tensor",)
    fuses: tuple[str, ...] = ()
    shares: str = ""
    result: tuple[float, int] | None = None
    bias: str = "int32"
    halves: str = ""
    rounding: str = "nearest"
    arithmetic: str = ""
    constant_operands: bool = True
    dynamic: str = ""
    four_bits: str = ""
    given_states: bool = True
    note: str = ""


@dataclass(frozen=True)
class Capabilities:
    """One runtime, on one instruction set.

    Args:
        name: the runtime, as `--to` names it.
        kernels: integer kernels by operator kind (`tersenet.graph.operators.KINDS`).
        floats: kinds that run in float; None where every kind does. Empty: no float islands.
        float_fuses: for float files: kind -> kinds of activation that the kernel applies to its own result.
        restricted_weights: weights leave out the lowest integer ([-127, 127]).
        saturating_pairs: the kernel adds products of neighbouring weights in 16 bits (x86 without VNNI): the sum of two
            neighbours' magnitudes must stay within 128, else results are clipped.
        reasons: kind -> why it has no integer kernel, where more can be said than "none".
        absent: kinds that the runtime cannot run at all, for its documentation; the exporter refuses them by name.
        integer_io: the file takes and returns integers unless asked otherwise.
        quantizing: the library that brings floats onto a grid, where that is not a division by the scale (`Simulation`): "xnnpack", or "".
        channel_multiple: the number of channels that kernels like multiples of, a power of two: as many as they make at once; a rest costs about as
            much as a whole tile (`benchmarks/channels.py` measures it).
    """

    name: str
    kernels: Mapping[str, Kernel]
    floats: frozenset[str] | None = None
    float_fuses: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    restricted_weights: bool = True
    saturating_pairs: bool = False
    reasons: Mapping[str, str] = field(default_factory=dict)
    absent: frozenset[str] = frozenset()
    integer_io: bool = False
    quantizing: str = ""
    channel_multiple: int = 8

    @property
    def arithmetic(self) -> dict[str, str]:
        """Kind of operator, or "quantize", -> the library that its results follow (`Kernel.arithmetic`, `quantizing`)."""
        known = {"quantize": self.quantizing, **{kind: kernel.arithmetic for kind, kernel in self.kernels.items()}}
        return {kind: library for kind, library in known.items() if library}

    @property
    def digest(self) -> str:
        """Equal for equal tables, in every process: sets have no order of their own."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True, default=sorted).encode()).hexdigest()

    def why_float(self, kind: str) -> str:
        """Why an operator of this kind stays in float."""
        return self.reasons.get(kind, f"no integer kernel for {kind}")
