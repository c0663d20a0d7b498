"""Training: from the weights that a network has, or from random ones."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from tersenet.errors import RecipeError
from tersenet.graph.exchange import CHEAP, cheap, exchanged, pairs
from tersenet.graph.initialization import initialized
from tersenet.model import Model
from tersenet.step import Change, Context, Step, StepResult
from tersenet.training.loop import Outcome
from tersenet.training.objective import Loss, objective_for
from tersenet.training.options import Training, read_training
from tersenet.training.tuning import tuned
from tersenet.words import several


@dataclass(frozen=True)
class Train(Step):
    """Learn on the train part, and keep what is best on the selection part.

    Args:
        training: how; a `Training`, or a mapping of its options.
        exchange: activations that become others first: pairs such as ``silu:hardswish`` (`tersenet.graph.exchange.EXCHANGES`), or ``cheap``: those
            that one of the runtimes has no integer kernel for become the closest that all have.
        from_scratch: from random weights.
    """

    kind: ClassVar[str] = "train"

    training: Training = Training()
    exchange: tuple[str, ...] = ()
    from_scratch: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "training", read_training(self.training))
        object.__setattr__(self, "exchange", _entries(self.exchange))
        super().__post_init__()

    def check(self) -> None:
        pairs(self.exchange)

    def run(self, model: Model, context: Context) -> StepResult:
        return learn(self, model, context)[0]


def learn(step: Train, model: Model, context: Context, loss: Loss | None = None) -> tuple[StepResult, Outcome]:
    """What the step does, and how training went; `loss` as `objective_for` takes it, which no recipe can hold."""
    context.require("train", "train")
    start, counts = exchanged(model, _wanted(step, model, context)) if step.exchange else (model, {})
    missing = [old for old, new in pairs(step.exchange).items() if not counts[old]]
    if missing:
        raise RecipeError(f"there is no {missing[0]} to exchange in this network, but for what it returns; leave the pair out.")
    if step.from_scratch:
        start = initialized(start, context.seed)
    objective = None
    if loss is not None:
        objective = objective_for(context.data.task, label_smoothing=step.training.label_smoothing, loss=loss)  # type: ignore[union-attr]
    result, outcome = tuned(start, context, step.training, objective=objective)
    changed = (*_exchanges(step, model, context, counts), *_weights(step, outcome, context))
    return StepResult(result, changed, tuple(left_behind(model, outcome))), outcome


def _entries(given: Any) -> Any:
    return (given,) if isinstance(given, str) else tuple(given) if isinstance(given, list) else given


def _wanted(step: Train, model: Model, context: Context) -> dict[str, str]:
    """Explicit pairs go before what is found to be cheap."""
    found = pairs(step.exchange)
    if CHEAP not in step.exchange:
        return found
    if not context.capabilities:
        raise RecipeError(f"exchange {CHEAP} needs at least one runtime whose kernels are looked at; name runtimes, or pairs such as silu:hardswish.")
    return {**cheap(model, [table.kernels for table in context.capabilities]), **found}


def _exchanges(step: Train, model: Model, context: Context, counts: dict[str, int]) -> Iterator[Change]:
    for old, new in (_wanted(step, model, context) if step.exchange else {}).items():
        yield Change(old, f"{counts[old]} became {new}")


def _weights(step: Train, outcome: Outcome, context: Context) -> Iterator[Change]:
    first, last = outcome.history[0], outcome.history[-1]
    start = "random weights" if step.from_scratch else "the weights that were there"
    judged = next((entry.metric for entry in outcome.history if entry.epoch == outcome.best_epoch), None)
    metric = context.data.task.metric if context.data is not None else ""
    best = f"; kept: epoch {outcome.best_epoch}" + (f", {metric} {judged:.4g} on the selection part" if judged is not None else "")
    epochs = f"{several(len(outcome.history), 'epoch')} of {step.training.optimizer} from {start}"
    yield Change("weights", f"{epochs}, loss {first.loss:.4g} to {last.loss:.4g}{best}")


def left_behind(model: Model, outcome: Outcome) -> Iterator[Change]:
    """What training did not do, and what of the model does not fit its new weights."""
    if outcome.stopped:
        yield Change("further epochs", outcome.stopped)
    if model.plans:
        yield Change("quantization plans", "they were made for other weights; quantize after training")
    if model.annotations.values or model.annotations.weights:
        yield Change("grids of the source", "weights are no longer on them")
