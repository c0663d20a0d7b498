"""Channel shuffles, written as a reshape, a permute and a reshape back, as what they are: a fixed order of channels.

An order can lose any of its channels; the rectangle between the reshapes could lose whole rows or columns alone.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import fx

from tersenet.graph.operators import kind_of
from tersenet.graph.walk import add_constant, bind, calls, constant, copy, is_constant, outputs, shape_of

aten = torch.ops.aten
_COPIES = {aten.contiguous.default, aten.clone.default}


def open_shuffles(module: fx.GraphModule) -> fx.GraphModule:
    """A copy in which each shuffle is one ``index_select``; the graph itself where there is none."""
    found = [(chain, order) for node in calls(module) if (chain := _chain(module, node)) and (order := _order(chain)) is not None]
    if not found:
        return module
    opened = copy(module)
    nodes = {node.name: node for node in opened.graph.nodes}
    for chain, (dim, places) in found:
        last, source = nodes[chain[-1].name], nodes[chain[0].args[0].name]  # type: ignore[union-attr]
        index = add_constant(opened, f"{last.name}_order", places, last, source)
        last.target, last.args, last.kwargs = aten.index_select.default, (source, dim, index), {}
        for node in reversed(chain[:-1]):
            opened.graph.erase_node(nodes[node.name])
    opened.recompile()
    return opened


def close_shuffles(module: fx.GraphModule) -> None:
    """Orders that are a shuffle of equal groups become ``channel_shuffle``; one that changes nothing goes."""
    for node in list(calls(module)):
        if node.target is not aten.index_select.default or not is_constant(node.args[2]):
            continue
        source, dim, index = node.args
        order = constant(module, index)  # type: ignore[arg-type]
        size = shape_of(source)[dim]  # type: ignore[arg-type,index]
        if torch.equal(order, torch.arange(size)):
            node.replace_all_uses_with(source)  # type: ignore[arg-type]
            module.graph.erase_node(node)
        elif dim == 1 and len(order) == size and (groups := _groups(order)):
            node.target, node.args = aten.channel_shuffle.default, (source, groups)


def _groups(order: torch.Tensor) -> int:
    """Of an order that reads (groups, channels) as (channels, groups), the groups; 0 for every other."""
    size = len(order)
    step = int(order[1]) if size > 1 else 0
    if step < 2 or size % step:
        return 0
    return size // step if torch.equal(order, torch.arange(size).reshape(-1, step).t().reshape(-1)) else 0


def _chain(module: fx.GraphModule, node: fx.Node) -> list[fx.Node]:
    """From a reshape on: permutes and copies that nobody else reads, and the next reshape; empty where it is no such run."""
    if kind_of(node) != "reshape":
        return []
    chain, returned = [node], set(outputs(module))
    while len(chain[-1].users) == 1 and chain[-1] not in returned:
        follower = next(iter(chain[-1].users))
        if follower.op != "call_function" or follower.args[0] is not chain[-1]:
            return []
        chain.append(follower)
        if kind_of(follower) == "reshape":
            return chain if any(kind_of(inner) == "permute" for inner in chain) else []
        if kind_of(follower) != "permute" and follower.target not in _COPIES:
            return []
    return []


def _order(chain: list[fx.Node]) -> tuple[int, torch.Tensor] | None:
    """The axis that a run reorders, and the order; None where it does something else."""
    source: Any = chain[0].args[0]
    before, opened, after = shape_of(source), shape_of(chain[0]), shape_of(chain[-1])
    if str(before) != str(after) or len(opened) <= len(before):
        return None
    more = len(opened) - len(before)
    places = list(range(len(opened)))
    for node in chain[1:-1]:
        places = _moved(places, node)
    moved = [position for position, place in enumerate(places) if position != place]
    for dim, size in enumerate(before):
        inside = range(dim, dim + more + 1)
        fits = str(opened[:dim]) == str(before[:dim]) and str(opened[dim + more + 1 :]) == str(before[dim + 1 :])
        if fits and isinstance(size, int) and all(position in inside for position in moved):
            sizes = [int(opened[position]) for position in inside]
            order = torch.arange(size).reshape(sizes).permute([place - dim for place in places[dim : dim + more + 1]])
            return dim, order.reshape(-1).clone()
    return None


def _moved(places: list[int], node: fx.Node) -> list[int]:
    if kind_of(node) != "permute":
        return places
    arguments = bind(node)
    if "dims" in arguments:
        return [places[position] for position in arguments["dims"]]
    places = list(places)
    first, second = arguments.get("dim0", 0), arguments.get("dim1", 1)
    places[first], places[second] = places[second], places[first]
    return places
