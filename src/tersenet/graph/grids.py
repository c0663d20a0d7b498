"""Grids that a source had quantized its values with: taken out of the graph, and kept beside it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import fx

from tersenet.graph.operators import aten_name, kind_of
from tersenet.graph.walk import bind, calls, copy
from tersenet.schemes import Encoding, Scheme

if TYPE_CHECKING:
    from tersenet.model import Model

MARK = torch.ops.aten.fake_quantize_per_tensor_affine.default
# (lowest, highest) -> the integers that they are the ends of
INTEGERS = {(-128, 127): "int8", (0, 255): "uint8", (-32768, 32767): "int16", (0, 65535): "uint16"}


def with_grids(model: Model) -> Model:
    """The float network, with the grids that its source marked by ``torch.fake_quantize_per_tensor_affine`` as annotations.

    A mark on one side of a permute speaks of the value on its other side too: permutes may vanish, or arise, later.
    """
    module = copy(model.graph)
    marks = [node for node in calls(module) if node.target is MARK]
    if not marks:
        return model
    values = dict(model.annotations.values)
    for mark in marks:
        held = bind(mark)
        source: Any = held["self"]
        mark.replace_all_uses_with(source)
        module.graph.erase_node(mark)
        dtype = INTEGERS.get((held["quant_min"], held["quant_max"]))
        if dtype is None:
            continue
        encoding = Encoding(Scheme(dtype), (float(held["scale"]),), (int(held["zero_point"]),))
        for name in _names(source):
            values.setdefault(name, encoding)
    for node in calls(module):  # in order, so that chains of permutes are followed
        if kind_of(node) == "permute" and isinstance(node.args[0], fx.Node) and node.args[0].name in values:
            values.setdefault(node.name, values[node.args[0].name])
    module.recompile()
    return replace(model, graph=module, annotations=replace(model.annotations, values=values))


def _names(node: fx.Node) -> list[str]:
    names = [node.name]
    while (kind_of(node) == "permute" or "dropout" in aten_name(node)) and isinstance(node.args[0], fx.Node):
        node = node.args[0]
        names.append(node.name)
    return names
