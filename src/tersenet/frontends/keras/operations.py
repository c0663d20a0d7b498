"""Operators between layers: ``x * 2 + y``, slices, means. Keras 3 saves each as an Operation, whose name is looked up in the table here and
nowhere else; for Keras 2 see `tensorflow_functions`."""

from __future__ import annotations

import itertools
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F

from tersenet.errors import ModelError, unknown
from tersenet.frontends.keras.config import Described

# Layers of Keras 2 that name a function of TensorFlow.
OF_TENSORFLOW = {"TFOpLambda", "SlicingOpLambda", "TensorFlowOpLayer"}
# Operations whose dtype is what they make; of others it is what they were computed in.
_OF_DTYPES = {"Cast", "ConvertToTensor"}
_DTYPES = {"float16": torch.float32, "bfloat16": torch.float32, "float32": torch.float32, "float64": torch.float32}
_DTYPES |= {"int8": torch.int8, "uint8": torch.uint8, "int16": torch.int16, "int32": torch.int32, "int64": torch.int64, "bool": torch.bool}


def is_operation(layer: Described) -> bool:
    """Whether a layer of a configuration is an operator of one of the three kinds."""
    # Keras 3 writes no module into an .h5; its layers say whether they are trainable, its operations do not.
    unsaid = not layer.module and layer.kind in OPERATIONS and "trainable" not in layer.config
    return layer.kind in OF_TENSORFLOW or unsaid or layer.module.startswith(("keras.src.ops", "keras.ops"))


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
    if layer.kind not in OPERATIONS:
        raise ModelError(f"the operator {layer.name!r} is not read: {unknown('Keras operation', layer.kind, OPERATIONS)}")
    left = {"name"} if layer.kind in _OF_DTYPES else {"name", "dtype"}
    settings = {key: found for key, found in layer.config.items() if key not in left}
    return Operation(OPERATIONS[layer.kind], settings)


def _number(x: Any, like: Any) -> Any:
    """A number or list beside a tensor."""
    return torch.as_tensor(x, dtype=like.dtype if isinstance(like, torch.Tensor) and like.is_floating_point() else None) if isinstance(x, list) else x


_OF_SIZES: Mapping[str, Callable[[Any, Any], Any]] = {"add": operator.add, "sub": operator.sub, "subtract": operator.sub, "mul": operator.mul}
_OF_SIZES = {**_OF_SIZES, "multiply": operator.mul, "floor_divide": operator.floordiv}


def _of_sizes(function: Callable[[Any, Any], Any], left: Any, right: Any) -> Any:
    """Arithmetic on sizes of tensors, which are numbers of Python."""
    if getattr(function, "__name__", "") not in _OF_SIZES:
        raise ModelError("of the sizes of a tensor, sums, differences, products and whole quotients alone are converted")
    return _OF_SIZES[function.__name__](left, right)


def binary(function: Callable[[Any, Any], Any]) -> Callable[..., Any]:
    """An operator of two tensors, or of one and a number, which Keras 2 may give as ``y``, ``b`` or ``exponent``."""

    def call(x: Any, x2: Any = None, *, y: Any = None, b: Any = None, **_: Any) -> Any:
        other = next((each for each in (x2, y, b) if each is not None), None)
        if other is None:
            raise ModelError("an operator of two values is called with one")
        if not isinstance(x, torch.Tensor) and not isinstance(other, torch.Tensor):
            return _of_sizes(function, x, other)
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
    return _forwards(x, parts)[tuple(slice(None) if _backwards(part) else part for part in parts)]


def _backwards(part: Any) -> bool:
    return isinstance(part, slice) and (part.step or 1) < 0


def _forwards(x: torch.Tensor, parts: Sequence[Any]) -> torch.Tensor:
    """The tensor with what slices of a step below zero take of it, which torch's own indexing has none of."""
    axes = [part for part in parts if part is not None and part is not Ellipsis]
    behind = len(axes) - sum(part is not None for part in itertools.takewhile(lambda part: part is not Ellipsis, parts))
    for place, part in enumerate(axes):
        if _backwards(part):
            axis = place if Ellipsis not in parts or place < len(axes) - behind else x.dim() - len(axes) + place
            taken = range(*part.indices(x.shape[axis]))
            whole = len(taken) == x.shape[axis]
            x = torch.flip(x, [axis]) if whole else x.index_select(axis, torch.tensor(list(taken), dtype=torch.int64))
    return x


def take(x: torch.Tensor, indices: Any = None, axis: Any = None, **_: Any) -> torch.Tensor:
    """Parts of an axis by their places, which may be a tensor of any shape; of the whole array in one row without an axis."""
    if axis is None:
        x, axis = x.reshape(-1), 0
    places = indices if isinstance(indices, torch.Tensor) else torch.as_tensor(indices, dtype=torch.int64)
    before: list[Any] = [slice(None)] * (int(axis) % x.dim())
    return x[(*before, places)]


def normalize(x: torch.Tensor, axis: Any = -1, order: Any = 2, epsilon: Any = None, **_: Any) -> torch.Tensor:
    """By the norm along an axis, which is at least `epsilon`."""
    if order != 2:
        raise ModelError(f"a normalization of order {order!r} is not converted")
    squares = torch.sum(torch.square(x), axis, keepdim=True)
    return x * torch.rsqrt(torch.clamp(squares, min=(1e-7 if epsilon is None else float(epsilon)) ** 2))


