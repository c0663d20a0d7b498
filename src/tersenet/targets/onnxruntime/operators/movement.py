"""Operators that move values and compute nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import fx

from tersenet.graph.operators import aten_name
from tersenet.graph.walk import bind, dtype_of, shape_of
from tersenet.targets.onnxruntime.lowering import Lowering, unsupported
from tersenet.targets.onnxruntime.operators import quantization

MODES = {"constant": None, "reflect": "reflect", "replicate": "edge", "circular": "wrap"}
END = np.iinfo(np.int64).max


def on_integers(builder: Callable[[Lowering, fx.Node, str], str]) -> Callable[[Lowering, fx.Node], str]:
    """Apply a movement to integers where its input and its result have the same numbers.

    For operators that onnxruntime does not run in integers by itself when conversions stand around them.
    """

    def build_movement(build: Lowering, node: fx.Node) -> str:
        source = node.args[0]
        integers = quantization.same_integers(build, node, [source])
        if integers is None:
            return builder(build, node, build.value(source))
        build.integers[node] = builder(build, node, integers[0])
        return build.value(source)  # nobody reads the value itself

    return build_movement


def reshape(build: Lowering, node: fx.Node) -> str:
    """Reshape to the sizes that the tracer worked out; with two open ones, to those that the graph computes."""
    source = build.value(node.args[0])
    given = bind(node)
    sizes = given.get("shape", given.get("size"))
    if sizes is not None and all(isinstance(size, int | fx.Node) for size in sizes):
        return build.reshape(source, shape_of(node), sizes)
    name = aten_name(node)
    rank = len(shape_of(node.args[0]))  # type: ignore[arg-type]
    if sum(not isinstance(size, int) for size in shape_of(node)) > 1:
        if name == "unsqueeze.default":
            axis = int(given["dim"]) % (rank + 1)
            return build.add("Unsqueeze", source, build.constant(np.array([axis], np.int64)))
        if name.startswith("squeeze.dim"):
            axes = [axis % rank for axis in (given["dim"] if isinstance(given["dim"], list | tuple) else [given["dim"]])]
            kept = [axis for axis in axes if shape_of(node.args[0])[axis] == 1]  # type: ignore[arg-type]
            return build.add("Squeeze", source, build.constant(np.array(kept, np.int64)))
        if name == "flatten.using_ints":
            return _flatten(build, node, source, int(given["start_dim"]) % rank, int(given["end_dim"]) % rank)
    return build.reshape(source, shape_of(node), before=shape_of(node.args[0]))  # type: ignore[arg-type]


def _flatten(build: Lowering, node: fx.Node, source: str, start: int, end: int) -> str:
    """Axes before the joined ones keep their sizes (0), the joined ones become -1, those behind must be known."""
    behind = shape_of(node)[start + 1 :]
    if not all(isinstance(size, int) for size in behind):
        raise unsupported(node, "a size behind the axes that it joins is open")
    return build.add("Reshape", source, build.constant(np.array([*[0] * start, -1, *behind], np.int64)))


def permute(build: Lowering, node: fx.Node) -> str:
    rank, given, name = len(shape_of(node)), bind(node), aten_name(node)
    order = list(range(rank))
    if name == "permute.default":
        order = [axis % rank for axis in given["dims"]]
    elif name == "transpose.int":
        first, second = given["dim0"] % rank, given["dim1"] % rank
        order[first], order[second] = second, first
    elif name == "movedim.int":
        order.remove(given["source"] % rank)
        order.insert(given["destination"] % rank, given["source"] % rank)
    else:
        order.reverse()
    return build.add("Transpose", build.value(node.args[0]), perm=order)


def _expand(build: Lowering, node: fx.Node, tensor: str) -> str:
    """ONNX broadcasts: a 1 among the sizes leaves a size as it is."""
    source, given = node.args[0], bind(node)
    held, wanted = list(shape_of(source)), list(shape_of(node))  # type: ignore[arg-type]
    held = [1] * (len(wanted) - len(held)) + held
    asked = given.get("size", wanted)
    sizes: list[Any] = []
    for have, want, ask in zip(held, wanted, asked, strict=True):
        if str(have) == str(want):
            sizes.append(1)
        elif isinstance(want, int) or isinstance(ask, fx.Node):
            sizes.append(want if isinstance(want, int) else ask)
        else:
            return build.add("Expand", tensor, build.shape(given["other"]))
    return build.add("Expand", tensor, build.sizes(sizes))


expand = on_integers(_expand)


def tile(build: Lowering, node: fx.Node) -> str:
    source, given = node.args[0], bind(node)
    repeats = list(given["repeats"] if "repeats" in given else given["dims"])
    rank = len(shape_of(source))  # type: ignore[arg-type]
    tensor = build.value(source)
    repeats = [1] * (rank - len(repeats)) + repeats
    if len(repeats) > rank:
        tensor = build.add("Unsqueeze", tensor, build.constant(np.arange(len(repeats) - rank, dtype=np.int64)))
    return build.add("Tile", tensor, build.sizes(repeats))


def slice_(build: Lowering, node: fx.Node) -> str:
    given = bind(node)
    axis = int(given["dim"]) % len(shape_of(node))
    if "length" in given:  # narrow
        start, step = given["start"], 1
        if not isinstance(start, int) or not isinstance(given["length"], int):
            raise unsupported(node, "its limits are computed")
        end: Any = start + given["length"] if start >= 0 or start + given["length"] < 0 else END
    else:
        start, end, step = given["start"] or 0, given["end"], given["step"]
        end = END if end is None else end
    steps = "" if step == 1 else build.sizes([step])
    return build.add("Slice", build.value(node.args[0]), build.sizes([start]), build.sizes([end]), build.sizes([axis]), steps)


def select(build: Lowering, node: fx.Node) -> str:
    given = bind(node)
    axis = int(given["dim"]) % len(shape_of(node.args[0]))  # type: ignore[arg-type]
    if isinstance(given["index"], fx.Node):
        index = build.add("Squeeze", build.value(given["index"]))
    else:
        index = build.constant(np.array(given["index"], np.int64))
    return build.add("Gather", build.value(node.args[0]), index, axis=axis or None)


def split(build: Lowering, node: fx.Node) -> tuple[str, ...]:
    given = bind(node)
    axis = int(given["dim"]) % len(shape_of(node.args[0]))  # type: ignore[arg-type]
    sizes = [piece.shape[axis] for piece in node.meta["val"]]
    if not all(isinstance(size, int) for size in sizes):
        raise unsupported(node, "it splits an axis whose size is open")
    return build.add_many("Split", len(sizes), build.value(node.args[0]), build.sizes(sizes), axis=axis or None)


def unbind(build: Lowering, node: fx.Node) -> tuple[str, ...]:
    axis = int(bind(node)["dim"]) % len(shape_of(node.args[0]))  # type: ignore[arg-type]
    source = build.value(node.args[0])
    return tuple(build.add("Gather", source, build.constant(np.array(index, np.int64)), axis=axis or None) for index in range(len(node.meta["val"])))


def getitem(build: Lowering, node: fx.Node) -> str:
    source, index = node.args
    return build.made[source][index]  # type: ignore[index]


def concat(build: Lowering, node: fx.Node) -> str:
    """Concat; empty tensors of one axis, which torch lets pass, are left out."""
    given, dtype = bind(node), dtype_of(node) or torch.float32
    rank = len(shape_of(node))
    tensors = [build.cast(tensor, dtype) for tensor in given["tensors"] if len(shape_of(tensor)) == rank]
    return build.add("Concat", *tensors, axis=int(given["dim"]) % rank)


def stack(build: Lowering, node: fx.Node) -> str:
    """Each tensor with a new axis, joined along it; on integers where all have the same numbers."""
    given = bind(node)
    axis = int(given["dim"]) % len(shape_of(node))
    integers = quantization.same_integers(build, node, given["tensors"])
    tensors = integers if integers is not None else [build.value(tensor) for tensor in given["tensors"]]
    joined = build.add("Concat", *(build.add("Unsqueeze", tensor, build.sizes([axis])) for tensor in tensors), axis=axis)
    if integers is not None:
        build.integers[node] = joined
        return build.value(given["tensors"][0])  # nobody reads the value itself
    return joined


def flip(build: Lowering, node: fx.Node) -> str:
    rank = len(shape_of(node))
    axes = [axis % rank for axis in bind(node)["dims"]]
    count = len(axes)
    return build.add(
        "Slice", build.value(node.args[0]), build.sizes([-1] * count), build.sizes([-END] * count), build.sizes(axes), build.sizes([-1] * count)
    )


def _roll(build: Lowering, node: fx.Node, tensor: str) -> str:
    given = bind(node)
    if not given["dims"]:
        raise unsupported(node, "it rolls the flattened tensor", "name the axis")
    rank = len(shape_of(node))
    for shift, axis in zip(given["shifts"], given["dims"], strict=True):
        where, cut = build.sizes([axis % rank]), build.sizes([-shift])
        tail = build.add("Slice", tensor, cut, build.sizes([END]), where)
        head = build.add("Slice", tensor, build.sizes([0]), cut, where)
        tensor = build.add("Concat", tail, head, axis=axis % rank)
    return tensor


roll = on_integers(_roll)


def _pad(build: Lowering, node: fx.Node, tensor: str) -> str:
    """torch lists pairs from the last axis back; ONNX all starts, then all ends."""
    given = bind(node)
    rank = len(shape_of(node))
    pairs = list(given["pad"] if "pad" in given else given["padding"])
    mode = given.get("mode", "reflect" if "reflection" in aten_name(node) else "constant")
    starts, ends = [0] * rank, [0] * rank
    for index in range(len(pairs) // 2):
        starts[rank - 1 - index], ends[rank - 1 - index] = pairs[2 * index], pairs[2 * index + 1]
    value = ""
    if mode == "constant":
        value = _padding_value(build, node, given.get("value") or 0)
    return build.add("Pad", tensor, build.sizes([*starts, *ends]), value, mode=MODES[mode])


def _padding_value(build: Lowering, node: fx.Node, value: float) -> str:
    """The number that is put around; on integers, its own integer. 0 is what ONNX takes by itself."""
    if quantization.same_integers(build, node, [node.args[0]]) is None:
        return build.value(value, node) if value else ""
    found = quantization.numbers(node.args[0])  # type: ignore[arg-type]
    integer = quantization.as_integer(value, found)
    return build.constant(np.array(integer, str(found[4]).removeprefix("torch."))) if integer else ""


pad = on_integers(_pad)


def resize_nearest(build: Lowering, node: fx.Node) -> str:
    return _resize(build, node, mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor")


def resize_bilinear(build: Lowering, node: fx.Node) -> str:
    corners = bind(node)["align_corners"]
    return _resize(build, node, mode="linear", coordinate_transformation_mode="align_corners" if corners else None)


def resize_bicubic(build: Lowering, node: fx.Node) -> str:
    """Keys's cubic with a = -0.75, as torch and ONNX have it."""
    corners = bind(node)["align_corners"]
    return _resize(build, node, mode="cubic", coordinate_transformation_mode="align_corners" if corners else None)


