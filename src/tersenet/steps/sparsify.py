"""Single weights, blocks of them, or N of every M neighbours that become zero and stay so: masks, no smaller shapes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch

from tersenet.errors import RecipeError, unknown
from tersenet.graph.dependencies import held
from tersenet.model import Model
from tersenet.numerics import importance, sparsity
from tersenet.step import Change, Context, Step, StepResult
from tersenet.steps import schedule as schedules
from tersenet.steps.rounds import fine_tuned
from tersenet.steps.schedule import ONE_SHOT, Round, Schedule, gradual, pairs_of, reached, rounds
from tersenet.steps.weights import matching, weights_of, with_weights
from tersenet.training.hooks import Rising
from tersenet.training.options import Training, read_training

CRITERIA = ("magnitude", "random")
SCOPES = ("layer", "global")
N_OF_M = re.compile(r"(\d+):(\d+)")
BLOCK = re.compile(r"(\d+)x(\d+)")


@dataclass(frozen=True)
class Sparsify(Step):
    """Set the weights that matter least to zero, in convolutions and linear layers, and remember which: later steps keep them zero.

    Shapes stay, so that a file is as large and as fast as before; it is smaller once it is packed for delivery, or where a runtime has kernels for
    such weights. Channels that leave (`Prune`) make every file smaller and faster.

    Args:
        ratio: share of the weights that becomes zero; 0 up to, not including, 1. Not with a pattern N:M, which says it itself.
        pattern: weights (each for itself), ROWSxCOLUMNS (blocks of a layer's matrix, as 4x1), or N:M (N of every M neighbouring inputs stay, as 2:4).
        criterion: magnitude or random.
        scope: layer: the same share of each layer; global: the least of the whole network (for single weights alone).
        layers: ratios of some layers, as (pattern, ratio) pairs; the last that matches wins.
        keep: patterns of layers that keep all their weights.
        training: of what stays; a `Training`, or a mapping of its options, whose epochs are all that there are. None: no training.
        schedule: over these epochs: one-shot (all at the start); iterative or iterative:ROUNDS (equal parts, each with its share of the epochs);
            polynomial or polynomial:BEGIN:END (rising while it learns, from epoch BEGIN to END); or (epoch, share) pairs, whose last share
            is `ratio`.
    """

    kind: ClassVar[str] = "sparsify"

    ratio: float = 0.0
    pattern: str = "weights"
    criterion: str = "magnitude"
    scope: str = "layer"
    layers: tuple[tuple[str, float], ...] = ()
    keep: tuple[str, ...] = ()
    training: Training | None = None
    schedule: Schedule = ONE_SHOT

    def __post_init__(self) -> None:
        if isinstance(self.layers, Mapping):
            object.__setattr__(self, "layers", tuple(self.layers.items()))
        object.__setattr__(self, "keep", _patterns(self.keep))
        object.__setattr__(self, "training", None if self.training is None else read_training(self.training))
        object.__setattr__(self, "schedule", pairs_of(self.schedule))
        if not (self.ratio or self.layers):
            object.__setattr__(self, "ratio", schedules.last_share(self.schedule, self.ratio))
        super().__post_init__()

    def check(self) -> None:
        for name, known, got in (("criterion", CRITERIA, self.criterion), ("scope", SCOPES, self.scope)):
            if got not in known:
                raise RecipeError(unknown(name, got, known))
        for name, share in (("ratio", self.ratio), *self.layers):
            if not 0 <= share < 1:
                raise RecipeError(f"what becomes zero ({name}) must be a share of at least 0 and less than 1, got {share:g}.")
        n_of_m, block = N_OF_M.fullmatch(self.pattern), BLOCK.fullmatch(self.pattern)
        if n_of_m and not 0 < int(n_of_m[1]) < int(n_of_m[2]):
            raise RecipeError(f"a pattern N:M keeps N of every M neighbours, with 0 < N < M; got {self.pattern}.")
        if not (n_of_m or self.pattern == "weights" or (block and int(block[1]) * int(block[2]) > 0)):
            raise RecipeError(f"pattern must be weights, ROWSxCOLUMNS such as 4x1, or N:M such as 2:4; got {self.pattern!r}.")
        if bool(n_of_m) == bool(self.ratio or self.layers):
            raise RecipeError(
                "sparsify needs a ratio (of all weights) or layers (ratios of some), or a pattern N:M, which says how many stay, alone."
            )
        if self.scope == "global" and self.pattern != "weights":
            raise RecipeError(f"scope global is for single weights, and the pattern is {self.pattern}; leave one of them out.")
        schedules.check(self.schedule, self.training, self.ratio, whole_epochs=False)

    def run(self, model: Model, context: Context) -> StepResult:
        if model.plans:
            raise RecipeError("weights become zero before they are quantized: put sparsify before quantize.")
        weights = weights_of(model.graph)
        ratios = self._ratios(weights)
        skipped = [Change(weights[name], "it was asked to keep them") for name in weights if name not in ratios]
        too_small = {name: why for name in ratios if (why := self._does_not_fit(held(model.graph, name)))}
        skipped += [Change(weights[name], why) for name, why in too_small.items()]
        chosen = {name: ratio for name, ratio in ratios.items() if name not in too_small}
        learned: list[Change] = []
        if self.training is None:
            masked = self._masked(model, chosen, context.seed, 1.0)
        else:
            masked, learned = self._trained(model, chosen, context, self.training)
        masks = masked.annotations.masks
        changed = [Change(weights[name], _share(torch.from_numpy(masks[name]))) for name in chosen]
        return StepResult(masked, (*changed, *learned), tuple(skipped))

    def _trained(self, model: Model, ratios: Mapping[str, float], context: Context, training: Training) -> tuple[Model, list[Change]]:
        """Masks and training by turns, or masks that change in the middle of training."""
        context.require("train", self.kind)
        changes = []
        if gradual(self.schedule):
            hook = Rising(
                list(ratios),
                lambda passed: reached(self.schedule, training.epochs, passed),
                lambda held, part: self._masks(held, ratios, context.seed, part),
            )
            model, change = fine_tuned(model, context, self, training, Round(1, 1, training.epochs, 1.0), [hook])
            return self._masked(model, ratios, context.seed, 1.0), [change]  # what is zero by now is what leaves first
        for part in rounds(self.schedule, training):
            model, change = fine_tuned(self._masked(model, ratios, context.seed, part.reached), context, self, training, part)
            changes.append(change)
        return model, changes

    def _masked(self, model: Model, ratios: Mapping[str, float], seed: int, part: float) -> Model:
        """The model with a part of what is to leave gone, and what earlier steps took out."""
        masks = self._masks({name: held(model.graph, name).detach() for name in ratios}, ratios, seed, part)
        for name, mask in model.annotations.masks.items():
            masks[name] = masks[name] & torch.from_numpy(mask) if name in masks else torch.from_numpy(mask)
        return _masked(model, masks)

    def _ratios(self, weights: Mapping[str, str]) -> dict[str, float]:
        """The ratio of each tensor that takes part.

        Raises:
            RecipeError: a pattern that matches no layer.
        """
        ratios = dict.fromkeys(weights, self.ratio)
        for pattern, ratio in self.layers:
            ratios |= dict.fromkeys(matching(weights, pattern), ratio)
        for pattern in self.keep:
            for name in matching(weights, pattern):
                ratios.pop(name, None)
        return {name: ratio for name, ratio in ratios.items() if ratio or N_OF_M.fullmatch(self.pattern)}

    def _does_not_fit(self, weight: torch.Tensor) -> str:
        found = N_OF_M.fullmatch(self.pattern)
        return f"it has {weight.shape[1]} inputs, fewer than {found[2]}" if found and weight.shape[1] < int(found[2]) else ""

    def _masks(self, tensors: Mapping[str, torch.Tensor], ratios: Mapping[str, float], seed: int, part: float) -> dict[str, torch.Tensor]:
        """Masks of all tensors, with `part` (0 to 1) of what is to leave gone."""
        scores = {name: self._scores(tensors[name], seed + place) for place, name in enumerate(ratios)}
        if self.scope == "global" and scores:
            flat = torch.cat([score.reshape(-1) for score in scores.values()])
            parts = sparsity.smallest(flat, part * self.ratio).split([score.numel() for score in scores.values()])
            return {name: part.reshape(scores[name].shape) for name, part in zip(scores, parts, strict=True)}
        return {name: self._mask(scores[name], ratio, part) for name, ratio in ratios.items()}

    def _scores(self, weight: torch.Tensor, seed: int) -> torch.Tensor:
        return weight.abs() if self.criterion == "magnitude" else importance.random(weight.numel(), seed).reshape(weight.shape)

    def _mask(self, score: torch.Tensor, ratio: float, part: float) -> torch.Tensor:
        if found := N_OF_M.fullmatch(self.pattern):
            n, m = int(found[1]), int(found[2])
            staying = m - round(part * (m - n))
            return sparsity.n_of_m(score, staying, m) if staying < m else torch.ones_like(score, dtype=torch.bool)
        if found := BLOCK.fullmatch(self.pattern):
            return sparsity.blocks(score, (int(found[1]), int(found[2])), part * ratio)
        return sparsity.smallest(score, part * ratio)


def _patterns(given: Any) -> tuple[str, ...]:
    """One pattern, or a list of them; anything else is left for the check of types."""
    return (given,) if isinstance(given, str) else tuple(given) if isinstance(given, list | tuple) else given


def _share(mask: torch.Tensor) -> str:
    return f"{100 * sparsity.sparsity(mask):.1f} % of {mask.numel():,} weights are zero"


def _masked(model: Model, masks: Mapping[str, torch.Tensor]) -> Model:
    """The model with these weights zero, and their masks beside it."""
    zeroed = with_weights(model, {name: held(model.graph, name).detach() * mask for name, mask in masks.items()})
    arrays = {name: mask.numpy().astype(np.bool_) for name, mask in masks.items()}
    return replace(zeroed, annotations=replace(model.annotations, masks=arrays))
