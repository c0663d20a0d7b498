"""The task's metric of anything callable, and how sure one can be of a drop: the same samples go through both."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from math import isfinite, nan
from typing import TYPE_CHECKING, Any

import numpy as np

from tersenet.data.tasks import Task
from tersenet.errors import DataError
from tersenet.measure.bootstrap import interval, mean_interval
from tersenet.progress import Progress, silent
from tersenet.record import Quality

if TYPE_CHECKING:
    from tersenet.data.parts import Part

Z = 1.959964  # of a 95 % interval
DRAWS = 200  # of a metric that does not score each sample, and is computed anew for each


@dataclass(frozen=True)
class Scores:
    """What one callable reached on one part.

    Args:
        value: the metric.
        samples: (n,) scores whose mean is the metric; None where it is not such a mean.
        outputs: of all samples, an array (n, ...) or a tuple of them.
        labels: that the outputs were judged by; of a task without labels the float network's outputs.
    """

    value: float
    samples: np.ndarray | None
    outputs: Any
    labels: Any

    @property
    def n(self) -> int:
        return len(self.outputs[0] if isinstance(self.outputs, tuple) else self.outputs)


def outputs_of(run: Callable[..., Any], part: Part, size: int = 32, progress: Progress = silent) -> tuple[Any, Any]:
    """Run every sample of a part.

    Args:
        run: a network, a simulation or an artifact: takes arrays in the network's order, returns an array or a tuple of them.
        part: the samples.
        size: of a batch.
        progress: called with (done, total, what) after each batch.

    Returns:
        The outputs, an array (n, ...) or a tuple of them, and the labels, None where the part has none.

    Raises:
        DataError: the part is empty.
    """
    pieces, labels, done = [], [], 0
    for inputs, judged in part.batches(size):
        result = run(*inputs)
        pieces.append(result if isinstance(result, tuple | list) else (result,))
        labels.append(judged)
        done += len(pieces[-1][0])
        progress(done, len(part), "measuring quality")
    if not pieces:
        raise DataError("quality needs at least one evaluation sample, got none.")
    joined = tuple(np.concatenate([np.asarray(array) for array in arrays]) for arrays in zip(*pieces, strict=True))
    known = [entry for entry in labels if entry is not None]
    return (joined[0] if len(joined) == 1 else joined), np.concatenate(known) if known else None


def evaluate(
    run: Callable[..., Any],
    part: Part,
    task: Task,
    size: int = 32,
    reference: Any = None,
    progress: Progress = silent,
) -> Scores:
    """The metric of a callable on a part. Arguments as `outputs_of`, and:

    Args:
        task: what judges.
        reference: for a task without labels, the float network's outputs; None: this is the float network.
    """
    outputs, labels = outputs_of(run, part, size, progress)
    return score(outputs, labels if task.labelled else outputs if reference is None else reference, task)


def score(outputs: Any, labels: Any, task: Task) -> Scores:
    """The metric of outputs that are at hand."""
    if labels is None:
        raise DataError(f"task {task.name!r} is judged by labels, and this part has none.")
    return Scores(task.value(outputs, labels), task.scores(outputs, labels), outputs, labels)


def compare(reference: Scores, scores: Scores, task: Task, seed: int = 0, progress: Progress = silent) -> Quality:
    """The drop from float to compressed on the same samples, with its paired 95 % interval.

    Args:
        reference: the float file's.
        scores: the compressed file's.
        task: what judged them.
        seed: of the resampling, where it is needed.
        progress: called with (done, total, what) where the metric is asked again and again, which a user's own may take long for.
    """
    if reference.n != scores.n:
        raise DataError(f"both files must see the same samples, got {reference.n} and {scores.n}.")
    drop = task.drop_points(reference.value, scores.value)
    ends = _interval(reference, scores, task, seed, progress) if isfinite(drop) else None
    return Quality(
        metric=task.metric,
        value=scores.value,
        drop_points=drop if isfinite(drop) else None,
        drop_points_ci95=ends,
        n=scores.n,
        unit="points" if task.bounded else "percent",
        judge="labels" if task.labelled else "float outputs",
        direction=task.direction,
    )


def _interval(reference: Scores, scores: Scores, task: Task, seed: int, progress: Progress) -> tuple[float, float] | None:
    if reference.samples is None or scores.samples is None:
        done = count(1)

        def drop(drawn: np.ndarray) -> float:
            points = _resampled(reference, scores, task, drawn)
            progress(next(done), DRAWS, f"how sure the drop is ({task.metric} of samples drawn anew)")
            return points

        return interval(drop, scores.n, resamples=DRAWS, seed=seed)
    first, second = reference.samples, scores.samples
    if not task.bounded:
        return interval(lambda drawn: task.drop_points(float(first[drawn].mean()), float(second[drawn].mean())), scores.n, seed=seed)
    worse = (first - second) if task.direction == "higher" else (second - first)
    hits = np.isin(first, (0.0, 1.0)).all() and np.isin(second, (0.0, 1.0)).all()
    ends = matched_interval(int((worse > 0).sum()), int((worse < 0).sum()), scores.n) if hits else mean_interval(worse)
    return None if ends is None else (100 * ends[0], 100 * ends[1])


def _resampled(reference: Scores, scores: Scores, task: Task, drawn: np.ndarray) -> float:
    """The drop on drawn samples; NaN where the metric has no value there (a class that was not drawn)."""
    labels = _rows(scores.labels, drawn)
    try:
        return task.drop_points(task.value(_rows(reference.outputs, drawn), labels), task.value(_rows(scores.outputs, drawn), labels))
    except DataError:
        return nan


def _rows(arrays: Any, drawn: np.ndarray) -> Any:
    return tuple(array[drawn] for array in arrays) if isinstance(arrays, tuple) else np.asarray(arrays)[drawn]


def matched_interval(lost: int, won: int, n: int) -> tuple[float, float]:
    """95 % interval of the drop in a share of hits, the same samples judged twice; sound where few or no samples changed sides.

    With half a sample added to each cell of the two-by-two table: ``d = (b - c) / (n + 2)``,
    ``d +- z sqrt((b + c) - (b - c)**2 / (n + 2)) / (n + 2)``.

    Args:
        lost: samples (b) that only the first hit.
        won: samples (c) that only the second hit.
        n: all samples.

    >>> low, high = matched_interval(0, 0, 360)
    >>> round(100 * low, 2), round(100 * high, 2)
    (-0.54, 0.54)

    Reference:
        Agresti and Min (2005), "Simple improved confidence intervals for comparing matched proportions", section 3.
    """
    more_lost, more_won, more = lost + 0.5, won + 0.5, n + 2
    drop = (more_lost - more_won) / more
    half = Z * ((more_lost + more_won) - (more_lost - more_won) ** 2 / more) ** 0.5 / more
    return drop - half, drop + half
