"""Training a model: what steps call. A model, a context and options in; a model that has learned out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from torch import fx, nn

from tersenet.data.parts import Data
from tersenet.data.tasks import Task
from tersenet.errors import DataError, DivergedError
from tersenet.graph.training import ending, learned, trainable
from tersenet.measure.quality import evaluate
from tersenet.model import Model
from tersenet.step import Context
from tersenet.store import signature
from tersenet.training.hooks import Hook, Masked, Shared
from tersenet.training.inducing import inducing
from tersenet.training.loop import Judge, Lesson, Outcome, train
from tersenet.training.objective import Judging, Objective, objective_for
from tersenet.training.options import Training
from tersenet.training.source import of_source


def tuned(
    model: Model,
    context: Context,
    how: Training,
    *,
    step: str = "train",
    also: Any = None,
    hooks: Sequence[Hook] = (),
    objective: Objective | None = None,
    module: fx.GraphModule | None = None,
) -> tuple[Model, Outcome]:
    """Train a model on the train part; the best epoch is told on the selection part, where there is one with labels.

    The model's masks and codebooks stay, and what its source trained it with goes on (unless told otherwise). With a store in the
    context, training goes on where it was interrupted.

    Args:
        model: stays as it is.
        context: data, seed, store and progress are used.
        how: the options.
        step: that asks for it.
        also: all else that the outcome depends on (a teacher's fingerprint, a schedule), plain JSON; where it changes, training starts anew.
        hooks: what takes part beside.
        objective: what it learns; None: the loss that goes with the task. A `Judging` one tells the best epoch where there are no labels.
        module: what learns instead; the model's parameters under their names and its outputs first, more of both behind. None: the model's graph.

    Returns:
        The model, without plans, and how training went.

    Raises:
        DataError: no train part, or no labels in it.
        DivergedError: the loss became NaN or infinite; its `model` is the last good one.
    """
    part = context.require("train", step)
    data: Data = context.data  # type: ignore[assignment]  # there is a part
    if objective is None and part.labels is None:
        raise DataError(f"{step} needs labels in the train part, and these data have none; give them, or distil from the network itself.")
    objective = objective or objective_for(data.task, ending(model), how.label_smoothing)
    key = signature(step=step, also=also, model=model.fingerprint, data=data.fingerprint, how=asdict(how), seed=context.seed, torch=torch.__version__)
    module = trainable(model, how.dropout, not how.without_source_regularization) if module is None else module
    lesson = Lesson(
        module,
        objective,
        part,
        how,
        model.inputs,
        judge=_judge(data, model, objective),
        hooks=_hooks(model, how, hooks),
        batch=model.batches_of(0),
        seed=context.seed,
        kept=None if context.store is None else context.store.draft(key) / "training.pt",
        signature=key,
        progress=context.progress,
    )
    try:
        outcome = train(lesson)
    except DivergedError as error:
        error.model = None if error.model is None else learned(model, module)
        raise
    return learned(model, module), outcome


def _judge(data: Data, model: Model, objective: Objective) -> Judge | None:
    usual = judge_on(data, model)
    return objective.judge(data) if usual is None and isinstance(objective, Judging) else usual


def _hooks(model: Model, how: Training, asked: Sequence[Hook]) -> list[Hook]:
    """All that takes part: what the model brings, the options, the step; shared values come last, behind whatever else changes weights."""
    masked = [Masked(model.annotations.masks)] if model.annotations.masks else []
    shared = [Shared(model.annotations.codebooks)] if model.annotations.codebooks else []
    return [*of_source(model, how), *masked, *inducing(model, how), *asked, *shared]


def judge_on(data: Data, model: Model, task: Task | None = None, reference: Any = None) -> Judge | None:
    """Quality on the selection part; None where it has no samples, or no labels.

    Args:
        task: that judges in the stead of the data's own; one without labels goes with a reference.
        reference: outputs that are taken for right.
    """
    judged = task or data.task
    if not len(data.selection) or (reference is None and (data.selection.labels is None or not judged.labelled)):
        return None

    def value(module: nn.Module) -> float:
        device = next((parameter.device for parameter in module.parameters()), torch.device("cpu"))

        def run(*arrays: np.ndarray) -> np.ndarray | tuple[np.ndarray, ...]:
            with torch.no_grad():
                results = module(*(torch.from_numpy(array).to(device) for array in model.filled(arrays)))
            found = tuple(result.cpu().numpy()[: len(arrays[0])] for result in results[: len(model.outputs)])
            return found[0] if len(found) == 1 else found

        return evaluate(run, data.selection, judged, size=model.batches_of(256), reference=reference).value

    return Judge(judged.metric, judged.direction, value)
