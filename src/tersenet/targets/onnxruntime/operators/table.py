"""What each kind of operator becomes: the literal table. A new operator is one line here and a builder beside its kin.

A builder gets the graph under construction and the node, appends ONNX operators, and returns the name of the result.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import fx

from tersenet.targets.onnxruntime.lowering import Lowering, Result
from tersenet.targets.onnxruntime.operators import activations as a
from tersenet.targets.onnxruntime.operators import arithmetic as n
from tersenet.targets.onnxruntime.operators import movement as m
from tersenet.targets.onnxruntime.operators import quantization as q
from tersenet.targets.onnxruntime.operators import recurrent
from tersenet.targets.onnxruntime.operators import reductions as r
from tersenet.targets.onnxruntime.operators import weights as w

Builder = Callable[[Lowering, fx.Node], Result]

BUILDERS: Mapping[str, Builder] = {
    # quantized values
    q.QUANTIZE: q.quantize,
    q.DEQUANTIZE: q.dequantize,
    q.DEQUANTIZE_CHANNELS: q.dequantize_channels,
    # with weights
    "conv1d": w.convolution,
    "conv2d": w.convolution,
    "conv3d": w.convolution,
    "depthwise_conv1d": w.convolution,
    "depthwise_conv2d": w.convolution,
    "conv_transpose1d": w.transposed_convolution,
    "conv_transpose2d": w.transposed_convolution,
    "conv_transpose3d": w.transposed_convolution,
    "linear": w.linear,
    "embedding": w.embedding,
    "lstm": recurrent.lstm,
    "gru": recurrent.gru,
    "rnn_tanh": recurrent.plain,
    "rnn_relu": recurrent.plain,
    # sums and products
    "matmul": n.matmul,
    "einsum": n.einsum,
    "add": n.binary("Add"),
    "sub": n.binary("Sub"),
    "rsub": n.reversed_sub,
    "mul": n.binary("Mul"),
    "div": n.binary("Div"),
    "maximum": n.extreme("Max"),
    "minimum": n.extreme("Min"),
    "pow": n.power,
    "square": n.square,
    # activations
    "relu": a.clipped,
    "relu6": a.clipped,
    "clamp": a.clipped,
    "leaky_relu": a.leaky_relu,
    "prelu": a.prelu,
    "elu": a.elu,
    "selu": a.selu,
    "celu": a.celu,
    "sigmoid": n.unary("Sigmoid"),
    "tanh": n.unary("Tanh"),
    "hardsigmoid": a.hard_sigmoid,
    "hardswish": n.unary("HardSwish"),
    "silu": a.silu,
    "mish": n.unary("Mish"),
    "gelu": a.gelu,
    "softplus": a.softplus,
    "softmax": a.along_axis("Softmax"),
    "log_softmax": a.along_axis("LogSoftmax"),
    # normalizations
    "layer_norm": a.layer_norm,
    "group_norm": a.group_norm,
    "instance_norm": a.instance_norm,
    "rms_norm": a.rms_norm,
    # pooling and reductions
    "max_pool1d": r.max_pool,
    "max_pool2d": r.max_pool,
    "max_pool3d": r.max_pool,
    "avg_pool1d": r.average_pool,
    "avg_pool2d": r.average_pool,
    "avg_pool3d": r.average_pool,
    "adaptive_avg_pool1d": r.adaptive_average,
    "adaptive_avg_pool2d": r.adaptive_average,
    "adaptive_max_pool2d": r.adaptive_max,
    "mean": r.reduction("ReduceMean"),
    "sum": r.reduction("ReduceSum"),
    "amax": r.reduction("ReduceMax"),
    "amin": r.reduction("ReduceMin"),
    "prod": r.reduction("ReduceProd"),
    "max_with_indices": r.max_with_indices,
    "topk": r.top,
    "argmax": r.arg("ArgMax"),
    "argmin": r.arg("ArgMin"),
    "var": r.variance,
    "cumsum": r.cumulative_sum,
    "norm": r.norm,
    # movement
    "concat": m.concat,
    "stack": m.stack,
    "split": m.split,
    "unbind": m.unbind,
    "getitem": m.getitem,
    "slice": m.slice_,
    "select": m.select,
    "reshape": m.reshape,
    "permute": m.permute,
    "expand": m.expand,
    "tile": m.tile,
    "flip": m.flip,
    "roll": m.roll,
    "pad": m.pad,
    "reflection_pad": m.pad,
    "resize_nearest": m.resize_nearest,
    "resize_bilinear": m.resize_bilinear,
    "resize_bicubic": m.resize_bicubic,
    "grid_sample": m.grid_sample,
    "pixel_shuffle": m.pixel_shuffle,
    "pixel_unshuffle": m.pixel_unshuffle,
    "channel_shuffle": m.channel_shuffle,
    "gather": m.gather,
    "scatter": m.scatter,
    "index_select": m.index_select,
    "index": m.index,
    "where": n.where,
    "masked_fill": n.masked_fill,
    "tril": n.triangle(0),
    "triu": n.triangle(1),
    # one tensor, element by element
    "abs": n.unary("Abs"),
    "neg": n.unary("Neg"),
    "exp": n.unary("Exp"),
    "log": n.unary("Log"),
    "sqrt": n.unary("Sqrt"),
    "rsqrt": n.reciprocal_root,
    "reciprocal": n.unary("Reciprocal"),
    "sin": n.unary("Sin"),
    "cos": n.unary("Cos"),
    "atan": n.unary("Atan"),
    "erf": n.unary("Erf"),
    "floor": n.unary("Floor"),
    "ceil": n.unary("Ceil"),
    "round": n.unary("Round"),
    "sign": n.unary("Sign"),
    # comparisons, logic, types
    "eq": n.comparison("Equal"),
    "ne": n.comparison("NotEqual"),
    "lt": n.comparison("Less"),
    "le": n.comparison("LessOrEqual"),
    "gt": n.comparison("Greater"),
    "ge": n.comparison("GreaterOrEqual"),
    "logical_and": n.logical("And"),
    "logical_or": n.logical("Or"),
    "logical_not": n.logical("Not"),
    "cast": n.cast,
    # made from nothing, and sizes
    "arange": n.arange,
    "fill": n.fill,
    "size": n.size,
    "floordiv": n.size_arithmetic("Div"),
}
