"""Activations exchanged for others of much the same form: where a runtime has no integer kernel for what the network has."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import fx

from tersenet.errors import RecipeError, unknown
from tersenet.graph.operators import MOVEMENTS, aten_name, kind_of
from tersenet.graph.walk import copy, outputs
from tersenet.model import Model

aten = torch.ops.aten
# What each may become, the closest first. Howard et al. 2019, "Searching for MobileNetV3", section 5.2, for the hard forms.
EXCHANGES: Mapping[str, tuple[str, ...]] = {
    "silu": ("hardswish", "relu6", "relu"),
    "mish": ("hardswish", "relu6", "relu"),
    "sigmoid": ("hardsigmoid",),
    "gelu": ("relu", "hardswish", "relu6"),
    "elu": ("relu", "relu6"),
    "selu": ("relu", "relu6"),
    "celu": ("relu", "relu6"),
    "softplus": ("relu",),
    "leaky_relu": ("relu", "relu6"),
    "prelu": ("relu", "relu6"),
    "hardswish": ("relu6", "relu"),
    "relu": ("relu6",),
}
CHEAP = "cheap"
_OPERATORS: Mapping[str, Any] = {
    "hardswish": aten.hardswish.default,
    "hardsigmoid": aten.hardsigmoid.default,
    "relu": aten.relu.default,
    "relu6": aten.relu6.default,
}


def pairs(entries: Sequence[str]) -> dict[str, str]:
    """``["silu:hardswish"]`` as a dict; `CHEAP` is left out.

    Raises:
        RecipeError: no pair, an unknown activation, or one that it cannot become.
    """
    found = {}
    for entry in entries:
        if entry == CHEAP:
            continue
        old, colon, new = entry.partition(":")
        if not colon:
            raise RecipeError(f"an exchange is a pair such as silu:hardswish, or {CHEAP}; got {entry!r}.")
        if old not in EXCHANGES:
            raise RecipeError(unknown("activation to exchange", old, EXCHANGES))
        if new not in EXCHANGES[old]:
            raise RecipeError(unknown(f"activation that {old} can become", new, EXCHANGES[old]))
        found[old] = new
    return found


def cheap(model: Model, kernels: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """For each activation of a network that some runtime has no integer kernel for, the closest that all have.

    Args:
        model: the network.
        kernels: of each runtime, by kind of operator.
    """
    kinds = {name for node in model.graph.graph.nodes if (name := activation_of(node))}
    lacking = [kind for kind in EXCHANGES if kind in kinds and any(kind not in table for table in kernels)]
    closest = {kind: next((new for new in EXCHANGES[kind] if all(new in table for table in kernels)), "") for kind in lacking}
    return {old: new for old, new in closest.items() if new}


def exchanged(model: Model, wanted: Mapping[str, str]) -> tuple[Model, dict[str, int]]:
    """A model with some activations exchanged.

    What the network returns stays: a probability keeps its meaning.

    Args:
        model: stays as it is.
        wanted: kind -> the kind that it becomes.

    Returns:
        The model, without plans, and how many of each kind were exchanged.
    """
    module = copy(model.graph)
    final = {_behind(node) for node in outputs(module)}
    counts = dict.fromkeys(wanted, 0)
    for node in list(module.graph.nodes):
        kind = activation_of(node)
        if kind in wanted and node not in final:
            _become(module, node, _argument(node), _OPERATORS[wanted[kind]], wanted[kind])
            counts[kind] += 1
    module.graph.eliminate_dead_code()
    module.recompile()
    held = {str(node.target) for node in module.graph.nodes if node.op == "get_attr"}  # a prelu's slopes are gone
    named = {node.name for node in module.graph.nodes}
    return replace(model, graph=module, plans=(), annotations=model.annotations.among(held | named)), counts


def activation_of(node: fx.Node) -> str:
    """The kind of an activation, whichever way it is written: ``x * sigmoid(x)`` is silu; "" for other operators."""
    kind = kind_of(node)
    if kind == "mul" and _gated(node) is not None:
        return "silu"
    if kind == "sigmoid" and node.users and all(_gated(user) is node for user in node.users):
        return ""  # a part of silu
    return kind if kind in EXCHANGES else ""


def _gated(node: fx.Node) -> fx.Node | None:
    """The sigmoid of ``x * sigmoid(x)``."""
    if kind_of(node) != "mul":
        return None
    for value, gate in (node.args[:2], node.args[1::-1]):
        if isinstance(gate, fx.Node) and kind_of(gate) == "sigmoid" and gate.args[0] is value:
            return gate
    return None


def _argument(node: fx.Node) -> fx.Node:
    gate = _gated(node)
    return node.args[0] if gate is None else gate.args[0]  # type: ignore[return-value]


def _behind(node: fx.Node) -> fx.Node:
    while kind_of(node) in MOVEMENTS or "dropout" in aten_name(node):
        node = node.all_input_nodes[0]
    return node


def _become(module: fx.GraphModule, node: fx.Node, value: fx.Node, operator: Callable[..., Any], name: str) -> None:
    with module.graph.inserting_before(node):
        made = module.graph.create_node("call_function", operator, (value,), {}, name=name)
    made.meta = dict(node.meta)
    node.replace_all_uses_with(made)
    module.graph.erase_node(node)
