"""The one rewriter: puts a plan into a graph. What a quantized value looks like there is up to the caller.

Simulation puts fake quantization at the plan's points; exporters that speak quantize and dequantize operators put those.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import fx

from tersenet.errors import TersenetError
from tersenet.graph.build import call
from tersenet.graph.fixed_point import round_twice
from tersenet.graph.gates import shape_of_layer, states_of
from tersenet.graph.integers import add_integers
from tersenet.graph.kernels import write
from tersenet.graph.site import Site, encodings_read, inserted
from tersenet.graph.walk import add_constant, argument, bind, constant, set_argument
from tersenet.numerics.affine import fake_quantize, on_grid, quantize
from tersenet.numerics.fixed_point import requantized
from tersenet.numerics.kernels import converted, quantized
from tersenet.numerics.pooling import mean_of_integers
from tersenet.numerics.recurrent import recurrent
from tersenet.plan import QuantizationPlan, Unit
from tersenet.schemes import Encoding


class Dialect(Protocol):
    """How quantized values are written in a graph."""

    def activation(self, module: fx.GraphModule, value: fx.Node, encoding: Encoding, before: fx.Node) -> fx.Node:
        """Insert before `before` what makes `value` quantized; return the node that readers read instead."""

    def weight(self, module: fx.GraphModule, value: fx.Node, encoding: Encoding, before: fx.Node, name: str) -> fx.Node:
        """The same for a constant."""

    def conversion(
        self, module: fx.GraphModule, value: fx.Node, grids: tuple[Encoding | None, Encoding], before: fx.Node, unit: Unit | None
    ) -> fx.Node:
        """The same for a value that one unit reads on another grid than all others do (the first of `grids`)."""

    def operator(self, module: fx.GraphModule, node: fx.Node, unit: Unit, plan: QuantizationPlan) -> None:
        """Change, in place, an operator that floats do not compute as the runtime's kernel does."""


def apply_plan(module: fx.GraphModule, plan: QuantizationPlan, dialect: Dialect) -> None:
    """Put a plan into a deployable graph, in place.

    Args:
        module: a copy of the deployable graph that the plan was made on.
        plan: the plan.
        dialect: how quantized values are written.

    Raises:
        TersenetError: the plan names a node that the graph does not have.
    """
    nodes = {node.name: node for node in module.graph.nodes}
    missing = [name for name in (*plan.values, *plan.units) if name not in nodes]
    if missing:
        raise TersenetError(f"the plan speaks of {missing[0]!r}, which this graph does not have: it was made for another network.")
    _special_uses(module, plan, dialect, nodes)
    for anchor, unit in plan.units.items():
        node = nodes[anchor]
        for name, encoding in unit.weights.items():
            set_argument(node, name, dialect.weight(module, argument(node, name), encoding, node, f"{anchor}.{name}"))
        dialect.operator(module, node, unit, plan)
    for name, encoding in plan.values.items():
        _everywhere(module, nodes[name], encoding, dialect)
    module.graph.eliminate_dead_code()
    module.graph.lint()
    module.recompile()


def _special_uses(module: fx.GraphModule, plan: QuantizationPlan, dialect: Dialect, nodes: dict[str, fx.Node]) -> None:
    """Convert again for single readers, before values are replaced everywhere; the second conversion reads the first."""
    for place, encoding in plan.uses.items():
        reader_name, _, position = place.rpartition(":")
        reader = nodes[reader_name]
        count = -1

        def swap(child: fx.Node, reader: fx.Node = reader, wanted: int = int(position), encoding: Encoding = encoding) -> fx.Node:
            nonlocal count
            count += 1
            if count != wanted:
                return child
            return dialect.conversion(module, child, (plan.values.get(child.name), encoding), reader, plan.units.get(reader.name))

        reader.args, reader.kwargs = fx.node.map_arg((reader.args, reader.kwargs), swap)


def _everywhere(module: fx.GraphModule, node: fx.Node, encoding: Encoding, dialect: Dialect) -> None:
    readers = list(node.users)
    if node.op == "get_attr":
        for reader in readers:
            reader.replace_input_with(node, dialect.weight(module, node, encoding, reader, node.name))
        return
    made = dialect.activation(module, node, encoding, node.next if node.op != "placeholder" else _first_call(module))
    for reader in readers:
        if reader is not made:
            reader.replace_input_with(node, made)


def _first_call(module: fx.GraphModule) -> fx.Node:
    return next(node for node in module.graph.nodes if node.op not in ("placeholder", "get_attr"))


