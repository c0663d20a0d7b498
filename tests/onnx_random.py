"""Small random ONNX graphs out of operators that the frontend claims: every one is valid, and its batch is open."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = 20
LARGEST = 512  # numbers of one sample
BOUNDED = ("Relu", "Sigmoid", "Tanh", "Abs", "Neg", "Softplus", "Softsign", "Elu", "LeakyRelu", "Selu", "Celu", "HardSigmoid", "HardSwish")
SMOOTH = ("Erf", "Sin", "Cos", "Atan", "Asinh", "Mish", "Gelu", "Identity", "Sqrt", "Reciprocal", "Log", "Exp", "Clip", "Shrink")
REDUCTIONS = ("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceL1", "ReduceL2", "ReduceLogSumExp", "ReduceSumSquare")


@dataclass(frozen=True)
class Value:
    """A tensor of the graph: its name, and its sizes without the batch."""

    name: str
    shape: tuple[int, ...]


@dataclass
class Writer:
    """Nodes and constants in the order in which they were drawn."""

    draw: random.Random
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: list[onnx.TensorProto] = field(default_factory=list)
    values: list[Value] = field(default_factory=list)

    def constant(self, array: Any) -> str:
        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def weight(self, *shape: int) -> str:
        numbers = np.random.default_rng(self.draw.getrandbits(32))
        return self.constant((numbers.standard_normal(shape) / max(1, np.prod(shape[1:], dtype=int)) ** 0.5).astype(np.float32))

    def emit(self, kind: str, *inputs: str, outputs: int = 1, **attributes: Any) -> list[str]:
        names = [f"value_{len(self.nodes)}_{place}" for place in range(outputs)]
        self.nodes.append(helper.make_node(kind, list(inputs), names, name=f"node_{len(self.nodes)}", **attributes))
        return names

    def add(self, shape: tuple[int, ...], kind: str, *inputs: str, **attributes: Any) -> Value:
        return Value(self.emit(kind, *inputs, **attributes)[0], shape)

    def axis(self, value: Value) -> int:
        """One beside the batch."""
        return self.draw.randrange(len(value.shape)) + 1


Step = Callable[[Writer, Value], Value | None]


def unary(writer: Writer, value: Value) -> Value | None:
    kind = writer.draw.choice(BOUNDED + SMOOTH)
    name = value.name
    if kind in {"Sqrt", "Reciprocal", "Log"}:
        (name,) = writer.emit("Add", writer.emit("Abs", name)[0], writer.constant(np.float32(1)))
    if kind == "Exp":
        (name,) = writer.emit("Tanh", name)
    if kind == "Clip":
        return writer.add(value.shape, kind, name, writer.constant(np.float32(-0.5)), writer.constant(np.float32(writer.draw.choice([0.75, 6]))))
    return writer.add(value.shape, kind, name, **({"bias": 0.0, "lambd": 0.0} if kind == "Shrink" else {}))


def binary(writer: Writer, value: Value) -> Value | None:
    kind = writer.draw.choice(["Add", "Sub", "Mul", "Max", "Min", "Mean", "Sum"])
    same = [each.name for each in writer.values if each.shape == value.shape]
    broadcast = [size if writer.draw.random() < 0.5 else 1 for size in value.shape]
    other = writer.draw.choice([writer.draw.choice(same), writer.weight(*broadcast[writer.draw.randrange(len(broadcast)) :])])
    pair = [value.name, other] if writer.draw.random() < 0.5 else [other, value.name]
    return writer.add(value.shape, kind, *pair)


def divide(writer: Writer, value: Value) -> Value | None:
    (below,) = writer.emit("Add", writer.emit("Mul", value.name, value.name)[0], writer.constant(np.float32(1)))
    return writer.add(value.shape, "Div", value.name, below)


def power(writer: Writer, value: Value) -> Value | None:
    return writer.add(value.shape, "Pow", writer.emit("Tanh", value.name)[0], writer.constant(np.float32(writer.draw.choice([2, 3]))))


def where(writer: Writer, value: Value) -> Value | None:
    """The larger of two, by a comparison: no jump where they are equal."""
    other = writer.weight(*value.shape)
    kind = writer.draw.choice(["Greater", "GreaterOrEqual"])
    return writer.add(value.shape, "Where", writer.emit(kind, value.name, other)[0], value.name, other)


def reduce(writer: Writer, value: Value) -> Value | None:
    keep = len(value.shape) == 1 or writer.draw.random() < 0.5
    axis, kind = writer.axis(value), writer.draw.choice(REDUCTIONS)
    shape = [1 if place == axis - 1 else size for place, size in enumerate(value.shape) if keep or place != axis - 1]
    return writer.add(tuple(shape), kind, value.name, writer.constant(np.array([axis], np.int64)), keepdims=int(keep))


def softmax(writer: Writer, value: Value) -> Value | None:
    return writer.add(value.shape, writer.draw.choice(["Softmax", "LogSoftmax"]), value.name, axis=writer.draw.choice([-1, writer.axis(value)]))


def running(writer: Writer, value: Value) -> Value | None:
    axis = writer.constant(np.array(writer.axis(value), np.int64))
    return writer.add(value.shape, "CumSum", value.name, axis, exclusive=writer.draw.randrange(2), reverse=writer.draw.randrange(2))


def top(writer: Writer, value: Value) -> Value | None:
    axis = writer.axis(value)
    count = writer.draw.randint(1, value.shape[axis - 1])
    shape = tuple(count if place == axis - 1 else size for place, size in enumerate(value.shape))
    names = writer.emit("TopK", value.name, writer.constant(np.array([count], np.int64)), outputs=2, axis=axis, largest=writer.draw.randrange(2))
    return Value(names[0], shape)


def flatten(writer: Writer, value: Value) -> Value | None:
    size = int(np.prod(value.shape, dtype=int))
    how = writer.draw.randrange(3)
    if how == 0:
        return writer.add((size,), "Flatten", value.name)
    if how == 1:
        return writer.add((size,), "Reshape", value.name, writer.constant(np.array([0, -1], np.int64)))
    (sizes,) = writer.emit("Shape", value.name)  # as torch's exporter writes x.view(x.size(0), -1)
    (batch,) = writer.emit(
        "Unsqueeze", writer.emit("Gather", sizes, writer.constant(np.array(0, np.int64)))[0], writer.constant(np.array([0], np.int64))
    )
    return writer.add((size,), "Reshape", value.name, writer.emit("Concat", batch, writer.constant(np.array([-1], np.int64)), axis=0)[0])


def unfold(writer: Writer, value: Value) -> Value | None:
    """The last axis in two."""
    *before, last = value.shape
    parts = [size for size in (2, 3, 4) if last % size == 0]
    if not parts or len(value.shape) > 2:
        return None
    part = writer.draw.choice(parts)
    shape = (*before, part, last // part)
    return writer.add(shape, "Reshape", value.name, writer.constant(np.array([-1, *shape], np.int64)))


def transpose(writer: Writer, value: Value) -> Value | None:
    order = writer.draw.sample(range(len(value.shape)), len(value.shape))
    return writer.add(tuple(value.shape[place] for place in order), "Transpose", value.name, perm=[0, *(place + 1 for place in order)])


def unsqueeze(writer: Writer, value: Value) -> Value | None:
    if len(value.shape) > 2:
        return None
    axis = writer.draw.randint(1, len(value.shape) + 1)
    return writer.add((*value.shape[: axis - 1], 1, *value.shape[axis - 1 :]), "Unsqueeze", value.name, writer.constant(np.array([axis], np.int64)))


def squeeze(writer: Writer, value: Value) -> Value | None:
    ones = [place for place, size in enumerate(value.shape) if size == 1]
    if not ones or len(value.shape) < 2:
        return None
    shape = tuple(size for place, size in enumerate(value.shape) if place != ones[0])
    return writer.add(shape, "Squeeze", value.name, writer.constant(np.array([ones[0] + 1], np.int64)))


def concat(writer: Writer, value: Value) -> Value | None:
    other = writer.draw.choice([each for each in writer.values if each.shape == value.shape])
    axis = writer.axis(value)
    shape = tuple(2 * size if place == axis - 1 else size for place, size in enumerate(value.shape))
    return writer.add(shape, "Concat", value.name, other.name, axis=axis)


def split(writer: Writer, value: Value) -> Value | None:
    axis = writer.axis(value)
    size = value.shape[axis - 1]
    if size < 2:
        return None
    first = writer.draw.randint(1, size - 1)
    names = writer.emit("Split", value.name, writer.constant(np.array([first, size - first], np.int64)), outputs=2, axis=axis)
    shapes = [tuple(part if place == axis - 1 else each for place, each in enumerate(value.shape)) for part in (first, size - first)]
    writer.values.append(Value(names[1], shapes[1]))
    return Value(names[0], shapes[0])


def slice_(writer: Writer, value: Value) -> Value | None:
    axis = writer.axis(value)
    size, step = value.shape[axis - 1], writer.draw.choice([1, 1, 2, -1, -2])
    start, end = sorted(writer.draw.sample(range(-size - 1, size + 2), 2))
    if step < 0:
        start, end = end, start
    places = range(size)[slice(start, end, step)]
    if not places:
        return None
    ends = [writer.constant(np.array([number], np.int64)) for number in (start, end, axis, step)]
    return writer.add(tuple(len(places) if place == axis - 1 else each for place, each in enumerate(value.shape)), "Slice", value.name, *ends)


def gather(writer: Writer, value: Value) -> Value | None:
    axis = writer.axis(value)
    size = value.shape[axis - 1]
    before, after = value.shape[: axis - 1], value.shape[axis:]
    if len(value.shape) > 1 and writer.draw.random() < 0.5:
        return writer.add((*before, *after), "Gather", value.name, writer.constant(np.array(writer.draw.randrange(-size, size), np.int64)), axis=axis)
    places = np.array([writer.draw.randrange(-size, size) for _ in range(writer.draw.randint(1, 4))], np.int64)
    return writer.add((*before, len(places), *after), "Gather", value.name, writer.constant(places), axis=axis)


def tile(writer: Writer, value: Value) -> Value | None:
    repeats = [writer.draw.choice([1, 1, 2]) for _ in value.shape]
    shape = tuple(size * times for size, times in zip(value.shape, repeats, strict=True))
    return writer.add(shape, "Tile", value.name, writer.constant(np.array([1, *repeats], np.int64)))


def expand(writer: Writer, value: Value) -> Value | None:
    shape = tuple(writer.draw.choice([1, 3]) if size == 1 else size for size in value.shape)
    return writer.add(shape, "Expand", value.name, writer.constant(np.array([1, *shape], np.int64)))


def pad(writer: Writer, value: Value) -> Value | None:
    before, after = ([writer.draw.choice([0, 0, 1]) for _ in value.shape] for _ in range(2))
    shape = tuple(size + left + right for size, left, right in zip(value.shape, before, after, strict=True))
    return writer.add(shape, "Pad", value.name, writer.constant(np.array([0, *before, 0, *after], np.int64)))


def trilu(writer: Writer, value: Value) -> Value | None:
    if len(value.shape) < 2:
        return None
    return writer.add(
        value.shape, "Trilu", value.name, writer.constant(np.array(writer.draw.choice([-1, 0, 1]), np.int64)), upper=writer.draw.randrange(2)
    )


def matmul(writer: Writer, value: Value) -> Value | None:
    width = writer.draw.choice([2, 5])
    return writer.add((*value.shape[:-1], width), "MatMul", value.name, writer.weight(value.shape[-1], width))


def gemm(writer: Writer, value: Value) -> Value | None:
    if len(value.shape) != 1:
        return None
    width, turned = writer.draw.choice([3, 4]), writer.draw.randrange(2)
    weight = writer.weight(*((width, value.shape[0]) if turned else (value.shape[0], width)))
    return writer.add((width,), "Gemm", value.name, weight, writer.weight(width), transB=turned, alpha=writer.draw.choice([1.0, 0.5]))


def convolve(writer: Writer, value: Value) -> Value | None:
    if len(value.shape) != 3 or min(value.shape[1:]) < 3:
        return None
    channels, height, width = value.shape
    groups = writer.draw.choice([1, channels])
    made, stride = groups * writer.draw.choice([1, 2]), writer.draw.choice([1, 2])
    shape = (made, *((size - 1) // stride + 1 for size in (height, width)))
    inputs = [value.name, writer.weight(made, channels // groups, 3, 3), writer.weight(made)]
    return writer.add(shape, "Conv", *inputs, group=groups, pads=[1, 1, 1, 1], strides=[stride, stride])


def pool(writer: Writer, value: Value) -> Value | None:
    if len(value.shape) != 3 or min(value.shape[1:]) < 2:
        return None
    if writer.draw.random() < 0.3:
        return writer.add((value.shape[0], 1, 1), writer.draw.choice(["GlobalAveragePool", "GlobalMaxPool"]), value.name)
    shape = (value.shape[0], *(size // 2 for size in value.shape[1:]))
    return writer.add(shape, writer.draw.choice(["MaxPool", "AveragePool"]), value.name, kernel_shape=[2, 2], strides=[2, 2])


def normalize(writer: Writer, value: Value) -> Value | None:
    if writer.draw.random() < 0.5:
        size = value.shape[-1]
        return writer.add(value.shape, "LayerNormalization", value.name, writer.weight(size), writer.weight(size))
    size = value.shape[0]
    variance = writer.constant(np.linspace(0.5, 2, size, dtype=np.float32))
    return writer.add(value.shape, "BatchNormalization", value.name, writer.weight(size), writer.weight(size), writer.weight(size), variance)


STEPS: tuple[Step, ...] = (
    *(unary, unary, unary, binary, binary, divide, power, where, reduce, softmax, running, top, flatten, unfold, transpose, unsqueeze, squeeze),
    *(concat, split, slice_, gather, tile, expand, pad, trilu, matmul, gemm, convolve, convolve, pool, normalize),
)


def random_graph(seed: int) -> tuple[onnx.ModelProto, tuple[int, ...]]:
    """A graph of three to nine steps with one or two outputs, and the shape of a sample that it takes."""
    draw = random.Random(seed)
    shape = tuple(draw.choice([(6,), (4, 6), (3, 6, 5), (2, 8, 8)]))
    writer = Writer(draw, values=[Value("x", shape)])
    wanted = draw.randint(3, 9)
    while len(writer.values) <= wanted:
        value = writer.values[-1] if draw.random() < 0.8 else draw.choice(writer.values)
        made = draw.choice(STEPS)(writer, value)
        if made is not None and np.prod(made.shape, dtype=int) <= LARGEST:
            writer.values.append(made)
    results = [writer.values[-1], *draw.sample(writer.values[1:-1], draw.randrange(2))]
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", *shape])
    made_values = [helper.make_tensor_value_info(value.name, TensorProto.FLOAT, ["N", *value.shape]) for value in results]
    graph = helper.make_graph(writer.nodes, "random", [given], made_values, writer.constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=9), shape
