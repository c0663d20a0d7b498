"""Pooling over windows and over whole images, and resizing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import fx

from tersenet.formats.tflite import Numbers
from tersenet.graph.operators import kind_of
from tersenet.graph.walk import bind, shape_of
from tersenet.targets.litert.layout import channels_last
from tersenet.targets.litert.lowering import Lowering, Stored
from tersenet.targets.litert.operators.convolution import SAME, VALID, Sides, as_image, finish_image, is_same, padded, pair

NOT_NEGATIVE = {"relu", "relu6", "sigmoid", "hardsigmoid", "softmax"}


@dataclass(frozen=True)
class Window:
    """What a pooling operator looks through, over height and width.

    Args:
        kernel, stride: of the window.
        before: what the network pads in front.
        sides: what is padded in front and, as far as windows reach, behind.
        sizes, results: of the image and of what comes out.
    """

    kernel: list[int]
    stride: list[int]
    before: list[int]
    sides: list[Sides]
    sizes: list[int]
    results: list[int]

    @property
    def inside(self) -> bool:
        """Whether no window reaches over the edge."""
        return not any(side for sides in self.sides for side in sides)

    @property
    def same(self) -> bool:
        """Whether SAME puts the windows where the network does."""
        return all(map(is_same, self.sizes, self.kernel, self.stride, self.sides))

    def options(self, padding: int) -> dict[str, int]:
        """The operator's table of options."""
        (rows, columns), (down, across) = self.kernel, self.stride
        return {"padding": padding, "strideH": down, "strideW": across, "filterHeight": rows, "filterWidth": columns}

    def counts(self, *, include: bool) -> np.ndarray:
        """What torch divides each window's sum by.

        Args:
            include: what is padded counts.
        """
        lengths = []
        for size, count, extent, step, pad in zip(self.sizes, self.results, self.kernel, self.stride, self.before, strict=True):
            first = np.arange(count) * step - pad
            last = np.minimum(first + extent, size + pad)
            lengths.append(last - first if include else np.minimum(last, size) - np.maximum(first, 0))
        return np.outer(*lengths).astype(np.float32)


def _window(node: fx.Node) -> Window:
    arguments = bind(node)
    rank = len(shape_of(node)) - 2
    kernel = pair(arguments["kernel_size"], rank, 1)
    stride = pair(arguments["stride"], rank, 1) if arguments["stride"] else kernel
    before = pair(arguments["padding"], rank, 0)
    sizes, results = (pair(shape_of(value)[2:], rank, 1) for value in (arguments["self"], node))
    numbers = zip(sizes, results, kernel, stride, before, strict=True)
    sides = [(pad, max((count - 1) * step + extent - size - pad, 0)) for size, count, extent, step, pad in numbers]
    return Window(kernel, stride, before, sides, sizes, results)


def max_pool(low: Lowering, node: fx.Node) -> None:
    """max_pool2d and max_pool1d. What is added around must lose against every value: SAME, zeros behind a relu, or the lowest number."""
    arguments = bind(node)
    rank = len(shape_of(node)) - 2
    if any(step != 1 for step in pair(arguments["dilation"], rank, 1)):
        raise low.refuse(node, "pooling has no dilation there")
    window = _window(node)
    value = low.read(node, arguments["self"], channels_last(rank + 2), 0)
    image = as_image(low, value.tensor)
    if window.inside or window.same or _zeros_lose(low, arguments["self"], value):
        image, padding = padded(low, image, window.kernel, window.stride, window.sides)
    else:
        image, padding = _padded_with_lowest(low, image, window.sides), VALID
    _pool(low, node, "MAX_POOL_2D", image, window, padding)


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
    window, override = _window(node), arguments.get("divisor_override")
    value = low.read(node, arguments["self"], channels_last(rank + 2), 0)
    counts = window.counts(include=arguments["count_include_pad"])
    ratio = np.float32(np.prod(window.kernel)) / (counts if override is None else np.full_like(counts, override))
    if window.same and not arguments["count_include_pad"] and override is None:
        _pool(low, node, "AVERAGE_POOL_2D", as_image(low, value.tensor), window, SAME)
    elif (ratio == 1).all():  # SAME would leave the zeros out of the mean
        image = _padded_with_zeros(low, as_image(low, value.tensor), window.sides)
        if low.tensors[image].dtype == "int8" and not low.micro:
            _pool_by_convolution(low, node, image, window)
        else:
            _pool(low, node, "AVERAGE_POOL_2D", image, window, VALID)
    else:
        value = low.convert(value, value.order, None, tuple(shape_of(arguments["self"])))
        image = _padded_with_zeros(low, as_image(low, value.tensor), window.sides)
        shape = (low.tensors[image].shape[0], *window.results, low.tensors[image].shape[3])
        pooled = low.like("AVERAGE_POOL_2D", (image,), image, shape, **window.options(VALID))
        product = low.emit("MUL", (pooled, low.array(ratio.reshape(1, *window.results, 1), "float32")), shape, "float32")
        low.define(node, Stored(low.reshape(product, shape if rank == 2 else (shape[0], shape[2], shape[3])), value.order))


