"""Quantization-aware training within the step that quantizes: plans to one network that learns, and what it learned back to plans."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tersenet.capabilities import Capabilities
from tersenet.errors import RecipeError
from tersenet.graph.aware import GRIDS, Aware, aware
from tersenet.graph.deploy import deployable
from tersenet.graph.operators import WEIGHT_AXIS, aten_name, kind_of
from tersenet.graph.training import learned
from tersenet.graph.walk import bind, calls, constant
from tersenet.model import Model
from tersenet.numerics.affine import quantize
from tersenet.numerics.weights import kernel_pairs_fit, weight_encoding
from tersenet.plan import QuantizationPlan
from tersenet.schemes import Encoding
from tersenet.step import Change, Context
from tersenet.steps.encodings import adds_pairs
from tersenet.steps.joint import Joint, joined
from tersenet.steps.placement import Placement
from tersenet.training.aware import AwareTraining, Settling
from tersenet.training.distillation import distilled
from tersenet.training.loop import Judge, Outcome
from tersenet.training.objective import Objective
from tersenet.training.tuning import judge_on, tuned
from tersenet.words import several


@dataclass(frozen=True)
class Learned:
    """Grids that training found.

    Args:
        values: of values, by name.
        weights: anchor -> argument -> the grid of a weight.
    """

    values: Mapping[str, Encoding] = field(default_factory=dict)
    weights: Mapping[str, Mapping[str, Encoding]] = field(default_factory=dict)


@dataclass(frozen=True)
class Lesson:
    """What came of training.

    Args:
        model: the network with the weights that it learned, in float, batch norm alive.
        numbers: the grids that it learned.
        changed, skipped: as a step states them.
    """

    model: Model
    numbers: Learned
    changed: tuple[Change, ...]
    skipped: tuple[Change, ...]


Planned = tuple[list[QuantizationPlan], list[Placement]]


def learn(how: AwareTraining, model: Model, context: Context, plan: Callable[[], Planned], tables: Sequence[Capabilities]) -> Lesson:
    """Train the simulation of the plans of all runtimes.

    Args:
        how: the options.
        model: stays as it is.
        context: data, seed, store and progress are used.
        plan: makes the plans that training starts from.
        tables: of the runtimes, in the order of the plans.

    Raises:
        DataError: no train part, or no labels in it.
        DivergedError: the loss became NaN or infinite; its `model` is the last good one, in float.
    """
    context.require("train", "quantize with training")
    plans, placements = plan()
    joint = joined(plans, placements)
    if not joint.plan.units:
        raise RecipeError("quantize with training needs operators in integers, and none of this network runs in integers; leave training out.")
    network = aware(model, joint.plan, how.learn, joint.fixed)
    objective, teacher = _objective(how, model, context)
    data: Any = context.data
    judge = judge_on(data, model)
    start = None if judge is None else judge.value(network.module.eval())
    result, outcome = tuned(
        model,
        context,
        how,
        step="quantize with training",
        also=[joint.plan.to_json(), sorted(joint.fixed), teacher],
        hooks=[Settling(how, network.module, GRIDS, lambda: mend(network, model, joint, tables))],
        objective=objective,
        module=network.module,
    )
    left = (*_worse(how, outcome, start, judge), *_skipped(how, model, outcome, joint))
    return Lesson(result, _numbers(network, joint), tuple(_changed(how, outcome, context, joint)), left)


def _objective(how: AwareTraining, model: Model, context: Context) -> tuple[Objective | None, str]:
    """What is learned of a teacher, and its fingerprint."""
    if how.distill is None:
        return None, ""
    teacher = context.network(how.teacher, "quantize") if how.teacher else context.original or model
    teacher = teacher.without_plans()
    data: Any = context.data
    return distilled(how.distill, teacher, model, data.task, training=how, seed=context.seed), teacher.fingerprint


def mend(network: Aware, model: Model, joint: Joint, tables: Sequence[Capabilities]) -> None:
    """Give weights that a kernel which adds pairs of products in 16 bits would overflow with a larger step (`weight_encoding`)."""
    if not any(table.saturating_pairs for table in tables):
        return
    module = deployable(learned(model, network.module))
    for node in calls(module):
        grid = network.weights.get(f"{node.name}.weight")
        if grid is None or not any(adds_pairs(table, node, grid.start.scheme) for table in tables):
            continue
        weight, axis = constant(module, bind(node)["weight"]), WEIGHT_AXIS[kind_of(node)]
        encoding = grid.encoding()
        fits = kernel_pairs_fit(quantize(weight, encoding), axis, 1 - axis)
        if not bool(fits.all()):
            largest = weight_encoding(weight, encoding.scheme, axis, saturating_pairs=True, pair_axis=1 - axis)
            scales = zip(encoding.scale, largest.scale, fits.tolist() if encoding.axis is not None else [False], strict=True)
            grid.settle(replace(encoding, scale=tuple(own if fit else max(own, least) for own, least, fit in scales)), weight)


def _numbers(network: Aware, joint: Joint) -> Learned:
    values = {name: network.values[group].encoding() for name, group in joint.groups.items() if group in network.values and group not in joint.fixed}
    weights: dict[str, dict[str, Encoding]] = {}
    for key, grid in network.weights.items():
        anchor, _, argument = key.partition(".")
        weights.setdefault(anchor, {})[argument] = grid.encoding()
    return Learned(values, weights)


def _changed(how: AwareTraining, outcome: Outcome, context: Context, joint: Joint) -> Iterator[Change]:
    first, last = outcome.history[0], outcome.history[-1]
    judged = next((entry.metric for entry in outcome.history if entry.epoch == outcome.best_epoch), None)
    metric = context.data.task.metric if context.data is not None else ""
    best = f"; kept: epoch {outcome.best_epoch}" + (f", {metric} {judged:.4g} on the selection part, simulated" if judged is not None else "")
    ways = {"steps": "grids learned with them", "moving": "ranges of values moved with them", "fixed": "ranges of values stayed"}
    epochs = f"{several(len(outcome.history), 'epoch')} of {how.optimizer} with simulated integers, {ways[how.learn]}"
    yield Change("weights", f"{epochs}, loss {first.loss:.4g} to {last.loss:.4g}{best}")
    if len(joint.plan.serves) > 1:
        yield Change("one network for all", f"{', '.join(joint.plan.serves)} share what was learned")


def _worse(how: AwareTraining, outcome: Outcome, start: float | None, judge: Judge | None) -> Iterator[Change]:
    """What to say of training that lost what quantization alone had."""
    kept = next((entry.metric for entry in outcome.history if entry.epoch == outcome.best_epoch), None)
    if judge is None or start is None or kept is None or (kept >= start if judge.direction == "higher" else kept <= start):
        return
    figures = f"{judge.metric} on the selection part was {start:.4g} before and is {kept:.4g}"
    yield Change("a gain by training", f"{figures}; try a learning_rate below {how.learning_rate:g}, or statistics_until 1")


def _skipped(how: AwareTraining, model: Model, outcome: Outcome, joint: Joint) -> Iterator[Change]:
    yield from joint.notes
    if outcome.stopped:
        yield Change("further epochs", outcome.stopped)
    marks = {*model.annotations.noises, *model.annotations.activities}
    if any("dropout" in aten_name(node) and node.name not in marks for node in calls(model.graph)):
        yield Change("dropout", "what learns is the network that is deployed, which has none")
    if marks and not how.without_source_regularization:
        yield Change("noise and penalties of values", "what learns is the network that is deployed, which has none; those of weights go on")
    if model.annotations.values or model.annotations.weights:
        yield Change("grids of the source", "training started from them, and moved them")
