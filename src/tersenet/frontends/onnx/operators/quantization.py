"""Integers and back, for what is a conversion in the file's own sense: integer inputs, integer outputs, scales that are computed."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from tersenet.errors import ModelError
from tersenet.frontends.onnx.node import Node

ENDS: Mapping[torch.dtype, tuple[int, int]] = {
    torch.int8: (-128, 127),
    torch.uint8: (0, 255),
    torch.int16: (-32768, 32767),
    torch.int32: (0, 65535),  # uint16, which has room in a wider type here
}
TYPES: Mapping[int, torch.dtype] = {2: torch.uint8, 3: torch.int8, 4: torch.int32, 5: torch.int16}


def quantize_linear(node: Node, data: torch.Tensor, scale: torch.Tensor, zero: torch.Tensor | None = None) -> torch.Tensor:
    """Rounded half to even, and cut at the ends of the type."""
    dtype = TYPES.get(node.get("output_dtype", 0), torch.uint8) if zero is None else zero.dtype
    if dtype not in ENDS:
        raise ModelError(f"it quantizes to {dtype}; 8-bit and 16-bit integers are read.")
    low, high = ENDS[dtype]
    steps = torch.round(data / _beside(node, scale, data))
    if zero is not None:
        steps = steps + _beside(node, zero, data).float()
    return torch.clamp(steps, low, high).to(dtype)


def dequantize_linear(node: Node, data: torch.Tensor, scale: torch.Tensor, zero: torch.Tensor | None = None) -> torch.Tensor:
    steps = data.float()
    if zero is not None:
        steps = steps - _beside(node, zero, data).float()
    return steps * _beside(node, scale, data)


def _beside(node: Node, numbers: torch.Tensor, data: torch.Tensor) -> torch.Tensor:
    """Scales or zero points in a shape that meets the data: one, one for each index of an axis, or one for each block along it."""
    block, axis = node.get("block_size", 0), node.get("axis", 1)
    if numbers.numel() == 1 and numbers.dim() < 2:
        return numbers.reshape(())
    axis = axis % data.dim()
    if block and numbers.dim() == data.dim():
        return numbers.repeat_interleave(block, axis).narrow(axis, 0, data.shape[axis])
    return numbers.reshape([-1 if place == axis else 1 for place in range(data.dim())])


def dynamic_quantize_linear(node: Node, data: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """To uint8, on the range of these very numbers and zero."""
    low, high = torch.clamp_max(data.amin(), 0.0), torch.clamp_min(data.amax(), 0.0)
    scale = (high - low) / 255
    zero = torch.clamp(torch.round(-low / scale), 0, 255)
    return torch.clamp(torch.round(data / scale) + zero, 0, 255).to(torch.uint8), scale, zero.to(torch.uint8)


def opened(node: Node, *inputs: torch.Tensor | None) -> torch.Tensor:
    """Of the operators that are opened into float ones before the network is made, none comes here."""
    raise ModelError("it is in a form that is not read: its weights and their scales must be constants.")
