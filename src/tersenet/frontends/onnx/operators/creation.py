"""Constants, ranges, and the types of numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch

from tersenet.errors import ModelError
from tersenet.frontends.onnx.node import Node

Size = int | torch.SymInt
FLOAT = 1  # TensorProto.FLOAT
# TensorProto.DataType -> what it is in here: every float is float32, and integers that torch does not calculate with have room in a wider one.
TYPES: Mapping[int, torch.dtype] = {
    1: torch.float32,
    2: torch.uint8,
    3: torch.int8,
    4: torch.int32,  # uint16
    5: torch.int16,
    6: torch.int32,
    7: torch.int64,
    9: torch.bool,
    10: torch.float32,  # float16
    11: torch.float32,  # double
    12: torch.int64,  # uint32
    13: torch.int64,  # uint64
    16: torch.float32,  # bfloat16
}
LARGEST = 1 << 28  # elements that a node may make out of nothing: 1 GB of floats


def dtype_of(number: int) -> torch.dtype:
    if number not in TYPES:
        raise ModelError(f"tensors of the ONNX type {number} (strings, complex numbers, 8-bit floats, 4-bit integers) have no counterpart here.")
    return TYPES[number]


def check_size(node: Node, sizes: Sequence[Size]) -> None:
    """What a node makes out of numbers alone fits into memory; open sizes are small.

    Raises:
        ModelError: it has more than `LARGEST` elements.
    """
    count = math.prod(size for size in sizes if isinstance(size, int))
    if count > LARGEST:
        raise ModelError(f"{node.kind} would make {count} numbers out of a few; {LARGEST} are the most that is read.")


def identity(node: Node, data: torch.Tensor) -> torch.Tensor:
    return data


def cast(node: Node, data: torch.Tensor) -> torch.Tensor:
    """Between floats nothing happens, as all of them are float32."""
    return data.to(dtype_of(node.get("to", FLOAT)))


def cast_like(node: Node, data: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    return data.to(like.dtype)


def bit_cast(node: Node, data: torch.Tensor) -> torch.Tensor:
    wanted = dtype_of(node.get("to"))
    if wanted.itemsize != data.dtype.itemsize:
        raise ModelError(f"BitCast from {data.dtype} to {wanted} would change the number of bits.")
    return data.view(wanted)


def constant(node: Node) -> torch.Tensor:
    """One of value, value_float, value_floats, value_int, value_ints."""
    for name, dtype in (
        ("value", None),
        ("value_float", torch.float32),
        ("value_floats", torch.float32),
        ("value_int", torch.int64),
        ("value_ints", torch.int64),
    ):
        if name in node.attributes:
            return torch.as_tensor(np.asarray(node.attributes[name]), dtype=dtype)
    raise ModelError("a Constant must have a number or a tensor of numbers as its value; strings and sparse tensors have no counterpart here.")


def constant_of_shape(node: Node, shape: Sequence[Size]) -> torch.Tensor:
    check_size(node, shape)
    value = np.asarray(node.get("value", np.zeros(1, np.float32)))
    filled = torch.full(tuple(shape), value.reshape(-1)[0].item())
    return filled.to(torch.as_tensor(value).dtype)


def range_(node: Node, start: Sequence[float], limit: Sequence[float], step: Sequence[float]) -> torch.Tensor:
    if all(isinstance(end, int | float) for end in (start[0], limit[0], step[0])) and step[0]:
        check_size(node, [int(abs((limit[0] - start[0]) / step[0]))])
    return torch.arange(start[0], limit[0], step[0])


def eye_like(node: Node, like: torch.Tensor) -> torch.Tensor:
    dtype = dtype_of(node.attributes["dtype"]) if "dtype" in node.attributes else like.dtype
    rows, columns = (torch.arange(size) for size in like.shape)
    return (rows.unsqueeze(1) + node.get("k", 0) == columns).to(dtype)


def shape(node: Node, data: torch.Tensor) -> torch.Tensor:
    sizes = data.shape[node.get("start", 0) : node.get("end", data.dim())]
    return torch.stack([torch.scalar_tensor(size, dtype=torch.int64) for size in sizes]) if sizes else torch.zeros(0, dtype=torch.int64)


def size(node: Node, data: torch.Tensor) -> torch.Tensor:
    return torch.scalar_tensor(data.numel(), dtype=torch.int64)
