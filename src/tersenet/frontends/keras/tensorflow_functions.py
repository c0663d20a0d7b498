"""Operators between layers as Keras 2 saves them: a layer that names a function of TensorFlow (TFOpLambda, SlicingOpLambda) or a node of its graph
(TensorFlowOpLayer, of TensorFlow 2.0 to 2.3). The names are looked up in the tables here, and nowhere else.

The forms are those of tf-keras: engine/node.py writes a call, layers/core/tf_op_layer.py the layer. The first argument stands for itself, all others
by their names in TensorFlow, so that `2 - x` is `math.subtract` of the constant 2 with ``y`` the tensor.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from tersenet.errors import ModelError, unknown
from tersenet.frontends.keras.config import Described
from tersenet.frontends.keras.layers.resizing import INEXACT, Frame, Resized
from tersenet.frontends.keras.operations import OPERATIONS, Operation, gelu


@dataclass(frozen=True)
class Sizes:
    """What `tf.shape` gives: the sizes of a tensor, which may be open, as numbers of Python."""

    sizes: tuple[Any, ...]


def converted(layer: Described) -> torch.nn.Module:
    """The module of an operator.

    Raises:
        ModelError: it is not one of the tables.
    """
    if layer.kind == "TensorFlowOpLayer":
        return _node(layer)
    function = str(layer.config.get("function") or ("__operators__.getitem" if layer.kind == "SlicingOpLambda" else ""))
    function = function.removeprefix("compat.v1.")
    if function not in TENSORFLOW:
        raise ModelError(f"the operator {layer.name!r} is not read: {unknown('TensorFlow function', function, TENSORFLOW)}")
    return Operation(TENSORFLOW[function], {})


def _node(layer: Described) -> torch.nn.Module:
    """A node of TensorFlow's graph, and the arguments that are constants by their places."""
    node = layer.config.get("node_def")
    constants = layer.config.get("constants")
    kind = str(node.get("op")) if isinstance(node, Mapping) else ""
    if kind not in NODES or not isinstance(node, Mapping):
        raise ModelError(f"the operator {layer.name!r} is not read: {unknown('TensorFlow operator', kind, NODES)}")
    attributes = node.get("attr")
    settings = _SETTINGS.get(kind, lambda _: {})(attributes if isinstance(attributes, Mapping) else {})
    held = {int(place): found for place, found in constants.items()} if isinstance(constants, Mapping) else {}
    return Operation(NODES[kind], settings, held)


def getitem(x: Any, slice_spec: Any = None, **_: Any) -> Any:
    """``x[...]``, of a tensor or of its sizes."""
    if not isinstance(x, Sizes):
        return OPERATIONS["GetItem"](x, slice_spec=slice_spec)
    part = slice_spec[0] if isinstance(slice_spec, list) and len(slice_spec) == 1 else slice_spec
    found = x.sizes[part]
    return Sizes(found) if isinstance(found, tuple) else found


def _plain(sizes: Any) -> list[Any]:
    return list(sizes.sizes) if isinstance(sizes, Sizes) else list(sizes)


def reshape(tensor: torch.Tensor, shape: Any = None, **_: Any) -> torch.Tensor:
    """To sizes that are numbers, or come from `tf.shape`."""
    return OPERATIONS["Reshape"](tensor, shape=_plain(shape))


def stack(*values: Any, axis: int = 0, **_: Any) -> Any:
    """Of tensors; of sizes, the sizes of another shape."""
    return torch.stack(values, axis) if all(isinstance(value, torch.Tensor) for value in values) else Sizes(values)


def concat(*values: Any, axis: int = -1, **_: Any) -> Any:
    """Of tensors; of sizes, the sizes of another shape."""
    if not any(isinstance(value, Sizes) for value in values):
        return OPERATIONS["Concatenate"](*values, axis=axis)
    return Sizes(tuple(size for value in values for size in (_plain(value) if isinstance(value, Sizes | list | tuple) else [value])))


