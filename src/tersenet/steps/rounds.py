"""Training between the cuts of a step that prunes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tersenet.model import Model
from tersenet.step import Change, Context, Step
from tersenet.steps.schedule import Round, within
from tersenet.training.hooks import Hook
from tersenet.training.options import Training
from tersenet.training.tuning import tuned
from tersenet.words import several


def fine_tuned(model: Model, context: Context, step: Step, training: Training, part: Round, hooks: Sequence[Hook] = ()) -> tuple[Model, Change]:
    """Train behind a cut, and say how it went. Rounds that are done already come from the store, so that a killed run goes on where it was.

    Raises:
        RecipeError: the training's schedule does not fit into the round.
        DataError, DivergedError: as `tersenet.training.tuning.tuned`.
    """
    label = f"round {part.number} of {part.of}" if part.of > 1 else ""

    def progress(done: int, total: int, what: str) -> None:
        context.progress(done, total, f"{label}, {what}" if label else what)

    how = within(training, part)
    told = replace(context, progress=progress)
    learned, outcome = tuned(model, told, how, step=step.kind, also={"step": step.to_json(), "round": part.number}, hooks=hooks)
    best = next(entry for entry in outcome.history if entry.epoch == outcome.best_epoch)
    metric = context.data.task.metric if context.data is not None else ""
    judged = f", {metric} {best.metric:.4g} on the selection part" if best.metric is not None else ""
    losses = f"loss {outcome.history[0].loss:.4g} to {outcome.history[-1].loss:.4g}"
    why = f"{several(len(outcome.history), 'epoch')} of {how.optimizer}, {losses}; kept: epoch {best.epoch}{judged}"
    return learned, Change(f"weights, {label}" if label else "weights", why)
