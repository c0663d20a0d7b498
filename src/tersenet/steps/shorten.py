"""Whole layers that leave: residual branches without which the network loses least."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from typing import Any, ClassVar

from tersenet.errors import RecipeError, unknown
from tersenet.graph.branches import Branch, branches, without
from tersenet.graph.cost import cost
from tersenet.model import Model
from tersenet.sensitivity import Jury, Variant, measured
from tersenet.step import Change, Context, Step, StepResult


@dataclass(frozen=True)
class Shorten(Step):
    """Take out residual branches whose shortcut is an identity: what they are added to stays, and the network runs with fewer layers.

    One after the other that leaves for which the network loses least (`tersenet.sensitivity`); all that are left are measured anew behind each.
    Training behind it brings accuracy back.

    Args:
        count: branches that leave.
        macs: instead: so many that at least this share of the network's multiply-accumulates leaves; above 0, less than 1.
        max_drop: instead: as many as the network can lose at no more than so many points (percent of an unbounded metric), before training.
        keep: patterns (``*`` and ``?``) of branches, or of layers in them, that stay.

    Reference: Veit et al. 2016, "Residual Networks Behave Like Ensembles of Relatively Shallow Networks", section 4.1 (single branches deleted
    from a trained network); here by measured harm, greedily.
    """

    kind: ClassVar[str] = "shorten"

    count: int = 0
    macs: float = 0.0
    max_drop: float = 0.0
    keep: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        given: Any = self.keep
        object.__setattr__(self, "keep", (given,) if isinstance(given, str) else tuple(given) if isinstance(given, list) else given)
        super().__post_init__()

    def check(self) -> None:
        asked = (self.count, self.macs, self.max_drop)
        if min(asked) < 0 or self.macs >= 1 or sum(map(bool, asked)) != 1:
            raise RecipeError(
                "shorten takes one of count (from 1), macs (above 0, less than 1) and max_drop (above 0), "
                f"got {self.count}, {self.macs:g} and {self.max_drop:g}."
            )

    def run(self, model: Model, context: Context) -> StepResult:
        if model.plans:
            raise RecipeError("a quantized network cannot be shortened: its ranges belong to the layers that it has; shorten before you quantize.")
        found = branches(model.graph)
        kept = self._kept(found)
        left = [branch for branch in found if branch not in kept]
        if self.count > len(left):
            raise RecipeError(f"{self.count} residual branches were to leave, and this network has {len(left)} that can; ask for fewer.")
        self._check_reached(model, left)
        jury = Jury(model, context, self.kind)
        gone, drop = self._chosen(jury, model, left, context)
        result = without(model, gone)
        unit = "points" if jury.task.bounded else "percent"
        lost = f"without them it loses {drop:.2f} {unit} of {jury.task.metric} on {jury.where}, before training"
        skipped = [Change(branch.name, "it was asked to keep it" if branch in kept else "others cost less") for branch in found if branch not in gone]
        if not found:
            skipped = [Change("residual branches", "this network has none whose shortcut is an identity")]
        return StepResult(result, tuple(_changes(model, result, gone, lost)), tuple(skipped))

    def _kept(self, found: Sequence[Branch]) -> list[Branch]:
        kept: list[Branch] = []
        for pattern in self.keep:
            matched = [branch for branch in found if any(_matches(name, pattern) for name in (branch.name, *branch.layers))]
            if not matched:
                raise RecipeError(unknown("branch", pattern, [branch.name for branch in found]) + " Patterns may hold * and ?.")
            kept += matched
        return kept

    def _check_reached(self, model: Model, left: Sequence[Branch]) -> None:
        if self.macs and (reached := _macs_share(model, left)) < self.macs:
            raise RecipeError(
                f"{self.macs:.1%} of the multiply-accumulates were to leave, and the branches that can have {reached:.1%} of them; ask for less."
            )

    def _enough(self, model: Model, gone: Sequence[Branch]) -> bool:
        return len(gone) == self.count if self.count else bool(self.macs) and _macs_share(model, gone) >= self.macs

    def _chosen(self, jury: Jury, model: Model, left: list[Branch], context: Context) -> tuple[list[Branch], float]:
        """Branches that leave, and what the network loses without them."""
        gone: list[Branch] = []
        drop = 0.0
        while left and not self._enough(model, gone):
            variants = [Variant(branch.name, 0, partial(without, model, [*gone, branch])) for branch in left]
            harms = measured(jury, model, context, variants, f"{self.kind} {[branch.total for branch in gone]}")
            place = min(range(len(left)), key=lambda place: harms[place].total)
            if self.max_drop and harms[place].drop_points > self.max_drop:
                break
            gone.append(left.pop(place))
            drop = harms[place].drop_points
        return gone, drop


def _macs_share(model: Model, gone: Sequence[Branch]) -> float:
    """The share of a network's multiply-accumulates that branches have."""
    return 1 - cost(without(model, gone)).macs / cost(model).macs


def _matches(name: str, pattern: str) -> bool:
    return fnmatchcase(name, pattern) or fnmatchcase(name, f"{pattern}.*")


def _changes(before: Model, after: Model, gone: Sequence[Branch], lost: str) -> Iterator[Change]:
    for branch in gone:
        yield Change(branch.name, f"{len(branch.layers)} layers leave; their input goes on as it is")
    if gone:
        yield Change("sensitivity", lost)
    whole, left = cost(before), cost(after)
    yield Change("multiply-accumulates", f"{whole.macs:,} -> {left.macs:,}")
    yield Change("parameters", f"{whole.parameters:,} -> {left.parameters:,}")
