"""Activations that a quantized file had left to its grids, written out again.

onnxruntime's quantizer drops a ReLU in front of a grid whose lowest number is zero, and a ReLU6 in front of one that ends at six: the grid cuts
what they would. The float network has no grid, and needs them back.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import fx

from tersenet.graph.build import call
from tersenet.graph.grids import MARK
from tersenet.graph.operators import kind_of
from tersenet.graph.walk import bind, calls, copy
from tersenet.model import Model

aten = torch.ops.aten
# What runtimes fuse an activation with: behind anything else a grid that starts at zero says only that nothing negative was seen.
FUSED = frozenset(
    {
        "conv1d",
        "conv2d",
        "conv3d",
        "depthwise_conv1d",
        "depthwise_conv2d",
        "conv_transpose1d",
        "conv_transpose2d",
        "linear",
        "matmul",
        "add",
        "batch_norm",
    }
)


def restore_activations(model: Model) -> Model:
    """The graph with ``relu`` and ``relu6`` where a grid did their work."""
    module = copy(model.graph)
    changed = False
    for mark in list(calls(module)):
        if mark.target is not MARK:
            continue
        held = bind(mark)
        source, step = held["self"], held["scale"]
        if held["zero_point"] != held["quant_min"] or not isinstance(source, fx.Node) or kind_of(source) not in FUSED:
            continue
        highest = step * (held["quant_max"] - held["quant_min"])
        operator = aten.relu6.default if abs(highest - 6) <= step else aten.relu.default
        mark.replace_input_with(source, call(module, operator, (source,), before=mark, like=source))
        changed = True
    if not changed:
        return model
    module.recompile()
    return replace(model, graph=module)
