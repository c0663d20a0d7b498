"""How much each group of channels loses, by what its loss was measured to cost."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from tersenet.errors import RecipeError
from tersenet.graph.dependencies import Alive, Dependencies, Group
from tersenet.graph.shrink import shrink
from tersenet.sensitivity import Jury, Variant, measured
from tersenet.step import Change, Context
from tersenet.steps.choice import Limits, by_ratio
from tersenet.steps.scores import Scores

RATIOS = (0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875)


@dataclass(frozen=True)
class Choice:
    """A group with some of its units gone.

    Args:
        group: of `Dependencies.groups`.
        units: that leave, those that matter least.
        saved: of the cost that is to fall, by this alone.
        harm: by this alone.
    """

    group: Group
    units: tuple[int, ...]
    saved: float
    harm: float


@dataclass(frozen=True)
class Goal:
    """Where to stop.

    Args:
        what: macs or parameters: what is saved, and what a share of 0 to 1 has to leave of; a drop is paid for in what is saved of the macs.
        share: that has to leave; 0: as much as `max_drop` permits.
        max_drop: points that the network may lose before it is trained again.
    """

    what: str = "macs"
    share: float = 0.0
    max_drop: float = 0.0


@dataclass(frozen=True)
class Cuts:
    """What may leave.

    Args:
        groups: that may lose units.
        score: of all units of the network.
        limits: what must stay.
        fixed: units of other groups, that leave in any case.
    """

    groups: Sequence[Group]
    score: Scores
    limits: Limits
    fixed: Sequence[int] = ()

    def __iter__(self) -> Iterator[tuple[Group, tuple[int, ...]]]:
        """Each group with what leaves of it by each ratio, each number of units once."""
        for group in self.groups:
            seen = {0}
            for ratio in RATIOS:
                if round(group.width * (1 - ratio)) >= 1:
                    units = tuple(by_ratio({group: ratio}, self.score, self.limits))
                    if len(units) not in seen:
                        seen.add(len(units))
                        yield group, units


def adapted(found: Dependencies, cuts: Cuts, goal: Goal, context: Context, step: str) -> tuple[Mapping[Group, float], Change]:
    """Each group's ratio: cuts are taken in the order of what they cost for what they save, until the goal is reached.

    Every group is cut alone by several ratios and measured (`tersenet.sensitivity`). Of a group's cuts those count that lie on the lower convex
    hull of harm over savings, so that the order is that of a Lagrange multiplier (Shoham and Gersho 1988, "Efficient bit allocation"). Under a
    permitted drop networks of several cuts at once are measured too, by bisection, so that the last one's own drop lies within it.

    Args:
        found: of the network.
        cuts: what may leave.
        goal: where to stop.
        context: data, seed, store, progress.
        step: that asks, and whatever else tells which units leave.

    Returns:
        A ratio for each group, 0 where it keeps all; what was measured.

    Raises:
        RecipeError: the goal is out of reach.
        DataError: there are no samples to judge with.
    """
    cost: Callable[..., int] = found.macs if goal.what == "macs" else found.parameters
    jury = Jury(found.model, context, "prune (by sensitivity)")
    tried = list(cuts)
    variants = [Variant(group.name, len(units) / group.width, partial(shrink, found, units)) for group, units in tried]
    harms = measured(jury, found.model, context, variants, step)
    whole = cost(found.everything)
    choices = [Choice(group, units, whole - cost(_without(found, units)), harm.total) for (group, units), harm in zip(tried, harms, strict=True)]
    order = [choice for _, choice in sorted(_steps(choices), key=lambda pair: pair[0])]

    def gone(taken: Sequence[Choice]) -> list[int]:
        """What leaves: of each group the last cut that is taken."""
        return [*cuts.fixed, *(unit for choice in {choice.group: choice for choice in taken}.values() for unit in choice.units)]

    def reached(taken: Sequence[Choice]) -> bool:
        return cost(_without(found, gone(taken))) <= (1 - goal.share) * whole

    if goal.share:
        count = _first(len(order), lambda count: reached(order[:count]))
        if count is None:
            most = 1 - cost(_without(found, gone(order))) / whole
            raise RecipeError(f"at most {most:.3f} of the {goal.what} can leave this network, and {goal.share:g} was asked for; ask for less.")
        taken = order[:count]
        for choice in order[:count][::-1]:  # what a large cut, taken last, has made needless comes back, whole or in part
            others = [other for other in taken if other.group != choice.group]
            milder = [[each] for each in choices if each.group == choice.group and len(each.units) < len(choice.units) and each.harm <= choice.harm]
            ways = [[], *sorted(milder, key=lambda way: way[0].harm)]
            taken = next(([*others, *way] for way in ways if reached([*others, *way])), taken) if choice in taken else taken
    else:
        over = _first(len(order), lambda count: jury.harm(shrink(found, gone(order[:count]))).drop_points > goal.max_drop)
        taken = order if over is None else order[: max(0, over - 1)]
    drop = jury.harm(shrink(found, gone(taken))).drop_points
    unit = "points" if jury.task.bounded else "percent"
    why = f"{len(variants)} cuts measured on {len(jury.part)} samples of {jury.where}; those chosen cost {drop:.2f} {unit} of {jury.task.metric}"
    chosen = {choice.group: choice for choice in taken}
    ratios = {group: len(chosen[group].units) / group.width if group in chosen else 0.0 for group in cuts.groups}
    return ratios, Change("sensitivity", f"{why} before training")


def _without(found: Dependencies, units: Sequence[int]) -> Alive:
    alive = found.everything
    alive[list(units)] = False
    return alive


def _steps(choices: Sequence[Choice]) -> Iterator[tuple[float, Choice]]:
    """(harm for what is saved more, choice) along each group's lower convex hull, from nothing on; rising within a group."""
    groups: dict[Group, list[Choice]] = {}
    for choice in choices:
        groups.setdefault(choice.group, []).append(choice)
    for rest in groups.values():
        saved, harm = 0.0, 0.0
        while rest := [choice for choice in rest if choice.saved > saved]:
            slope, _, best = min((((choice.harm - harm) / (choice.saved - saved)), -choice.saved, place) for place, choice in enumerate(rest))
            yield slope, rest[best]
            saved, harm = rest[best].saved, rest[best].harm


def _first(count: int, holds: Callable[[int], bool]) -> int | None:
    """The least number, 0 to `count`, from which on it holds; None where it does not at the end."""
    if not holds(count):
        return None
    low, high = -1, count
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high
