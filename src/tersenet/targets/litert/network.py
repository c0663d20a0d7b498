"""A whole network lowered: its inputs, its operators in the order in which they run, its outputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from torch import fx

from tersenet.capabilities import Capabilities
from tersenet.errors import RecipeError, UnsupportedError, unknown
from tersenet.formats.tflite import Graph
from tersenet.graph.build import fixed
from tersenet.graph.deploy import deployable
from tersenet.graph.layout import image_layout
from tersenet.graph.narrow import clip_narrow_values
from tersenet.graph.operators import aten_name, kind_of
from tersenet.graph.walk import argument, calls, inputs, is_constant, layer_of, outputs, shape_of
from tersenet.model import Model
from tersenet.plan import Unit
from tersenet.schemes import Encoding
from tersenet.target import ExportOptions
from tersenet.targets.litert.decompose import decompose
from tersenet.targets.litert.layout import Order, channels_last, identity
from tersenet.targets.litert.lowering import EMPTY_PLAN, Lowering, Stored
from tersenet.targets.litert.operators.table import LOWERINGS
from tersenet.tensors import Port, TensorSpec


@dataclass(frozen=True)
class Lowered:
    """A network as a flat list of operators, and where its inputs, outputs and values are in it.

    Args:
        names: graph node -> tensor, for every value that the file still has.
        orders: graph node -> the source's axes in the order in which that tensor has them.
        notes: sentences for the report.
    """

    graph: Graph
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    names: dict[str, str]
    orders: dict[str, Order]
    notes: tuple[str, ...] = ()


def lower(model: Model, able: Capabilities, options: ExportOptions) -> Lowered:
    """Lower a network for a runtime that has `able`.

    Raises:
        RecipeError: an option of one format alone; these files have none.
        UnsupportedError: an operator that is in no table, or whose arguments the runtime cannot honour.
    """
    for name in options.format:
        raise RecipeError(unknown(f"option of {able.name}", name, ()))
    plan = model.plan_for(able.name) or EMPTY_PLAN
    module = deployable(model, plan)
    plan = clip_narrow_values(module, plan, able.kernels)
    module = fixed(module, options.batch)
    written_out = {name: unit for name, unit in plan.units.items() if unit.dynamic == "never"}
    stored = _stored_weights(module, written_out)
    notes = decompose(module, LOWERINGS.keys())
    plan = replace(plan, units={name: unit for name, unit in plan.units.items() if name not in written_out})
    low = Lowering(module, plan, able.float_fuses, stored, micro=able.floats == frozenset())
    integer_io = able.integer_io if options.integer_io is None else options.integer_io
    taken = [_input(low, node, spec, options.layout or "NHWC", integer_io) for node, spec in zip(inputs(module), model.inputs, strict=True)]
    for node in calls(module):
        if node not in low.inner:
            _lower_operator(low, node)
    given = [_output(low, node, options.layout or "NHWC", integer_io) for node in outputs(module)]
    names = {tensor: spec.name for (tensor, _, _), spec in zip(taken, model.inputs, strict=True)}
    names |= {value.tensor: spec.name for value, spec in zip(given, model.outputs, strict=True) if value.tensor not in names}
    graph, found = low.graph([tensor for tensor, _, _ in taken], [value.tensor for value in given], names)
    ports_in = tuple(_port(low, found, spec, *entry) for entry, spec in zip(taken, model.inputs, strict=True))
    ports_out = tuple(_port(low, found, spec, value.tensor, value.order, value.encoding) for value, spec in zip(given, model.outputs, strict=True))
    held = {node.name: value for node, value in low.values.items() if value.tensor in found and value.columns is None}
    return Lowered(
        graph,
        ports_in,
        ports_out,
        {name: found[value.tensor] for name, value in held.items()},
        {name: value.order for name, value in held.items()},
        notes,
    )


def _stored_weights(module: fx.GraphModule, units: Mapping[str, Unit]) -> dict[str, Encoding]:
    """Constants that the file holds as integers and turns into floats for the steps of layers that are written out."""
    nodes = {node.name: node for node in module.graph.nodes if node.name in units}
    return {argument(nodes[anchor], name).name: encoding for anchor, unit in units.items() for name, encoding in unit.weights.items()}


def _lower_operator(low: Lowering, node: fx.Node) -> None:
    lowering = LOWERINGS.get(kind_of(node))
    if lowering is None:
        raise UnsupportedError(
            f"LiteRT files have no operator for {aten_name(node)} (layer {layer_of(node)!r}); write the layer with other operators, or add a "
            f"function for {kind_of(node)!r} to tersenet.targets.litert.operators and name it in its table."
        )
    lowering(low, node)


def _input(low: Lowering, node: fx.Node, spec: TensorSpec, layout: str, integer_io: bool) -> tuple[int, Order, Encoding | None]:
    """The tensor that the file takes: images laid out as asked, integers where asked and planned."""
    order = _image_order(spec.layout or image_layout(node), layout, len(shape_of(node)))
    planned = low.plan.values.get(node.name)
    encoding = planned if integer_io else None
    tensor = low.placeholder(node, order, encoding)
    low.define(node, Stored(tensor, order, encoding))
    return tensor, order, encoding


def _image_order(source: str, wanted: str, rank: int) -> Order:
    """Source axes in the order in which the file has them.

    >>> _image_order("NCHW", "NHWC", 4)
    (0, 2, 3, 1)
    """
    letters = source if len(source) == rank else ""
    if not letters.startswith("N") or "C" not in letters:
        return identity(rank)
    spatial = [letter for letter in letters if letter not in "NC"]
    target = ["N", *spatial, "C"] if wanted == "NHWC" else ["N", "C", *spatial]
    return tuple(letters.index(letter) for letter in target)


def _output(low: Lowering, node: fx.Node, layout: str, integer_io: bool) -> Stored:
    """A value as the file returns it: as it lies where that is the source's order or channels last, floats unless asked otherwise."""
    if is_constant(node):
        raise low.refuse(node, "an output that is a constant needs no network")
    value, shape = low.values[node], tuple(shape_of(node))
    rank = len(shape)
    if value.columns is not None:
        raise low.refuse(node, "a flattened image that is read by linear layers cannot be an output too")
    allowed = [identity(rank), channels_last(rank)] if layout == "NHWC" else [identity(rank)]
    order = value.order if value.order in allowed else identity(rank)
    return low.convert(value, order, value.encoding if integer_io else None, shape)


def _port(low: Lowering, names: dict[int, str], spec: TensorSpec, tensor: int, order: Order, encoding: Encoding | None) -> Port:
    held = low.tensors[tensor]
    layout = "".join(spec.layout[axis] for axis in order) if len(spec.layout) == len(order) else ""
    numbers = {} if encoding is None else {"scale": encoding.scale[0], "zero_point": encoding.zero_point[0]}
    return Port(names[tensor], held.shape, held.dtype, layout, spec.name, order, **numbers)  # type: ignore[arg-type]
