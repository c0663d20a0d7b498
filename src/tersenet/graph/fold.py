"""Batch norm folded into the operator before it, exactly (Jacob et al. 2018, section 3.2, equation 14)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from tersenet.graph.build import call
from tersenet.graph.operators import kind_of
from tersenet.graph.walk import add_constant, bind, calls, constant, is_constant, rebind, shape_of

aten = torch.ops.aten
# kind -> axis of the weight that output channels run along
FOLDS_INTO = {
    "conv1d": 0,
    "depthwise_conv1d": 0,
    "conv2d": 0,
    "depthwise_conv2d": 0,
    "conv3d": 0,
    "linear": 0,
    "conv_transpose1d": 1,
    "conv_transpose2d": 1,
}


@dataclass(frozen=True)
class Norm:
    """A batch norm that was folded, as the operator that took it in remembers it (``meta["batch_norm"]``): a network that learns has it again.

    Args:
        arguments: of the batch norm, by name; a tensor by the name that the module has it under.
        factors: what the operator's weight was multiplied by, in float64; broadcasts against the weight.
        bias: the name of the operator's own bias, or "".
        weight: the name of the operator's own weight, or "" where it had none.
    """

    arguments: dict[str, Any]
    factors: torch.Tensor
    bias: str = ""
    weight: str = ""


@dataclass(frozen=True)
class Columns:
    """Where the columns of an operator's weight came from (``meta["columns"]`` of the constant), which a flatten before it had moved.

    Args:
        weight: the name of the parameter.
        places: of each column, its place there.
    """

    weight: str
    places: torch.Tensor


def source_weight(node: fx.Node) -> str:
    """The name of the parameter that an operator's weight is in the network that was rewritten; "" where it is none."""
    norm: Norm | None = node.meta.get("batch_norm")
    weight: Any = bind(node).get("weight")
    columns = weight.meta.get("columns") if isinstance(weight, fx.Node) else None
    if columns is not None:
        return columns.weight
    return norm.weight if norm is not None else str(weight.target) if is_constant(weight) else ""


def beside_weight(node: fx.Node, tensors: Mapping[str, torch.Tensor]) -> torch.Tensor | None:
    """What there is for an operator's weight among tensors by the names of parameters, laid out as that weight is."""
    found = tensors.get(source_weight(node))
    weight: Any = bind(node).get("weight")
    columns = weight.meta.get("columns") if isinstance(weight, fx.Node) else None
    return found if found is None or columns is None else found[:, columns.places]


def fold_batch_norm(module: fx.GraphModule) -> None:
    """Fold every batch norm into the convolution or linear layer whose only reader it is; write the others as arithmetic.

    With ``m = gamma / sqrt(variance + epsilon)``: weight' = m * weight, bias' = beta + m * (bias - mean). A batch norm
    that cannot be folded becomes a depthwise 1x1 convolution on images (one integer operator in every runtime, with its
    activation fused) and a product and a sum elsewhere.
    """
    for node in list(calls(module)):
        if kind_of(node) != "batch_norm" or not all(part is None or is_constant(part) for part in _numbers(node)):
            continue
        multiplier, offset = _affine(module, node)
        before = node.args[0]
        assert isinstance(before, fx.Node)
        if len(before.users) == 1 and _foldable(before):
            _fold(module, before, multiplier, offset, node)
            node.replace_all_uses_with(before)
        else:
            node.replace_all_uses_with(_as_arithmetic(module, node, before, multiplier, offset))
        module.graph.erase_node(node)


def _numbers(node: fx.Node) -> tuple[Any, ...]:
    """What it normalizes with; statistics of the batch itself, or numbers that come in as inputs, are nothing to fold."""
    arguments = bind(node)
    if arguments["running_mean"] is None:
        return (node,)
    return tuple(arguments[name] for name in ("running_mean", "running_var", "weight", "bias"))


