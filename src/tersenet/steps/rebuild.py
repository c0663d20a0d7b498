"""Low-rank factors: layers become two or three thinner ones, where that is measured to be smaller or faster."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, ClassVar

from tersenet.errors import RecipeError, unknown
from tersenet.graph.cost import cost
from tersenet.graph.factors import METHODS, Factors, Layer, factored, layers
from tersenet.model import Model
from tersenet.numerics.factorization import rank_of
from tersenet.step import Change, Context, Step, StepResult
from tersenet.steps.rounds import fine_tuned
from tersenet.steps.schedule import Round
from tersenet.training.options import Training, entries, read_training

WINS = ("either", "faster", "smaller", "both")
STEPS = 20  # halvings of the energy, where a share of the network has to leave


@dataclass(frozen=True)
class Rebuild(Step):
    """Take convolutions and linear layers apart into thinner ones, one behind the other, that compute nearly the same with fewer numbers.

    A linear layer or a convolution of 1 x 1 becomes two by its singular value decomposition; a larger convolution what `method` says. Each
    layer is tried alone, and taken apart only where that wins: both networks are quantized the usual way, written for every runtime, and timed in
    turn (`Context.time_on_target`); where nobody can measure, parameters and multiply-accumulates are counted.

    Args:
        energy: share of the squared singular values that ranks keep, above 0 and up to 1.
        macs: instead of `energy`: share of the network's multiply-accumulates that has to leave; one energy for all layers.
        parameters: instead of `energy`: share of its parameters.
        method: of convolutions that are larger than 1 x 1. tucker: 1 x 1, the size of the convolution between fewer channels, 1 x 1 (Kim et al.
            2016). spatial: a column, then a row (Denton et al. 2014). channel: the convolution to fewer channels, then 1 x 1 (Zhang et al. 2016).
        wins: what is asked of a layer's factors: either (a smaller file or a shorter time, for every runtime), faster, smaller, both.
        multiple: ranks are rounded up to multiples of it.
        keep: patterns (``*`` and ``?``) of layers that stay as they are.
        ranks: instead of all of these: ranks of some layers, as (name, rank, rank) triples; of tucker the channels that the core gives and takes,
            else the first counts, and the second is 0. Nothing is measured then. A run writes what it decided as these.
        training: fine-tuning of what comes out; a `Training`, or a mapping of its options. None: no training.

    Reference: Denton et al. 2014, "Exploiting Linear Structure Within Convolutional Networks for Efficient Evaluation"; Kim et al. 2016, "Compression
    of Deep Convolutional Neural Networks for Fast and Low Power Mobile Applications"; Zhang et al. 2016, "Accelerating Very Deep Convolutional
    Networks for Classification and Detection" (its energies of ranks, without its fit to responses).
    """

    kind: ClassVar[str] = "rebuild"

    energy: float = 0.0
    macs: float = 0.0
    parameters: float = 0.0
    method: str = "tucker"
    wins: str = "either"
    multiple: int = 1
    keep: tuple[str, ...] = ()
    ranks: tuple[tuple[str, int, int], ...] = ()
    training: Training | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "keep", entries(self.keep))
        object.__setattr__(self, "training", None if self.training is None else read_training(self.training))
        super().__post_init__()

    def check(self) -> None:
        given = [name for name in ("energy", "macs", "parameters", "ranks") if getattr(self, name)]
        if len(given) != 1:
            raise RecipeError(f"rebuild takes one of energy, macs, parameters and ranks, got {' and '.join(given) or 'none'}.")
        if not 0 <= self.energy <= 1 or not 0 <= self.macs < 1 or not 0 <= self.parameters < 1:
            raise RecipeError(f"energy is at most 1, macs and parameters are below 1, none is negative; got {given[0]} {getattr(self, given[0])}.")
        for what, known in (("method", METHODS), ("wins", WINS)):
            if getattr(self, what) not in known:
                raise RecipeError(unknown(what, getattr(self, what), known))
        if self.multiple < 1:
            raise RecipeError(f"multiple must be at least 1, got {self.multiple}.")
        if any(first < 1 or second < 0 for _, first, second in self.ranks):
            raise RecipeError("ranks must be at least 1 (the second 0 where a layer has one).")

    def run(self, model: Model, context: Context) -> StepResult:
        if model.plans:
            raise RecipeError("a quantized network cannot be rebuilt: its grids belong to the layers that it has; rebuild before you quantize.")
        if self.training is not None:
            context.require("train", self.kind)
        found = layers(model)
        left = {layer: layer.why for layer in found if layer.why} | self._kept(found)
        free = [layer for layer in found if layer not in left]
        chosen, said = (self._given(free), dict[Layer, str]()) if self.ranks else self._won(model, free, left, context)
        result = factored(model, chosen)
        changed = [*_changes(chosen, said), *_totals(model, result)]
        if self.training is not None and chosen:
            result, learned = fine_tuned(result, context, self, self.training, Round(1, 1, self.training.epochs, 1.0))
            changed.append(learned)
        ranks = tuple((each.layer.name, each.ranks[0], each.ranks[1] if len(each.ranks) > 1 else 0) for each in chosen)
        decided = Rebuild(ranks=ranks, method=self.method, training=self.training) if ranks else None
        skipped = [*(Change(layer.name, why) for layer, why in left.items()), *_untold(model, chosen)]
        return StepResult(result, tuple(changed), tuple(skipped), decided)

    def _kept(self, found: Sequence[Layer]) -> dict[Layer, str]:
        kept: dict[Layer, str] = {}
        for pattern in self.keep:
            matched = [layer for layer in found if fnmatchcase(layer.name, pattern) or fnmatchcase(layer.name, f"{pattern}.*")]
            if not matched:
                raise RecipeError(unknown("layer", pattern, [layer.name for layer in found]) + " Patterns may hold * and ?.")
            kept |= dict.fromkeys(matched, "it was asked to keep it")
        return kept

    def _given(self, free: Sequence[Layer]) -> list[Factors]:
        """What `ranks` say."""
        named, chosen = {layer.name: layer for layer in free}, []
        for name, *ranks in self.ranks:
            if name not in named:
                raise RecipeError(unknown("layer that can be rebuilt", name, named))
            layer = named[name]
            chosen.append(_bounded(layer, layer.ways(self.method), ranks))
        return chosen

    def _won(self, model: Model, free: Sequence[Layer], left: dict[Layer, str], context: Context) -> tuple[list[Factors], dict[Layer, str]]:
        """Factors of all layers that win; reasons of those that do not go to `left`. Under a budget the others are asked for more then."""
        said: dict[tuple[Layer, tuple[int, ...]], tuple[bool, str]] = {}
        while True:
            asked = self._at(model, [layer for layer in free if layer not in left])
            lost = {}
            for place, factors in enumerate(asked):
                key = (factors.layer, factors.ranks)
                if key not in said:
                    context.progress(place, len(asked), f"measuring factors ({factors.layer.name})")
                    said[key] = self._judged(model, factors, context)
                if not said[key][0]:
                    lost[factors.layer] = said[key][1]
            left |= lost
            if not lost or self.energy:
                break
        context.progress(1, 1, "measuring factors")
        won = [factors for factors in asked if factors.layer not in left]
        if self.energy:
            saving = {factors.layer for factors in asked}
            left |= {layer: "ranks of such an energy are no saving" for layer in free if layer not in saving and layer not in left}
        return won, {factors.layer: said[(factors.layer, factors.ranks)][1] for factors in won}

    def _at(self, model: Model, free: Sequence[Layer]) -> list[Factors]:
        """Factors of layers that save something, at the energy, or at the highest that meets the budget."""
        if self.energy:
            return self._saving(model, free, self.energy)
        what, goal = ("macs", self.macs) if self.macs else ("parameters", self.parameters)
        whole = getattr(cost(model), what)

        def gone(energy: float) -> float:
            return 1 - getattr(cost(factored(model, self._saving(model, free, energy))), what) / whole

        low, high = 0.0, 1.0
        if gone(low) < goal:
            raise RecipeError(
                f"at most {gone(low):.3f} of the {what} can leave in factors that {self._wanted}, and {goal:g} was asked for; ask for less."
            )
        for _ in range(STEPS):
            middle = (low + high) / 2
            low, high = (middle, high) if gone(middle) >= goal else (low, middle)
        return self._saving(model, free, low)

    @property
    def _wanted(self) -> str:
        return {"either": "are smaller or faster", "faster": "are faster", "smaller": "are smaller", "both": "are smaller and faster"}[self.wins]

    def _saving(self, model: Model, free: Sequence[Layer], energy: float) -> list[Factors]:
        """Factors with fewer numbers than the layer has."""
        chosen = []
        for layer in free:
            method = layer.ways(self.method)
            spectra = layer.spectra(method)
            wanted = [-(-rank_of(one.values, energy) // self.multiple) * self.multiple for one in spectra]
            factors = _bounded(layer, method, wanted)
            if factors.numbers < layer.tensor.numel():
                chosen.append(factors)
        return chosen

    def _judged(self, model: Model, factors: Factors, context: Context) -> tuple[bool, str]:
        """Whether a layer's factors win, and the figures."""
        variant = factored(model, [factors])
        if context.time_on_target is None:
            before, after = cost(model), cost(variant)
            figures = f"counted: {before.macs - after.macs:,} multiply-accumulates and {before.parameters - after.parameters:,} parameters fewer"
            return _wins(self.wins, after.parameters < before.parameters, after.macs < before.macs), figures
        found = context.time_on_target(variant, model)
        smaller = all(one.bytes < one.before_bytes for one in found.values())
        faster = all(one.faster for one in found.values())
        return _wins(self.wins, smaller, faster), "; ".join(one.text(name) for name, one in found.items())