def grid_sample(build: Lowering, node: fx.Node) -> str:
    """GridSample: values of an image at places that are computed."""
    given = bind(node)
    mode, border = ("linear", "nearest", "cubic")[given["interpolation_mode"]], ("zeros", "border", "reflection")[given["padding_mode"]]
    if mode == "cubic":
        raise unsupported(node, "torch and ONNX treat the edges of a cubic interpolation differently", "use bilinear")
    corners = 1 if given["align_corners"] else None
    return build.add("GridSample", build.value(given["input"]), build.value(given["grid"]), mode=mode, padding_mode=border, align_corners=corners)


def _resize(build: Lowering, node: fx.Node, **attributes: Any) -> str:
    given = bind(node)
    held, wanted = shape_of(node.args[0])[2:], shape_of(node)[2:]  # type: ignore[arg-type]
    source, factors = build.value(node.args[0]), given.get("scale_factors")
    if factors is None and all(isinstance(size, int) for size in (*held, *wanted)):
        exact = [want / have for have, want in zip(held, wanted, strict=True)]
        factors = (
            exact if all(int(float(np.float32(factor)) * have) == want for factor, have, want in zip(exact, held, wanted, strict=True)) else None
        )
    if factors is not None:
        return build.add("Resize", source, "", build.constant(np.array([1, 1, *factors], np.float32)), **attributes)
    sizes = [size if isinstance(size, int) else given["output_size"][axis] for axis, size in enumerate(wanted)]
    return build.add("Resize", source, "", "", build.sizes(sizes), axes=list(range(2, 2 + len(sizes))), **attributes)