def depth_to_space(x: torch.Tensor, block_size: int = 2, data_format: Any = None, **_: Any) -> torch.Tensor:
    """Channels to pixels: the part of the block is the outer part of the channels, as TensorFlow has it."""
    last = "last" in str(data_format or "channels_last") or str(data_format) == "NHWC"
    x = x if last else x.permute(0, 2, 3, 1)
    height, width, depth = x.shape[1:]
    x = x.reshape(-1, height, width, block_size, block_size, depth // block_size**2).permute(0, 1, 3, 2, 4, 5)
    x = x.reshape(-1, height * block_size, width * block_size, depth // block_size**2)
    return x if last else x.permute(0, 3, 1, 2)


def space_to_depth(x: torch.Tensor, block_size: int = 2, data_format: Any = None, **_: Any) -> torch.Tensor:
    """Pixels to channels, the other way round."""
    last = "last" in str(data_format or "channels_last") or str(data_format) == "NHWC"
    x = x if last else x.permute(0, 2, 3, 1)
    height, width, depth = x.shape[1:]
    x = x.reshape(-1, height // block_size, block_size, width // block_size, block_size, depth).permute(0, 1, 3, 2, 4, 5)
    x = x.reshape(-1, height // block_size, width // block_size, depth * block_size**2)
    return x if last else x.permute(0, 3, 1, 2)


def repeat(x: torch.Tensor, repeats: Any = None, axis: Any = None, **_: Any) -> torch.Tensor:
    """Each place of an axis several times in a row."""
    if not isinstance(repeats, int):
        raise ModelError("repeat takes one number of repeats")
    x = x if axis is not None else x.reshape(-1)
    place = int(axis or 0) % x.dim()
    return torch.stack([x] * repeats, place + 1).flatten(place, place + 1)


def unstack(x: torch.Tensor, num: Any = None, axis: int = 0, **_: Any) -> list[torch.Tensor]:
    return list(torch.unbind(x, axis))


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
    "All": reduction(lambda x, axes, keep: ~_any(~x.to(torch.bool), axes, keep)),
    "Amax": _max,
    "Amin": _min,
    "Any": reduction(lambda x, axes, keep: _any(x.to(torch.bool), axes, keep)),
    "Arccos": unary(torch.acos),
    "Arcsin": unary(torch.asin),
    "Arctan": unary(torch.atan),
    "Argmax": arg(torch.argmax),
    "Argmin": arg(torch.argmin),
    "BroadcastTo": lambda x, shape=None: x.expand(*[-1 if size is None else size for size in shape]),
    "Cast": cast,
    "Ceil": unary(torch.ceil),
    "Celu": lambda x, alpha=1.0: F.celu(x, alpha),
    "Clip": clip,
    "Concatenate": concatenate,
    "ConvertToTensor": lambda x, dtype=None, **_: x if dtype is None else cast(x, dtype),  # of masks, behind attention
    "Copy": unary(torch.clone),
    "Cos": unary(torch.cos),
    "Cosh": unary(torch.cosh),
    "Cumsum": lambda x, axis=-1, **_: torch.cumsum(x, axis),
    "DepthToSpace": depth_to_space,
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
    "FloorDivide": binary(torch.floor_divide),
    "Gelu": gelu,
    "GetItem": get_item,
    "Greater": binary(torch.gt),
    "GreaterEqual": binary(torch.ge),
    "HardSigmoid": unary(lambda x: F.relu6(x + 3.0) / 6.0),
    "HardSilu": unary(F.hardswish),
    "HardTanh": unary(F.hardtanh),
    "LeakyRelu": leaky_relu,
    "Less": binary(torch.lt),
    "LessEqual": binary(torch.le),
    "Log": unary(torch.log),
    "Log10": unary(torch.log10),
    "Log1p": unary(torch.log1p),
    "Log2": unary(torch.log2),
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
    "Mod": binary(torch.remainder),
    "Moveaxis": lambda x, source=None, destination=None: torch.movedim(x, source, destination),
    "Multiply": _multiply,
    "Negative": unary(torch.neg),
    "Normalize": normalize,
    "NotEqual": binary(torch.ne),
    "OnesLike": lambda x, **_: torch.ones_like(x),
    "Pad": pad,
    "Power": _power,
    "Prod": reduction(lambda x, axes, keep, **_: _product(x, axes, keep)),
    "Ravel": unary(lambda x: x.reshape(-1)),
    "Reciprocal": unary(torch.reciprocal),
    "Relu": unary(torch.relu),
    "Relu6": unary(F.relu6),
    "Repeat": repeat,
    "Reshape": reshape,
    "Round": unary(torch.round),
    "Rsqrt": unary(torch.rsqrt),
    "Selu": unary(F.selu),
    "Sigmoid": unary(torch.sigmoid),
    "Sign": unary(torch.sign),
    "Silu": unary(F.silu),
    "Sin": unary(torch.sin),
    "Sinh": unary(torch.sinh),
    "Softmax": softmax,
    "Softplus": unary(F.softplus),
    "Softsign": unary(F.softsign),
    "SpaceToDepth": space_to_depth,
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
    "Take": take,
    "Tan": unary(torch.tan),
    "Tanh": unary(torch.tanh),
    "Tile": lambda x, repeats=None: x.repeat(repeats if isinstance(repeats, list | tuple) else [*[1] * (x.dim() - 1), repeats]),
    "Transpose": transpose,
    "TrueDivide": _divide,
    "Trunc": unary(torch.trunc),
    "Unstack": unstack,
    "Var": reduction(lambda x, axes, keep: torch.var(x, axes, correction=0, keepdim=keep)),
    "Where": where,
    "ZerosLike": lambda x, **_: torch.zeros_like(x),
}