def bias_add(x: torch.Tensor, bias: Any = None, data_format: Any = None, **_: Any) -> torch.Tensor:
    """A number for each channel: what `preprocess_input` of VGG and ResNet adds."""
    vector = torch.as_tensor(bias, dtype=x.dtype)
    first = str(data_format).startswith("NC")
    return x + (vector.reshape(-1, *[1] * (x.dim() - 2)) if first else vector)


def l2_normalize(x: torch.Tensor, axis: Any = None, epsilon: float = 1e-12, **_: Any) -> torch.Tensor:
    """By the root of the sum of squares, which is at least `epsilon`."""
    axes = list(range(x.dim())) if axis is None else axis
    return x * torch.rsqrt(torch.clamp(torch.sum(torch.square(x), axes, keepdim=True), min=epsilon))


def resized(images: torch.Tensor, size: Any = None, method: str = "bilinear", *, antialias: bool = False, **settings: Any) -> torch.Tensor:
    """`tf.image.resize`: pixels lie in the middle of their squares."""
    method = str(method).lower()
    if method not in {"bilinear", "nearest"} or settings.get("preserve_aspect_ratio"):
        why = INEXACT.get(method, "preserve_aspect_ratio leaves the size open")
        raise ModelError(f"tf.image.resize is converted with the methods bilinear and nearest, to a size of its own, got {method!r}: {why}")
    height, width = (int(each) for each in size)
    whole = Frame(0, 0, images.shape[1], images.shape[2])
    return Resized(whole, (height, width), method, antialias, 0.0, True)(images)


def sliced(x: torch.Tensor, begin: Sequence[int] = (), size: Sequence[int] = (), **_: Any) -> torch.Tensor:
    """`tf.slice`: a size of -1 goes to the end."""
    for axis, (start, length) in enumerate(zip(begin, size, strict=True)):
        if start or length != -1:
            x = x[(*[slice(None)] * axis, slice(start, None if length == -1 else start + length))]
    return x


def strided(x: torch.Tensor, begin: Any, end: Any, strides: Any, *, masks: Mapping[str, int]) -> torch.Tensor:
    """`StridedSlice`: bits of the masks say what each place of the index is."""
    spec: list[Any] = []
    for place, (first, last, step) in enumerate(zip(begin, end, strides, strict=True)):
        bit = {name: bool(mask >> place & 1) for name, mask in masks.items()}
        if bit["ellipsis_mask"]:
            spec.append(Ellipsis)
        elif bit["new_axis_mask"]:
            spec.append(None)
        elif bit["shrink_axis_mask"]:
            spec.append(first)
        else:
            spec.append(slice(None if bit["begin_mask"] else first, None if bit["end_mask"] else last, step))
    return OPERATIONS["GetItem"](x, spec)


def divide_no_nan(x: torch.Tensor, y: Any = None, **_: Any) -> torch.Tensor:
    """A quotient that is zero where the divisor is."""
    other = torch.as_tensor(y, dtype=x.dtype)
    return torch.where(other == 0, torch.zeros_like(x), x / torch.where(other == 0, torch.ones_like(other), other))


def _number(attributes: Mapping[str, Any], name: str, kind: str, default: Any) -> Any:
    found = attributes.get(name)
    return found.get(kind, default) if isinstance(found, Mapping) else default


