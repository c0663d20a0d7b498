"""What each ATen operator is called here: one literal table from ATen's names to *kinds*.

Capability tables, units, plans and exporters speak of kinds. ATen has several spellings of one operator (``relu``, ``clamp_min``,
``hardtanh``); `tersenet.graph.deploy` brings them to the one in this table that stands for the kind.
"""

from __future__ import annotations

from torch import fx

from tersenet.graph.walk import bind, shape_of

KIND_OF = {
    # with weights
    "conv1d.default": "conv1d",
    "conv1d.padding": "conv1d",
    "conv2d.default": "conv2d",
    "conv2d.padding": "conv2d",
    "conv3d.default": "conv3d",
    "conv_transpose1d.default": "conv_transpose1d",
    "conv_transpose2d.input": "conv_transpose2d",
    "conv_transpose3d.input": "conv_transpose3d",
    "linear.default": "linear",
    "embedding.default": "embedding",
    "lstm.input": "lstm",
    "gru.input": "gru",
    "rnn_tanh.input": "rnn_tanh",
    "rnn_relu.input": "rnn_relu",
    # products and sums of activations
    "matmul.default": "matmul",
    "bmm.default": "matmul",
    "mm.default": "matmul",
    "scaled_dot_product_attention.default": "attention",
    "einsum.default": "einsum",
    "add.Tensor": "add",
    "sub.Tensor": "sub",
    "rsub.Scalar": "rsub",
    "mul.Tensor": "mul",
    "div.Tensor": "div",
    "maximum.default": "maximum",
    "minimum.default": "minimum",
    "pow.Tensor_Scalar": "pow",
    "pow.Tensor_Tensor": "pow",
    "square.default": "square",
    # activations
    "relu.default": "relu",
    "relu6.default": "relu6",
    "clamp.default": "clamp",
    "hardtanh.default": "clamp",
    "leaky_relu.default": "leaky_relu",
    "prelu.default": "prelu",
    "elu.default": "elu",
    "selu.default": "selu",
    "celu.default": "celu",
    "sigmoid.default": "sigmoid",
    "tanh.default": "tanh",
    "hardsigmoid.default": "hardsigmoid",
    "hardswish.default": "hardswish",
    "silu.default": "silu",
    "mish.default": "mish",
    "gelu.default": "gelu",
    "softplus.default": "softplus",
    "softmax.int": "softmax",
    "_softmax.default": "softmax",
    "log_softmax.int": "log_softmax",
    "_log_softmax.default": "log_softmax",
    # normalization
    "batch_norm.default": "batch_norm",
    "layer_norm.default": "layer_norm",
    "group_norm.default": "group_norm",
    "instance_norm.default": "instance_norm",
    "rms_norm.default": "rms_norm",
    # pooling and reductions
    "max_pool1d.default": "max_pool1d",
    "max_pool2d.default": "max_pool2d",
    "max_pool3d.default": "max_pool3d",
    "avg_pool1d.default": "avg_pool1d",
    "avg_pool2d.default": "avg_pool2d",
    "avg_pool3d.default": "avg_pool3d",
    "adaptive_avg_pool1d.default": "adaptive_avg_pool1d",
    "adaptive_avg_pool2d.default": "adaptive_avg_pool2d",
    "adaptive_max_pool2d.default": "adaptive_max_pool2d",
    "mean.dim": "mean",
    "mean.default": "mean",
    "sum.dim_IntList": "sum",
    "sum.default": "sum",
    "amax.default": "amax",
    "amin.default": "amin",
    "max.dim": "max_with_indices",
    "topk.default": "topk",
    "argmax.default": "argmax",
    "argmin.default": "argmin",
    "prod.dim_int": "prod",
    "var.correction": "var",
    "var.dim": "var",
    "var.default": "var",
    "cumsum.default": "cumsum",
    "linalg_vector_norm.default": "norm",
    # movement
    "cat.default": "concat",
    "concat.default": "concat",
    "stack.default": "stack",
    "split.Tensor": "split",
    "split_with_sizes.default": "split",
    "chunk.default": "split",
    "unbind.int": "unbind",
    "slice.Tensor": "slice",
    "select.int": "select",
    "narrow.default": "slice",
    "view.default": "reshape",
    "_unsafe_view.default": "reshape",
    "reshape.default": "reshape",
    "flatten.using_ints": "reshape",
    "unflatten.int": "reshape",
    "squeeze.dim": "reshape",
    "squeeze.dims": "reshape",
    "squeeze.default": "reshape",
    "unsqueeze.default": "reshape",
    "permute.default": "permute",
    "transpose.int": "permute",
    "t.default": "permute",
    "movedim.int": "permute",
    "numpy_T.default": "permute",
    "expand.default": "expand",
    "expand_as.default": "expand",
    "repeat.default": "tile",
    "tile.default": "tile",
    "flip.default": "flip",
    "roll.default": "roll",
    "pad.default": "pad",
    "constant_pad_nd.default": "pad",
    "reflection_pad2d.default": "reflection_pad",
    "upsample_nearest2d.vec": "resize_nearest",
    "upsample_nearest2d.default": "resize_nearest",
    "upsample_bilinear2d.vec": "resize_bilinear",
    "upsample_bilinear2d.default": "resize_bilinear",
    "upsample_bicubic2d.vec": "resize_bicubic",
    "upsample_bicubic2d.default": "resize_bicubic",
    "grid_sampler.default": "grid_sample",
    "grid_sampler_2d.default": "grid_sample",
    "pixel_shuffle.default": "pixel_shuffle",
    "pixel_unshuffle.default": "pixel_unshuffle",
    "channel_shuffle.default": "channel_shuffle",
    "gather.default": "gather",
    "scatter.src": "scatter",
    "scatter.value": "scatter",
    "scatter_add.default": "scatter",
    "scatter_reduce.two": "scatter",
    "index_select.default": "index_select",
    "index.Tensor": "index",
    "where.self": "where",
    "where.ScalarOther": "where",
    "masked_fill.Scalar": "masked_fill",
    "tril.default": "tril",
    "triu.default": "triu",
    # elementwise in float
    "abs.default": "abs",
    "neg.default": "neg",
    "exp.default": "exp",
    "log.default": "log",
    "sqrt.default": "sqrt",
    "rsqrt.default": "rsqrt",
    "reciprocal.default": "reciprocal",
    "sin.default": "sin",
    "cos.default": "cos",
    "atan.default": "atan",
    "erf.default": "erf",
    "floor.default": "floor",
    "ceil.default": "ceil",
    "round.default": "round",
    "sign.default": "sign",
    # comparisons, logic, types
    "eq.Scalar": "eq",
    "eq.Tensor": "eq",
    "ne.Scalar": "ne",
    "ne.Tensor": "ne",
    "lt.Scalar": "lt",
    "lt.Tensor": "lt",
    "le.Scalar": "le",
    "le.Tensor": "le",
    "gt.Scalar": "gt",
    "gt.Tensor": "gt",
    "ge.Scalar": "ge",
    "ge.Tensor": "ge",
    "logical_and.default": "logical_and",
    "logical_or.default": "logical_or",
    "__and__.Tensor": "logical_and",
    "__or__.Tensor": "logical_or",
    "logical_not.default": "logical_not",
    "bitwise_not.default": "logical_not",
    "bitwise_and.Tensor": "logical_and",
    "bitwise_or.Tensor": "logical_or",
    "to.dtype": "cast",
    "to.device": "cast",
    "to.dtype_layout": "cast",
    "_to_copy.default": "cast",
    "type_as.default": "cast",
    # made from nothing
    "arange.default": "arange",
    "arange.start": "arange",
    "arange.start_step": "arange",
    "zeros.default": "fill",
    "ones.default": "fill",
    "full.default": "fill",
    "zeros_like.default": "fill",
    "ones_like.default": "fill",
    "full_like.default": "fill",
    "new_zeros.default": "fill",
    "new_full.default": "fill",
    "sym_size.int": "size",
}