def _affine(module: fx.GraphModule, node: fx.Node) -> tuple[torch.Tensor, torch.Tensor]:
    """Multiplier and offset of each channel, in float64."""
    arguments = bind(node)
    mean, variance = (constant(module, arguments[name]).double() for name in ("running_mean", "running_var"))
    gamma, beta = (constant(module, arguments[name]).double() if arguments[name] is not None else None for name in ("weight", "bias"))
    multiplier = torch.rsqrt(variance + arguments["eps"])
    if gamma is not None:
        multiplier = multiplier * gamma
    offset = -mean * multiplier
    return multiplier, offset if beta is None else offset + beta


def _foldable(node: fx.Node) -> bool:
    kind = kind_of(node)
    if kind not in FOLDS_INTO or not is_constant(bind(node)["weight"]):
        return False
    if kind == "linear" and len(shape_of(node)) != 2:
        return False  # batch norm normalizes axis 1, which is not the channels of a sequence
    bias = bind(node)["bias"]
    return bias is None or is_constant(bias)


def _fold(module: fx.GraphModule, node: fx.Node, multiplier: torch.Tensor, offset: torch.Tensor, norm: fx.Node) -> None:
    arguments = bind(node)
    weight = constant(module, arguments["weight"])
    if FOLDS_INTO[kind_of(node)] == 0:
        factors = multiplier.reshape(-1, *[1] * (weight.ndim - 1))
    else:  # (inputs, outputs / groups, ...): outputs of one group are side by side
        groups = arguments["groups"]
        by_group = multiplier.reshape(groups, 1, -1, *[1] * (weight.ndim - 2))
        factors = by_group.expand(groups, weight.shape[0] // groups, *by_group.shape[2:]).reshape(weight.shape[0], -1, *by_group.shape[3:])
    folded = weight.double() * factors
    own_bias = "" if arguments["bias"] is None else str(arguments["bias"].target)
    node.meta["batch_norm"] = Norm(_named(norm), factors, own_bias, str(arguments["weight"].target))
    bias = offset if arguments["bias"] is None else offset + multiplier * constant(module, arguments["bias"]).double()
    layer = str(arguments["weight"].target).rpartition(".")[0]
    held = _hold(module, f"{layer}.weight", folded.to(weight.dtype), node, arguments["weight"])
    if "columns" in arguments["weight"].meta:
        held.meta["columns"] = arguments["weight"].meta["columns"]
    rebind(node, weight=held, bias=_hold(module, f"{layer}.bias", bias.to(weight.dtype), node, arguments["weight"]))


def _named(norm: fx.Node) -> dict[str, Any]:
    return {name: str(value.target) if isinstance(value, fx.Node) else value for name, value in bind(norm).items() if name != "input"}


def _hold(module: fx.GraphModule, name: str, value: torch.Tensor, node: fx.Node, like: fx.Node) -> fx.Node:
    return add_constant(module, f"folded.{name}", value, node, like)


def _as_arithmetic(module: fx.GraphModule, node: fx.Node, before: fx.Node, multiplier: torch.Tensor, offset: torch.Tensor) -> fx.Node:
    channels, rank = multiplier.numel(), len(shape_of(node))
    multiplier, offset = multiplier.float(), offset.float()
    if rank == 4 and channels > 1:
        factors = multiplier.reshape(-1, 1, 1, 1)
        weight = add_constant(module, f"{node.name}.weight", factors, node, node)
        bias = add_constant(module, f"{node.name}.bias", offset, node, node)
        made = call(module, aten.conv2d.default, (before, weight, bias, [1, 1], [0, 0], [1, 1], channels), before=node, like=node)
        made.meta["batch_norm"] = Norm(_named(node), factors)
        return made
    shape = [-1, *[1] * (rank - 2)]
    scale = add_constant(module, f"{node.name}.multiplier", multiplier.reshape(shape), node, node)
    shift = add_constant(module, f"{node.name}.offset", offset.reshape(shape), node, node)
    product = call(module, aten.mul.Tensor, (before, scale), before=node, like=node)
    return call(module, aten.add.Tensor, (product, shift), before=node, like=node)