def _wins(wanted: str, smaller: bool, faster: bool) -> bool:
    return {"either": smaller or faster, "faster": faster, "smaller": smaller, "both": smaller and faster}[wanted]


def _bounded(layer: Layer, method: str, ranks: Sequence[int]) -> Factors:
    """Ranks that are no higher than the layer's own."""
    spectra = layer.spectra(method)
    return Factors(layer, method, tuple(max(1, min(rank, len(one.values))) for rank, one in zip(ranks, spectra, strict=False)))


def _changes(chosen: Sequence[Factors], said: Mapping[Layer, str]) -> list[Change]:
    found = []
    for each in chosen:
        ranks = " and ".join(f"{rank} of {len(one.values)}" for rank, one in zip(each.ranks, each.layer.spectra(each.method), strict=True))
        why = f"; {said[each.layer]}" if each.layer in said else ""
        found.append(Change(each.layer.name, f"{len(each.tensors)} layers in its place, rank {ranks}{why}"))
    return found


def _untold(model: Model, chosen: Sequence[Factors]) -> Iterator[Change]:
    """Weights that leave with what their source's training did to them."""
    kept = {**model.annotations.penalties, **model.annotations.constraints}
    for each in chosen:
        if each.layer.weight in kept:
            yield Change(
                each.layer.name, "the source's regularizer or constraint of its weight does not go over to the factors; training goes without it"
            )


def _totals(before: Model, after: Model) -> list[Change]:
    whole, left = cost(before), cost(after)
    rows: Sequence[tuple[str, Any, Any]] = (
        ("multiply-accumulates", whole.macs, left.macs),
        ("parameters", whole.parameters, left.parameters),
    )
    return [Change(what, f"{one:,} -> {other:,}") for what, one, other in rows]
