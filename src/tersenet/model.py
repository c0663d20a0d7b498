"""A network as the rest of tersenet sees it: one exported ATen graph, whatever framework it came from."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch

from tersenet.annotations import Annotations
from tersenet.errors import DataError, UnsupportedError
from tersenet.plan import QuantizationPlan
from tersenet.tensors import TensorSpec


@dataclass(frozen=True)
class Model:
    """A float network with batch norm alive, and what was decided about its numbers. A step returns a new one.

    Args:
        graph: ATen operators over named parameters (``get_attr`` nodes), placeholders in the order of `inputs`. Must not be
            changed: copy it (`tersenet.graph.walk.copy`) to rewrite it.
        inputs, outputs: what goes in and comes out, in order; None in a shape stands for any size.
        name: what reports call the network.
        format: where it came from: torch, keras, onnx, tflite, transformers.
        fixed_batch: why the batch could not be left open, or "" where it was.
        provenance: more about the source, plain JSON.
        plans: quantization plans; each says which runtimes it serves. None: a float network.
        annotations: what the source knew about its numbers: grids, masks.
    """

    graph: torch.fx.GraphModule
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    name: str = "model"
    format: str = "torch"
    fixed_batch: str = ""
    provenance: Mapping[str, Any] = field(default_factory=dict)
    plans: tuple[QuantizationPlan, ...] = ()
    annotations: Annotations = Annotations()

    def plan_for(self, runtime: str) -> QuantizationPlan | None:
        """The plan that serves a runtime; None for a float network.

        Raises:
            UnsupportedError: there are plans, and none serves it.
        """
        for plan in self.plans:
            if runtime in plan.serves:
                return plan
        if self.plans:
            served = ", ".join(name for plan in self.plans for name in plan.serves)
            raise UnsupportedError(f"this model was quantized for {served}, not for {runtime}; quantize it with {runtime} among the targets.")
        return None

    def without_plans(self) -> Model:
        """The same network in float."""
        return replace(self, plans=())

    @cached_property
    def fingerprint(self) -> str:
        """A SHA-256 of the graph, its parameters and its plans: equal for equal networks, in every process."""
        digest = hashlib.sha256()
        for node in self.graph.graph.nodes:
            digest.update(f"{node.op} {node.name} {node.target} {node.args} {node.kwargs}\n".encode())
        for name, tensor in sorted(self.graph.state_dict().items()):
            array = tensor.detach().cpu().contiguous()
            digest.update(f"{name} {array.dtype} {tuple(array.shape)}\n".encode())
            digest.update(array.reshape(-1).view(torch.uint8).numpy())
        digest.update(repr([plan.to_json() for plan in self.plans]).encode())
        if self.annotations:
            digest.update(self.annotations.digest)
        return digest.hexdigest()

    def __call__(self, *inputs: Any) -> np.ndarray | tuple[np.ndarray, ...]:
        """Run the float network.

        Args:
            inputs: arrays in the order of `self.inputs`, or one dict of arrays by name. Any batch size the graph takes.

        Returns:
            One array, or a tuple where the network has several outputs.

        Raises:
            DataError: too many arrays, too few, or such as the network fails on.
        """
        arrays = ordered(inputs, self.inputs)
        size, count = (self.inputs[0].shape[0], len(arrays[0])) if self.fixed_batch and self.inputs[0].shape and arrays[0].ndim else (None, 0)
        # Some of torch's kernels do not look at the batch that a graph was made for, and read beyond their memory.
        flat = self._run(arrays) if size in (None, count) else self._in_batches(arrays, size, count)
        return flat[0] if len(flat) == 1 else tuple(flat)

    def batches_of(self, wanted: int) -> int:
        """How many samples to run at once where `wanted` are liked: those that a fixed batch asks for."""
        size = self.inputs[0].shape[0] if self.fixed_batch and self.inputs and self.inputs[0].shape else None
        return size or wanted

    def filled(self, arrays: Sequence[np.ndarray]) -> tuple[np.ndarray, ...]:
        """Samples as a fixed batch takes them: the last one is repeated where there are too few."""
        count = len(arrays[0])
        size = self.batches_of(count)
        index = np.minimum(np.arange(size), count - 1)
        return tuple(array[index] if size != count and array.shape[:1] == (count,) else array for array in arrays)

    def _run(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        with torch.no_grad():
            tensors = as_tensors(arrays)
            try:
                results = self.graph(*tensors)
            except (IndexError, RuntimeError, ValueError) as error:
                raise DataError(fails_on("these samples", error)) from error
        weights = {tensor.untyped_storage().data_ptr() for tensor in self.graph.state_dict().values()}
        flat = [result.detach() for result in (results if isinstance(results, tuple | list) else (results,))]
        # An output may be a weight itself: the caller's array must not be its memory.
        return [(result.clone() if result.untyped_storage().data_ptr() in weights else result).numpy() for result in flat]

    def _in_batches(self, arrays: Sequence[np.ndarray], size: int, count: int) -> list[np.ndarray]:
        """Any number of samples through a graph that takes `size` at once; the last are repeated to fill it."""
        rows = []
        for start in range(0, count, size):
            rows.append(self._run(self.filled([array[start : start + size] if array.shape[:1] == (count,) else array for array in arrays])))
        for spec, part in zip(self.outputs, rows[0], strict=True):
            if part.shape[:1] != (size,):
                raise DataError(
                    f"the network takes {size} samples at once ({self.fixed_batch}), and its output {spec.name} is not one of each; got {count}."
                )
        return [np.concatenate(parts)[:count] for parts in zip(*rows, strict=True)]


def fails_on(what: str, error: Exception) -> str:
    """The sentence for a network that torch could not run."""
    shapes_or_tokens = "their shapes, and whole numbers such as tokens, must be such as the network was made for"
    return f"the network fails on {what}: {(str(error).strip().splitlines() or [type(error).__name__])[0]}; {shapes_or_tokens}."


def as_tensors(arrays: Iterable[np.ndarray]) -> list[torch.Tensor]:
    """Arrays as torch takes them: in order of their axes, and a scalar without any (`np.ascontiguousarray` would give it one).

    Raises:
        DataError: an array of objects, or of another dtype that torch does not have.
    """
    try:
        return [torch.from_numpy(np.asarray(array, order="C")) for array in arrays]
    except (TypeError, ValueError) as error:
        raise DataError(f"a network takes arrays of numbers that torch knows: {error}") from error


def ordered(inputs: tuple[Any, ...], specs: tuple[TensorSpec, ...]) -> list[np.ndarray]:
    """The arrays in the order of the specs, as the dtypes that they ask for.

    Raises:
        DataError: too many or too few, or a name is missing.
    """
    if len(inputs) == 1 and isinstance(inputs[0], Mapping):
        missing = [spec.name for spec in specs if spec.name not in inputs[0]]
        if missing:
            raise DataError(f"the network's inputs are {', '.join(spec.name for spec in specs)}; missing: {', '.join(missing)}.")
        inputs = tuple(inputs[0][spec.name] for spec in specs)
    elif len(inputs) == 1 and isinstance(inputs[0], tuple | list) and len(specs) > 1:
        inputs = tuple(inputs[0])
    if len(inputs) != len(specs):
        raise DataError(f"the network takes {len(specs)} inputs ({', '.join(spec.name for spec in specs)}), got {len(inputs)}.")
    return [_as_asked(array, spec) for array, spec in zip(inputs, specs, strict=True)]


def _as_asked(array: Any, spec: TensorSpec) -> np.ndarray:
    try:
        return np.asarray(array, dtype=spec.dtype)
    except (TypeError, ValueError, OverflowError, RuntimeError) as error:
        raise DataError(
            f"the network's input {spec.name} takes an array of {spec.dtype}, and {type(array).__name__} cannot be made one: {error}."
        ) from error
