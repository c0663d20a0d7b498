"""Learning from a larger network: what is left of a network from what it was, or a small one from a large one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from tersenet.errors import ModelError, RecipeError
from tersenet.graph.training import trainable
from tersenet.model import Model
from tersenet.step import Change, Context, Step, StepResult
from tersenet.steps.train import left_behind
from tersenet.training.distillation import distilled, own_loss
from tersenet.training.loop import Outcome
from tersenet.training.methods import Distillation
from tersenet.training.objective import Loss
from tersenet.training.options import Training, entries, read_training
from tersenet.training.teacher import AGREEMENT
from tersenet.training.tuning import judge_on, tuned


@dataclass(frozen=True)
class Distill(Step, Distillation):
    """Learn from a teacher on the train part, and from its labels where it has any.

    Args:
        training: how; a `Training`, or a mapping of its options.
        teacher: the network to learn from, as `tersenet.load` takes it; "": the network as it came, before any step of the recipe, or with a
            student the network that the step is given.
        student: the network that learns, as `tersenet.load` takes it; "": the one that the step is given.
        method, temperature, alpha, others, layers, outputs: as `Distillation` has them.
    """

    kind: ClassVar[str] = "distill"

    training: Training = Training()
    teacher: str = ""
    student: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "training", read_training(self.training))
        for name in ("method", "layers"):
            object.__setattr__(self, name, entries(getattr(self, name)))
        super().__post_init__()

    def check(self) -> None:
        Distillation.check(self)
        if self.teacher and self.student:
            raise RecipeError(
                f"distill takes a teacher or a student, got both ({self.teacher}, {self.student}): a student learns from the network that the step "
                "is given, so give it the teacher."
            )

    def networks(self) -> tuple[str, ...]:
        return tuple(name for name in (self.teacher, self.student) if name)

    def run(self, model: Model, context: Context) -> StepResult:
        if self.student:
            _check_inputs(context.network(self.student, "distill"), model)
        return taught(self, model, context)[0]


def taught(step: Distill, model: Model, context: Context, loss: Loss | None = None) -> tuple[StepResult, Outcome]:
    """What the step does, and how training went; `loss` of outputs and labels goes in the stead of the task's own, which no recipe can hold."""
    part = context.require("train", "distill")
    data: Any = context.data
    student, teacher = roles(step, model, context)
    hard = loss or own_loss(data.task, student, step.training.label_smoothing)
    module = trainable(student, step.training.dropout, not step.training.without_source_regularization)
    objective = distilled(step, teacher, student, data.task, loss=hard, training=step.training, module=module, seed=context.seed)
    result, outcome = tuned(
        student,
        context,
        step.training,
        step="distill",
        also=[teacher.fingerprint, replace(step, training=Training()).to_json()],
        objective=objective,
        module=module,
    )
    metric = AGREEMENT if judge_on(data, student) is None else data.task.metric
    changed = _learned(step, outcome, teacher, student, metric)
    return StepResult(result, tuple(changed), tuple(_left(step, student, outcome, part.labels is not None, hard is not None))), outcome


def _check_inputs(student: Model, model: Model) -> None:
    """Later steps, and the files, are fed what the network of the run takes."""
    several = len(model.inputs) > 1
    taken = [[(spec.name if several else "", spec.shape[1:], spec.dtype) for spec in one.inputs] for one in (student, model)]
    if taken[0] != taken[1]:
        shown = [", ".join(f"{name} {dtype} {shape}".strip() for name, shape, dtype in specs) for specs in taken]
        raise ModelError(f"in a recipe a student must take what the network takes, {shown[1]}, and takes {shown[0]}.")


def roles(step: Distill, model: Model, context: Context) -> tuple[Model, Model]:
    """Student and teacher.

    Raises:
        RecipeError: both are the same network.
    """
    student = context.network(step.student, "distill") if step.student else model
    if step.teacher:
        teacher = context.network(step.teacher, "distill")
    else:
        teacher = model if step.student else context.original or model
    teacher = teacher.without_plans()
    if teacher.fingerprint == student.without_plans().fingerprint:
        if context.original is not None and not (step.teacher or step.student):
            raise RecipeError(
                "distill learns from the network as it came, and no step before it has changed that: the one that learns and its teacher are the "
                "same. A prune that asks for little takes nothing where counts of channels are rounded: ask it for more, or for multiple 1; or name "
                "a teacher."
            )
        raise RecipeError(
            "distill needs a teacher that is another network than the one that learns, and both are the same; "
            "name a teacher or a student, or put it behind a step that changes the network, such as prune."
        )
    return student, teacher


def _learned(step: Distill, outcome: Outcome, teacher: Model, student: Model, metric: str) -> Iterator[Change]:
    if step.student:
        yield Change("network", f"{student.name} takes the place of {teacher.name if not step.teacher else 'the network'}")
    first, last = outcome.history[0], outcome.history[-1]
    judged = next((entry.metric for entry in outcome.history if entry.epoch == outcome.best_epoch), None)
    best = f"; kept: epoch {outcome.best_epoch}" + (f", {metric} {judged:.4g} on the selection part" if judged is not None else "")
    epochs = f"{len(outcome.history)} epochs of {step.training.optimizer} learning {', '.join(step.method)} of {teacher.name}"
    yield Change("weights", f"{epochs}, loss {first.loss:.4g} to {last.loss:.4g}{best}")


def _left(step: Distill, student: Model, outcome: Outcome, labelled: bool, has_loss: bool) -> Iterator[Change]:
    judged = bool(step.alpha and labelled and has_loss)
    if step.alpha and not judged:
        why = "this task has no loss of its own, or several outputs" if labelled else "the train part has none"
        yield Change("the loss of labels", f"{why}; the teacher alone was learned from")
    if not judged and not step.layers and set(step.inner) == {name for name, weight in step.weights.items() if weight}:
        yield Change(
            "layers behind those that were compared",
            f"{', '.join(step.inner)} look inside alone and no labels were learned from, so that nothing taught what the network returns; "
            "add the method soft",
        )
    yield from left_behind(student, outcome)