_MASKS = ("begin_mask", "end_mask", "ellipsis_mask", "new_axis_mask", "shrink_axis_mask")
_TYPES = {"DT_FLOAT": "float32", "DT_HALF": "float32", "DT_DOUBLE": "float32", "DT_INT32": "int32", "DT_INT64": "int64", "DT_BOOL": "bool"}
_REDUCTIONS = ("Mean", "Sum", "Max", "Min", "Prod")
# Operator -> what its attributes set; 64-bit numbers are text in JSON.
_SETTINGS: Mapping[str, Callable[[Mapping[str, Any]], Mapping[str, Any]]] = {
    **dict.fromkeys(_REDUCTIONS, lambda attributes: {"keepdims": _number(attributes, "keep_dims", "b", False)}),
    "StridedSlice": lambda attributes: {"masks": {name: int(_number(attributes, name, "i", 0)) for name in _MASKS}},
    "Cast": lambda attributes: {"dtype": _TYPES.get(str(_number(attributes, "DstT", "type", "")), "")},
    "Squeeze": lambda attributes: {"axis": [int(axis) for axis in _number(attributes, "squeeze_dims", "list", {}).get("i", [])]},
    "LeakyRelu": lambda attributes: {"alpha": float(_number(attributes, "alpha", "f", 0.2))},
    "Pack": lambda attributes: {"axis": int(_number(attributes, "axis", "i", 0))},
    "DepthToSpace": lambda attributes: {"block_size": int(_number(attributes, "block_size", "i", 2))},
    "MatMul": lambda attributes: {name: bool(_number(attributes, name, "b", False)) for name in ("transpose_a", "transpose_b")},
    "BatchMatMulV2": lambda attributes: {f"transpose_{name[-1]}": bool(_number(attributes, name, "b", False)) for name in ("adj_x", "adj_y")},
}

