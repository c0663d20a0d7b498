"""Where a network becomes integers: decided from one runtime's table of capabilities alone, before any number is known."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import fx

from tersenet.capabilities import Capabilities, Kernel
from tersenet.graph.gates import keeps_states_to_itself
from tersenet.graph.operators import HEAVY, MOVEMENTS, WEIGHT_AXIS, kind_of
from tersenet.graph.units import find_units
from tersenet.graph.walk import bind, calls, constant, dtype_of, is_constant, is_float, tensor_inputs

# A mask adds something like minus a billion; a grid that spans it has no steps left for anything else.
LARGEST_VALUE = 1e6
PARTS = frozenset({"slice", "select"})
# Why an operator is no business of a plan at all, and is not listed: indices, masks, sizes, and constants made on the spot.
MAKES_NO_FLOATS = "makes no floats of its own"
DECIDED_BY = "comparisons decide by its values: rounded ones would decide otherwise"


@dataclass
class Placement:
    """Units that run in integers, values that are integers, and which values must have equal numbers.

    Args:
        units: anchor name -> its nodes and the kernel that computes them, those whose weights alone are integers among them.
        values: names of quantized values, in the order in which they are made.
        groups: value -> name of the group that it shares numbers with.
        fixed: group -> scale and zero point (int8 grid) that a kernel demands.
        uses: ``"node:position"`` -> group whose numbers this one reader needs.
        float_operators: node -> why it stays in float.
    """

    units: dict[str, tuple[tuple[fx.Node, ...], Kernel]] = field(default_factory=dict)
    values: dict[str, fx.Node] = field(default_factory=dict)
    groups: dict[str, str] = field(default_factory=dict)
    fixed: dict[str, tuple[float, int]] = field(default_factory=dict)
    uses: dict[str, str] = field(default_factory=dict)
    float_operators: dict[str, str] = field(default_factory=dict)

    def integers(self) -> Iterator[tuple[str, tuple[fx.Node, ...]]]:
        """Anchors and nodes of the units whose activations are integers too, not their weights alone."""
        return ((anchor, nodes) for anchor, (nodes, kernel) in self.units.items() if not kernel.dynamic)

    def derived(self) -> Iterator[tuple[list[str], str]]:
        """Values that take the grid of others, in the graph's order: names of those, name of the result."""
        for nodes, kernel in self.units.values():
            if kernel.shares and is_float(nodes[-1]):
                sources = [source.name for _, source in _sources(nodes[0])]
                yield sources if kernel.shares == "all" else sources[:1], nodes[-1].name


def place(module: fx.GraphModule, capabilities: Capabilities, forced: Mapping[str, str], activations: Mapping[str, str]) -> Placement:
    """Choose the quantization points of a deployable graph.

    Args:
        module: the deployable graph.
        capabilities: the runtime's table.
        forced: node -> why it must stay in float (asked for, or found out).
        activations: node -> integer type of its activations.

    Returns:
        The placement. Every operator with a kernel runs in integers, save islands of light operators with no heavy one
        beside them, where two conversions would cost more than they bring, and light operators before any heavy one whose values
        are compared or become indices: trees would take other branches.
    """
    placement = Placement()
    fuses = {kind: kernel.fuses for kind, kernel in capabilities.kernels.items()}
    units = _split_forced(find_units(module, fuses), forced)
    for nodes in units:
        why = _why_float(module, nodes[0], capabilities, forced, activations)
        if why == MAKES_NO_FLOATS:
            continue
        if why:
            placement.float_operators.update({node.name: why for node in nodes if _computes(node)})
        else:
            placement.units[nodes[0].name] = (nodes, _kernel(module, nodes[0], capabilities))
    if capabilities.floats != frozenset():
        _leave_decisions(module, placement)
        _drop_islands(placement)
    _take_parts_first(placement)
    _collect_values(placement)
    _share(placement)
    return placement


def _kernel(module: fx.GraphModule, node: fx.Node, capabilities: Capabilities) -> Kernel:
    kernel = capabilities.kernels[kind_of(node)]
    if kernel.given_states or keeps_states_to_itself(module, node):
        return kernel
    return replace(kernel, dynamic="never", granularities=("per-channel", "per-tensor"))


