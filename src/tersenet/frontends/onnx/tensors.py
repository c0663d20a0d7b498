"""Tensors of an ONNX file as torch tensors over the file's own bytes, every size checked against what is there."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tersenet.errors import ModelError, check_readable
from tersenet.frontends.mapping import mapped
from tersenet.schemes import Encoding

# TensorProto.DataType -> name. The names that numpy has are stored so; the rest is opened below.
TYPES: Mapping[int, str] = {
    1: "float32",
    2: "uint8",
    3: "int8",
    4: "uint16",
    5: "int16",
    6: "int32",
    7: "int64",
    8: "string",
    9: "bool",
    10: "float16",
    11: "float64",
    12: "uint32",
    13: "uint64",
    14: "complex64",
    15: "complex128",
    16: "bfloat16",
    17: "float8e4m3fn",
    18: "float8e4m3fnuz",
    19: "float8e5m2",
    20: "float8e5m2fnuz",
    21: "uint4",
    22: "int4",
    23: "float4e2m1",
    24: "float8e8m0",
    25: "uint2",
    26: "int2",
}
PACKED: Mapping[str, tuple[int, bool]] = {"uint4": (4, False), "int4": (4, True), "uint2": (2, False), "int2": (2, True)}
# Fields of a TensorProto that hold numbers when there are no raw bytes, by the type of the tensor.
_FIELDS: Mapping[str, str] = {
    "float32": "float_data",
    "int64": "int64_data",
    "float64": "double_data",
    "uint32": "uint64_data",
    "uint64": "uint64_data",
}
MOST_AXES = 32
WIDER: Mapping[torch.dtype, torch.dtype] = {torch.uint16: torch.int32, torch.uint32: torch.int64, torch.uint64: torch.int64}


@dataclass(frozen=True)
class Constant:
    """A tensor that the file holds, or that follows from such.

    Args:
        value: the numbers.
        dtype: their type in the file (``int4`` is opened into int8).
        weight: it comes from what the file calls its initializers.
        grid: what it was stored on, where the file had integers for it.
    """

    value: torch.Tensor
    dtype: str = ""
    weight: bool = False
    grid: Encoding | None = None


@dataclass(frozen=True)
class Folder:
    """Where a file's external data may lie: its own folder, and nowhere else."""

    path: Path

    def read(self, entries: Mapping[str, str], name: str, needed: int) -> memoryview:
        """The bytes of a tensor that lies in a file of its own.

        Raises:
            ModelError: the file is missing, outside the folder or too short.
        """
        location = entries.get("location", "")
        folder = self.path.resolve()
        file = (folder / location).resolve()
        if not location or not file.is_relative_to(folder):
            raise ModelError(f"the tensor {name} lies in {location[:100]!r}, outside the file's own folder; only what is inside it is read.")
        check_readable(file, ModelError)
        if not file.is_file():
            raise ModelError(f"the tensor {name} lies in {location[:100]!r}, which is missing; put it beside the file.")
        offset, length = _whole(entries.get("offset", "0")), _whole(entries.get("length", str(needed)))
        if offset < 0 or length != needed or offset + length > file.stat().st_size:
            said = [str(entries.get(key, default))[:20] for key, default in (("length", needed), ("offset", 0))]
            raise ModelError(
                f"the tensor {name} needs {needed} bytes; it is said to have {said[0]} from {said[1]} on in {location[:100]!r}, "
                f"which has {file.stat().st_size}."
            )
        return mapped(file)[offset : offset + length] if needed else memoryview(b"")


def _whole(text: str) -> int:
    return int(text) if text.isdecimal() and len(text) < 20 else -1