# Kinds that only a node's arguments tell apart from their neighbour in the table.
DERIVED = {"depthwise_conv1d", "depthwise_conv2d", "getitem"}
KINDS = frozenset(KIND_OF.values()) | DERIVED

# Applied to one value, element by element: what a kernel may fuse behind itself.
ACTIVATIONS = frozenset({"relu", "relu6", "clamp", "leaky_relu", "sigmoid", "tanh", "hardsigmoid", "hardswish", "silu", "gelu", "elu"})
# Values come out as they went in, at other places: no arithmetic, so integers pass through.
MOVEMENTS = frozenset(
    {"reshape", "permute", "expand", "tile", "flip", "roll", "slice", "select", "split", "unbind", "getitem", "pixel_shuffle", "pixel_unshuffle"}
    | {"channel_shuffle", "gather", "index_select", "index", "concat", "stack", "pad", "max_pool1d", "max_pool2d", "adaptive_max_pool2d"}
    | {"resize_nearest", "reflection_pad", "embedding"}
)
# Where the time goes: an operator of another kind is not worth a conversion to integers and back by itself.
HEAVY = frozenset(
    {"conv1d", "conv2d", "conv3d", "depthwise_conv1d", "depthwise_conv2d", "conv_transpose1d", "conv_transpose2d", "linear", "matmul", "embedding"}
    | {"lstm", "gru", "rnn_tanh", "rnn_relu"}
)
# Arguments that hold constants with an encoding of their own, and the axis that per-channel scales run along.
WEIGHT_AXIS = {
    "conv1d": 0,
    "depthwise_conv1d": 0,
    "conv2d": 0,
    "depthwise_conv2d": 0,
    "conv3d": 0,
    "conv_transpose1d": 1,
    "conv_transpose2d": 1,
    "linear": 0,
}


def aten_name(node: fx.Node) -> str:
    """``conv2d.default`` for a node that calls ``torch.ops.aten.conv2d.default``."""
    target = node.target
    overload = getattr(target, "_overloadname", "")
    packet = getattr(target, "_opname", "") or getattr(target, "__name__", str(target))
    return f"{packet}.{overload}" if overload else packet


def kind_of(node: fx.Node) -> str:
    """The kind of an operator; ATen's own name where the table has none; "" for what is no operator."""
    if node.op != "call_function":
        return ""
    name = aten_name(node)
    if name == "getitem":
        return "getitem"
    kind = KIND_OF.get(name, name)
    if kind in ("conv1d", "conv2d") and _is_depthwise(node):
        return f"depthwise_{kind}"
    return kind


def _is_depthwise(node: fx.Node) -> bool:
    """As many groups as input channels, and more than one."""
    arguments = bind(node)
    groups = arguments["groups"]
    return groups > 1 and groups == shape_of(arguments["input"])[1]
