"""Layers that are taken apart: a convolution or linear layer as two or three thinner ones, one behind the other."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, fx

from tersenet.graph.build import call
from tersenet.graph.dependencies import held
from tersenet.graph.operators import WEIGHT_AXIS, kind_of
from tersenet.graph.shrink import without_unused
from tersenet.graph.walk import bind, calls, copy, is_constant, layer_of
from tersenet.model import Model
from tersenet.numerics import factorization
from tersenet.numerics.factorization import Spectrum, spectrum

aten = torch.ops.aten
PLAIN = {"conv1d": aten.conv1d.default, "conv2d": aten.conv2d.default, "conv3d": aten.conv3d.default}
METHODS = ("tucker", "spatial", "channel")
OF_WEIGHTS = ("weights", "penalties", "constraints")  # annotations that speak of a weight, and not of its factors


@dataclass(frozen=True, eq=False)
class Layer:
    """A layer that can be taken apart, or the reason why not.

    Args:
        node: name of its operator.
        name: as users see it.
        kind: of its operator.
        weight: name of its parameter.
        tensor: its weight, (outputs, inputs, ...).
        why: it cannot; "" where it can.
    """

    node: str
    name: str
    kind: str
    weight: str
    tensor: Tensor
    why: str = ""

    def ways(self, method: str) -> str:
        """The method that fits: of a linear layer or a 1 x 1 convolution ``channel``, which is the SVD of its matrix."""
        sizes = self.tensor.shape[2:]
        if all(size == 1 for size in sizes):
            return "channel"
        return "tucker" if method == "spatial" and (len(sizes) != 2 or 1 in sizes) else method

    @cached_property
    def outputs(self) -> Spectrum:
        return spectrum(factorization.unfolded(self.tensor, 0))

    @cached_property
    def inputs(self) -> Spectrum:
        return spectrum(factorization.unfolded(self.tensor, 1))

    @cached_property
    def places(self) -> Spectrum:
        return spectrum(factorization.spatial_matrix(self.tensor))

    def spectra(self, method: str) -> tuple[Spectrum, ...]:
        """What ranks are chosen by, one for each rank."""
        return {"tucker": lambda: (self.outputs, self.inputs), "spatial": lambda: (self.places,), "channel": lambda: (self.outputs,)}[method]()


def layers(model: Model) -> list[Layer]:
    """Every convolution and linear layer, in the order in which they run; those that cannot be taken apart with the reason."""
    readers: dict[int, list[fx.Node]] = {}
    for node in calls(model.graph):
        if kind_of(node) in WEIGHT_AXIS and is_constant(bind(node)["weight"]):
            readers.setdefault(id(held(model.graph, str(bind(node)["weight"].target))), []).append(node)
    found = []
    for nodes in readers.values():
        name = str(bind(nodes[0])["weight"].target)
        tensor = held(model.graph, name)
        found.append(Layer(nodes[0].name, layer_of(nodes[0]), kind_of(nodes[0]), name, tensor, _why_not(model, nodes, name)))
    return found


def _why_not(model: Model, nodes: Sequence[fx.Node], name: str) -> str:
    kind, weight = kind_of(nodes[0]), bind(nodes[0])["weight"]
    if kind not in PLAIN and kind != "linear":
        groups = bind(nodes[0]).get("groups", 1)
        return f"each of its {groups} channels has a filter of its own" if kind.startswith("depthwise") else f"no factors of {kind} are known"
    if bind(nodes[0]).get("groups", 1) != 1:
        return f"it has {bind(nodes[0])['groups']} groups, and factors mix all channels"
    if len(nodes) > 1 or len(weight.users) > 1:
        return "its weight is shared with another layer"
    if name in model.annotations.masks:
        return "zeros of its mask would not stay zero"
    if name in model.annotations.codebooks:
        return "its weights share values, and factors would not"
    return ""


@dataclass(frozen=True, eq=False)
class Factors:
    """How one layer is taken apart.

    Args:
        layer: of `layers`.
        method: tucker, spatial or channel.
        ranks: of tucker the channels that the core gives and takes; else one number.
    """

    layer: Layer
    method: str
    ranks: tuple[int, ...]

    @property
    def numbers(self) -> int:
        """How many numbers the layers that take its place have."""
        outputs, inputs, *sizes = self.layer.tensor.shape
        places, first = math.prod(sizes), self.ranks[0]
        if self.method == "tucker":
            return self.ranks[1] * inputs + first * self.ranks[1] * places + outputs * first
        if self.method == "spatial":
            return first * (inputs * sizes[0] + outputs * sizes[1])
        return first * (inputs * places + outputs)

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """Weights of the layers that take its place, in order, in the layer's own type."""
        layer, weight = self.layer, self.layer.tensor
        if self.method == "tucker":
            first, core, last = factorization.tucker(weight, layer.outputs, layer.inputs, self.ranks)  # type: ignore[arg-type]
            made = [_pointwise(first, weight), core, _pointwise(last, weight)]
        elif self.method == "spatial":
            made = list(factorization.spatial(weight, layer.places, self.ranks[0]))
        else:
            first, second = factorization.pair(layer.outputs, self.ranks[0])
            made = [first.reshape(-1, *weight.shape[1:]), _pointwise(second, weight)]
        return tuple(each.to(weight.dtype).contiguous() for each in made)


