"""Integer linear layers on more than two axes become matrices: onnxruntime has an integer kernel with a bias for Gemm alone."""

from __future__ import annotations

import torch
from torch import fx

from tersenet.graph.build import call, infer
from tersenet.graph.operators import kind_of
from tersenet.graph.walk import bind, calls, shape_of
from tersenet.targets.onnxruntime.operators.quantization import QUANTIZE, conversion, is_dequantized

aten = torch.ops.aten


def flatten_products(module: fx.GraphModule) -> None:
    """Reshape the integers in front of each such layer to a matrix, and those behind it back, in place."""
    for node in list(calls(module)):
        if kind_of(node) != "linear" or len(shape_of(node)) == 2:
            continue
        given, last = bind(node), _last_of_unit(node)
        if not is_dequantized(given["input"]) or not kind_of(given["weight"]).startswith("dequantize") or last is None:
            continue
        before = given["input"]
        integers = before.args[0]
        flat = call(module, aten.reshape.default, (integers, [-1, int(shape_of(integers)[-1])]), before=node)
        real = call(module, before.target, (flat, *before.args[1:]), before=node)
        node.args = (real, *node.args[1:])
        node.meta["val"] = infer(node)
        for user in list(last.users):
            _restore(module, user, node, integers)
        if last is not node:
            last.meta["val"] = infer(last)
    module.graph.eliminate_dead_code()
    module.recompile()


def _last_of_unit(node: fx.Node) -> fx.Node | None:
    """The node whose value is quantized: the layer, or the clip that is applied to it at once."""
    if conversion(node) is not None:
        return node
    reader = next(iter(node.users)) if len(node.users) == 1 else None
    return reader if reader is not None and kind_of(reader) in ("relu", "relu6", "clamp") and conversion(reader) is not None else None


def _restore(module: fx.GraphModule, quantized: fx.Node, layer: fx.Node, source: fx.Node) -> None:
    """Behind a quantization, give the integers the shape that the layer's result had."""
    assert kind_of(quantized) == QUANTIZE
    shape = shape_of(quantized)
    sizes = [size if isinstance(size, int) else call(module, aten.sym_size.int, (source, axis), before=layer) for axis, size in enumerate(shape)]
    value = quantized.meta["val"]
    quantized.meta["val"] = value.new_empty(tuple(layer.meta["val"].shape))
    back = call(module, aten.reshape.default, (quantized, sizes), before=quantized.next)
    back.meta["val"] = value
    quantized.replace_all_uses_with(back, delete_user_cb=lambda user: user is not back)
