"""Which function lowers which kind of operator: one literal table.

To add an operator, write a function ``(low, node) -> None`` that reads its inputs with `Lowering.read`, adds operators with
`Lowering.result` (or `emit` and `define`), and name it here; `tersenet.graph.operators.KIND_OF` says what its kind is called.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import fx

from tersenet.targets.litert.lowering import Lowering
from tersenet.targets.litert.operators import activation, convolution, elementwise, indexing, movement, padding, pooling, recurrent, reduction

Lower = Callable[[Lowering, fx.Node], None]

LOWERINGS: dict[str, Lower] = {
    "conv1d": convolution.convolution,
    "conv2d": convolution.convolution,
    "conv3d": convolution.convolution_of_volumes,
    "depthwise_conv1d": convolution.convolution,
    "depthwise_conv2d": convolution.convolution,
    "conv_transpose1d": convolution.transposed_convolution,
    "conv_transpose2d": convolution.transposed_convolution,
    "linear": convolution.linear,
    "matmul": convolution.matmul,
    "embedding": indexing.embedding,
    "lstm": recurrent.lstm,
    **dict.fromkeys(elementwise.BINARY, elementwise.binary),
    **dict.fromkeys(activation.UNARY, activation.unary),
    "where": elementwise.where,
    "masked_fill": elementwise.masked_fill,
    "clamp": elementwise.clamp,
    "cast": elementwise.to_type,
    "relu": activation.rectifier,
    "relu6": activation.rectifier,
    "hardswish": activation.hardswish,
    "leaky_relu": activation.leaky_relu,
    "prelu": activation.prelu,
    "gelu": activation.gelu,
    "silu": activation.silu,
    "hardsigmoid": activation.hardsigmoid,
    "elu": activation.elu_kernel,
    "softmax": activation.softmax,
    "log_softmax": activation.softmax,
    "softplus": activation.composed(activation.softplus),
    "mish": activation.composed(activation.mish),
    "selu": activation.composed(activation.selu),
    "celu": activation.composed(activation.celu),
    "reciprocal": activation.composed(activation.reciprocal),
    "erf": activation.composed(activation.erf),
    "layer_norm": reduction.layer_norm,
    "rms_norm": reduction.rms_norm,
    "group_norm": reduction.group_norm,
    "instance_norm": reduction.instance_norm,
    "max_pool1d": pooling.max_pool,
    "max_pool2d": pooling.max_pool,
    "avg_pool1d": pooling.average_pool,
    "avg_pool2d": pooling.average_pool,
    "adaptive_avg_pool1d": pooling.adaptive_pool,
    "adaptive_avg_pool2d": pooling.adaptive_pool,
    "adaptive_max_pool2d": pooling.adaptive_pool,
    "resize_nearest": pooling.resize,
    "resize_bilinear": pooling.resize,
    **dict.fromkeys(reduction.REDUCTIONS, reduction.reduce),
    "argmax": reduction.arg_extreme,
    "argmin": reduction.arg_extreme,
    "max_with_indices": reduction.max_with_indices,
    "var": reduction.variance,
    "norm": reduction.norm,
    "cumsum": reduction.cumsum,
    "concat": movement.concat,
    "stack": movement.stack,
    "split": movement.split,
    "unbind": movement.unbind,
    "getitem": movement.part,
    "slice": movement.slice_,
    "select": movement.select,
    "reshape": movement.reshape,
    "permute": movement.permute,
    "pad": padding.pad,
    "reflection_pad": padding.pad,
    "pixel_shuffle": padding.pixel_shuffle,
    "pixel_unshuffle": padding.pixel_unshuffle,
    "channel_shuffle": padding.channel_shuffle,
    "expand": indexing.expand,
    "tile": indexing.tile,
    "flip": indexing.flip,
    "roll": indexing.roll,
    "gather": indexing.gather,
    "index_select": indexing.index_select,
    "index": indexing.index,
    "tril": indexing.triangle,
    "triu": indexing.triangle,
    "arange": indexing.made_from_nothing,
    "fill": indexing.made_from_nothing,
}
