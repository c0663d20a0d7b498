"""From a graph and its plan to a flat list of operators: where values lie, in which numbers, and what is emitted for them.

One `Lowering` is filled operator by operator, in the order in which they run. The functions of `operators/` read their
inputs through it, in the order of axes and on the grid that they need; conversions are inserted where a value is not there
yet, once for all readers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import fx

from tersenet.errors import TersenetError, UnsupportedError
from tersenet.formats.tflite import Graph, Numbers, Operator, Tensor
from tersenet.graph.operators import MOVEMENTS, aten_name, kind_of
from tersenet.graph.units import find_units, fusable_kind
from tersenet.graph.walk import constant, is_constant, layer_of, outputs, shape_of, tensor_inputs
from tersenet.numerics.affine import bias_encoding, quantize
from tersenet.plan import QuantizationPlan, Unit
from tersenet.schemes import Encoding
from tersenet.targets.litert.layout import Order, identity, same_memory, stored

# The schema's ActivationFunctionType by the kind of activation that a kernel applies to its own result.
FUSED = {"relu": 1, "clamp[-1,1]": 2, "relu6": 3}
EMPTY_PLAN = QuantizationPlan((), {}, {})
PLAIN = {torch.float64: "float32", torch.float16: "float32", torch.bfloat16: "float32"}


@dataclass(frozen=True)
class Stored:
    """A value as the file holds it.

    Args:
        tensor: its index.
        order: where its axes lie.
        encoding: its grid; None for floats, booleans and plain integers.
        columns: for a flattened image that was left as it lay: the source's column behind each stored one.
    """

    tensor: int
    order: Order
    encoding: Encoding | None = None
    columns: np.ndarray | None = None


def numbers_of(encoding: Encoding | None, axis: int = 0) -> Numbers | None:
    """An encoding as the file writes it."""
    return None if encoding is None else Numbers(encoding.scale, encoding.zero_point, axis)


def same_grid(first: Encoding | None, second: Encoding | None) -> bool:
    """Whether the same integers stand for the same numbers."""
    if first is None or second is None:
        return first is second
    return (first.scheme.dtype, first.scale, first.zero_point) == (second.scheme.dtype, second.scale, second.zero_point)


class Lowering:
    """The flat graph in the making.

    Args:
        module: a deployable graph whose shapes are all known.
        plan: what runs in integers; None for a float file.
        float_fuses: kind -> kinds of activation that a float kernel applies to its own result.
        stored: name of a constant -> integers that the file holds it in, where it is read in floats.
        micro: for the interpreter for microcontrollers: indices are int32 (it looks nothing up by int64), and no operator gives way to
            several others that XNNPACK would take.
    """

    def __init__(
        self,
        module: fx.GraphModule,
        plan: QuantizationPlan | None,
        float_fuses: Mapping[str, tuple[str, ...]],
        stored: Mapping[str, Encoding] | None = None,
        *,
        micro: bool = False,
    ) -> None:
        self.module = module
        self.micro = micro
        self.plan = plan or EMPTY_PLAN
        self.stored = stored or {}
        self.tensors: list[Tensor] = []
        self.operators: list[Operator] = []
        self.values: dict[fx.Node, Stored] = {}
        self.reshaped: dict[int, int] = {}  # a tensor that a RESHAPE made -> what it was made from
        self.returned = set(outputs(module))
        self._constants: dict[Any, int] = {}
        self._converted: dict[Any, Stored] = {}
        self._restored: dict[int, int] = {}
        self._units = self._find_units(float_fuses)
        self.inner = {node for nodes in self._units.values() for node in nodes[1:]}

    def _find_units(self, float_fuses: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[fx.Node, ...]]:
        nodes = {node.name: node for node in self.module.graph.nodes}
        missing = [name for name in (*self.plan.values, *self.plan.units) if name not in nodes]
        if missing:
            raise TersenetError(f"the plan speaks of {missing[0]!r}, which this graph does not have: it was made for another network.")
        units = {name: tuple(nodes[member] for member in unit.nodes) for name, unit in self.plan.units.items()}
        taken = {node for members in units.values() for node in members}
        for name, members in find_units(self.module, float_fuses).items():
            if not taken.intersection(members):
                units[name] = members[:1] if name in self.plan.values else members
        return units

    # what is asked about an operator

    def unit(self, node: fx.Node) -> Unit | None:
        """The plan's unit that an operator anchors; None where it runs in float."""
        return self.plan.units.get(node.name)

    def result_of(self, node: fx.Node) -> fx.Node:
        """The node whose value an operator's unit makes: its activation, where one is fused."""
        return self._units.get(node.name, (node,))[-1]

    def activation(self, node: fx.Node) -> int:
        """The schema's number of the activation fused behind an operator; 0 for none."""
        last = self.result_of(node)
        return 0 if last is node else FUSED[fusable_kind(last)]

    def refuse(self, node: fx.Node, why: str) -> UnsupportedError:
        """The error for an operator with arguments that the runtime cannot honour."""
        return UnsupportedError(f"LiteRT cannot run {aten_name(node)} of layer {layer_of(node)!r}: {why}.")

    # reading

    def read(self, reader: fx.Node, child: fx.Node, order: Order | None = None, position: int | None = None) -> Stored:
        """A value as one reader needs it.

        Args:
            order: where its axes must lie; None: as they do.
            position: which of the reader's tensors it is, where it reads the value more than once.
        """
        encoding = self.grid_for(reader, child, position)
        if is_constant(child):
            return self.operand(constant(self.module, child), order or identity(len(shape_of(child))), encoding)
        value = self.values[child]
        if value.encoding is None and self.tensors[value.tensor].dtype != "float32":
            encoding = None
        return self.convert(value, order or value.order, encoding, tuple(shape_of(child)))

    def grid_for(self, reader: fx.Node, child: fx.Node, position: int | None) -> Encoding | None:
        """The grid on which a reader takes a value."""
        own = self.plan.values.get(child.name) if is_constant(child) else self.values[child].encoding
        integers = reader.name in self.plan.units or (kind_of(reader) in MOVEMENTS and not is_constant(child))
        if not integers:
            return None
        if self.plan.uses:
            place = tensor_inputs(reader).index(child) if position is None else position
            own = self.plan.uses.get(f"{reader.name}:{place}", own)
        return own

    def convert(self, value: Stored, order: Order, encoding: Encoding | None, shape: tuple[int, ...]) -> Stored:
        """The value with its axes in another order and on another grid; moved as integers, where it is integers at either end."""
        if value.encoding is None and encoding is not None:
            value = self._on_grid(value, encoding)
        if value.order != order:
            value = self._moved(value, order, shape)
        return value if same_grid(value.encoding, encoding) else self._on_grid(value, encoding)

    def _on_grid(self, value: Stored, encoding: Encoding | None) -> Stored:
        key = (value.tensor, numbers_of(encoding), encoding.scheme.dtype if encoding else "float32")
        if key not in self._converted:
            code, dtype = ("DEQUANTIZE", "float32") if encoding is None else ("QUANTIZE", encoding.scheme.dtype)
            tensor = self.emit(code, (value.tensor,), self.tensors[value.tensor].shape, dtype, encoding)
            self._converted[key] = Stored(tensor, value.order, encoding, value.columns)
        return self._converted[key]

    def _moved(self, value: Stored, order: Order, shape: tuple[int, ...]) -> Stored:
        if value.columns is not None:
            raise TersenetError("a flattened image that was left as it lies was read by an operator that cannot; this is a defect of the exporter.")
        key = (value.tensor, order, value.order)
        if key not in self._converted:
            dtype = self.tensors[value.tensor].dtype
            if same_memory(shape, value.order, order):
                tensor = self.reshape(value.tensor, stored(shape, order))
            else:
                permutation = self.array([value.order.index(axis) for axis in order], "int32")
                tensor = self.emit("TRANSPOSE", (value.tensor, permutation), stored(shape, order), dtype, value.encoding)
            self._converted[key] = Stored(tensor, order, value.encoding)
        return self._converted[key]

    # constants

    def array(self, values: Any, dtype: str, numbers: Numbers | None = None) -> int:
        """A constant tensor; one for all equal ones."""
        data = np.ascontiguousarray(np.asarray(values, dtype))
        key = (data.dtype.str, data.shape, data.tobytes(), numbers)
        if key not in self._constants:
            self._constants[key] = self._add(Tensor("", data.shape, dtype, numbers, data))
        return self._constants[key]

    def operand(self, tensor: torch.Tensor, order: Order, encoding: Encoding | None) -> Stored:
        """A constant of the network, laid out and on a grid (one scale)."""
        if encoding is not None and tensor.is_floating_point():
            integers = quantize(tensor, encoding).numpy().transpose(order)
            return Stored(self.array(integers, encoding.scheme.dtype, numbers_of(encoding)), order, encoding)
        dtype = dtype_name(tensor.dtype)
        plain = tensor.to(torch.float32) if dtype == "float32" else tensor
        return Stored(self.array(plain.numpy().transpose(order), dtype), order)

    def weight(self, node: fx.Node, argument: fx.Node, name: str, layout: Sequence[int], columns: np.ndarray | None = None) -> int:
        """A constant argument of an operator, quantized as the plan says, its axes in the order of `layout`.

        Args:
            name: the argument's name in the operator's schema.
            layout: source axes in the file's order.
            columns: a permutation of the source's axis 1.
        """
        if not is_constant(argument):
            raise self.refuse(node, f"its {name} must be a constant, and this one is computed while the network runs")
        tensor, unit = constant(self.module, argument), self.unit(node)
        encoding = unit.weights.get(name) if unit is not None else self.stored.get(argument.name)
        numbers, dtype = None, "float32"
        if encoding is not None:
            axis = encoding.axis
            tensor, dtype = quantize(tensor, encoding), "int8"
            numbers = numbers_of(encoding, 0 if axis is None else list(layout).index(axis))
        if columns is not None:
            tensor = tensor[:, torch.from_numpy(columns)]
        made = self.array(tensor.numpy().transpose(layout), dtype, numbers)
        return made if encoding is None or unit is not None else self._as_floats(made)

    def _as_floats(self, integers: int) -> int:
        """A constant held in integers, as floats: one operator for all readers, which runs when the file is loaded."""
        if integers not in self._restored:
            self._restored[integers] = self.emit("DEQUANTIZE", (integers,), self.tensors[integers].shape, "float32")
        return self._restored[integers]

    def bias(self, node: fx.Node, argument: fx.Node | None, channels: int, input_dtype: str) -> int:
        """The bias of an operator: int32 beside int8, int64 beside int16, zeros where the network has none."""
        unit = self.unit(node)
        held = constant(self.module, argument) if argument is not None else torch.zeros(channels)
        encoding = unit.weights.get("bias") if unit is not None else None
        if unit is None:
            return self.array(held.float().numpy(), "float32")
        if encoding is None:
            encoding = self._bias_encoding(node, unit)
        # Without its scales XNNPACK declines the whole operator, silently.
        return self.array(quantize(held, encoding).numpy(), "int64" if input_dtype == "int16" else "int32", numbers_of(encoding))

    def _bias_encoding(self, node: fx.Node, unit: Unit) -> Encoding:
        source = self.plan.uses.get(f"{node.name}:0") or self.plan.values.get(tensor_inputs(node)[0].name)
        if source is None or "weight" not in unit.weights:
            raise TersenetError(f"the plan runs {node.name} in integers but has no encoding of its input or weight; this is a defect of the plan.")
        return bias_encoding(source, unit.weights["weight"])

    # writing

    def _add(self, tensor: Tensor) -> int:
        self.tensors.append(tensor)
        return len(self.tensors) - 1

    def placeholder(self, node: fx.Node, order: Order, encoding: Encoding | None) -> int:
        """A tensor that the file takes."""
        dtype = dtype_name(node.meta["val"].dtype) if encoding is None else encoding.scheme.dtype
        dtype = "int32" if self.micro and dtype == "int64" else dtype
        return self._add(Tensor("", stored(shape_of(node), order), dtype, numbers_of(encoding)))

    def state(self, shape: Sequence[int]) -> int:
        """A float tensor that stays from one run to the next, zero at first."""
        return self._add(Tensor("", tuple(shape), "float32", variable=True))

    def emit(self, code: str, inputs: Sequence[int], shape: Sequence[int], dtype: str, encoding: Encoding | None = None, **options: Any) -> int:
        """Add an operator with one result.

        Returns:
            the index of the result's tensor.
        """
        tensor = self._add(Tensor("", tuple(int(size) for size in shape), dtype, numbers_of(encoding)))
        self.operators.append(Operator(code, tuple(inputs), (tensor,), options))
        return tensor

    def like(self, code: str, inputs: Sequence[int], model: int, shape: Sequence[int] | None = None, **options: Any) -> int:
        """Add an operator whose result has the type and the grid of a tensor, and its shape unless told another."""
        source = self.tensors[model]
        sizes = tuple(int(size) for size in (source.shape if shape is None else shape))
        tensor = self._add(replace(source, name="", shape=sizes, data=None, variable=False))
        self.operators.append(Operator(code, tuple(inputs), (tensor,), options))
        return tensor

    def several(self, code: str, inputs: Sequence[int], model: int, shapes: Sequence[Sequence[int]], **options: Any) -> list[int]:
        """Add an operator with several results, each with the type and the grid of a tensor."""
        source = replace(self.tensors[model], name="", data=None, variable=False)
        made = [self._add(replace(source, shape=tuple(int(size) for size in shape))) for shape in shapes]
        self.operators.append(Operator(code, tuple(inputs), tuple(made), options))
        return made

    def reshape(self, tensor: int, shape: Sequence[int]) -> int:
        """The same data under another shape; a chain of reshapes becomes one, or none."""
        shape = tuple(int(size) for size in shape)
        if self.tensors[tensor].shape == shape:
            return tensor
        source = self.reshaped.get(tensor, tensor)
        if self.tensors[source].shape == shape:
            return source
        made = self.like("RESHAPE", (source,), source, shape, newShape=list(shape))
        self.reshaped[made] = source
        return made

    def result(self, node: fx.Node, code: str, inputs: Sequence[int], order: Order, columns: np.ndarray | None = None, **options: Any) -> None:
        """Add an operator that makes the value of a node's unit, on the grid that the plan gives it.

        Args:
            columns: as in `Stored`, for an operator that works element by element.
        """
        last = self.result_of(node)
        encoding = self.plan.values.get(last.name) if node.name in self.plan.units else None
        dtype = encoding.scheme.dtype if encoding is not None else dtype_name(last.meta["val"].dtype)
        tensor = self.emit(code, inputs, stored(shape_of(last), order), dtype, encoding, **options)
        self.define(node, Stored(tensor, order, encoding, columns))

    def define(self, node: fx.Node, value: Stored) -> None:
        """Say where the value of a node's unit is; it is converted to the grid that the plan gives it where it is not on it."""
        last = self.result_of(node)
        planned = self.plan.values.get(last.name)
        if planned is not None and not same_grid(planned, value.encoding) and self.tensors[value.tensor].dtype in ("float32", "int8", "int16"):
            value = self._on_grid(value, planned)
        for member in self._units.get(node.name, (node,)):
            self.values[member] = value

    def graph(self, inputs: Sequence[int], results: Sequence[int], names: Mapping[int, str]) -> tuple[Graph, dict[int, str]]:
        """The finished graph: what nobody reads left out, tensors numbered anew and named shortly.

        Args:
            names: of the tensors that the file takes and returns.

        Returns:
            the graph, and the names of computed tensors by their old numbers.
        """
        live = set(results)
        kept = []
        for operator in reversed(self.operators):
            if live.intersection(operator.outputs):
                live.update(index for index in (*operator.inputs, *operator.outputs, *operator.intermediates) if index >= 0)
                kept.append(operator)
        used = sorted(live | set(inputs))
        renumbered = {old: new for new, old in enumerate(used)} | {-1: -1}
        reserved, given = set(names.values()), {}
        for new, old in enumerate(used):
            if self.tensors[old].data is None and not self.tensors[old].variable:
                given[old] = names.get(old) or (f"{new:x}" if f"{new:x}" not in reserved else f"_{new:x}")
        tensors = tuple(replace(self.tensors[old], name=given.get(old, "")) for old in used)

        def moved(indices: Sequence[int]) -> tuple[int, ...]:
            return tuple(renumbered[index] for index in indices)

        operators = tuple(
            replace(operator, inputs=moved(operator.inputs), outputs=moved(operator.outputs), intermediates=moved(operator.intermediates))
            for operator in reversed(kept)
        )
        return Graph(tensors, operators, moved(inputs), moved(results)), given


def dtype_name(dtype: torch.dtype) -> str:
    """The file's type for torch's; every float is float32."""
    return PLAIN.get(dtype) or str(dtype).removeprefix("torch.")
