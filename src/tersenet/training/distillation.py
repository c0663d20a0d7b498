"""The objective of a network that learns from a teacher.

A step that trains in a way of its own learns from a teacher by one line. Its network, `module` of `tuned`, may be any that takes the model's inputs
and returns the model's outputs first:

    objective = distilled(Distillation(method="soft"), teacher, model, data.task)
    tuned(model, context, training, objective=objective, module=module, also=teacher.fingerprint)

It tells the best epoch too, where the selection part has no labels: by agreement with the teacher.

Methods that look at layers change the module, so they are told of it: ``distilled(..., module=module)``, a module that `trainable` made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn

from tersenet.data.parts import Data
from tersenet.data.tasks import Task
from tersenet.errors import RecipeError
from tersenet.graph.training import ending
from tersenet.model import Model
from tersenet.numerics import distillation as numerics
from tersenet.tensors import class_axis
from tersenet.training.devices import mixed
from tersenet.training.features import Inside
from tersenet.training.loop import Judge
from tersenet.training.methods import INSIDE, Distillation
from tersenet.training.objective import SPELLED, Loss, Objective, loss_for
from tersenet.training.options import Training
from tersenet.training.teacher import Teacher, agreement


def distilled(
    how: Distillation,
    teacher: Model,
    student: Model,
    task: Task,
    *,
    loss: Loss | None = None,
    training: Training | None = None,
    module: fx.GraphModule | None = None,
    seed: int = 0,
) -> Objective:
    """What a network learns from a teacher and, where there are labels, from them.

    ``alpha * (loss of labels) + sum of weight * (loss of a method)``. The teacher is asked about each batch as the student sees it, augmented
    alike (Beyer et al. 2022, "Knowledge distillation: A good teacher is patient and consistent", section 3.1).

    Args:
        how: the options.
        teacher: stays as it is; its gradients are not computed.
        student: the network that learns, or that the one that learns was made of.
        task: what the labels are for.
        loss: of outputs and labels, in the stead of the task's own.
        training: how the network learns: its smoothing of labels, and its precision, which the teacher's answers are computed in too.
        module: what learns; needed, and given more outputs and parameters, where methods look at layers.
        seed: of those parameters.

    Raises:
        ModelError: the teacher's inputs or outputs do not match.
        RecipeError: a method that does not fit the task, or finds no layers to look at.
    """
    scores = [_are_scores(how, task, spelling) for spelling in (ending(student, place) for place in range(len(student.outputs)))]
    if "decoupled" in how.weights and not all(scores):
        raise RecipeError(f"decoupled is about classes, and the task is {task.name}; use soft, or say that outputs are scores.")
    layout = student.inputs[0].layout
    pairs = [_Pair(ending(student, place), ending(teacher, place), one, layout) for place, one in enumerate(scores)]
    Teacher(teacher, student)  # before layers are looked at: it says what is wrong with the whole
    inside = None
    if how.inner:
        if module is None:
            raise RecipeError(f"{how.inner[0]} looks inside the network that learns, and this step lets nothing do so; take soft or decoupled.")
        inside = Inside(how.inner, how.layers, (student, teacher), module, seed)
    asked = Teacher(teacher, student, None if inside is None else inside.teacher)
    training = training or Training()
    return _Distilled(how, asked, pairs, inside, loss or own_loss(task, student, training.label_smoothing), training.precision)


def own_loss(task: Task, student: Model, smoothing: float = 0.0) -> Loss | None:
    """The task's loss of labels; None where it has none, or where the network has several outputs."""
    return loss_for(task, ending(student), smoothing) if task.kind in ("classification", "regression") and len(student.outputs) == 1 else None


def _are_scores(how: Distillation, task: Task, spelling: str) -> bool:
    if how.outputs:
        return how.outputs == "scores"
    if task.kind == "own":  # nothing is known of it
        return spelling != "scores"
    return task.kind == "classification" or task.name == "agreement"


