"""When how much leaves: schedules of pruning over the epochs of training."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from tersenet.errors import RecipeError
from tersenet.training.options import Training

ONE_SHOT = "one-shot"
ITERATIONS = 3  # of iterative, where none are given
RAMP = 0.75  # share of the epochs after which polynomial is done, where no end is given
# One-shot, iterative:ROUNDS, polynomial:BEGIN:END, or (epoch, share) pairs.
Schedule = str | tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Round:
    """One cut, and the training behind it.

    Args:
        number, of: which round of how many, from 1.
        epochs: of training behind the cut; 0: none.
        reached: the part of the goal, 0 to 1, that is gone after the cut; 0: nothing is cut before this training.
    """

    number: int
    of: int
    epochs: int
    reached: float


def pairs_of(given: Any) -> Any:
    """Lists from Python or JSON as the tuples of a frozen step; anything else is left for the check of types."""
    return tuple(tuple(pair) if isinstance(pair, list) else pair for pair in given) if isinstance(given, list | tuple) else given


def last_share(schedule: Any, otherwise: float) -> float:
    """What is gone at the end of a list of pairs; `otherwise` where there is none."""
    pairs = schedule if isinstance(schedule, tuple) and schedule else ()
    return pairs[-1][1] if pairs and isinstance(pairs[-1], tuple) and len(pairs[-1]) == 2 else otherwise


def polynomial(passed: float, begin: float, end: float) -> float:
    """The part of the goal that is gone: ``1 - (1 - (t - t0) / (t1 - t0))^3``.

    Args:
        passed: t, epochs that are done.
        begin, end: t0 and t1; nothing is gone at t0, everything at t1.

    Returns:
        0 to 1.

    >>> polynomial(1, 0, 2), polynomial(5, 0, 2)
    (0.875, 1.0)

    Reference: Zhu and Gupta 2017, "To prune, or not to prune", equation 1, from an initial sparsity of 0.
    """
    return 1 - (1 - min(1.0, max(0.0, (passed - begin) / (end - begin)))) ** 3


def check(schedule: Schedule, training: Training | None, goal: float, *, whole_epochs: bool) -> None:
    """Refuse a schedule that does not fit the training or the goal.

    Args:
        schedule: as a step has it.
        training: as a step has it; None: nothing is trained.
        goal: the share that has to be gone at the end; a list of pairs must end with it. 0: layers have their own, which pairs are parts of.
        whole_epochs: whether pairs' epochs must be whole numbers: channels leave between epochs.

    Raises:
        RecipeError: what does not fit.
    """
    if training is None:
        if schedule != ONE_SHOT:
            raise RecipeError(f"the schedule {_said(schedule)} spreads over epochs of training; give training too, as in training: {{epochs: 8}}.")
        return
    if isinstance(schedule, str):
        _check_name(schedule, training)
    else:
        _check_pairs(schedule, training.epochs, goal, whole_epochs)
    if whole_epochs or not gradual(schedule):
        for part in rounds(schedule, training):
            if part.epochs:
                within(training, part)
    elif training.average and (training.average == "ema" or training.average_start * training.epochs < _end(schedule, training.epochs)):
        raise RecipeError("an average of weights over steps whose masks differ has no zeros: leave average out, or start swa behind the schedule.")


def gradual(schedule: Schedule) -> bool:
    """Whether masks may change in the middle of training."""
    return not isinstance(schedule, str) or schedule.startswith("polynomial")


def reached(schedule: Schedule, epochs: int, passed: float) -> float:
    """The part of the goal, 0 to 1, that a gradual schedule has reached.

    Args:
        schedule: polynomial or pairs.
        epochs: of training.
        passed: epochs that are done.
    """
    if isinstance(schedule, str):
        return polynomial(passed, *_ramp(schedule, epochs))
    return max((share for epoch, share in schedule if epoch <= passed), default=0.0) / schedule[-1][1]


def rounds(schedule: Schedule, training: Training | None) -> list[Round]:
    """The rounds of cuts and whole epochs that a schedule comes to; one cut where nothing is trained."""
    if training is None or schedule == ONE_SHOT:
        return [Round(1, 1, training.epochs if training else 0, 1.0)]
    epochs = training.epochs
    if not isinstance(schedule, str):
        cuts = [(int(epoch), share / schedule[-1][1]) for epoch, share in schedule]
    elif schedule.startswith("iterative"):
        count = _iterations(schedule)
        cuts = [(number * epochs // count, (number + 1) / count) for number in range(count)]
    else:  # before each epoch as much as the polynomial has reached at its end
        begin, end = _ramp(schedule, epochs)
        cuts = [(epoch, polynomial(epoch + 1, begin, end)) for epoch in range(math.floor(begin), math.ceil(end))]
    if cuts[0][0]:
        cuts.insert(0, (0, 0.0))
    starts = [epoch for epoch, _ in cuts] + [epochs]
    return [Round(number, len(cuts), starts[number] - starts[number - 1], share) for number, (_, share) in enumerate(cuts, 1)]


def within(training: Training, part: Round) -> Training:
    """The training of one round: its learning rate's schedule runs whole in each.

    Raises:
        RecipeError: warm-up or decay do not fit into it.
    """
    try:
        return replace(training, epochs=part.epochs)
    except RecipeError as error:
        raise RecipeError(f"round {part.number} of {part.of} trains {part.epochs} of the {training.epochs} epochs: {error}") from error


def _said(schedule: Schedule) -> str:
    return schedule if isinstance(schedule, str) else str([list(pair) for pair in schedule])


def _check_name(schedule: str, training: Training) -> None:
    name, *numbers = schedule.split(":")
    known = {ONE_SHOT: 0, "iterative": 1, "polynomial": 2}
    if name not in known or len(numbers) not in (0, known[name]):
        raise RecipeError(
            "schedule must be one-shot, iterative or iterative:ROUNDS, polynomial or polynomial:BEGIN:END (in epochs), or a list of (epoch, share) "
            f"pairs; got {schedule!r}."
        )
    try:
        values = [float(number) for number in numbers]
    except ValueError as error:
        raise RecipeError(f"a schedule takes numbers behind its name, as in iterative:3 or polynomial:0:6; got {schedule!r}.") from error
    epochs = training.epochs
    if name == "iterative" and not (all(value == int(value) for value in values) and 2 <= _iterations(schedule) <= epochs):
        raise RecipeError(f"iterative takes a whole number of rounds, from 2 to as many as there are epochs ({epochs}); got {schedule}.")
    if name == "polynomial":
        begin, end = _ramp(schedule, epochs)
        if not 0 <= begin < end < epochs:
            raise RecipeError(f"polynomial:BEGIN:END must have 0 <= BEGIN < END < epochs ({epochs}), so that training follows; got {schedule}.")


def _check_pairs(pairs: Sequence[tuple[float, float]], epochs: int, goal: float, whole_epochs: bool) -> None:
    if not pairs:
        raise RecipeError("a schedule of (epoch, share) pairs needs at least one pair.")
    rising = all(first[0] < second[0] and first[1] < second[1] for first, second in pairwise(pairs))
    if not (rising and all(0 <= epoch < epochs and 0 < share < 1 for epoch, share in pairs)):
        raise RecipeError(
            f"(epoch, share) pairs must rise in both, with epochs from 0 and below epochs ({epochs}) and shares between 0 and 1; "
            f"got {_said(tuple(pairs))}."
        )
    if whole_epochs and any(epoch != int(epoch) for epoch, _ in pairs):
        raise RecipeError(f"channels leave between epochs, so that pairs take whole epochs; got {_said(tuple(pairs))}.")
    if goal and not math.isclose(pairs[-1][1], goal):
        raise RecipeError(f"the last of the (epoch, share) pairs must be what is asked for at the end, {goal:g}; got {pairs[-1][1]:g}.")


def _iterations(schedule: str) -> int:
    return int(float(schedule.partition(":")[2] or ITERATIONS))


def _ramp(schedule: str, epochs: int) -> tuple[float, float]:
    _, *numbers = schedule.split(":")
    return (float(numbers[0]), float(numbers[1])) if numbers else (0.0, RAMP * epochs)


def _end(schedule: Schedule, epochs: int) -> float:
    return _ramp(schedule, epochs)[1] if isinstance(schedule, str) else schedule[-1][0]