def _pool_by_convolution(low: Lowering, node: fx.Node, image: int, window: Window) -> None:
    """A mean as a depthwise convolution with ones of scale 1 / count.

    XNNPACK declines AVERAGE_POOL_2D of integers, which cuts the network in two, and that kernel rounds halves away from zero where
    everything else rounds them to even: with windows of four, every fourth result is a half.
    """
    held, count = low.tensors[image], int(np.prod(window.kernel))
    assert held.numbers is not None
    channels, scale = held.shape[3], float(np.float32(1 / count))
    ones = low.array(np.ones((1, *window.kernel, channels)), "int8", Numbers((scale,), (0,)))
    product = float(np.float32(held.numbers.scale[0]) * np.float32(scale))
    bias = low.array(np.zeros(channels), "int32", Numbers((product,), (0,)))
    strides = {"strideH": window.stride[0], "strideW": window.stride[1], "dilationHFactor": 1, "dilationWFactor": 1, "depthMultiplier": 1}
    _pool(low, node, "DEPTHWISE_CONV_2D", image, window, VALID, (ones, bias), {"padding": VALID, **strides})


def _padded_with_zeros(low: Lowering, image: int, sides: Sequence[Sides]) -> int:
    table = [(0, 0), *sides, (0, 0)]
    if not any(side for both in sides for side in both):
        return image
    grown = [size + before + behind for size, (before, behind) in zip(low.tensors[image].shape, table, strict=True)]
    return low.like("PAD", (image, low.array(table, "int32")), image, grown)


def _pool(
    low: Lowering,
    node: fx.Node,
    code: str,
    image: int,
    window: Window,
    padding: int,
    constants: tuple[int, ...] = (),
    options: dict[str, int] | None = None,
) -> None:
    """Add the operator; integers that pass through outside of the plan's units stay on their grid."""
    options = {**(options or window.options(padding)), "fusedActivationFunction": low.activation(node)}
    held = low.tensors[image]
    if low.unit(node) is not None or held.numbers is None:
        finish_image(low, node, code, (image, *constants), window.results, **options)
        return
    shape, rank = held.shape, len(shape_of(node))
    pooled = low.like(code, (image, *constants), image, (shape[0], *window.results, shape[3]), **options)
    flat = pooled if rank == 4 else low.reshape(pooled, (shape[0], window.results[1], shape[3]))
    source = bind(node)["self"]
    low.define(node, Stored(flat, channels_last(rank), low.read(node, source, channels_last(rank), 0).encoding))


def adaptive_pool(low: Lowering, node: fx.Node) -> None:
    """The mean or the maximum of a whole image; a reshape behind it to (N, C) costs nothing."""
    arguments = bind(node)
    source, makers = arguments["self"], [node]
    rank, shape = len(shape_of(source)), shape_of(source)
    if isinstance(node.meta["val"], tuple):  # maxima, and where they are
        makers = list(node.users)
        if any(reader.args[1] != 0 for reader in makers):
            raise low.refuse(node, "pooling does not say there where the largest elements are")
    if any(int(size) != 1 for size in arguments["output_size"]):
        raise low.refuse(node, "adaptive pooling must divide the image evenly or make one value of it; resize the input, or pool with fixed windows")
    order = channels_last(rank)
    value = low.read(node, source, order, 0)
    code = "MEAN" if "avg" in kind_of(node) else "REDUCE_MAX"
    planned = low.plan.values.get(low.result_of(node).name) if low.unit(node) is not None else None
    encoding = value.encoding if code == "REDUCE_MAX" else planned
    dtype = encoding.scheme.dtype if encoding is not None else low.tensors[value.tensor].dtype
    reduced = low.emit(code, (value.tensor, low.array(list(range(1, rank - 1)), "int32")), (shape[0], shape[1]), dtype, encoding)
    made = Stored(low.reshape(reduced, (shape[0], *[1] * (rank - 2), shape[1])), order, encoding)
    for maker in makers:
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
