"""Which units leave: by a ratio for each layer, or by one threshold for all, until enough is gone."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tersenet.errors import RecipeError
from tersenet.graph.dependencies import Dependencies, Group
from tersenet.steps.scores import Scores

# Of what is asked in MACs or parameters: how far from it the answer may be.
STEPS = 40


@dataclass(frozen=True)
class Limits:
    """What must stay of each group.

    Args:
        least: channels that stay at least.
        multiple: the number of channels that kernels like multiples of; 1 leaves counts as they come. Groups narrower than two of it are rounded
            to halves of it, or halves of these.
    """

    least: int = 1
    multiple: int = 1

    def step(self, group: Group) -> int:
        """How many of a group's units there are multiples of."""
        step = self.multiple // math.gcd(self.multiple, group.channels)
        while step > 1 and group.width < 2 * step:
            step //= 2
        return step

    def keep(self, group: Group, wanted: float) -> int:
        """How many of a group's units stay where `wanted` are asked for.

        >>> Limits(multiple=8).keep(Group("a", ("a",), tuple(range(64)), 1, "", 0, 0), 35.2)
        32
        """
        step = self.step(group)
        count = max(step, round(wanted / step) * step, math.ceil(self.least / group.channels))
        return min(group.width, count)


def by_ratio(groups: Mapping[Group, float], scores: Scores, limits: Limits) -> list[int]:
    """Of each group the units that matter least, as many as its ratio says.

    Raises:
        RecipeError: a ratio that would leave a group empty.
    """
    gone: list[int] = []
    for group, ratio in groups.items():
        wanted = group.width * (1 - ratio)
        if round(wanted) < 1:
            most = math.floor((1 - 0.5 / group.width) * 100) / 100
            raise RecipeError(
                f"at least one channel of {group.name} must stay; a ratio of {ratio:g} would leave none of {group.width}: ask for {most:g} or less."
            )
        gone += _lowest(group, scores, group.width - limits.keep(group, wanted))
    return gone


def _lowest(group: Group, scores: Scores, count: int) -> list[int]:
    units = np.asarray(group.units)
    return units[np.argsort(scores[units], kind="stable")[:count]].tolist()


def by_threshold(groups: Sequence[Group], scores: Scores, threshold: float, limits: Limits) -> list[int]:
    """Units of all groups below one threshold."""
    gone: list[int] = []
    for group in groups:
        above = int((scores[list(group.units)] >= threshold).sum())
        gone += _lowest(group, scores, group.width - limits.keep(group, above))
    return gone


def until(
    found: Dependencies, choose: Callable[[float], list[int]], score: Scores, cost: Callable[[np.ndarray], int], share: float, what: str
) -> list[int]:
    """The mildest choice after which `share` of a cost is gone.

    Where rounding makes many groups jump at once, those jump first whose units matter least; what a large one has made needless comes back.

    Args:
        score: of all units.
        choose: units that leave, by how much: from 0, nothing, to 1, all that may.
        cost: with some units alive.
        share: of the cost of the whole network, above 0 and below 1.
        what: the cost's name, for the error.

    Raises:
        RecipeError: not even the last choice is enough.
    """

    def left(gone: list[int]) -> float:
        alive = found.everything
        alive[gone] = False
        return cost(alive) / whole

    whole = max(1, cost(found.everything))
    if left(choose(1.0)) > 1 - share:
        most = 1 - left(choose(1.0))
        raise RecipeError(f"at most {most:.3f} of the {what} can leave this network, and {share:g} was asked for; ask for less.")
    low, high = 0.0, 1.0
    for _ in range(STEPS):
        middle = (low + high) / 2
        low, high = (low, middle) if left(choose(middle)) <= 1 - share else (middle, high)
    gone, last = choose(low), set(choose(high))
    rest = [units for group in found.groups if (units := sorted(last.intersection(group.units) - set(gone)))]
    rest.sort(key=lambda units: float(score[units].mean()))
    for units in rest:
        if left(gone) > 1 - share:
            gone += units
    for units in reversed(rest):
        without = [unit for unit in gone if unit not in units]
        if len(without) < len(gone) and left(without) <= 1 - share:
            gone = without
    return gone