def pixel_shuffle(build: Lowering, node: fx.Node) -> str:
    return build.add("DepthToSpace", build.value(node.args[0]), blocksize=int(node.args[1]), mode="CRD")  # type: ignore[arg-type]


def _pixel_unshuffle(build: Lowering, node: fx.Node, tensor: str) -> str:
    """The inverse of `pixel_shuffle`; ONNX's SpaceToDepth orders channels otherwise."""
    block = int(node.args[1])  # type: ignore[arg-type]
    batch, channels, height, width = shape_of(node.args[0])  # type: ignore[arg-type]
    apart = build.reshape(tensor, (batch, channels, height // block, block, width // block, block))
    return build.reshape(build.add("Transpose", apart, perm=[0, 1, 3, 5, 2, 4]), shape_of(node))


pixel_unshuffle = on_integers(_pixel_unshuffle)


def _channel_shuffle(build: Lowering, node: fx.Node, tensor: str) -> str:
    groups = int(node.args[1])  # type: ignore[arg-type]
    batch, channels, *rest = shape_of(node.args[0])  # type: ignore[arg-type]
    apart = build.reshape(tensor, (batch, groups, channels // groups, *rest))
    turned = build.add("Transpose", apart, perm=[0, 2, 1, *range(3, 3 + len(rest))])
    return build.reshape(turned, shape_of(node))


channel_shuffle = on_integers(_channel_shuffle)


def gather(build: Lowering, node: fx.Node) -> str:
    given = bind(node)
    axis = int(given["dim"]) % len(shape_of(node))
    return build.add("GatherElements", build.value(node.args[0]), build.value(given["index"]), axis=axis or None)


# torch's names of what becomes of several numbers at one place -> ONNX's
REDUCTIONS = {"sum": "add", "prod": "mul", "amax": "max", "amin": "min"}


def scatter(build: Lowering, node: fx.Node) -> str:
    """ScatterElements: numbers put at, or added to, places of a tensor."""
    given, dtype = bind(node), dtype_of(node) or torch.float32
    index = given["index"]
    how = "sum" if "scatter_add" in aten_name(node) else given.get("reduce")
    if given.get("include_self") is False:
        raise unsupported(node, "it leaves out what stood there before")
    if "src" in given:
        updates = build.cast(given["src"], dtype)
        held, wanted = shape_of(given["src"]), shape_of(index)
        if str(held) != str(wanted):  # torch takes as much of the source as there are places
            raise unsupported(node, "its source and its index have different shapes")
    else:
        number = build.constant(torch.tensor(given["value"], dtype=dtype).numpy())
        updates = build.add("Expand", number, build.shape(index))
    axis = int(given["dim"]) % len(shape_of(node))
    return build.add("ScatterElements", build.cast(given["self"], dtype), build.value(index), updates, axis=axis, reduction=REDUCTIONS.get(str(how)))


def index_select(build: Lowering, node: fx.Node) -> str:
    given = bind(node)
    axis = int(given["dim"]) % len(shape_of(node))
    return build.add("Gather", build.value(node.args[0]), build.value(given["index"]), axis=axis or None)


def _index(build: Lowering, node: fx.Node, source: str) -> str:
    """``x[i]``, ``x[:, i]``, ``x[i, j]`` with tensors of integers."""
    given = bind(node)
    places = [(axis, tensor) for axis, tensor in enumerate(given["indices"]) if tensor is not None]
    if any(dtype_of(tensor) is torch.bool for _, tensor in places):
        raise unsupported(node, "a mask as an index gives a result whose size depends on the data")
    if len(places) == 1:
        axis, tensor = places[0]
        return build.add("Gather", source, build.cast(tensor, torch.int64), axis=axis or None)
    if [axis for axis, _ in places] != list(range(len(places))) or len({tuple(map(str, shape_of(tensor))) for _, tensor in places}) > 1:
        raise unsupported(node, "its index tensors have different shapes, or do not stand on the first axes")
    last = build.constant(np.array([-1], np.int64))
    joined = build.add("Concat", *(build.add("Unsqueeze", build.cast(tensor, torch.int64), last) for _, tensor in places), axis=-1)
    return build.add("GatherND", source, joined)


index = on_integers(_index)
