"""Pooling over windows and over whole images, and resizing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import fx

from tersenet.graph.operators import kind_of
from tersenet.graph.walk import bind, shape_of
from tersenet.targets.litert.layout import channels_last
from tersenet.targets.litert.lowering import Lowering, Stored
from tersenet.targets.litert.operators.convolution import Sides, _is_same, _pair, as_image, finish_image, padded

NOT_NEGATIVE = {"relu", "relu6", "sigmoid", "hardsigmoid", "softmax"}


def _window(low: Lowering, node: fx.Node) -> tuple[list[int], list[int], list[Sides], list[int]]:
    """Kernel, stride, sides as far as windows reach, and sizes of the result."""
    arguments = bind(node)
    rank = len(shape_of(node)) - 2
    kernel = _pair(arguments["kernel_size"], rank, 1)
    stride = _pair(arguments["stride"], rank, 1) if arguments["stride"] else kernel
    before = _pair(arguments["padding"], rank, 0)
    sizes, wanted = (_pair(shape_of(value)[2:], rank, 1) for value in (arguments["self"], node))
    numbers = zip(sizes, wanted, kernel, stride, before, strict=True)
    sides = [(pad, max((want - 1) * step + extent - size - pad, 0)) for size, want, extent, step, pad in numbers]
    return kernel, stride, sides, wanted


def max_pool(low: Lowering, node: fx.Node) -> None:
    """max_pool2d and max_pool1d. What is added around must lose against every value: SAME, zeros behind a relu, or the lowest number."""
    arguments = bind(node)
    rank = len(shape_of(node)) - 2
    if any(step != 1 for step in _pair(arguments["dilation"], rank, 1)):
        raise low.refuse(node, "pooling has no dilation there")
    kernel, stride, sides, wanted = _window(low, node)
    value = low.read(node, arguments["self"], channels_last(rank + 2), 0)
    image = as_image(low, value.tensor)
    sizes = low.tensors[image].shape[1:3]
    inside = not any(side for pair in sides for side in pair)
    if inside or all(map(_is_same, sizes, kernel, stride, sides)) or _zeros_lose(low, arguments["self"], value):
        image, padding = padded(low, image, kernel, stride, sides)
    else:
        image, padding = _padded_with_lowest(low, image, sides), 1
    _pool(low, node, "MAX_POOL_2D", image, wanted, kernel, stride, padding, value)


def _zeros_lose(low: Lowering, source: fx.Node, value: Stored) -> bool:
    if value.encoding is not None:
        return value.encoding.zero_point[0] == value.encoding.scheme.lowest
    return kind_of(low.result_of(source)) in NOT_NEGATIVE


def _padded_with_lowest(low: Lowering, image: int, sides: Sequence[Sides]) -> int:
    tensor = low.tensors[image]
    table = [(0, 0), *sides, (0, 0)]
    lowest = np.finfo(np.float32).min if tensor.dtype == "float32" else np.iinfo(tensor.dtype).min
    grown = [size + before + behind for size, (before, behind) in zip(tensor.shape, table, strict=True)]
    return low.like("PADV2", (image, low.array(table, "int32"), low.array([lowest], tensor.dtype, tensor.numbers)), image, grown)


def average_pool(low: Lowering, node: fx.Node) -> None:
    """avg_pool2d and avg_pool1d. Windows that reach over the edge are corrected by a product, where they count otherwise than the kernel does."""
    arguments = bind(node)
    rank = len(shape_of(node)) - 2
    kernel, stride, sides, wanted = _window(low, node)
    sizes = _pair(shape_of(arguments["self"])[2:], rank, 1)
    same = not arguments["count_include_pad"] and all(map(_is_same, sizes, kernel, stride, sides))
    value = low.read(node, arguments["self"], channels_last(rank + 2), 0)
    override = arguments.get("divisor_override")
    counts = _counts(sizes, wanted, kernel, stride, _pair(arguments["padding"], rank, 0), include=arguments["count_include_pad"])
    ratio = np.float32(np.prod(kernel)) / (counts if override is None else np.full_like(counts, override))
    if same and override is None:
        image, padding = padded(low, as_image(low, value.tensor), kernel, stride, sides)
        _pool(low, node, "AVERAGE_POOL_2D", image, wanted, kernel, stride, padding, value)
    elif (ratio == 1).all():
        image, padding = padded(low, as_image(low, value.tensor), kernel, stride, sides)
        if padding == 0 and any(side for pair in sides for side in pair):  # SAME would leave the zeros out of the mean
            image, padding = _padded_with_zeros(low, as_image(low, value.tensor), sides), 1
        _pool(low, node, "AVERAGE_POOL_2D", image, wanted, kernel, stride, padding, value)
    else:
        value = low.convert(value, value.order, None, tuple(shape_of(arguments["self"])))
        image = _padded_with_zeros(low, as_image(low, value.tensor), sides)
        shape = (low.tensors[image].shape[0], *wanted, low.tensors[image].shape[3])
        options = {"padding": 1, "strideH": stride[0], "strideW": stride[1], "filterHeight": kernel[0], "filterWidth": kernel[1]}
        pooled = low.emit("AVERAGE_POOL_2D", (image,), shape, "float32", **options)
        product = low.emit("MUL", (pooled, low.array(ratio.reshape(1, *wanted, 1), "float32")), shape, "float32")
        low.define(node, Stored(low.reshape(product, shape if rank == 2 else (shape[0], shape[2], shape[3])), value.order))


def _padded_with_zeros(low: Lowering, image: int, sides: Sequence[Sides]) -> int:
    table = [(0, 0), *sides, (0, 0)]
    if not any(side for pair in sides for side in pair):
        return image
    grown = [size + before + behind for size, (before, behind) in zip(low.tensors[image].shape, table, strict=True)]
    return low.like("PAD", (image, low.array(table, "int32")), image, grown)


def _counts(sizes: Sequence[int], wanted: Sequence[int], kernel: Sequence[int], stride: Sequence[int], pads: Sequence[int], *, include: bool) -> np.ndarray:
    """What torch divides each window's sum by."""
    lengths = []
    for size, want, extent, step, pad in zip(sizes, wanted, kernel, stride, pads, strict=True):
        first = np.arange(want) * step - pad
        last = np.minimum(first + extent, size + pad)
        lengths.append(last - first if include else np.minimum(last, size) - np.maximum(first, 0))
    return np.outer(*lengths).astype(np.float32)