def _split_forced(units: Mapping[str, tuple[fx.Node, ...]], forced: Mapping[str, str]) -> list[tuple[fx.Node, ...]]:
    """An anchor that stays in float is no unit: its activation may still run in integers."""
    result: list[tuple[fx.Node, ...]] = []
    for nodes in units.values():
        alone = any(node.name in forced for node in nodes)
        result.extend([(node,) for node in nodes] if alone else [nodes])
    return result


def _computes(node: fx.Node) -> bool:
    """Whether an operator makes floats of something."""
    if not node.all_input_nodes or kind_of(node) == "fill":
        return False
    value = node.meta.get("val")
    return is_float(node) or (isinstance(value, tuple | list) and any(isinstance(part, torch.Tensor) and part.is_floating_point() for part in value))


def _why_float(module: fx.GraphModule, node: fx.Node, capabilities: Capabilities, forced: Mapping[str, str], activations: Mapping[str, str]) -> str:
    """Why an operator cannot run in integers; "" where it can."""
    if node.name in forced:
        return forced[node.name]
    kind = kind_of(node)
    if not _computes(node):
        return MAKES_NO_FLOATS
    if kind == "getitem":
        source: fx.Node = node.args[0]  # type: ignore[assignment]
        integers = not _why_float(module, source, capabilities, forced, activations) and not capabilities.kernels[kind_of(source)].dynamic
        return "" if integers else MAKES_NO_FLOATS
    kernel = capabilities.kernels.get(kind)
    if kernel is None:
        return capabilities.why_float(kind)
    if kernel.dynamic:
        return "" if all(is_constant(weight) for weight in bind(node)["params"]) else "its weights are computed while the network runs"
    wanted = activations.get(node.name, "int8")
    if wanted not in kernel.activations:
        return f"{capabilities.name} has no {wanted} kernel for {kind}"
    if kind in WEIGHT_AXIS:
        arguments = bind(node)
        if not is_constant(arguments["weight"]) or not (arguments["bias"] is None or is_constant(arguments["bias"])):
            return "its weights are computed while the network runs"
        return ""
    return _why_operand(module, node, kernel, capabilities)


def _why_operand(module: fx.GraphModule, node: fx.Node, kernel: Kernel, capabilities: Capabilities) -> str:
    for child in tensor_inputs(node):
        if not is_constant(child) or not is_float(child):
            continue
        if not kernel.constant_operands:
            return f"{capabilities.name}'s integer kernel for {kind_of(node)} takes no constant operand"
        value = constant(module, child)
        if value.numel() and float(value.abs().max()) > LARGEST_VALUE:
            return f"an operand reaches {float(value.abs().max()):.0e}: it is a mask, not a number to be quantized"
    return ""


def _sources(node: fx.Node) -> list[tuple[int, fx.Node]]:
    """The float values that an operator reads, with their positions among its tensors; a getitem reads what its split reads."""
    if kind_of(node) == "getitem":
        return [(0, node.args[0].args[0])]  # type: ignore[union-attr, list-item]
    found = [(position, child) for position, child in enumerate(tensor_inputs(node)) if is_float(child)]
    if kind_of(node) in WEIGHT_AXIS:
        weights = {argument for name, argument in bind(node).items() if name in ("weight", "bias")}
        found = [(position, child) for position, child in found if child not in weights]
    return found


def _leave_decisions(module: fx.GraphModule, placement: Placement) -> None:
    """Values that comparisons decide by stay as they are: what makes them, and light operators that would have them quantized, are left in float."""
    integers = dict(placement.integers())
    maker = {node.name: anchor for anchor, nodes in integers.items() for node in nodes}
    takers: dict[str, set[str]] = {}
    for anchor, nodes in integers.items():
        for _, source in _sources(nodes[0]):
            takers.setdefault(source.name, set()).add(anchor)
    rounded = _rounded_anyway(module, integers, takers)
    pending = [source for node in calls(module) if _decides(node) for _, source in _sources(node)]
    seen: set[fx.Node] = set()
    left: set[str] = set()
    while pending:
        value = pending.pop()
        if value in rounded or value in seen:
            continue
        seen.add(value)
        left |= takers.get(value.name, set()) | ({maker[value.name]} if value.name in maker else set())
        if value.op == "call_function":
            pending.extend(source for _, source in _sources(value))
    for anchor in [name for name in placement.units if name in left]:
        nodes, _ = placement.units.pop(anchor)
        placement.float_operators.update({node.name: DECIDED_BY for node in nodes if _computes(node)})


