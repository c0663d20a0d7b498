"""Quantization: calibrate, choose, train where that is asked for, and put a plan beside the graph."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any, ClassVar

import numpy as np
from torch import Tensor, fx

from tersenet.annotations import Annotations
from tersenet.capabilities import Capabilities
from tersenet.errors import RecipeError, UnsupportedError, unknown
from tersenet.graph.dependencies import held
from tersenet.graph.deploy import deployable
from tersenet.graph.fold import beside_weight
from tersenet.graph.operators import WEIGHT_AXIS, kind_of
from tersenet.graph.walk import calls, is_constant, layer_of
from tersenet.model import Model
from tersenet.numerics.ranges import Estimator, Given, estimator
from tersenet.numerics.weights import METHODS
from tersenet.plan import QuantizationPlan
from tersenet.schemes import GRANULARITIES
from tersenet.step import Context, Options, Step, StepResult
from tersenet.steps import account
from tersenet.steps.aware import Learned, learn
from tersenet.steps.bits import bits_of_values
from tersenet.steps.calibrate import calibrate
from tersenet.steps.correct import Correction, means_for
from tersenet.steps.encodings import Choice, fill, observed_range
from tersenet.steps.placement import LARGEST_VALUE, Placement, place
from tersenet.training.aware import AwareTraining, read_aware

WEIGHTS = ("int8", "int7", "int6", "int5", "int4", "int3", "int2")
ACTIVATIONS = ("int8", "uint8", "int16", *WEIGHTS[1:])


@dataclass(frozen=True)
class Override(metaclass=Options):
    """Other numbers for some layers.

    Args:
        layers: a pattern (``*`` and ``?``) that a layer's name (``layer1.0.conv1``), an operator's name (``conv2d_3``) or
            its kind (``softmax``) must match.
        keep_float: leave them in float; the other fields are not looked at then.
        weights, granularity, ranges: as in `Quantize`; "" leaves what the step says.
        activations: of what these layers make, in place of what the step says: any type of 8 bits or fewer where the step's is one; no network mixes
            those with int16. "" leaves what the step says.
    """

    layers: str
    keep_float: bool = False
    weights: str = ""
    activations: str = ""
    granularity: str = ""
    ranges: str = ""


@dataclass(frozen=True)
class Quantize(Step):
    """Integers for weights and activations, after training or while it trains, for every runtime that the result is for.

    Ranges of activations are estimated on the calibration part. Runtimes whose tables lead to the same decisions share one
    plan. See Jacob et al. 2018 for the arithmetic and Nagel et al. 2021, "A White Paper on Neural Network Quantization".

    Args:
        weights: integer type of weights: int8, int7 and so on down to int2. Kernels compute with 8 bits: where a runtime can (its table says), files
            hold weights of at most 4 bits two a byte, and every other weight in a byte of its own, as large and as fast as one of 8 bits.
        activations: int8, uint8, int7 and so on down to int2, or int16. int8 and uint8 are one grid, its zero point moved; files keep it in the type
            that their runtime is fastest with. int16 where the runtime has such kernels. Values of fewer bits take a byte each all the same, and
            many an operator that clips them: such a file is no smaller and no faster than one of 8 bits. The network's inputs and outputs, constants,
            and values whose grid a kernel fixes keep 8 bits.
        granularity: of weights' scales: per-channel, per-tensor, per-group; a kernel without it uses its best other.
        group_size: elements in a group, for per-group.
        ranges: how activation ranges are estimated (`tersenet.numerics.ranges.ESTIMATORS`).
        range_numbers: the estimator's own numbers, as (name, value) pairs.
        weight_ranges: how weights' scales are chosen: minmax or mse.
        correct_biases: biases take out what rounded weights add to the mean of each channel (`tersenet.steps.correct`).
        symmetric: activations on symmetric grids too.
        power_of_two: all scales are powers of two (fixed point).
        full_range: weights may use the lowest integer ([-128, 127]), where the runtime's kernels allow it.
        keep_float: patterns of layers that stay in float.
        overrides: other numbers for some layers; the last that matches a layer wins.
        take_over: what the source had on a grid (the model's annotations) keeps it: values their ranges, which are not calibrated then, weights
            their scales, where the kernel can have them.
        batch_size: samples that are calibrated at once.
        training: quantization-aware training (`AwareTraining`, or a mapping of its options); None: after training.
    """

    kind: ClassVar[str] = "quantize"

    weights: str = "int8"
    activations: str = "int8"
    granularity: str = "per-channel"
    group_size: int = 0
    ranges: str = "minmax"
    range_numbers: tuple[tuple[str, float], ...] = ()
    weight_ranges: str = "minmax"
    correct_biases: bool = True
    symmetric: bool = False
    power_of_two: bool = False
    full_range: bool = False
    keep_float: tuple[str, ...] = ()
    overrides: tuple[Override, ...] = ()
    take_over: bool = True
    batch_size: int = 32
    training: AwareTraining | None = None

    def __post_init__(self) -> None:
        if self.training is not None:
            object.__setattr__(self, "training", read_aware(self.training))
        object.__setattr__(self, "keep_float", _patterns(self.keep_float))
        if isinstance(self.range_numbers, Mapping):
            object.__setattr__(self, "range_numbers", tuple(self.range_numbers.items()))
        if isinstance(self.overrides, list | tuple):
            object.__setattr__(self, "overrides", tuple(_override(value) for value in self.overrides))
        super().__post_init__()

    def check(self) -> None:
        for override in self.overrides:
            _check_numbers(override)
            if override.ranges:
                estimator(override.ranges)
            if override.activations and (override.activations == "int16") != (self.activations == "int16"):
                raise RecipeError(
                    f"activations must have 16 bits in the whole network or nowhere, got {self.activations} and {override.activations} "
                    f"({override.layers}); set activations for the step, or leave these layers in float (keep_float)."
                )
        _check_numbers(self)
        for name in ("weights", "activations", "granularity", "weight_ranges"):
            if not getattr(self, name):
                raise RecipeError(f"quantize needs {name}; leave the option out for {getattr(Quantize, name)}.")
        estimator(self.ranges, **dict(self.range_numbers))
        _check_name("weight_ranges", self.weight_ranges, METHODS)
        if (self.granularity == "per-group") != (self.group_size > 0):
            raise RecipeError(f"group_size goes with granularity per-group and must be positive then, got {self.group_size} with {self.granularity}.")
        if self.batch_size < 1:
            raise RecipeError(f"batch_size must be at least 1, got {self.batch_size}.")

    def networks(self) -> tuple[str, ...]:
        return (self.training.teacher,) if self.training is not None and self.training.teacher else ()

    def run(self, model: Model, context: Context) -> StepResult:
        context.require("calibration", "quantize")
        if not context.capabilities:
            raise RecipeError("quantize needs at least one runtime to quantize for; none was given.")
        source = model.annotations if self.take_over else Annotations()
        numbers, lesson = Learned(), None
        if self.training is not None:
            tables, matches = context.capabilities, _Matches(deployable(model), self, source, shared=shared_weights(model))
            lesson = learn(self.training, model, context, lambda: self._plans(model, context, matches, corrected=False), tables)
            model, numbers = lesson.model, lesson.numbers
        module = deployable(model)
        matches = _Matches(module, self, source, numbers, shared_weights(model))
        found, placements = self._plans(model, context, matches, corrected=self.correct_biases and lesson is None)
        plans: list[QuantizationPlan] = []
        for plan in found:
            _merge(plans, plan)
        skipped = (
            *account.skipped(module, plans),
            *account.lost(model, matches.source, module),
            *account.not_followed(self, plans, context.capabilities),
            *account.narrow(module, plans, bits_of_values(module, placements, matches.asked)),
        )
        changed = (*account.changes(module, plans), *account.taken_over(plans, matches.source, module))
        books = list(account.codebooks(module, plans, matches.shared))
        changed, skipped = (*changed, *(change for kept, change in books if kept)), (*skipped, *(change for kept, change in books if not kept))
        if lesson is not None:
            changed, skipped = (*lesson.changed, *changed), (*lesson.skipped, *skipped)
        return StepResult(replace(model, plans=tuple(plans)), changed, skipped)

    def _plans(self, model: Model, context: Context, matches: _Matches, corrected: bool) -> tuple[list[QuantizationPlan], list[Placement]]:
        """A plan for each runtime, and what it was made of."""
        module, part = deployable(model), context.require("calibration", "quantize")
        placements = [place(module, table, matches.forced, matches.activations) for table in context.capabilities]
        estimators = _estimators(placements, matches)
        means = means_for(placements) if corrected else {}
        calibrate(module, estimators, _batches(part, model, self.batch_size), lambda count: context.progress(count, len(part), "calibrating"), means)
        correction = Correction(module, means)
        final = [
            _without_extremes(module, placement, table, matches, estimators)
            for table, placement in zip(context.capabilities, placements, strict=True)
        ]
        plans, bits = [], bits_of_values(module, final, matches.asked).fewer
        for table, placement in zip(context.capabilities, final, strict=True):
            plans.append(fill(module, placement, table, estimators, matches.choice, correction, bits))
            _check_integers_only(plans[-1], table)
        return plans, final


def _override(value: Any) -> Override:
    if isinstance(value, Override):
        return value
    if isinstance(value, Mapping):
        known = Override.__dataclass_fields__
        for name in value:
            if name not in known:
                raise RecipeError(unknown("field of an override", name, known))
        if not isinstance(value.get("layers"), str):
            raise RecipeError(f"an override must say which layers it is for (layers: a pattern), got {dict(value)}.")
        return Override(**value)
    raise RecipeError(f"an override must be a tersenet.Override or a mapping with its fields, got {type(value).__name__}.")


def _patterns(given: Any) -> tuple[str, ...]:
    """One pattern, or a list of them; anything else is left for the check of types."""
    return (given,) if isinstance(given, str) else tuple(given) if isinstance(given, list | tuple) else given


def _check_numbers(entry: Quantize | Override) -> None:
    _check_name("weights", entry.weights, WEIGHTS)
    _check_name("activations", entry.activations, ACTIVATIONS)
    _check_name("granularity", entry.granularity, GRANULARITIES)


def _check_name(what: str, name: str, known: Any) -> None:
    if name and name not in known:
        raise RecipeError(unknown(what, name, known))


class _Matches:
    """What the step says about each node, patterns resolved; a pattern that matches nothing is an error."""

    def __init__(
        self,
        module: fx.GraphModule,
        step: Quantize,
        source: Annotations,
        learned: Learned | None = None,
        shared: Mapping[str, Tensor] | None = None,
    ) -> None:
        self.step = step
        self.shared = shared or {}
        self.source = source
        self.learned = learned or Learned()
        self.overrides: dict[str, list[Override]] = {}
        self.forced: dict[str, str] = {}
        names = {node: {node.name, layer_of(node), kind_of(node)} for node in calls(module)}
        for pattern in step.keep_float:
            self.forced |= dict.fromkeys((node.name for node in _matching(pattern, names)), f"kept in float on request ({pattern})")
        for override in step.overrides:
            for node in _matching(override.layers, names):
                self.overrides.setdefault(node.name, []).append(override)
                if override.keep_float:
                    self.forced[node.name] = f"kept in float on request ({override.layers})"
        self.activations = {node.name: self._activations(node.name) for node in names}

    def _activations(self, name: str) -> str:
        """The type that kernels compute with: int8 and uint8 are one grid, of which plans speak as int8, and narrower ones are parts of it."""
        return "int16" if self._last(name, "activations", self.step.activations) == "int16" else "int8"

    def asked(self, names: Sequence[str]) -> str:
        """The integers that were asked for what an operator, and the activation behind it, make: an override may name either."""
        found = (own for name in names if (own := self._last(name, "activations", "")))
        return next(found, self.step.activations)

    def _last(self, name: str, field: str, default: str) -> str:
        return next((value for entry in reversed(self.overrides.get(name, [])) if (value := getattr(entry, field))), default)

    def ranges(self, name: str) -> Estimator:
        """A fresh estimator for a value; what training found, or the source knew, needs none."""
        if name in self.learned.values:
            return Given(*self.learned.values[name].range)
        if name in self.source.values:
            return Given(*self.source.values[name].range)
        chosen = self._last(name, "ranges", self.step.ranges)
        return estimator(chosen, **(dict(self.step.range_numbers) if chosen == self.step.ranges else {}))

    def choice(self, node: fx.Node) -> Choice:
        """What was asked for an operator's numbers."""
        step = self.step
        granularity = self._last(node.name, "granularity", step.granularity)
        return Choice(
            weights=self._last(node.name, "weights", step.weights),
            activations=self._activations(node.name),
            granularity=granularity,
            group_size=step.group_size,
            weight_ranges=step.weight_ranges,
            symmetric=step.symmetric,
            power_of_two=step.power_of_two,
            full_range=step.full_range,
            source=account.source_grid(node, self.source.weights),
            learned=self.learned.weights.get(node.name, {}),
            shared=beside_weight(node, self.shared) if kind_of(node) in WEIGHT_AXIS else None,
        )


def shared_weights(model: Model) -> dict[str, Tensor]:
    """The weights whose numbers share a few values, by name."""
    return {name: held(model.graph, name).detach() for name in model.annotations.codebooks}


def _matching(pattern: str, names: Mapping[fx.Node, set[str]]) -> list[fx.Node]:
    found = [node for node, own in names.items() if any(fnmatchcase(name, pattern) or name.startswith(f"{pattern}.") for name in own)]
    if not found:
        everything = {name for own in names.values() for name in own}
        raise RecipeError(unknown("layer, operator or kind", pattern, everything))
    return found


def _estimators(placements: list[Placement], matches: _Matches) -> dict[str, Estimator]:
    names = {name: node for placement in placements for name, node in placement.values.items() if not is_constant(node)}
    chosen = {name: matches.ranges(name) for name in names}
    for placement in placements:
        _inherit(placement, chosen)
    return chosen


def _inherit(placement: Placement, estimators: dict[str, Estimator]) -> None:
    """Pooled, moved or joined values stay within the ranges of what they come from: where those are known already, so are theirs."""
    for sources, result in placement.derived():
        given = [each for name in sources if isinstance(each := estimators.get(name), Given)]
        if len(given) == len(sources) > 0 and not isinstance(estimators.get(result), Given):
            estimators[result] = Given(min(each.low for each in given), max(each.high for each in given))


def _batches(part: Any, model: Model, size: int) -> Iterator[tuple[np.ndarray, ...]]:
    return (model.filled(arrays) for arrays, _ in part.batches(model.batches_of(size)))


def _without_extremes(
    module: fx.GraphModule, placement: Placement, table: Capabilities, matches: _Matches, estimators: Mapping[str, Estimator]
) -> Placement:
    """The placement once operators whose values reach the size of a mask are back in float."""
    huge = {name for name, node in placement.values.items() if max(map(abs, observed_range(module, node, estimators))) > LARGEST_VALUE}
    if not huge:
        return placement
    why = "a value beside it reaches the size of a mask"
    touched = {node.name: why for node in calls(module) if node.name in huge or any(child.name in huge for child in node.all_input_nodes)}
    return place(module, table, {**matches.forced, **touched}, matches.activations)


def _check_integers_only(plan: QuantizationPlan, table: Capabilities) -> None:
    if table.floats == frozenset() and plan.float_operators:
        listed = "; ".join(f"{name}: {why}" for name, why in plan.float_operators.items())
        raise UnsupportedError(f"{table.name} runs integers only, and {len(plan.float_operators)} operators cannot be integers ({listed}).")


def _merge(plans: list[QuantizationPlan], plan: QuantizationPlan) -> None:
    for position, other in enumerate(plans):
        if other.same_numbers(plan):
            plans[position] = replace(other, serves=(*other.serves, *plan.serves))
            return
    plans.append(plan)