def _pointwise(matrix: Tensor, weight: Tensor) -> Tensor:
    """A matrix as the weight of a convolution of 1 x 1, or of a linear layer, as the layer is one."""
    return matrix.reshape(*matrix.shape, *[1] * (weight.dim() - 2))


def factored(model: Model, chosen: Sequence[Factors]) -> Model:
    """The network with some layers taken apart. Names of layers stay, with ``.reduce`` and ``.core`` for what goes before.

    At full ranks it computes the same, up to rounding.

    Args:
        model: stays as it is.
        chosen: at most one for each layer.
    """
    module = copy(model.graph)
    nodes = {node.name: node for node in module.graph.nodes}
    for factors in chosen:
        _take_apart(module, nodes[factors.layer.node], factors)
    module.graph.eliminate_dead_code()
    gone = {factors.layer.weight for factors in chosen}
    own = {key: {name: entry for name, entry in getattr(model.annotations, key).items() if name not in gone} for key in OF_WEIGHTS}
    return replace(model, graph=without_unused(module), plans=(), annotations=replace(model.annotations, **own))


def _take_apart(module: fx.GraphModule, node: fx.Node, factors: Factors) -> None:
    layer, whole, operator, value = factors.layer, bind(node), node.target, bind(node)["input"]
    plain, path = PLAIN.get(layer.kind, operator), layer.weight.rpartition(".")[0] or layer.node
    *before, last = zip(factors.tensors, _geometries(whole, factors.method), strict=True)
    for place, (tensor, geometry) in enumerate(before):
        weight = _parameter(module, _fresh(module, f"{path}.{'core' if place else 'reduce'}"), tensor, node)
        chosen = operator if geometry else plain
        value = call(module, chosen, _ordered(chosen, geometry, value, weight, None), before=node, like=node)
    tensor, geometry = last
    weight = _parameter(module, layer.weight, tensor, node)
    node.target = operator if geometry else plain
    node.args, node.kwargs = _ordered(node.target, geometry, value, weight, whole["bias"]), {}


def _geometries(whole: Mapping[str, Any], method: str) -> list[Mapping[str, Any]]:
    """Strides, paddings and dilations of the layers in order; none where one is of 1 x 1, and nothing but mixes channels."""
    if method == "tucker":
        return [{}, whole, {}]
    return [_along(whole, 0), _along(whole, 1)] if method == "spatial" else [whole, {}]


def _along(whole: Mapping[str, Any], axis: int) -> Mapping[str, Any]:
    """The geometry of an image's rows (0) or columns (1) alone."""

    def alone(name: str, usual: int) -> Any:
        numbers = whole[name]
        if isinstance(numbers, str):
            return numbers  # "same" and "valid" are so along both
        own = numbers[axis] if len(numbers) > 1 else numbers[0]
        return [own, usual] if axis == 0 else [usual, own]

    return {name: alone(name, usual) for name, usual in (("stride", 1), ("padding", 0), ("dilation", 1))}


def _ordered(operator: Any, arguments: Mapping[str, Any], value: fx.Node, weight: fx.Node, bias: Any) -> tuple[Any, ...]:
    """Arguments in the schema's order, for a layer of such a value and weight."""
    given = {**arguments, "input": value, "weight": weight, "bias": bias}
    return tuple(given.get(argument.name, argument.default_value) for argument in operator._schema.arguments)


def _fresh(module: fx.GraphModule, path: str) -> str:
    """The name of a weight that is not there yet: a layer may be taken apart twice."""
    names, number = dict(module.named_parameters(remove_duplicate=False)), 1
    while (name := f"{path}{number if number > 1 else ''}.weight") in names:
        number += 1
    return name


def _parameter(module: fx.GraphModule, name: str, tensor: Tensor, before: fx.Node) -> fx.Node:
    """A fresh parameter under a dotted name, and the node that reads it; what had the name has it no more."""
    path, _, last = name.rpartition(".")
    holder: torch.nn.Module = module
    for part in path.split(".") if path else ():
        if not hasattr(holder, part):
            holder.add_module(part, torch.nn.Module())
        holder = getattr(holder, part)
    setattr(holder, last, torch.nn.Parameter(tensor))
    with module.graph.inserting_before(before):
        node = module.graph.create_node("get_attr", name)
    source = before.meta["val"]
    mode = getattr(source, "fake_mode", None)
    node.meta["val"] = mode.from_tensor(tensor, static_shapes=True) if mode is not None else tensor
    return node