def constant(proto: Any, folder: Folder, raw: memoryview | None = None, weight: bool = False) -> Constant:
    """The tensor of a TensorProto.

    Args:
        raw: its bytes, where they were cut out of the message.

    Raises:
        ModelError: a type that torch lacks, or sizes that do not fit the bytes.
    """
    name, shape = proto.name or "of an attribute", [int(size) for size in proto.dims]
    dtype = TYPES.get(proto.data_type, "")
    if not dtype or dtype in ("string", "float4e2m1", "float8e8m0") or (dtype.startswith("float8") and not hasattr(torch, _float8(dtype))):
        raise ModelError(f"the tensor {name} is of type {dtype or proto.data_type}, which no network here computes with.")
    if len(shape) > MOST_AXES or any(size < 0 for size in shape):
        raise ModelError(f"the tensor {name} has the shape {shape[:40]}.")
    count = math.prod(shape)
    stored = _stored(proto, folder, raw, dtype, count)
    if stored is None:
        raise ModelError(f"the tensor {name} has the shape {tuple(shape)} of {dtype}, which its bytes do not fill.")
    return Constant(_plain(stored.reshape(shape)), dtype, weight)


def _plain(value: torch.Tensor) -> torch.Tensor:
    """In a type that torch calculates with: every float is float32 here, and unsigned integers have room in a wider type."""
    if value.is_complex():
        raise ModelError("the file holds complex numbers, which no network here computes with.")
    if value.is_floating_point():
        return value.float()
    return value.to(WIDER.get(value.dtype, value.dtype))


def _float8(dtype: str) -> str:
    return dtype.replace("float8", "float8_")


def _stored(proto: Any, folder: Folder, raw: memoryview | None, dtype: str, count: int) -> torch.Tensor | None:
    """The flat tensor; None where there is more or less than its shape says."""
    bits = PACKED[dtype][0] if dtype in PACKED else _torch_dtype(dtype).itemsize * 8
    size = (count * bits + 7) // 8
    if proto.data_location == 1:
        raw = folder.read({entry.key: entry.value for entry in proto.external_data}, proto.name, size)
    elif raw is None and proto.HasField("raw_data"):
        raw = memoryview(bytearray(proto.raw_data))
    if raw is not None:
        if len(raw) != size:
            return None
        return _unpacked(np.frombuffer(raw, np.uint8), dtype, count) if dtype in PACKED else _viewed(raw, dtype)
    return _listed(proto, dtype, count)


def _torch_dtype(dtype: str) -> torch.dtype:
    return getattr(torch, _float8(dtype))


def _viewed(raw: memoryview, dtype: str) -> torch.Tensor:
    wanted = _torch_dtype(dtype)
    if not len(raw):
        return torch.empty(0, dtype=wanted)
    flat = np.frombuffer(raw, np.uint8)
    if raw.readonly or flat.ctypes.data % wanted.itemsize:  # torch reads no numbers that lie askew
        flat = flat.copy()
    return torch.from_numpy(flat).view(wanted)


def _unpacked(packed: np.ndarray, dtype: str, count: int) -> torch.Tensor:
    bits, signed = PACKED[dtype]
    parts = np.stack([packed >> shift & (1 << bits) - 1 for shift in range(0, 8, bits)], axis=-1).reshape(-1)[:count].astype(np.int16)
    if signed:
        parts = np.where(parts >= 1 << bits - 1, parts - (1 << bits), parts)
    return torch.from_numpy(parts.astype(np.int8 if signed else np.uint8))


def _listed(proto: Any, dtype: str, count: int) -> torch.Tensor | None:
    """From a field of numbers; 16-bit floats are there as the integers of their bits."""
    values = getattr(proto, _FIELDS.get(dtype, "float_data" if dtype == "complex64" else "double_data" if dtype == "complex128" else "int32_data"))
    if dtype in PACKED:
        packed = np.asarray(values, np.int64).astype(np.uint8)
        return _unpacked(packed, dtype, count) if len(packed) == (count * PACKED[dtype][0] + 7) // 8 else None
    if len(values) != count * (2 if dtype.startswith("complex") else 1):
        return None
    if dtype in ("float16", "bfloat16") or dtype.startswith("float8"):
        whole = torch.from_numpy(np.asarray(values, np.int64))
        return whole.to(torch.int16 if dtype.endswith("float16") else torch.uint8).view(_torch_dtype(dtype))
    if dtype.startswith("complex"):
        return torch.view_as_complex(torch.tensor(list(values), dtype=torch.float32 if dtype == "complex64" else torch.float64).reshape(-1, 2))
    return torch.from_numpy(np.array(values, dtype=np.int64 if dtype not in _FIELDS else dtype).astype(dtype))
