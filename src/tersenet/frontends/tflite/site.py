"""What the converter of one operator is given: its tensors as the file has them, numbers decoded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from tersenet.errors import ModelError
from tersenet.formats.tflite import Graph, Operator, Tensor
from tersenet.schemes import INTEGERS, Encoding, Scheme

# The schema's ActivationFunctionType: what an operator applies to its own result.
FUSED: Mapping[int, Callable[[torch.Tensor], torch.Tensor]] = {
    0: lambda value: value,
    1: torch.relu,
    2: lambda value: value.clamp(-1, 1),
    3: F.relu6,
    4: torch.tanh,
}
# What a converter makes: a function or module, and which of the operator's inputs it takes when the network runs.
Part = tuple[Callable[..., Any], tuple[int, ...]]


def dequantized(tensor: Tensor) -> np.ndarray:
    """The real numbers of a constant: ``scale * (stored - zero point)``, along the axis of its scales (float32)."""
    data = tensor.data
    if data is None:
        raise ModelError(f"the tensor {tensor.name!r} is computed while the network runs; a constant was expected.")
    if tensor.numbers is None or data.dtype.kind not in "iu":
        return data.astype(np.float32) if data.dtype == np.float16 else data
    scale, zero = np.asarray(tensor.numbers.scale, np.float64), np.asarray(tensor.numbers.zero_point, np.float64)
    if len(scale) > 1:
        along = [1] * data.ndim
        if not 0 <= tensor.numbers.axis < data.ndim or data.shape[tensor.numbers.axis] != len(scale):
            raise ModelError(f"the scales of {tensor.name!r} do not run along one of its axes; the file is damaged.")
        along[tensor.numbers.axis] = len(scale)
        scale, zero = scale.reshape(along), zero.reshape(along)
    elif not len(scale):
        raise ModelError(f"the tensor {tensor.name!r} has no scale; the file is damaged.")
    return (scale * (data.astype(np.float64) - zero)).astype(np.float32)


def grid(tensor: Tensor, axis: int) -> Encoding | None:
    """What a constant's integers stand for; None of floats.

    Args:
        axis: of what the constant becomes, the one that its scales run along.
    """
    numbers = tensor.numbers
    if numbers is None or tensor.dtype not in INTEGERS or not numbers.scale or min(numbers.scale) <= 0:
        return None
    several = len(numbers.scale) > 1
    scheme = Scheme(tensor.dtype, symmetric=not any(numbers.zero_point), granularity="per-channel" if several else "per-tensor")
    return Encoding(scheme, tuple(map(float, numbers.scale)), tuple(map(int, numbers.zero_point)), axis if several else None, "weight")


@dataclass(frozen=True)
class Site:
    """One operator in its file.

    Args:
        graph: the file.
        operator: the operator.
        name: of the layer that it becomes.
    """

    graph: Graph
    operator: Operator
    name: str

    @property
    def options(self) -> Mapping[str, Any]:
        return self.operator.options

    @property
    def batch(self) -> int:
        """The batch that the file was made for."""
        shapes = [self.graph.tensors[index].shape for index in self.graph.inputs]
        return next((shape[0] for shape in shapes if shape), 1)

    def has(self, place: int) -> bool:
        return place < len(self.operator.inputs) and self.operator.inputs[place] >= 0

    def tensor(self, place: int) -> Tensor:
        """The tensor that the operator reads at a place."""
        if not self.has(place):
            raise self.refuse(f"it has no input {place}")
        return self.graph.tensors[self.operator.inputs[place]]

    def result(self, place: int = 0) -> Tensor:
        """The tensor that the operator makes."""
        if place >= len(self.operator.outputs):
            raise self.refuse(f"it has no result {place}")
        return self.graph.tensors[self.operator.outputs[place]]

    def shape(self, place: int = 0) -> tuple[int, ...]:
        return self.tensor(place).shape

    def is_constant(self, place: int) -> bool:
        return self.has(place) and self.tensor(place).data is not None

    def numbers(self, place: int) -> list[int]:
        """The integers of a constant: axes, sizes, a shape."""
        data = self.tensor(place).data
        if data is None or data.dtype.kind not in "iu":
            raise self.refuse(f"its input {place} (axes or sizes) is not a constant of the file")
        return [int(value) for value in data.reshape(-1)]

    def weight(self, place: int) -> torch.Tensor:
        """The real numbers of a constant, as a tensor of its own."""
        return torch.from_numpy(np.array(dequantized(self.tensor(place)), np.float32))

    def bias(self, place: int, weights: int) -> torch.Tensor | None:
        """A bias; where it is integers without a scale, that of the input times the weights'."""
        if not self.has(place):
            return None
        found = self.tensor(place)
        if found.data is None:
            raise self.refuse("its bias is computed while the network runs")
        source, weight = self.tensor(0).numbers, self.tensor(weights).numbers
        if found.numbers is None and found.data.dtype.kind in "iu" and source is not None and weight is not None:
            return torch.from_numpy((found.data.astype(np.float64) * source.scale[0] * np.asarray(weight.scale)).astype(np.float32))
        return self.weight(place)

    @property
    def fused(self) -> Callable[[torch.Tensor], torch.Tensor]:
        """The activation that the operator applies to its own result."""
        kind = self.options.get("fusedActivationFunction", 0)
        if kind not in FUSED:
            raise self.refuse(f"its fused activation {kind} is unknown")
        return FUSED[kind]

    def refuse(self, why: str) -> ModelError:
        """The error for an operator in a form that cannot be read."""
        return ModelError(f"the operator {self.operator.code} ({self.name}) cannot be read: {why}.")


def reshaped(site: Site) -> Callable[[torch.Tensor], torch.Tensor]:
    """A value in the shape that the file gives the result; the batch, which leads it by itself or times other axes, stays open.

    `tersenet.frontends.tflite.frontend` looks whether samples stay apart.
    """
    before, shape = site.shape(0), site.result().shape
    moved = bool(before) and before[0] == site.batch and shape[:1] != before[:1] and site.batch in shape[1:]

    def run(value: torch.Tensor) -> torch.Tensor:
        if not shape or moved:
            return value.reshape(shape)
        return value.reshape(-1, *shape[1:])

    return run
