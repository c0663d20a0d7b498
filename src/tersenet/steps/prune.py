"""Channels, heads and hidden units that leave a network: it becomes smaller and faster, not only sparser."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any, ClassVar

import numpy as np

from tersenet.errors import RecipeError, unknown
from tersenet.graph.dependencies import Dependencies, Group, dependencies
from tersenet.graph.shrink import shrink
from tersenet.model import Model
from tersenet.step import Change, Context, Step, StepResult
from tersenet.steps import schedule as schedules
from tersenet.steps.adaptive import Cuts, Goal, adapted
from tersenet.steps.choice import Limits, by_ratio, by_threshold, until
from tersenet.steps.rounds import fine_tuned
from tersenet.steps.schedule import ONE_SHOT, Schedule, pairs_of, rounds
from tersenet.steps.scores import CRITERIA, Scores, scores
from tersenet.training.options import Training, read_training

SCOPES = ("layer", "global")
RATIOS = ("given", "adaptive")


@dataclass(frozen=True)
class Prune(Step):
    """Take out the channels that matter least, with all that belongs to them.

    Which dimensions must leave together is found on the graph (`tersenet.graph.dependencies`), for any source framework. Without `training`
    accuracy falls until a training step follows.

    Args:
        ratio: share of the channels that leaves, of every group of layers that can lose some; 0 up to, not including, 1.
        macs: instead of `ratio`: share of the network's multiply-accumulates that has to leave.
        parameters: instead of `ratio`: share of its parameters.
        criterion: what says how much a channel matters (`tersenet.steps.scores.CRITERIA`): l1, l2 (weights' magnitudes), scale (batch norm's
            factors), median (distance to the others), taylor, fisher (gradients on the train part), activation, nonzeros (on the calibration
            part), random.
        scope: layer: the same share of each; global: one threshold for all.
        layers: ratios of some layers, as (pattern, ratio) pairs; the last that matches wins. A pattern (``*`` and ``?``) must match a layer's
            name, or that of a layer around it.
        keep: patterns of layers that keep all their channels.
        shortcuts: whether channels leave that an addition ties between layers, the stream of a residual network; else those within branches alone.
            Layers with a ratio of their own lose channels anyway.
        least: channels that stay in each layer at least.
        multiple: channel counts are rounded to multiples of it; 0: of what the runtimes' kernels like. 1 leaves them as they come.
        heads: of attention whole heads leave; else the same channels of every head.
        ratios: given; or adaptive: each group's ratio comes from what its loss was measured to cost (`tersenet.sensitivity`), so that `macs` or
            `parameters` leave where it costs least, or as many channels as `max_drop` permits.
        max_drop: with adaptive ratios, instead of `macs` and `parameters`: points of the task's metric (percent of an unbounded one) that the
            network may lose before it is trained again.
        training: fine-tuning behind every cut; a `Training`, or a mapping of its options, whose epochs are all that there are. None: no training.
        schedule: over these epochs, channels leaving between them: one-shot (all at the start); iterative or iterative:ROUNDS (equal parts,
            each with its share of the epochs); polynomial or polynomial:BEGIN:END (epochs, BEGIN to END; much at first, less and less);
            or (epoch, share) pairs, whose last share is the goal.
    """

    kind: ClassVar[str] = "prune"

    ratio: float = 0.0
    macs: float = 0.0
    parameters: float = 0.0
    criterion: str = "l1"
    scope: str = "layer"
    layers: tuple[tuple[str, float], ...] = ()
    keep: tuple[str, ...] = ()
    shortcuts: bool = True
    least: int = 1
    multiple: int = 0
    heads: bool = True
    ratios: str = "given"
    max_drop: float = 0.0
    training: Training | None = None
    schedule: Schedule = ONE_SHOT

    def __post_init__(self) -> None:
        object.__setattr__(self, "keep", _patterns(self.keep))
        object.__setattr__(self, "training", None if self.training is None else read_training(self.training))
        object.__setattr__(self, "schedule", pairs_of(self.schedule))
        if isinstance(self.layers, Mapping):
            object.__setattr__(self, "layers", tuple(self.layers.items()))
        if not (self.ratio or self.macs or self.parameters or self.max_drop or self.layers):
            object.__setattr__(self, "ratio", schedules.last_share(self.schedule, self.ratio))
        super().__post_init__()

    def check(self) -> None:
        if self.criterion not in CRITERIA:
            raise RecipeError(unknown("criterion", self.criterion, CRITERIA))
        if self.scope not in SCOPES:
            raise RecipeError(unknown("scope", self.scope, SCOPES))
        asked = {name: getattr(self, name) for name in ("ratio", "macs", "parameters")}
        for name, share in (*asked.items(), *self.layers):
            if not 0 <= share < 1:
                raise RecipeError(f"what prune takes away ({name}) must be a share of at least 0 and less than 1, got {share:g}.")
        given = [name for name, share in asked.items() if share] + ["max_drop"] * bool(self.max_drop)
        if len(given) > 1:
            raise RecipeError(f"prune takes one of ratio, macs and parameters, got {' and '.join(given)}.")
        self._check_ratios(given)
        if not given and not self.layers:
            raise RecipeError("prune needs to be told how much leaves: ratio, macs or parameters (of all layers), or layers (of some).")
        if self.least < 1 or self.multiple < 0:
            raise RecipeError(f"least must be at least 1 and multiple at least 0, got {self.least} and {self.multiple}.")
        schedules.check(self.schedule, self.training, max(asked.values()), whole_epochs=True)

    def _check_ratios(self, given: Sequence[str]) -> None:
        if self.ratios not in RATIOS:
            raise RecipeError(unknown("ratios", self.ratios, RATIOS))
        if self.max_drop < 0 or (self.max_drop and self.ratios == "given"):
            raise RecipeError(f"max_drop is at least 0 and goes with ratios adaptive, got {self.max_drop:g} with {self.ratios}.")
        if self.ratios == "adaptive" and (given in ([], ["ratio"]) or self.scope != "layer"):
            raise RecipeError("adaptive ratios need one of macs, parameters and max_drop, and no ratio and no scope: they are each layer's own.")

    def run(self, model: Model, context: Context) -> StepResult:
        if model.plans:
            raise RecipeError("a quantized network cannot be pruned: its ranges belong to the channels that it has; prune before you quantize.")
        if self.training is not None:
            context.require("train", self.kind)
        start = found = dependencies(model, heads=self.heads)
        ratios, left = self._ratios(start), [0] * len(start.groups)
        learned: list[Change] = []
        if self.ratios == "adaptive":
            ratios, change = self._adapted(start, ratios, context)
            learned.append(change)
        for part in rounds(self.schedule, self.training):
            if part.number > 1:
                found = dependencies(model, heads=self.heads)
            gone = self._chosen(Cut(start, found, part.reached), ratios, context) if part.reached else []
            left = [count + len(set(gone).intersection(group.units)) for count, group in zip(left, found.groups, strict=True)]
            model = shrink(found, gone)
            if self.training is not None and part.epochs:
                model, change = fine_tuned(model, context, self, self.training, part)
                learned.append(change)
        stayed = {
            group: self._why_stayed(group, ratios.get(group), context)
            for group, count in zip(start.groups, left, strict=True)
            if not count and ratios.get(group) != 0
        }
        return StepResult(model, (*_changes(start, left, found, gone), *learned), tuple(_skipped(start, ratios, stayed, self.shortcuts)))

    def _why_stayed(self, group: Group, ratio: float | None, context: Context) -> str:
        """Why a group that may lose channels has lost none; `ratio` is its own, or None."""
        if ratio is None and not (self.ratio or self.macs or self.parameters or self.max_drop):
            return "no ratio was given for it"
        step = self._limits(context).step(group) * group.channels
        rounded = f"so few would leave that its {group.width * group.channels} channels, rounded to a multiple of {step}, are all that it has"
        return f"its channels matter more than others', or {rounded}" if self.scope == "global" else rounded

    def _limits(self, context: Context) -> Limits:
        return Limits(self.least, self.multiple or max((table.channel_multiple for table in context.capabilities), default=1))

    def _ratios(self, found: Dependencies) -> dict[Group, float | None]:
        """Each group that may lose channels with its own ratio, or None where that of the whole network counts.

        Raises:
            RecipeError: a pattern that matches no layer, or layers that cannot lose channels.
        """
        ratios: dict[Group, float | None] = {group: None for group in found.groups if not group.why and group.width > 1}
        if not self.shortcuts:
            ratios = {group: ratio for group, ratio in ratios.items() if found.added.isdisjoint(group.units)}
            if not ratios and not self.layers:
                raise RecipeError(
                    "every layer that could lose channels is tied to others by an addition; let shortcuts lose channels, or name layers."
                )
        for pattern, ratio in self.layers:
            matched = _matching(found, pattern)
            free = [group for group in matched if not group.why and group.width > 1]
            if not free:
                why = next((group.why for group in matched if group.why), "it has one channel, or one head, alone")
                raise RecipeError(f"the channels of {matched[0].name} cannot leave ({pattern!r}): {why}.")
            ratios |= dict.fromkeys(free, ratio)
        for pattern in self.keep:
            for group in _matching(found, pattern):
                ratios.pop(group, None)
        return ratios

    def _adapted(self, found: Dependencies, ratios: Mapping[Group, float | None], context: Context) -> tuple[dict[Group, float | None], Change]:
        """Ratios for groups that have none."""
        goal = Goal("parameters" if self.parameters else "macs", self.macs or self.parameters, self.max_drop)
        free = [group for group, ratio in ratios.items() if ratio is None]
        step = json.dumps(replace(self, training=None, schedule=ONE_SHOT).to_json(), sort_keys=True)
        score, limits = scores(found, self.criterion, context), self._limits(context)
        fixed = by_ratio({group: ratio for group, ratio in ratios.items() if ratio}, score, limits)
        own, change = adapted(found, Cuts(free, score, limits, fixed), goal, context, step)
        return {**ratios, **own}, change

    def _chosen(self, cut: Cut, ratios: Mapping[Group, float | None], context: Context) -> list[int]:
        """Units of `cut.found` that leave, so that of the network at the start as much is gone as the round is to reach."""
        found, limits = cut.found, self._limits(context)
        score = scores(found, self.criterion, context)
        now = dict(zip(cut.start.groups, found.groups, strict=True))
        shares = {now[group]: cut.due(ratio, group.width, now[group].width) for group, ratio in ratios.items() if ratio is not None}
        fixed = by_ratio({group: share for group, share in shares.items() if share}, score, limits)
        others = {group: now[group] for group, ratio in ratios.items() if ratio is None}

        def choose(much: float) -> list[int]:
            if self.scope == "layer":
                return fixed + by_ratio({group: min(much, 1 - 0.51 / group.width) for group in others.values()}, score, limits)
            return fixed + by_threshold(
                list(others.values()), score, float(np.quantile(_all(others.values(), score), much)) if much < 1 else np.inf, limits
            )

        if self.ratios == "adaptive":
            return fixed
        for cost, goal, what in (("macs", self.macs, "multiply-accumulates"), ("parameters", self.parameters, "parameters")):
            if goal:
                whole, left = (getattr(one, cost)(one.everything) for one in (cut.start, found))
                share = cut.due(goal, whole, left)
                return until(found, choose, score, getattr(found, cost), share, what) if share else fixed
        if self.scope == "global" and others and self.ratio:
            return choose(cut.due(self.ratio, sum(group.width for group in others), sum(group.width for group in others.values())))
        shares = {group: cut.due(self.ratio, start.width, group.width) for start, group in others.items()}
        return fixed + by_ratio({group: share for group, share in shares.items() if share}, score, limits)


@dataclass(frozen=True)
class Cut:
    """One cut of several: the network as it came, as it is, and the part of the goal that has to be gone of the first."""

    start: Dependencies
    found: Dependencies
    reached: float

    def due(self, goal: float, whole: float, left: float) -> float:
        """The share of what is left that has to leave, for `goal` times `reached` of the whole to be gone; 0 where more is gone."""
        return max(0.0, 1 - (1 - self.reached * goal) * whole / left)


def _patterns(given: Any) -> tuple[str, ...]:
    """One pattern, or a list of them; anything else is left for the check of types."""
    return (given,) if isinstance(given, str) else tuple(given) if isinstance(given, list | tuple) else given


def _all(groups: Collection[Group], score: Scores) -> Scores:
    return np.concatenate([score[list(group.units)] for group in groups]) if groups else np.zeros(1)


def _matching(found: Dependencies, pattern: str) -> list[Group]:
    matched = [group for group in found.groups if any(fnmatchcase(layer, pattern) or fnmatchcase(layer, f"{pattern}.*") for layer in group.layers)]
    if not matched:
        layers = sorted({layer for group in found.groups for layer in group.layers})
        raise RecipeError(unknown("layer", pattern, layers) + " Patterns may hold * and ?.")
    return matched


def _changes(start: Dependencies, left: Sequence[int], last: Dependencies, gone: list[int]) -> Iterator[Change]:
    """What all cuts took away: of each group so many units; `gone` are those of the last cut."""
    for group, count in zip(start.groups, left, strict=True):
        if count:
            others = f", with those of {', '.join(group.layers[1:])}" if len(group.layers) > 1 else ""
            yield Change(group.name, f"{count * group.channels} of {group.width * group.channels} channels leave{others}")
    alive = last.everything
    alive[gone] = False
    for what, before, after in (
        ("multiply-accumulates", start.macs(start.everything), last.macs(alive)),
        ("parameters", start.parameters(start.everything), last.parameters(alive)),
    ):
        yield Change(what, f"{before:,} -> {after:,}")


def _skipped(found: Dependencies, ratios: Mapping[Group, Any], stayed: Mapping[Group, str], shortcuts: bool) -> Iterator[Change]:
    """Groups that have lost nothing: `stayed` says why of those that might have."""
    if ratios and ratios.keys() <= stayed.keys():
        yield Change("pruning", "no channel leaves any layer, the network is what it was: ask for more, or for multiple 1, which rounds no counts")
    for group in found.groups:
        if group in ratios and group in stayed:
            yield Change(group.name, stayed[group])
        if ratios.get(group) == 0:
            yield Change(group.name, "to lose some would cost more than elsewhere, or it has a ratio of 0")
        if group not in ratios:
            tied = not shortcuts and not found.added.isdisjoint(group.units)
            asked = "an addition ties it, and shortcuts were asked to stay" if tied else "it was asked to keep them"
            yield Change(group.name, group.why or ("it has one channel, or one head, alone" if group.width == 1 else asked))
