"""Which operators a runtime computes as one: an anchor and the activation behind it."""

from __future__ import annotations

from collections.abc import Mapping

from torch import fx

from tersenet.graph.operators import kind_of
from tersenet.graph.walk import bind, calls, outputs


def find_units(module: fx.GraphModule, fuses: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[fx.Node, ...]]:
    """The units of a deployable graph.

    Args:
        fuses: kind of anchor -> kinds of activation that the runtime's kernel applies to its own result.

    Returns:
        Every operator's unit by the name of its anchor, in the order in which they run: ``(conv2d, relu)`` or one node alone.
        An activation joins the operator before it only where nobody else reads the value between them.
    """
    returned = set(outputs(module))
    taken: set[fx.Node] = set()
    units: dict[str, tuple[fx.Node, ...]] = {}
    for node in calls(module):
        if node in taken:
            continue
        follower = _only_reader(node) if node not in returned else None
        allowed = fuses.get(kind_of(node), ())
        if follower is not None and fusable_kind(follower) in allowed:
            units[node.name] = (node, follower)
            taken.add(follower)
        else:
            units[node.name] = (node,)
    return units


def _only_reader(node: fx.Node) -> fx.Node | None:
    if len(node.users) != 1:
        return None
    reader = next(iter(node.users))
    return reader if reader.op == "call_function" and reader.args and reader.args[0] is node else None


def fusable_kind(node: fx.Node) -> str:
    """The kind of an activation, a clamp by its limits: ``clamp[-1,1]`` is TFLite's RELU_N1_TO_1."""
    kind = kind_of(node)
    if kind == "clamp":
        limits = bind(node)
        return "clamp[-1,1]" if (limits["min"], limits["max"]) == (-1, 1) else "clamp"
    return kind
