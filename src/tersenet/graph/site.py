"""The place of a unit in a graph that is being rewritten into what its kernel computes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import fx

from tersenet.graph.walk import bind, tensor_inputs
from tersenet.plan import QuantizationPlan, Unit
from tersenet.schemes import Encoding

# Kinds that average whole axes, to one number.
POOLED_AXES = {"adaptive_avg_pool1d": (-1,), "adaptive_avg_pool2d": (-2, -1)}


@dataclass(frozen=True)
class Site:
    """A unit in a graph that is being rewritten.

    Args:
        module: the graph.
        node: the anchor; its weights are on their grids already.
        unit: what the plan says of it.
        inputs: encodings of the tensors that it reads, in order; None for weights.
        result: encoding of the unit's result.
    """

    module: fx.GraphModule
    node: fx.Node
    unit: Unit
    inputs: Sequence[Encoding | None]
    result: Encoding

    @property
    def encodings(self) -> tuple[Encoding, ...]:
        """Of the activations and constants that it reads, in order, and of the result."""
        return tuple(encoding for encoding in (*self.inputs, self.result) if encoding is not None)

    @property
    def scales(self) -> tuple[float, ...]:
        return tuple(encoding.scale[0] for encoding in self.encodings)

    @property
    def both(self) -> tuple[float, ...]:
        """Scales of two operands and of the result; a value that meets itself is read once."""
        return self.scales if len(self.scales) == 3 else (self.scales[0], *self.scales)

    @property
    def bits(self) -> int:
        return self.result.scheme.bits

    @property
    def averaged(self) -> tuple[fx.Node, list[int], bool]:
        """Of a mean: what it is of, the axes, and whether they stay with size 1."""
        held = bind(self.node)
        source = held["self"]
        if self.unit.kind in POOLED_AXES:
            return source, list(POOLED_AXES[self.unit.kind]), True
        axes = held.get("dim") or list(range(len(source.meta["val"].shape)))
        return source, [axes] if isinstance(axes, int) else list(axes), bool(held.get("keepdim", False))

    def become(self, function: Callable[..., Any], *arguments: Any) -> None:
        """Call a function of this package at the operator's place."""
        self.node.target, self.node.args, self.node.kwargs = function, arguments, {}

    def convert_input(self, function: Callable[..., Any], *arguments: Any) -> None:
        """Put a function of the input between it and the operator, which then only clips."""
        source = tensor_inputs(self.node)[0]
        self.node.replace_input_with(source, inserted(self.module, function, source, arguments, self.node))


def inserted(module: fx.GraphModule, function: Callable[..., Any], value: fx.Node, arguments: Sequence[Any], before: fx.Node) -> fx.Node:
    """A new node that computes something of a value's shape."""
    with module.graph.inserting_before(before):
        node = module.graph.create_node("call_function", function, (value, *arguments), {})
    node.meta["val"] = value.meta["val"]
    return node


def encodings_read(node: fx.Node, plan: QuantizationPlan) -> list[Encoding | None]:
    """The grids that an operator reads its tensors on; None for one that has none in the plan."""
    return [plan.uses.get(f"{node.name}:{position}") or plan.values.get(child.name) for position, child in enumerate(tensor_inputs(node))]