def _pool(
    low: Lowering, node: fx.Node, code: str, image: int, sizes: Sequence[int], kernel: Sequence[int], stride: Sequence[int], padding: int, value: Stored
) -> None:
    options = {
        "padding": padding,
        "strideH": stride[0],
        "strideW": stride[1],
        "filterHeight": kernel[0],
        "filterWidth": kernel[1],
        "fusedActivationFunction": low.activation(node),
    }
    if low.unit(node) is not None or value.encoding is None:
        finish_image(low, node, code, (image,), sizes, **options)
        return
    shape = low.tensors[image].shape
    pooled = low.like(code, (image,), image, (shape[0], *sizes, shape[3]), **options)
    flat = pooled if len(value.order) == 4 else low.reshape(pooled, (shape[0], sizes[1], shape[3]))
    low.define(node, Stored(flat, value.order, value.encoding))


def adaptive_pool(low: Lowering, node: fx.Node) -> None:
    """The mean or the maximum of a whole image; a reshape behind it to (N, C) costs nothing."""
    arguments = bind(node)
    source = arguments["self"]
    rank = len(shape_of(source))
    if isinstance(node.meta["val"], tuple):  # maxima, and where they are
        readers = [reader for reader in node.users if reader.args[1] == 0]
        if len(readers) != len(node.users):
            raise low.refuse(node, "pooling does not say there where the largest elements are")
    if any(int(size) != 1 for size in arguments["output_size"]):
        raise low.refuse(node, "adaptive pooling must divide the image evenly or make one value of it; resize the input, or pool with fixed windows")
    order = channels_last(rank)
    value = low.read(node, source, order, 0)
    shape = shape_of(source)
    code = "MEAN" if "avg" in kind_of(node) else "REDUCE_MAX"
    encoding = value.encoding if code == "REDUCE_MAX" else low.plan.values.get(low.result_of(node).name) if low.unit(node) is not None else None
    axes = low.array(list(range(1, rank - 1)), "int32")
    dtype = encoding.scheme.dtype if encoding is not None else low.tensors[value.tensor].dtype
    mean = low.emit(code, (value.tensor, axes), (shape[0], shape[1]), dtype, encoding)
    made = Stored(low.reshape(mean, (shape[0], *[1] * (rank - 2), shape[1])), order, encoding)
    for maker in readers if isinstance(node.meta["val"], tuple) else [node]:
        low.define(maker, made)


def resize(low: Lowering, node: fx.Node) -> None:
    """upsample_nearest2d and upsample_bilinear2d."""
    arguments = bind(node)
    nearest = kind_of(node) == "resize_nearest"
    value = low.read(node, arguments["input"] if "input" in arguments else arguments["self"], channels_last(4), 0)
    sizes = low.array([int(size) for size in shape_of(node)[2:]], "int32")
    corners = bool(arguments.get("align_corners"))
    # torch's nearest takes floor(i * scale), which is the kernel's without half pixels.
    options = {"alignCorners": corners, "halfPixelCenters": not nearest and not corners}
    code = "RESIZE_NEAREST_NEIGHBOR" if nearest else "RESIZE_BILINEAR"
    shape = low.tensors[value.tensor].shape
    grown = (shape[0], *shape_of(node)[2:], shape[3])
    low.define(node, Stored(low.like(code, (value.tensor, sizes), value.tensor, grown, **options), value.order, value.encoding))