@dataclass(frozen=True)
class _Pair:
    """An output of both.

    Args:
        student, teacher: what each is (`ending`).
        scores: whether classes are chosen by it.
        layout: of the student's first input.
    """

    student: str
    teacher: str
    scores: bool
    layout: str = ""

    def soft(self, how: Distillation, student: Tensor, teacher: Tensor, labels: Tensor | None) -> Tensor:
        if not self.scores:
            return nn.functional.mse_loss(student.float(), teacher.float())
        rows = self._rows(student, teacher, labels)
        return numerics.soft_labels(rows[0], rows[1], how.temperature)

    def decoupled(self, how: Distillation, student: Tensor, teacher: Tensor, labels: Tensor | None) -> Tensor:
        rows = self._rows(student, teacher, labels)
        fit = labels is not None and labels.numel() == len(rows[1])
        targets = labels.reshape(-1).long() if fit else rows[1].argmax(1)  # type: ignore[union-attr]
        return numerics.decoupled(rows[0], rows[1], targets, how.temperature, how.others)

    def _rows(self, student: Tensor, teacher: Tensor, labels: Tensor | None) -> list[Tensor]:
        """(n, classes) logits of both, whatever the outputs' shape."""
        both = [SPELLED[spelling](tensor).float() for spelling, tensor in ((self.student, student), (self.teacher, teacher))]
        if "probability" in (self.student, self.teacher) or _one_a_label(student, labels):
            return [torch.stack([torch.zeros_like(one), one], -1).reshape(-1, 2) for one in both]
        axis = _class_axis(student, labels, self.layout)
        return [one.movedim(axis, -1).reshape(-1, one.shape[axis]) for one in both]


def _one_a_label(outputs: Tensor, labels: Tensor | None) -> bool:
    """Whether one number stands for two classes."""
    if labels is not None and outputs.shape == labels.shape:
        return True
    return outputs.dim() == 1 or outputs.shape[1:].numel() == 1


def _class_axis(outputs: Tensor, labels: Tensor | None, layout: str) -> int:
    """Where the classes are: where labels have no axis, or as `tersenet.tensors.class_axis` says where no labels tell."""
    if labels is not None and labels.dim() == outputs.dim() - 1 and labels.dim() > 1:
        return outputs.dim() - 1 if outputs.shape[:-1] == labels.shape else 1
    return class_axis(tuple(outputs.shape), layout)


class _Distilled:
    """The objective of `distilled`."""

    def __init__(self, how: Distillation, teacher: Teacher, pairs: Sequence[_Pair], inside: Inside | None, loss: Loss | None, precision: str) -> None:
        self.how, self.teacher, self.pairs, self.inside, self.loss = how, teacher, pairs, inside, loss
        self.precision = precision
        self.weights = {name: weight for name, weight in how.weights.items() if weight}

    def __call__(self, network: nn.Module, inputs: tuple[Tensor, ...], labels: Tensor | None) -> Tensor:
        results = network(*inputs)
        results = list(results) if isinstance(results, tuple | list) else [results]
        with mixed(self.precision, inputs[0].device):
            answers = [answer.float() for answer in self.teacher(inputs)]
        count = len(self.pairs)
        total = torch.zeros((), device=inputs[0].device)
        if labels is not None and self.loss is not None and self.how.alpha:
            total = total + self.how.alpha * self.loss(results[0] if count == 1 else tuple(results[:count]), labels)
        for name, weight in self.weights.items():
            if self.inside is not None and name in INSIDE:
                found = self.inside.loss(name, results[count:], answers[count:])
            else:
                said = zip(self.pairs, results[:count], answers[:count], strict=True)
                found = torch.stack([getattr(pair, name)(self.how, own, wanted, labels) for pair, own, wanted in said]).mean()
            total = total + weight * found
        return total

    def judge(self, data: Data) -> Judge | None:
        return agreement(self.teacher, data)
