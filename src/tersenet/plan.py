"""The quantization plan: everything that was decided about numbers, as plain data beside the graph.

A plan speaks of the *deployable* graph of a model (`tersenet.graph.deploy`), by the names of its nodes. Simulation and
every exporter read the same plan and decide nothing themselves.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from tersenet.schemes import LARGEST, Encoding


@dataclass(frozen=True)
class Unit:
    """Operators that the runtime computes as one: an anchor and the activation that is applied to its result at once.

    Args:
        nodes: names of the nodes, the anchor first; the value of the last one is the unit's result.
        kind: the anchor's kind (`tersenet.graph.operators`).
        weights: encodings of the anchor's constant arguments by their names in the operator's schema (``weight``, ``bias``; ``params.0`` is the
            first of a list).
        halves: how the kernel rounds a mean that falls between two integers (`tersenet.capabilities.Kernel`).
        rounding: how it rounds results (the same).
        dynamic: what a kernel whose weights alone are integers does with the floats that it multiplies them by (the same); such a unit's inputs
            and result are not in the plan's values. "" for every other unit.
    """

    nodes: tuple[str, ...]
    kind: str
    weights: Mapping[str, Encoding] = field(default_factory=dict)
    halves: str = ""
    dynamic: str = ""
    rounding: str = "nearest"

    @property
    def anchor(self) -> str:
        return self.nodes[0]

    @property
    def result(self) -> str:
        return self.nodes[-1]


@dataclass(frozen=True)
class QuantizationPlan:
    """Which tensors are integers, with which numbers, for which runtimes.

    Args:
        serves: names of the capability tables that this plan was made for.
        values: encodings of activations, network inputs and constant operands, by the name of the node that makes the
            value. A value in this table is quantized for *every* reader of it; one that is not stays float.
        units: operators that run in integers, or whose weights alone are integers, by the name of their anchor. Inputs and results of the former
            are in `values`.
        uses: another encoding for one use of a value, by ``"node:argument index"`` (``"cat:0"`` is the first tensor of a
            concatenation): the value is converted again for this reader alone.
        float_operators: operators that stay in float: node name -> why.
        offsets: anchor -> what is added to its bias, one number for each output channel (`tersenet.steps.correct`).
    """

    serves: tuple[str, ...]
    values: Mapping[str, Encoding]
    units: Mapping[str, Unit]
    uses: Mapping[str, Encoding] = field(default_factory=dict)
    float_operators: Mapping[str, str] = field(default_factory=dict)
    offsets: Mapping[str, tuple[float, ...]] = field(default_factory=dict)

    def same_numbers(self, other: QuantizationPlan) -> bool:
        """Whether the two plans decide the same, whomever they serve."""
        mine, theirs = ((plan.values, plan.units, plan.uses, set(plan.float_operators), plan.offsets) for plan in (self, other))
        return mine == theirs

    @property
    def narrow(self) -> dict[str, int]:
        """Values of fewer than 8 bits -> the lowest integer of their grid as `in_bytes` has it; the largest is 127."""
        return {
            name: LARGEST - encoding.scheme.highest + encoding.scheme.lowest for name, encoding in self.values.items() if encoding.scheme.bits < 8
        }

    def in_bytes(self) -> QuantizationPlan:
        """The plan with every value on a grid of at least 8 bits, as files hold it: what lies below the lowest integer is not clipped by it."""
        return replace(self, values={name: encoding.in_bytes() for name, encoding in self.values.items()})

    def to_json(self) -> dict[str, Any]:
        return {
            "serves": list(self.serves),
            "values": {name: encoding.to_json() for name, encoding in self.values.items()},
            "units": {
                name: {
                    "nodes": list(unit.nodes),
                    "kind": unit.kind,
                    "weights": {key: encoding.to_json() for key, encoding in unit.weights.items()},
                    "halves": unit.halves,
                    "dynamic": unit.dynamic,
                    "rounding": unit.rounding,
                }
                for name, unit in self.units.items()
            },
            "uses": {name: encoding.to_json() for name, encoding in self.uses.items()},
            "float_operators": dict(self.float_operators),
            "offsets": {name: list(offset) for name, offset in self.offsets.items()},
        }

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> QuantizationPlan:
        units = {
            name: Unit(
                tuple(unit["nodes"]),
                unit["kind"],
                {key: Encoding.from_json(encoding) for key, encoding in unit["weights"].items()},
                unit["halves"],
                unit["dynamic"],
                unit["rounding"],
            )
            for name, unit in record["units"].items()
        }
        return cls(
            tuple(record["serves"]),
            {name: Encoding.from_json(encoding) for name, encoding in record["values"].items()},
            units,
            {name: Encoding.from_json(encoding) for name, encoding in record["uses"].items()},
            dict(record["float_operators"]),
            {name: tuple(offset) for name, offset in record.get("offsets", {}).items()},
        )