@dataclass(frozen=True)
class Simulation:
    """Fake quantization: floats that hold only values of the grid.

    Args:
        arithmetic: kind of operator -> the library whose kernel of it is followed to the last step (`tersenet.capabilities.Kernel`); "quantize" is
            the way from floats onto a grid.
        floats: values that are no integers' before they come onto their grid: inputs, and what operators in float return.
        narrow: values of fewer than 8 bits -> the lowest integer that is theirs of those of 8 (`QuantizationPlan.narrow`).
    """

    arithmetic: Mapping[str, str] = field(default_factory=dict)
    floats: frozenset[str] = frozenset()
    narrow: Mapping[str, int] = field(default_factory=dict)

    def activation(self, module: fx.GraphModule, value: fx.Node, encoding: Encoding, before: fx.Node) -> fx.Node:
        return self._rounded(module, value, encoding, before, self.narrow.get(value.name, encoding.scheme.lowest))

    def _rounded(self, module: fx.GraphModule, value: fx.Node, encoding: Encoding, before: fx.Node, lowest: int) -> fx.Node:
        scheme = encoding.scheme
        arguments = (value, encoding.scale[0], encoding.zero_point[0], lowest, scheme.highest)
        follows = self.arithmetic.get("quantize") == "xnnpack" and value.name in self.floats and scheme.bits <= 8
        with module.graph.inserting_before(before):
            node = module.graph.create_node("call_function", quantized if follows else on_grid, arguments, {}, f"{value.name}_quantized")
        node.meta["val"] = value.meta["val"]
        return node

    def weight(self, module: fx.GraphModule, value: fx.Node, encoding: Encoding, before: fx.Node, name: str) -> fx.Node:
        return add_constant(module, f"quantized.{name}", fake_quantize(constant(module, value), encoding), before, value)

    def conversion(
        self, module: fx.GraphModule, value: fx.Node, grids: tuple[Encoding | None, Encoding], before: fx.Node, unit: Unit | None
    ) -> fx.Node:
        first, second = grids
        if first is not None and unit is not None and unit.rounding == "twice":
            value = inserted(module, requantized, value, ((first.scale[0], second.scale[0]),), before)
        elif first is not None and unit is not None and self.arithmetic.get(unit.kind) == "xnnpack" and second.scheme.bits <= 8:
            value = inserted(module, converted, value, ((first.scale[0], second.scale[0]),), before)
        return self._rounded(module, value, second, before, second.scheme.lowest)

    def operator(self, module: fx.GraphModule, node: fx.Node, unit: Unit, plan: QuantizationPlan) -> None:
        """Kernels' own arithmetic and rounding, of results and of halves in means over windows; an LSTM quantizes as it runs."""
        result = plan.values.get(unit.result)
        if unit.dynamic not in ("", "never"):
            held = bind(node)
            arguments: Any = (held["input"], states_of(node), held["params"], shape_of_layer(node), unit.dynamic)
            node.target, node.args, node.kwargs = recurrent, arguments, {}
        elif unit.rounding == "twice" and result is not None:
            round_twice(module, node, unit, encodings_read(node, plan), result)
        elif unit.halves and result is not None and unit.kind in ("avg_pool1d", "avg_pool2d") and bind(node).get("divisor_override") is None:
            held = bind(node)
            window = (held["kernel_size"], held["stride"] or held["kernel_size"], held["padding"])
            grid = (result.scale[0], result.zero_point[0], unit.halves)
            node.target, node.args, node.kwargs = mean_of_integers, (held["self"], window, held["ceil_mode"], held["count_include_pad"], *grid), {}
        elif result is not None:
            inputs = encodings_read(node, plan)
            if not write(self.arithmetic.get(unit.kind, ""), Site(module, node, unit, inputs, result)):
                add_integers(module, node, unit, inputs, result)


class QuantizeDequantize:
    """Integer constants and ``quantized_decomposed`` pairs, as runtimes that read such graphs expect them.

    Args:
        activations: the integer type that 8-bit activations are stored in.
        bias: whether biases become integers too, or floats of their grid for the runtime to quantize.
    """

    def __init__(self, activations: str = "int8", bias: bool = True) -> None:
        import torch.ao.quantization.fx._decomposed  # noqa: F401 - registers torch.ops.quantized_decomposed

        self.activations = activations
        self.bias = bias

    def activation(self, module: fx.GraphModule, value: fx.Node, encoding: Encoding, before: fx.Node) -> fx.Node:
        if encoding.scheme.bits == 8:
            encoding = encoding.stored_as(self.activations)
        scheme = encoding.scheme
        numbers = (encoding.scale[0], encoding.zero_point[0], scheme.lowest, scheme.highest, getattr(torch, scheme.dtype))
        operators = torch.ops.quantized_decomposed
        integers = call(module, operators.quantize_per_tensor.default, (value, *numbers), before=before)
        return call(module, operators.dequantize_per_tensor.default, (integers, *numbers), before=before)

    def weight(self, module: fx.GraphModule, value: fx.Node, encoding: Encoding, before: fx.Node, name: str) -> fx.Node:
        if encoding.role == "bias" and not self.bias:  # floats of the grid: there is one way alone to round them
            return add_constant(module, f"rounded.{name}", fake_quantize(constant(module, value), encoding), before, value)
        scheme = encoding.scheme
        if encoding.role == "constant" and scheme.bits == 8:
            encoding = encoding.stored_as(self.activations)
            scheme = encoding.scheme
        held = add_constant(module, f"quantized.{name}", quantize(constant(module, value), encoding), before, value)
        held.meta["val"] = held.meta["val"].to(getattr(torch, "int8" if scheme.bits < 8 else scheme.dtype))
        limits = (scheme.lowest, scheme.highest, constant(module, held).dtype)
        operators = torch.ops.quantized_decomposed
        if encoding.axis is None:
            return call(module, operators.dequantize_per_tensor.default, (held, encoding.scale[0], encoding.zero_point[0], *limits), before=before)
        scales = add_constant(module, f"scales.{name}", torch.tensor(encoding.scale, dtype=torch.float32), before, value)
        zeros = add_constant(module, f"zeros.{name}", torch.tensor(encoding.zero_point, dtype=torch.int64), before, value)
        return call(module, operators.dequantize_per_channel.default, (held, scales, zeros, encoding.axis, *limits), before=before)

    def conversion(
        self, module: fx.GraphModule, value: fx.Node, grids: tuple[Encoding | None, Encoding], before: fx.Node, unit: Unit | None
    ) -> fx.Node:
        return self.activation(module, value, grids[1], before)

    def operator(self, module: fx.GraphModule, node: fx.Node, unit: Unit, plan: QuantizationPlan) -> None:
        """Nothing: runtimes see the pairs and choose their own kernels."""
