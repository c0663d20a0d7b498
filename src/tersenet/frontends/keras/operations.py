"""Operators between layers: ``x * 2 + y``, slices, means. Keras 3 saves each as an Operation, Keras 2 as a layer that names a function of
TensorFlow (TFOpLambda, SlicingOpLambda, TensorFlowOpLayer). The names are looked up in the tables here, and nowhere else."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F

from tersenet.errors import ModelError, unknown
from tersenet.frontends.keras.config import Described

_TENSORFLOW = {"TFOpLambda", "SlicingOpLambda", "TensorFlowOpLayer"}
_DTYPES = {"float16": torch.float32, "bfloat16": torch.float32, "float32": torch.float32, "float64": torch.float32}
_DTYPES |= {"int8": torch.int8, "uint8": torch.uint8, "int16": torch.int16, "int32": torch.int32, "int64": torch.int64, "bool": torch.bool}


def is_operation(layer: Described) -> bool:
    """Whether a layer of a configuration is an operator of one of the three kinds."""
    # Keras 3 writes no module into an .h5; its layers say whether they are trainable, its operations do not.
    unsaid = not layer.module and layer.kind in OPERATIONS and "trainable" not in layer.config
    return layer.kind in _TENSORFLOW or unsaid or layer.module.startswith(("keras.src.ops", "keras.ops"))


class Operation(torch.nn.Module):
    """One operator with its settings.

    Args:
        settings: arguments that stand in the layer's configuration.
        constants: place among the arguments -> a value that stands there.
    """

    def __init__(self, function: Callable[..., Any], settings: Mapping[str, Any], constants: Mapping[int, Any] | None = None) -> None:
        super().__init__()
        self.function, self.settings, self.constants = function, dict(settings), dict(constants or {})

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        given = list(args)
        for place, constant in sorted(self.constants.items()):
            given.insert(place, constant)
        return self.function(*given, **{**self.settings, **kwargs})


def converted(layer: Described) -> torch.nn.Module:
    """The module of an operator.

    Raises:
        ModelError: it is not one of the tables.
    """
    if layer.kind not in _TENSORFLOW:
        if layer.kind not in OPERATIONS:
            raise ModelError(f"the operator {layer.name!r} is not read: {unknown('Keras operation', layer.kind, OPERATIONS)}")
        settings = {key: found for key, found in layer.config.items() if key not in {"name", "dtype"} or (key, layer.kind) == ("dtype", "Cast")}
        return Operation(OPERATIONS[layer.kind], settings)
    if layer.kind == "TensorFlowOpLayer":
        return _node(layer)
    function = str(layer.config.get("function") or ("__operators__.getitem" if layer.kind == "SlicingOpLambda" else ""))
    if function not in TENSORFLOW:
        raise ModelError(f"the operator {layer.name!r} is not read: {unknown('TensorFlow function', function, TENSORFLOW)}")
    return Operation(TENSORFLOW[function], {})


def _node(layer: Described) -> torch.nn.Module:
    """An operator of TensorFlow 2.0 to 2.3: a node of its graph, and the arguments that are constants by their places."""
    node = layer.config.get("node_def")
    constants = layer.config.get("constants")
    kind = str(node.get("op")) if isinstance(node, Mapping) else ""
    if kind not in NODES or not isinstance(node, Mapping):
        raise ModelError(f"the operator {layer.name!r} is not read: {unknown('TensorFlow operator', kind, NODES)}")
    attributes = node.get("attr") if isinstance(node.get("attr"), Mapping) else {}
    keep = attributes.get("keep_dims", {}).get("b", False) if kind in _REDUCTIONS else None  # type: ignore[union-attr]
    held = {int(place): found for place, found in constants.items()} if isinstance(constants, Mapping) else {}
    return Operation(NODES[kind], {} if keep is None else {"keepdims": keep}, held)


def _number(x: Any, like: Any) -> Any:
    """A number or list beside a tensor."""
    return torch.as_tensor(x, dtype=like.dtype if isinstance(like, torch.Tensor) and like.is_floating_point() else None) if isinstance(x, list) else x


def binary(function: Callable[[Any, Any], Any]) -> Callable[..., Any]:
    """An operator of two tensors, or of one and a number, which Keras 2 may give as ``y``, ``b`` or ``exponent``."""

    def call(x: Any, x2: Any = None, *, y: Any = None, b: Any = None, **_: Any) -> Any:
        other = next((each for each in (x2, y, b) if each is not None), None)
        if other is None:
            raise ModelError("an operator of two values is called with one")
        left, right = _number(x, other), _number(other, x)
        if not isinstance(left, torch.Tensor):
            left = torch.full((), left, dtype=right.dtype if right.is_floating_point() or isinstance(left, int) else torch.float32)
        return function(left, right)

    return call


def unary(function: Callable[[torch.Tensor], Any]) -> Callable[..., Any]:
    def call(x: torch.Tensor, *, name: Any = None) -> Any:
        return function(x)

    return call


def reduction(function: Callable[..., Any]) -> Callable[..., Any]:
    """A sum, mean, maximum over axes; over all of them without ``axis``."""

    def call(x: torch.Tensor, axis: Any = None, keepdims: bool = False, **extra: Any) -> Any:
        axes = list(range(x.dim())) if axis is None else list(axis) if isinstance(axis, list | tuple) else [axis]
        return function(x, axes, keepdims, **extra)

    return call


def _any(x: torch.Tensor, axes: Sequence[int], keep: bool) -> torch.Tensor:
    for axis in sorted((axis % x.dim() for axis in axes), reverse=True):
        x = torch.any(x, axis, keep)
    return x


def _product(x: torch.Tensor, axes: Sequence[int], keep: bool) -> torch.Tensor:
    for axis in sorted((axis % x.dim() for axis in axes), reverse=True):
        x = torch.prod(x, axis, keep)
    return x


def arg(function: Callable[..., torch.Tensor]) -> Callable[..., Any]:
    def call(x: torch.Tensor, axis: int | None = None, keepdims: bool = False, output_type: Any = None) -> torch.Tensor:
        return function(x, axis, keepdims).to(torch.int32) if axis is not None else function(x).to(torch.int32)

    return call


def reshape(x: torch.Tensor, newshape: Any = None, *, shape: Any = None, **_: Any) -> torch.Tensor:
    sizes = list(newshape if newshape is not None else shape)
    if sizes and (sizes[0] is None or sizes[0] == -1) and -1 not in sizes[1:] and None not in sizes[1:]:
        return x.reshape(-1, *sizes[1:])
    return x.reshape([-1 if size is None else size for size in sizes])


def transpose(x: torch.Tensor, axes: Any = None, *, perm: Any = None, **_: Any) -> torch.Tensor:
    order = axes if axes is not None else perm
    return x.permute(list(order) if order is not None else list(range(x.dim()))[::-1])


def concatenate(*tensors: Any, axis: int = -1, **_: Any) -> torch.Tensor:
    given = [tensor for tensor in tensors if isinstance(tensor, torch.Tensor)]
    place = next((tensor for tensor in tensors if isinstance(tensor, int)), axis)  # TensorFlow's own order ends with the axis
    return torch.cat(given, place)


def stack(*tensors: torch.Tensor, axis: int = 0, **_: Any) -> torch.Tensor:
    return torch.stack(tensors, axis)


def split(x: torch.Tensor, indices_or_sections: Any = None, axis: int = 0, *, num_or_size_splits: Any = None, **_: Any) -> Any:
    parts = indices_or_sections if indices_or_sections is not None else num_or_size_splits
    size = x.shape[axis]
    if isinstance(parts, int):
        if size % parts:
            raise ModelError(f"an axis of {size} cannot be split into {parts} equal parts")
        return list(torch.split(x, size // parts, axis))
    if num_or_size_splits is not None:
        return list(torch.split(x, list(parts), axis))
    cuts = [0, *parts, size]
    return [x.narrow(axis, start, stop - start) for start, stop in itertools.pairwise(cuts)]


def expand_dims(x: torch.Tensor, axis: Any = -1, **_: Any) -> torch.Tensor:
    axes = list(axis) if isinstance(axis, list | tuple) else [axis]
    rank = x.dim() + len(axes)
    for place in sorted(each % rank for each in axes):
        x = x.unsqueeze(place)
    return x


def squeeze(x: torch.Tensor, axis: Any = None, **_: Any) -> torch.Tensor:
    if axis is None or axis == []:
        axis = [place for place in range(1, x.dim()) if x.shape[place] == 1]  # the batch stays
    return torch.squeeze(x, tuple(axis) if isinstance(axis, list | tuple) else axis)


def get_item(x: torch.Tensor, key: Any = None, *, slice_spec: Any = None, **_: Any) -> torch.Tensor:
    spec = key if key is not None else slice_spec
    parts = list(spec) if isinstance(spec, list | tuple) else [spec]
    if not all(part is None or part is Ellipsis or isinstance(part, int | slice) for part in parts):
        raise ModelError("an index must be of numbers and slices")
    if any(isinstance(part, slice) and (part.step or 1) < 0 for part in parts):
        raise ModelError("a slice with a step below zero is not converted; use keras.ops.flip")
    return x[tuple(parts)]


def where(condition: torch.Tensor, x1: Any = None, x2: Any = None, *, x: Any = None, y: Any = None, **_: Any) -> torch.Tensor:
    return torch.where(condition, x1 if x1 is not None else x, x2 if x2 is not None else y)


def clip(x: torch.Tensor, x_min: Any = None, x_max: Any = None, *, clip_value_min: Any = None, clip_value_max: Any = None, **_: Any) -> torch.Tensor:
    return torch.clamp(x, x_min if x_min is not None else clip_value_min, x_max if x_max is not None else clip_value_max)


def cast(x: torch.Tensor, dtype: Any = "float32", **_: Any) -> torch.Tensor:
    if str(dtype) not in _DTYPES:
        raise ModelError(f"a cast to {dtype!r} is not converted")
    return x.to(_DTYPES[str(dtype)])


def matmul(a: torch.Tensor, b: torch.Tensor, *, transpose_a: bool = False, transpose_b: bool = False, **_: Any) -> torch.Tensor:
    return torch.matmul(a.transpose(-1, -2) if transpose_a else a, b.transpose(-1, -2) if transpose_b else b)


def einsum(*operands: Any, subscripts: str = "", **_: Any) -> torch.Tensor:
    return torch.einsum(
        subscripts or next(part for part in operands if isinstance(part, str)), [part for part in operands if not isinstance(part, str)]
    )


def softmax(x: torch.Tensor, axis: int = -1, **_: Any) -> torch.Tensor:
    return torch.softmax(x, axis)


def log_softmax(x: torch.Tensor, axis: int = -1, **_: Any) -> torch.Tensor:
    return torch.log_softmax(x, axis)


def gelu(x: torch.Tensor, approximate: bool = True, **_: Any) -> torch.Tensor:
    return F.gelu(x, approximate="tanh" if approximate else "none")


def leaky_relu(x: torch.Tensor, negative_slope: float = 0.2, *, alpha: float | None = None, **_: Any) -> torch.Tensor:
    return F.leaky_relu(x, negative_slope if alpha is None else alpha)


def flip(x: torch.Tensor, axis: Any = None, **_: Any) -> torch.Tensor:
    axes = list(range(x.dim())) if axis is None else list(axis) if isinstance(axis, list | tuple) else [axis]
    return torch.flip(x, axes)


def pad(
    x: torch.Tensor, pad_width: Any = None, mode: str = "constant", constant_values: Any = None, *, paddings: Any = None, **_: Any
) -> torch.Tensor:
    pairs = pad_width if pad_width is not None else paddings
    if str(mode).lower() != "constant":
        raise ModelError(f"padding of mode {mode!r} between layers is not converted")
    return F.pad(x, [int(size) for pair in reversed(list(pairs)) for size in pair], value=float(constant_values or 0.0))


_REDUCTIONS = {"Mean", "Sum", "Max", "Min", "Prod"}
_mean = reduction(lambda x, axes, keep, **_: torch.mean(x, axes, keep))
_sum = reduction(lambda x, axes, keep, **_: torch.sum(x, axes, keep))
_max = reduction(lambda x, axes, keep, **_: torch.amax(x, axes, keep))
_min = reduction(lambda x, axes, keep, **_: torch.amin(x, axes, keep))
_add, _subtract, _multiply = binary(torch.add), binary(torch.subtract), binary(torch.multiply)
_divide, _power = binary(torch.true_divide), binary(torch.pow)
_maximum = binary(lambda a, b: torch.maximum(a, torch.as_tensor(b, dtype=a.dtype)))
_minimum = binary(lambda a, b: torch.minimum(a, torch.as_tensor(b, dtype=a.dtype)))

# Classes of keras.ops -> what computes them.
OPERATIONS: Mapping[str, Callable[..., Any]] = {
    "Abs": unary(torch.abs),
    "Absolute": unary(torch.abs),
    "Add": _add,
    "Amax": _max,
    "Amin": _min,
    "All": reduction(lambda x, axes, keep: ~_any(~x.to(torch.bool), axes, keep)),
    "Any": reduction(lambda x, axes, keep: _any(x.to(torch.bool), axes, keep)),
    "Argmax": arg(torch.argmax),
    "Argmin": arg(torch.argmin),
    "Cast": cast,
    "Ceil": unary(torch.ceil),
    "Clip": clip,
    "Concatenate": concatenate,
    "Copy": unary(torch.clone),
    "Cos": unary(torch.cos),
    "Divide": _divide,
    "Einsum": einsum,
    "Elu": lambda x, alpha=1.0: F.elu(x, alpha),
    "Equal": binary(torch.eq),
    "Erf": unary(torch.erf),
    "Exp": unary(torch.exp),
    "ExpandDims": expand_dims,
    "Expm1": unary(torch.expm1),
    "Flip": flip,
    "Floor": unary(torch.floor),
    "Gelu": gelu,
    "GetItem": get_item,
    "Greater": binary(torch.gt),
    "GreaterEqual": binary(torch.ge),
    "HardSigmoid": unary(lambda x: F.relu6(x + 3.0) / 6.0),
    "HardSilu": unary(F.hardswish),
    "LeakyRelu": leaky_relu,
    "Less": binary(torch.lt),
    "LessEqual": binary(torch.le),
    "Log": unary(torch.log),
    "Log1p": unary(torch.log1p),
    "LogSigmoid": unary(F.logsigmoid),
    "LogSoftmax": log_softmax,
    "LogicalAnd": binary(torch.logical_and),
    "LogicalNot": unary(torch.logical_not),
    "LogicalOr": binary(torch.logical_or),
    "Logsumexp": reduction(lambda x, axes, keep: torch.logsumexp(x, axes, keep)),
    "Matmul": matmul,
    "Max": _max,
    "Maximum": _maximum,
    "Mean": _mean,
    "Min": _min,
    "Minimum": _minimum,
    "Moveaxis": lambda x, source=None, destination=None: torch.movedim(x, source, destination),
    "Multiply": _multiply,
    "Negative": unary(torch.neg),
    "NotEqual": binary(torch.ne),
    "OnesLike": lambda x, **_: torch.ones_like(x),
    "Pad": pad,
    "Power": _power,
    "Prod": reduction(lambda x, axes, keep, **_: _product(x, axes, keep)),
    "Ravel": unary(lambda x: x.reshape(-1)),
    "Reciprocal": unary(torch.reciprocal),
    "Relu": unary(torch.relu),
    "Relu6": unary(F.relu6),
    "Reshape": reshape,
    "Rsqrt": unary(torch.rsqrt),
    "Selu": unary(F.selu),
    "Sigmoid": unary(torch.sigmoid),
    "Sign": unary(torch.sign),
    "Silu": unary(F.silu),
    "Sin": unary(torch.sin),
    "Softmax": softmax,
    "Softplus": unary(F.softplus),
    "Softsign": unary(F.softsign),
    "Split": split,
    "Sqrt": unary(torch.sqrt),
    "Square": unary(torch.square),
    "Squeeze": squeeze,
    "Stack": stack,
    "Std": reduction(lambda x, axes, keep: torch.std(x, axes, correction=0, keepdim=keep)),
    "StopGradient": unary(lambda x: x),
    "Subtract": _subtract,
    "Sum": _sum,
    "Swapaxes": lambda x, axis1=0, axis2=1: torch.transpose(x, axis1, axis2),
    "Tanh": unary(torch.tanh),
    "Tile": lambda x, repeats=None: x.repeat(repeats if isinstance(repeats, list | tuple) else [*[1] * (x.dim() - 1), repeats]),
    "Transpose": transpose,
    "TrueDivide": _divide,
    "Var": reduction(lambda x, axes, keep: torch.var(x, axes, correction=0, keepdim=keep)),
    "Where": where,
    "ZerosLike": lambda x, **_: torch.zeros_like(x),
}
_SAME: Mapping[str, str] = {
    "math.add": "Add", "__operators__.add": "Add", "math.subtract": "Subtract", "math.multiply": "Multiply", "math.divide": "Divide",
    "math.truediv": "Divide", "math.maximum": "Maximum", "math.minimum": "Minimum", "math.pow": "Power", "math.square": "Square",
    "math.sqrt": "Sqrt", "math.rsqrt": "Rsqrt", "math.exp": "Exp", "math.log": "Log", "math.log1p": "Log1p", "math.abs": "Abs",
    "math.negative": "Negative", "math.tanh": "Tanh", "math.sigmoid": "Sigmoid", "math.sin": "Sin", "math.cos": "Cos", "math.floor": "Floor",
    "math.ceil": "Ceil", "math.sign": "Sign", "math.reciprocal": "Reciprocal", "math.reduce_mean": "Mean", "math.reduce_sum": "Sum",
    "math.reduce_max": "Max", "math.reduce_min": "Min", "math.reduce_prod": "Prod", "math.reduce_std": "Std", "math.reduce_variance": "Var",
    "math.argmax": "Argmax", "math.argmin": "Argmin", "math.greater": "Greater", "math.greater_equal": "GreaterEqual", "math.less": "Less",
    "math.less_equal": "LessEqual", "math.equal": "Equal", "math.not_equal": "NotEqual", "math.softplus": "Softplus", "math.erf": "Erf",
    "nn.relu": "Relu", "nn.relu6": "Relu6", "nn.sigmoid": "Sigmoid", "nn.tanh": "Tanh", "nn.softmax": "Softmax", "nn.softplus": "Softplus",
    "nn.log_softmax": "LogSoftmax", "nn.leaky_relu": "LeakyRelu", "nn.elu": "Elu", "nn.selu": "Selu", "nn.silu": "Silu", "nn.swish": "Silu",
    "reshape": "Reshape", "transpose": "Transpose", "concat": "Concatenate", "stack": "Stack", "split": "Split", "expand_dims": "ExpandDims",
    "squeeze": "Squeeze", "cast": "Cast", "clip_by_value": "Clip", "linalg.matmul": "Matmul", "matmul": "Matmul", "where": "Where",
    "__operators__.getitem": "GetItem", "pad": "Pad", "identity": "Copy", "stop_gradient": "StopGradient", "reverse": "Flip",
    "convert_to_tensor": "Copy", "ones_like": "OnesLike", "zeros_like": "ZerosLike",
}  # fmt: skip
# Functions of TensorFlow that Keras 2 names -> what computes them.
TENSORFLOW: Mapping[str, Callable[..., Any]] = {name: OPERATIONS[same] for name, same in _SAME.items()} | {
    "nn.gelu": lambda features, approximate=False, **_: gelu(features, approximate),
    "compat.v1.nn.relu": OPERATIONS["Relu"],
}
# Operators of TensorFlow's graphs that the first versions of TensorFlow 2 name -> what computes them.
NODES: Mapping[str, Callable[..., Any]] = {
    name: OPERATIONS[same]
    for name, same in {
        "Add": "Add", "AddV2": "Add", "Sub": "Subtract", "Mul": "Multiply", "RealDiv": "Divide", "Maximum": "Maximum", "Minimum": "Minimum",
        "Pow": "Power", "Square": "Square", "Sqrt": "Sqrt", "Rsqrt": "Rsqrt", "Exp": "Exp", "Log": "Log", "Abs": "Abs", "Neg": "Negative",
        "Relu": "Relu", "Relu6": "Relu6", "Sigmoid": "Sigmoid", "Tanh": "Tanh", "Softmax": "Softmax", "Softplus": "Softplus", "Mean": "Mean",
        "Sum": "Sum", "Max": "Max", "Min": "Min", "Prod": "Prod", "Reshape": "Reshape", "Transpose": "Transpose", "ExpandDims": "ExpandDims",
        "ConcatV2": "Concatenate", "MatMul": "Matmul", "BatchMatMulV2": "Matmul", "Identity": "Copy",
    }.items()
}  # fmt: skip
