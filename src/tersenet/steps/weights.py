"""The weights that steps choose among, and the patterns that name them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import fx

from tersenet.errors import RecipeError, unknown
from tersenet.graph.dependencies import held
from tersenet.graph.operators import WEIGHT_AXIS, kind_of
from tersenet.graph.walk import calls, copy, is_constant, layer_of
from tersenet.model import Model


def weights_of(module: fx.GraphModule) -> dict[str, str]:
    """The weights of convolutions and linear layers: name -> layer. What several layers share comes once."""
    found: dict[str, str] = {}
    seen: set[int] = set()
    for node in calls(module):
        weight: Any = node.args[1] if kind_of(node) in WEIGHT_AXIS and len(node.args) > 1 else None
        if is_constant(weight) and id(held(module, str(weight.target))) not in seen:
            seen.add(id(held(module, str(weight.target))))
            found[str(weight.target)] = layer_of(node)
    return found


def matching(weights: Mapping[str, str], pattern: str) -> Iterator[str]:
    """Names of the weights whose layer a pattern matches.

    Raises:
        RecipeError: there is none.
    """
    matched = [name for name, layer in weights.items() if fnmatchcase(layer, pattern) or fnmatchcase(layer, f"{pattern}.*")]
    if not matched:
        raise RecipeError(unknown("layer", pattern, set(weights.values())) + " Patterns may hold * and ?.")
    return iter(matched)


def with_weights(model: Model, tensors: Mapping[str, torch.Tensor]) -> Model:
    """The model with other numbers for some of its tensors; what two names share stays shared.

    Args:
        model: stays as it is.
        tensors: by name.
    """
    module = copy(model.graph)
    made: dict[int, torch.nn.Parameter | torch.Tensor] = {}
    for name, value in tensors.items():
        tensor = held(module, name)
        made[id(tensor)] = torch.nn.Parameter(value, tensor.requires_grad) if isinstance(tensor, torch.nn.Parameter) else value
    for name in {str(node.target) for node in module.graph.nodes if node.op == "get_attr"}:
        if id(held(module, name)) in made:
            owner, _, last = name.rpartition(".")
            setattr(module.get_submodule(owner), last, made[id(held(module, name))])
    return replace(model, graph=module.eval())
