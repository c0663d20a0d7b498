"""Operators that write in place, rewritten as ones that return a new tensor."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import fx

from tersenet.errors import ModelError
from tersenet.graph.explain import place_of_node

aten = torch.ops.aten
CallNode = Any  # an fx.Node that calls an operator of torch: its types are too wide to say so
# Operators that return their input's values as they are. `contiguous` and `clone` stay: a `view` after a permute needs them.
IDENTITIES = {"aten::detach", "aten::detach_", "aten::lift_fresh", "aten::lift_fresh_copy", "aten::alias"}


class AliasedWrite(Exception):
    """An operator writes into a view of another tensor, which a local rewrite cannot express."""


def schema_name(node: CallNode) -> str:
    """``aten::relu`` for every overload of it; "" for what is not one of torch's operators."""
    return node.target._schema.name if isinstance(node.target, torch._ops.OpOverload) else ""


def make_functional(graph: fx.Graph) -> None:
    """Replace each operator that writes into its first argument by its functional twin, and read the new value from there on."""
    node: CallNode
    for node in list(graph.nodes):
        if not writes(node):
            continue
        written, twin = node.args[0] if node.args else None, _functional_twin(node)
        if twin is None or not isinstance(written, fx.Node) or node.kwargs.get("out") is not None:
            raise ModelError(f"{place_of_node(node)}the operator {node.target} writes into its arguments; use the form that returns a new tensor.")
        if _root(written).op == "get_attr":
            raise ModelError(
                f"{place_of_node(node)}the network writes to its own {_root(written).target}; take the state as an input and return its new value."
            )
        if _is_read_elsewhere(written, node) or _changes_type(node):
            raise AliasedWrite(f"{place_of_node(node)}an operator writes into a part of another tensor")
        node.target = twin
        later = [user for user in written.users if user is not node and node < user]
        for user in later:
            user.replace_input_with(written, node)


def writes(node: CallNode) -> bool:
    """Whether an operator changes one of its arguments."""
    return bool(schema_name(node)) and node.target._schema.is_mutable and schema_name(node) not in IDENTITIES


def _functional_twin(node: CallNode) -> Callable[..., Any] | None:
    name = schema_name(node).removeprefix("aten::")
    packet = getattr(aten, name[:-1], None) if name.endswith("_") else None
    return getattr(packet, node.target._overloadname, None) if packet is not None else None


def _root(node: CallNode) -> CallNode:
    """The tensor whose memory this node's value lies in."""
    while (viewed := _viewed(node)) is not None:
        node = viewed
    return node


def _is_read_elsewhere(written: fx.Node, writer: fx.Node) -> bool:
    """Whether memory that `writer` writes is read afterwards under another name: as a view, or as what `written` is a view of."""
    waiting, seen = [_root(written)], set()
    while waiting:
        name = waiting.pop()
        seen.add(name)
        if name is not written and any(writer < reader for reader in name.users if _viewed(reader) is not name or reader.op == "output"):
            return True
        waiting += [reader for reader in name.users if reader not in seen and _viewed(reader) is name]
    return False


def _changes_type(node: CallNode) -> bool:
    """Whether the functional twin might promote to another type, where writing in place keeps that of what is written."""
    types = {child.meta["val"].dtype for child in node.all_input_nodes if isinstance(child.meta.get("val"), torch.Tensor) and child.meta["val"].dim()}
    return len(types) > 1


def _viewed(node: CallNode) -> CallNode:
    """The tensor that this node is a view of, or may be one of."""
    source = node.args[0] if node.op == "call_function" and node.args else None
    if not isinstance(source, fx.Node):
        return None
    if node.target is operator.getitem:
        return source if _viewed(source) is not None else None  # a part of `split`, not of `lstm`
    name = schema_name(node)
    if not name or name in {"aten::lift_fresh_copy", "aten::lift_fresh"}:
        return None
    alias = node.target._schema.arguments[0].alias_info
    is_view = alias is not None and (not alias.is_write or name == "aten::detach_")
    return source if is_view or name in {"aten::reshape", "aten::contiguous", "aten::flatten", "aten::to"} else None