def _decides(node: fx.Node) -> bool:
    """Whether an operator makes integers or booleans of floats, and somebody reads them: a comparison, an index."""
    made = [node, *(reader for reader in node.users if kind_of(reader) == "getitem")]
    return (
        kind_of(node) not in ("fill", "getitem")
        and any(dtype is not None and not dtype.is_floating_point for dtype in map(dtype_of, made))
        and any(is_float(child) for child in node.all_input_nodes)
    )


def _rounded_anyway(module: fx.GraphModule, integers: Mapping[str, tuple[fx.Node, ...]], takers: Mapping[str, set[str]]) -> set[fx.Node]:
    """Values that a heavy operator makes, or takes in integers, and what follows from the former; movements of either."""
    behind: set[fx.Node] = set()
    for node in calls(module):
        if kind_of(node) in HEAVY or any(child in behind for child in node.all_input_nodes):
            behind.add(node)
    found = set(behind)
    for node in module.graph.nodes:
        taken = any(integers[anchor][0] in behind for anchor in takers.get(node.name, ()))
        moved = kind_of(node) in MOVEMENTS and any(child in found for child in node.all_input_nodes)
        if taken or moved:
            found.add(node)
    return found


def _drop_islands(placement: Placement) -> None:
    """Light operators joined to one another but to no heavy one go back to float, whole islands at a time."""
    heavy = {name for name, (nodes, _) in placement.units.items() if kind_of(nodes[0]) in HEAVY}
    if not heavy:
        return
    maker = {node.name: anchor for anchor, nodes in placement.integers() for node in nodes}
    joined: dict[str, set[str]] = {name: set() for name in placement.units}
    for anchor, nodes in placement.integers():
        for _, source in _sources(nodes[0]):
            other = maker.get(source.name)
            if other is not None:
                joined[anchor].add(other)
                joined[other].add(anchor)
    kept, frontier = set(heavy), list(heavy)
    while frontier:
        fresh = joined[frontier.pop()] - kept
        kept |= fresh
        frontier.extend(fresh)
    for anchor in [name for name in placement.units if name not in kept]:
        nodes, _ = placement.units.pop(anchor)
        why = "no heavy operator in integers beside it: two conversions would cost more than it gains"
        placement.float_operators.update({node.name: why for node in nodes})


def _take_parts_first(placement: Placement) -> None:
    """A part of what an operator of integer weights made is taken in floats (the last step of a sequence): the rest need not be quantized."""
    alone = {name for name, (_, kernel) in placement.units.items() if kernel.dynamic}
    floats: set[str] = set()
    for anchor, nodes in list(placement.integers()):
        if kind_of(nodes[0]) not in PARTS:
            continue
        source = nodes[0].all_input_nodes[0]
        if source.name in floats or (kind_of(source) == "getitem" and source.all_input_nodes[0].name in alone):
            floats.add(placement.units.pop(anchor)[0][-1].name)


def _collect_values(placement: Placement) -> None:
    found: dict[str, fx.Node] = {}
    for _, nodes in placement.integers():
        for _, source in _sources(nodes[0]):
            found[source.name] = source
        if is_float(nodes[-1]):
            found[nodes[-1].name] = nodes[-1]
    placement.values = found


def _share(placement: Placement) -> None:
    """Values that a kernel wants on one grid become a group; a value on a grid of its own is converted for that reader."""
    parent = {name: name for name in placement.values}

    def find(name: str) -> str:
        while parent[name] != name:
            parent[name] = parent[parent[name]]
            name = parent[name]
        return name

    def join(one: str, other: str) -> None:
        first, second = find(one), find(other)
        if first != second:
            parent[second] = first
            if second in placement.fixed:
                placement.fixed.setdefault(first, placement.fixed.pop(second))

    pending: list[tuple[str, str]] = []
    for nodes, kernel in placement.units.values():
        result = nodes[-1]
        if not is_float(result):
            continue
        if kernel.result is not None:
            placement.fixed[find(result.name)] = kernel.result
        sources = _sources(nodes[0])
        if not kernel.shares:
            continue
        grids = {placement.fixed.get(find(source.name)) for _, source in sources}
        for position, source in sources if kernel.shares == "all" else sources[:1]:
            if len(grids) > 1 and find(source.name) in placement.fixed:
                pending.append((f"{nodes[0].name}:{position}", result.name))
            else:
                join(source.name, result.name)
    placement.uses = {place: find(name) for place, name in pending}
    placement.groups = {name: find(name) for name in placement.values}