_SAME: Mapping[str, str] = {
    "math.subtract": "Subtract", "math.multiply": "Multiply", "math.divide": "Divide", "math.truediv": "Divide", "math.floordiv": "FloorDivide",
    "math.floormod": "Mod", "math.maximum": "Maximum", "math.minimum": "Minimum", "math.pow": "Power", "math.square": "Square", "math.sqrt": "Sqrt",
    "math.rsqrt": "Rsqrt", "math.exp": "Exp", "math.expm1": "Expm1", "math.log": "Log", "math.log1p": "Log1p", "math.abs": "Abs", "abs": "Abs",
    "math.negative": "Negative", "math.tanh": "Tanh", "math.sigmoid": "Sigmoid", "math.sin": "Sin", "math.cos": "Cos", "math.tan": "Tan",
    "math.atan": "Arctan", "math.sinh": "Sinh", "math.cosh": "Cosh", "math.floor": "Floor", "math.ceil": "Ceil", "math.round": "Round",
    "round": "Round", "math.sign": "Sign", "math.reciprocal": "Reciprocal", "math.reduce_mean": "Mean", "math.reduce_sum": "Sum",
    "math.reduce_max": "Max", "math.reduce_min": "Min", "math.reduce_prod": "Prod", "math.reduce_std": "Std", "math.reduce_variance": "Var",
    "math.reduce_logsumexp": "Logsumexp", "math.reduce_any": "Any", "math.reduce_all": "All", "math.argmax": "Argmax", "math.argmin": "Argmin",
    "math.greater": "Greater", "math.greater_equal": "GreaterEqual", "math.less": "Less", "math.less_equal": "LessEqual", "math.equal": "Equal",
    "math.not_equal": "NotEqual", "__operators__.eq": "Equal", "__operators__.ne": "NotEqual", "math.logical_and": "LogicalAnd",
    "math.logical_or": "LogicalOr", "math.logical_not": "LogicalNot", "math.softplus": "Softplus", "math.softsign": "Softsign",
    "nn.softsign": "Softsign", "math.erf": "Erf", "math.cumsum": "Cumsum", "nn.relu": "Relu", "nn.relu6": "Relu6", "nn.sigmoid": "Sigmoid",
    "nn.tanh": "Tanh", "nn.softmax": "Softmax", "nn.softplus": "Softplus", "nn.log_softmax": "LogSoftmax", "math.log_softmax": "LogSoftmax",
    "math.log_sigmoid": "LogSigmoid", "nn.leaky_relu": "LeakyRelu", "nn.elu": "Elu", "nn.selu": "Selu", "nn.silu": "Silu", "nn.swish": "Silu",
    "nn.depth_to_space": "DepthToSpace", "nn.space_to_depth": "SpaceToDepth", "transpose": "Transpose", "split": "Split", "unstack": "Unstack",
    "expand_dims": "ExpandDims", "squeeze": "Squeeze", "cast": "Cast", "clip_by_value": "Clip", "linalg.matmul": "Matmul", "matmul": "Matmul",
    "where": "Where", "where_v2": "Where", "pad": "Pad", "identity": "Copy", "stop_gradient": "StopGradient", "reverse": "Flip",
    "convert_to_tensor": "Copy", "ones_like": "OnesLike", "zeros_like": "ZerosLike", "gather": "Take", "repeat": "Repeat",
}  # fmt: skip
# Functions of TensorFlow that Keras 2 names -> what computes them.
TENSORFLOW: Mapping[str, Callable[..., Any]] = {name: OPERATIONS[same] for name, same in _SAME.items()} | {
    "__operators__.getitem": getitem,
    "__operators__.add": OPERATIONS["Add"],
    "concat": concat,
    "image.resize": resized,
    "linalg.l2_normalize": l2_normalize,
    "math.add": OPERATIONS["Add"],
    "math.add_n": lambda *inputs, **_: torch.stack(inputs).sum(0),
    "math.divide_no_nan": divide_no_nan,
    "math.l2_normalize": l2_normalize,
    "math.squared_difference": lambda x, y=None, **_: torch.square(OPERATIONS["Subtract"](x, y)),
    "nn.bias_add": bias_add,
    "nn.gelu": lambda features, approximate=False, **_: gelu(features, approximate),
    "nn.l2_normalize": l2_normalize,
    "reshape": reshape,
    "shape": lambda x, **_: Sizes(tuple(x.shape)),
    "slice": sliced,
    "stack": stack,
    "tile": lambda x, multiples=(), **_: x.repeat(_plain(multiples)),
}
# Operators of TensorFlow's graphs that the first versions of TensorFlow 2 name -> what computes them.
NODES: Mapping[str, Callable[..., Any]] = {
    name: OPERATIONS[same]
    for name, same in {
        "Add": "Add", "AddV2": "Add", "Sub": "Subtract", "Mul": "Multiply", "RealDiv": "Divide", "Maximum": "Maximum", "Minimum": "Minimum",
        "Pow": "Power", "Square": "Square", "Sqrt": "Sqrt", "Rsqrt": "Rsqrt", "Exp": "Exp", "Log": "Log", "Abs": "Abs", "Neg": "Negative",
        "Relu": "Relu", "Relu6": "Relu6", "LeakyRelu": "LeakyRelu", "Elu": "Elu", "Sigmoid": "Sigmoid", "Tanh": "Tanh", "Softmax": "Softmax",
        "Softplus": "Softplus", "Mean": "Mean", "Sum": "Sum", "Max": "Max", "Min": "Min", "Prod": "Prod", "Transpose": "Transpose",
        "ExpandDims": "ExpandDims", "Squeeze": "Squeeze", "Cast": "Cast", "MatMul": "Matmul", "BatchMatMulV2": "Matmul", "Identity": "Copy",
        "Greater": "Greater", "Less": "Less", "GreaterEqual": "GreaterEqual", "LessEqual": "LessEqual", "ConcatV2": "Concatenate",
        "DepthToSpace": "DepthToSpace", "SelectV2": "Where",
    }.items()
} | {
    "BiasAdd": bias_add,
    "Pack": stack,
    "Pad": lambda x, paddings, **_: OPERATIONS["Pad"](x, paddings),
    "Reshape": reshape,
    "Shape": TENSORFLOW["shape"],
    "SquaredDifference": TENSORFLOW["math.squared_difference"],
    "StridedSlice": strided,
    "Tile": lambda x, multiples, **_: x.repeat(list(multiples)),
}  # fmt: skip
