"""A network that another learns from: frozen, in evaluation mode, and asked in the student's own terms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, fx

from tersenet.data.parts import Data
from tersenet.data.tasks import unlabelled
from tersenet.errors import ModelError
from tersenet.graph.training import trainable
from tersenet.measure.quality import outputs_of
from tersenet.model import Model
from tersenet.tensors import TensorSpec
from tersenet.training.loop import Judge
from tersenet.training.tuning import judge_on

AGREEMENT = "agreement with the teacher"


class Teacher:
    """Answers batches as the student takes them: inputs by name or in order, images laid out as each asks.

    Args:
        model: the network; stays as it is.
        student: whose inputs come, and whose outputs the answers are compared with.
        module: what runs in the model's stead, with more outputs behind the model's own; None: the model's own graph.

    Raises:
        ModelError: inputs or outputs do not match; both shapes are named.
    """

    def __init__(self, model: Model, student: Model, module: fx.GraphModule | None = None) -> None:
        if model.fixed_batch and model.inputs[0].shape[0] != (student.inputs[0].shape[0] if student.fixed_batch else None):
            size = model.inputs[0].shape[0]
            raise ModelError(f"the teacher takes {size} samples at once ({model.fixed_batch}), and the network that learns does not; take another.")
        self.student = student
        self.inputs = _matched(student.inputs, model.inputs, "inputs")
        self.outputs = _matched(model.outputs, student.outputs, "outputs")
        self.types = [getattr(torch, spec.dtype) for spec in model.inputs]
        self.module = (trainable(model) if module is None else module).eval().requires_grad_(False)
        self.device = torch.device("cpu")

    def __call__(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """The outputs that the student has, in its order, then what else the module returns."""
        if inputs[0].device != self.device:
            self.device = inputs[0].device
            self.module.to(self.device)
        with torch.no_grad():
            given = [inputs[place].permute(order).to(kind) for (place, order), kind in zip(self.inputs, self.types, strict=True)]
            results = self.module(*given)
            return [*(results[place].permute(order) for place, order in self.outputs), *results[len(self.outputs) :]]

    def answers(self, *arrays: np.ndarray) -> tuple[np.ndarray, ...]:
        """The same of arrays, as a network is measured; the outputs alone."""
        found = self([torch.from_numpy(array).to(self.device) for array in self.student.filled(arrays)])
        return tuple(answer.cpu().numpy()[: len(arrays[0])] for answer in found[: len(self.outputs)])


def agreement(teacher: Teacher, data: Data) -> Judge | None:
    """A judge that needs no labels: how well a student agrees with the teacher on the selection part; None where that is empty."""
    if not len(data.selection):
        return None
    reference, _ = outputs_of(teacher.answers, data.selection, teacher.student.batches_of(256))
    judge = judge_on(data, teacher.student, unlabelled(data.task), reference)
    return None if judge is None else replace(judge, metric=AGREEMENT)


def _matched(given: Sequence[TensorSpec], wanted: Sequence[TensorSpec], what: str) -> list[tuple[int, tuple[int, ...]]]:
    """For each tensor that is wanted the place of the given one that it is, and the order of its axes."""
    names = [spec.name for spec in given]
    by_name = sorted(names) == sorted(spec.name for spec in wanted)
    if len(given) != len(wanted):
        raise _mismatch(given, wanted, what)
    found = []
    for position, spec in enumerate(wanted):
        place = names.index(spec.name) if by_name else position
        order = _order(given[place], spec)
        if order is None:
            raise _mismatch(given, wanted, what)
        found.append((place, order))
    return found


def _order(given: TensorSpec, wanted: TensorSpec) -> tuple[int, ...] | None:
    """The order of axes that makes one tensor of the other; None where there is none."""
    if given.dtype.rstrip("0123456789") != wanted.dtype.rstrip("0123456789"):
        return None
    if len(given.shape) == len(wanted.shape) and _fits(given.shape, wanted.shape):
        return tuple(range(len(given.shape)))
    if given.layout and sorted(given.layout) == sorted(wanted.layout):
        order = tuple(given.layout.index(letter) for letter in wanted.layout)
        return order if _fits([given.shape[axis] for axis in order], wanted.shape) else None
    return None


def _fits(given: Sequence[int | None], wanted: Sequence[int | None]) -> bool:
    return all(one is None or other is None or one == other for one, other in zip(given[1:], wanted[1:], strict=True))


def _mismatch(given: Sequence[TensorSpec], wanted: Sequence[TensorSpec], what: str) -> ModelError:
    student, teacher = (given, wanted) if what == "inputs" else (wanted, given)
    return ModelError(
        f"a teacher must have the {what} of the network that learns from it: those are {_shown(student)}, and the teacher's {_shown(teacher)}."
    )


def _shown(specs: Sequence[TensorSpec]) -> str:
    sizes = (", ".join("any" if size is None else str(size) for size in spec.shape) for spec in specs)
    return ", ".join(f"{spec.name} {spec.dtype} ({size})" for spec, size in zip(specs, sizes, strict=True))
