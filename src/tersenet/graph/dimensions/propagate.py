"""Axes of every value of a graph, from the constants and inputs on, by the rules of its operators."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import fx

from tersenet.graph.dimensions.atoms import Atoms, Classes, Vector
from tersenet.graph.dimensions.elementwise import without_rule
from tersenet.graph.dimensions.movement import getitem
from tersenet.graph.dimensions.site import ONE, Axes, Fixed, Site, Sizes, Term, Value
from tersenet.graph.dimensions.table import rule_of
from tersenet.graph.walk import bind, constant


@dataclass(frozen=True)
class Propagation:
    """What the rules said of a graph.

    Args:
        values: axes of each node's value; of each of several.
        constants: axes of each tensor that the graph holds, by the name of one of its ``get_attr`` nodes' targets.
        classes: which atoms leave together, and which stay and why.
        made: axes that weights make, with the node that does.
        pieces: parts that axes are split into.
        terms: how each operator's multiply-accumulates depend on axes.
        sizes: sizes as numbers.
    """

    values: Mapping[fx.Node, Value]
    constants: Mapping[str, Axes]
    classes: Classes
    made: tuple[tuple[fx.Node, Vector], ...]
    pieces: tuple[Vector, ...]
    terms: Mapping[fx.Node, tuple[Term, ...]]
    sizes: Sizes


def propagate(module: fx.GraphModule, *, heads: bool = True) -> Propagation:
    """Follow every axis through a graph.

    Args:
        module: `Model.graph`.
        heads: of attention, whole heads leave; else the same channels of every head.
    """
    atoms, sizes = Atoms(), Sizes(module)
    values: dict[fx.Node, Value] = {}
    tensors: dict[int, Axes] = {}  # by identity: tied weights are one tensor
    constants: dict[str, Axes] = {}
    made: list[tuple[fx.Node, Vector]] = []
    pieces: list[Vector] = []
    terms: dict[fx.Node, tuple[Term, ...]] = {}
    names = dict(module.named_parameters(remove_duplicate=False)) | dict(module.named_buffers(remove_duplicate=False))
    for node in module.graph.nodes:
        if node.op == "placeholder":
            values[node] = tuple(_input_axis(node, position, size) for position, size in enumerate(sizes.shape(node.meta["val"])))
        elif node.op == "get_attr":
            name = str(node.target)
            tensor = names[name] if name in names else constant(module, node)
            if id(tensor) not in tensors:
                tensors[id(tensor)] = tuple(atoms.fresh(size) if size != 1 else ONE for size in tensor.shape)
            values[node] = constants[name] = tensors[id(tensor)]
        elif node.op == "call_function":
            site = Site(module, node, {}, values, atoms, sizes, [], [], [])
            values[node] = _called(site)
            made += [(node, axis) for axis in site.made]
            pieces += site.pieces
            terms[node] = tuple(site.terms)
        elif node.op == "output":
            _pin_outputs(node, values, atoms)
    if not heads:
        atoms.preferred.clear()
    return Propagation(values, constants, atoms.solve(), tuple(made), tuple(pieces), terms, sizes)


def _input_axis(node: fx.Node, position: int, size: int) -> Fixed:
    return Fixed(size, "the batch" if position == 0 else f"the input {node.name}") if size != 1 else ONE


def _called(site: Site) -> Value:
    node = site.node
    if node.target is operator.getitem:
        return getitem(site)
    if not isinstance(node.target, torch._ops.OpOverload):
        return ()  # arithmetic on sizes
    site.arguments = bind(node)
    value = node.meta.get("val")
    try:
        result = rule_of(node.target._schema.name.removeprefix("aten::"))(site)
    except (KeyError, IndexError, TypeError, ValueError):  # a form of the operator that its rule does not foresee
        result = without_rule(site)
    return result if not isinstance(value, torch.Tensor) or _fits(site, result) else without_rule(site)


def _fits(site: Site, axes: Value) -> bool:
    return [len(axis) for axis in axes] == list(site.shape())


def _pin_outputs(node: fx.Node, values: Mapping[fx.Node, Value], atoms: Atoms) -> None:
    results = node.args[0] if isinstance(node.args[0], tuple | list) else (node.args[0],)
    for result in results:
        for axis in values[result]:  # type: ignore[index]
            if isinstance(axis, np.ndarray):
                atoms.pin(axis, f"it is what the network returns ({result.name})")  # type: ignore[union-attr]
