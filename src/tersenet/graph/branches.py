"""Residual branches: what lies between a value and the sum that it is added to again, and a network without some of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch
from torch import fx

from tersenet.graph.operators import kind_of
from tersenet.graph.shrink import without_unused
from tersenet.graph.walk import bind, calls, copy, is_constant, layer_of, shape_of
from tersenet.model import Model


@dataclass(frozen=True)
class Branch:
    """One branch.

    Args:
        name: what its layers' names have in common, or its first layer's name.
        layers: in it.
        total: name of the node that adds.
        shortcut: name of the node that it starts from and is added to; of the very shape of the sum.
    """

    name: str
    layers: tuple[str, ...]
    total: str
    shortcut: str


def branches(module: fx.GraphModule) -> tuple[Branch, ...]:
    """The branches of layers with weights that can go, the shortcut being an identity; in the order in which the network runs."""
    return tuple(branch for node in calls(module) if kind_of(node) == "add" and (branch := _branch(node)) is not None)


def _branch(total: fx.Node) -> Branch | None:
    operands = [operand for operand in total.args[:2] if isinstance(operand, fx.Node)]
    if len(operands) != 2 or operands[0] is operands[1] or any(map(is_constant, operands)) or bind(total).get("alpha", 1) != 1:
        return None
    for shortcut, end in (operands, reversed(operands)):
        inside = _between(shortcut, end)
        if inside and str(shape_of(shortcut)) == str(shape_of(total)) and all(_used_within(node, inside, total) for node in inside):
            layers = tuple(dict.fromkeys(layer_of(node) for node in total.graph.nodes if node in inside and any(map(is_constant, node.args))))
            return Branch(_common(layers), layers, total.name, shortcut.name) if layers else None
    return None


def _between(start: fx.Node, end: fx.Node) -> set[fx.Node]:
    """The nodes on all ways from the start (without it) to the end; none where something else than constants and sizes comes in from the side."""
    inside: set[fx.Node] = set()
    waiting = [end]
    while waiting:
        node = waiting.pop()
        if node is start or node in inside or is_constant(node):
            continue
        if node.op != "call_function":
            return set()  # an input: it was not the shortcut that this came from
        inside.add(node)
        waiting += [child for child in node.all_input_nodes if not _is_size(child)]
    return inside if any(start in node.all_input_nodes for node in inside) else set()


def _is_size(node: fx.Node) -> bool:
    return isinstance(node.meta.get("val"), int | torch.SymInt)


def _used_within(node: fx.Node, inside: set[fx.Node], total: fx.Node) -> bool:
    """Whether nothing but the branch and its sum reads a value, or its size."""
    return all(user in inside or user is total or (_is_size(user) and _used_within(user, inside, total)) for user in node.users)


def _common(layers: tuple[str, ...]) -> str:
    """The dotted beginning that all names share."""
    parts = [layer.split(".") for layer in layers]
    shared = [row[0] for row in zip(*parts, strict=False) if len(set(row)) == 1]
    whole = ".".join(shared) if all(layer.startswith(".".join(shared)) for layer in layers) else ""
    return whole or (layers[0] if layers else "")


def without(model: Model, gone: Iterable[Branch]) -> Model:
    """The network with only the shortcuts of some of its branches.

    Args:
        model: stays as it is.
        gone: of `branches(model.graph)`.
    """
    module = copy(model.graph)
    nodes = {node.name: node for node in module.graph.nodes}
    order = {name: place for place, name in enumerate(nodes)}
    for branch in sorted(gone, key=lambda branch: order[branch.total], reverse=True):  # a shortcut may itself be the sum of an earlier branch
        nodes[branch.total].replace_all_uses_with(nodes[branch.shortcut])
    module.graph.eliminate_dead_code(lambda node: node.op in ("placeholder", "output"))  # else a dropout stays, and all before it
    module = without_unused(module)
    left = {node.name for node in module.graph.nodes} | {str(node.target) for node in module.graph.nodes if node.op == "get_attr"}
    return replace(model, graph=module, annotations=model.annotations.among(left))
