"""What a network's outputs are judged by."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from math import inf, isfinite
from typing import Any

import numpy as np

from tersenet.data.identity import identity_of
from tersenet.errors import DataError, check_known, shortened, unknown
from tersenet.plain import check_fields, check_text
from tersenet.tensors import class_axis

Metric = Callable[[Any, Any], Any]
# For whoever's targets were taken for classes, all of them being whole.
SAY_REGRESSION = "a network that predicts numbers needs task='regression' (in Data.from_arrays, or as a text of that name in an .npz)"


@dataclass(frozen=True)
class Task:
    """A metric, and how to read it.

    Args:
        name: image-classification, regression ...
        kind: classification, regression, own (a user's metric) or agreement (no labels: the float network is the judge).
        metric: the metric's name.
        direction: ``higher`` or ``lower``, whichever is better.
        bounded: the metric lies in 0..1, so that drops count in percentage points; else in percent of float's value.
        function: (outputs, labels) -> one number; None: the mean of `per_sample`.
        per_sample: (outputs, labels) -> (n,) numbers whose mean is the metric; None where it is not such a mean.
        layout: of the network's first input (NCHW, NHWC ...): it tells where dense outputs have their classes where no labels do. Data that are
            bound to a network know it.
    """

    name: str
    kind: str
    metric: str
    direction: str
    bounded: bool
    function: Metric | None = None
    per_sample: Metric | None = None
    layout: str = ""

    def __post_init__(self) -> None:
        check_fields(self, "task", DataError)
        for what in ("name", "kind", "metric"):
            check_text(getattr(self, what), f"task.{what}", DataError)
        check_known("direction of a metric", self.direction, ("higher", "lower"), DataError)
        if self.function is None and self.per_sample is None:
            raise DataError(f"task {self.name!r} needs a metric: a function, or one that scores each sample.")

    @classmethod
    def own(cls, function: Metric, metric: str, direction: str, bounded: bool = False) -> Task:
        """A user's own metric.

        Args:
            function: (outputs, labels) -> one number; outputs is an array (n, ...), or a tuple where the network has several.
            metric: its name.
            direction: ``higher`` or ``lower``, whichever is better.
            bounded: it lies in 0..1.
        """
        if not callable(function):
            raise DataError(f"a metric must be a function of (outputs, labels), got {type(function).__name__}.")
        if not isinstance(metric, str) or not isinstance(direction, str) or not isinstance(bounded, bool):
            raise DataError(
                "a metric has a name, a direction (higher, lower) and whether it is bounded, "
                f"got {shortened(metric)}, {shortened(direction)}, {shortened(bounded)}."
            )
        return cls("own", "own", metric, direction, bounded, function)

    @property
    def labelled(self) -> bool:
        """Whether judging needs labels; without them the float network's own outputs take their place."""
        return self.kind != "agreement"

    def value(self, outputs: Any, labels: Any) -> float:
        """The metric over all samples.

        Args:
            outputs: array (n, ...), or a tuple of them.
            labels: the part's labels; for an agreement task the float network's outputs.

        Raises:
            DataError: shapes do not fit, a label is out of range, or the metric is no number.
        """
        try:
            with redirect_stdout(sys.stderr):  # what the user's code prints must not mix with a record on stdout
                value = float((self.function or self._mean)(outputs, labels))
        except DataError:
            raise
        except Exception as error:  # a user's own metric may raise anything
            raise DataError(f"metric {self.metric!r} must return one number; it failed: {type(error).__name__}: {error}") from error
        if not isfinite(value):
            raise DataError(f"metric {self.metric!r} is {value}; it must be a finite number. The outputs may hold NaN.")
        return value

    def scores(self, outputs: Any, labels: Any) -> np.ndarray | None:
        """(n,) numbers whose mean is the metric, for a paired interval; None where it is not such a mean."""
        if same_class in self.functions:
            return same_class(outputs, labels, self.layout)
        with redirect_stdout(sys.stderr):
            return None if self.per_sample is None else np.asarray(self.per_sample(outputs, labels), dtype=np.float64)

    def _mean(self, outputs: Any, labels: Any) -> float:
        scores: Any = self.scores(outputs, labels)  # not None where there is no function
        return float(scores.mean())

    def drop_points(self, float_value: float, value: float) -> float:
        """How much worse `value` is than float's: worse is positive.

        Returns:
            Percentage points of a bounded metric; percent of float's value of an unbounded one.

        >>> round(ACCURACY.drop_points(0.91, 0.905), 6)
        0.5
        """
        worse = float_value - value if self.direction == "higher" else value - float_value
        if self.bounded:
            return 100.0 * worse
        if float_value == 0:
            return 0.0 if worse == 0 else inf if worse > 0 else -inf
        return 100.0 * worse / abs(float_value)

    def identity(self) -> list[str]:
        """What a fingerprint knows of the task."""
        return [self.name, self.kind, self.metric, self.direction, str(self.bounded), *identity_of(*self.functions)]

    @property
    def functions(self) -> tuple[Callable[..., Any], ...]:
        """What judges: the metric, and what it is the mean of."""
        return tuple(function for function in (self.function, self.per_sample) if function is not None)


def predicted(outputs: Any, labels: np.ndarray) -> np.ndarray:
    """The class that each output votes for, in the shape of the labels.

    Args:
        outputs: (n, classes), (n, classes, ...) or (n, ..., classes); (n,) or (n, 1) for two classes: a probability where all
            lie in 0..1, else a logit.
        labels: (n, ...) integers.
    """
    outputs = single(outputs)
    if outputs.shape == labels.shape or outputs.shape == (*labels.shape, 1):
        flat = outputs.reshape(labels.shape)
        threshold = 0.5 if flat.size and flat.min() >= 0 and flat.max() <= 1 else 0.0
        _check_range(labels, 2, f"; {SAY_REGRESSION}")
        return (flat > threshold).astype(np.int64)
    if outputs.ndim > labels.ndim + 1:  # (n, classes, 1, 1)
        outputs = outputs.reshape(len(outputs), *(size for size in outputs.shape[1:] if size != 1))
    axis = _class_axis(outputs.shape, labels.shape)
    _check_range(labels, outputs.shape[axis])
    return outputs.argmax(axis)


def _class_axis(outputs: tuple[int, ...], labels: tuple[int, ...]) -> int:
    if outputs[:-1] == labels:
        return len(outputs) - 1
    if len(outputs) == len(labels) + 1 and outputs[:1] + outputs[2:] == labels:
        return 1
    raise DataError(f"outputs of shape {outputs} do not fit labels of shape {labels}: a class axis beside the labels' axes is expected.")


def _check_range(labels: np.ndarray, classes: int, advice: str = "") -> None:
    if labels.size and (labels.min() < 0 or labels.max() >= classes):
        raise DataError(f"labels must lie in 0..{classes - 1} for a network of {classes} classes, got {labels.min()}..{labels.max()}{advice}.")


def single(outputs: Any) -> np.ndarray:
    """The one output that a built-in metric judges.

    Raises:
        DataError: there are several.
    """
    if isinstance(outputs, tuple | list):
        if len(outputs) != 1:
            raise DataError(f"this network has {len(outputs)} outputs; say what judges them: task=tersenet.Task.own(function, name, direction).")
        outputs = outputs[0]
    return np.asarray(outputs)


def correct(outputs: Any, labels: Any) -> np.ndarray:
    """(n,) share of each sample's labels that the outputs hit."""
    labels = np.asarray(labels)
    hits = predicted(outputs, labels).reshape(labels.shape) == labels
    return hits.reshape(len(labels), -1).mean(1)


def squared_error(outputs: Any, labels: Any) -> np.ndarray:
    """(n,) mean squared error of each sample."""
    outputs, labels = single(outputs), np.asarray(labels)
    if outputs.size != labels.size or len(outputs) != len(labels):
        raise DataError(f"outputs of shape {outputs.shape} do not fit labels of shape {labels.shape}; regression needs a label for each output.")
    return ((outputs.astype(np.float64).reshape(len(labels), -1) - labels.astype(np.float64).reshape(len(labels), -1)) ** 2).mean(1)


def same_class(outputs: Any, reference: Any, layout: str = "") -> np.ndarray:
    """(n,) share of votes that are the float network's; of several outputs, the first votes, along `tersenet.tensors.class_axis`."""
    outputs, votes = (np.asarray(value[0] if isinstance(value, tuple | list) else value) for value in (outputs, reference))
    if votes[:1].size <= 1:  # one number for two classes
        return correct(outputs, predicted(votes, np.zeros(votes.shape[:1], np.int64)))
    axis = class_axis(votes.shape, layout)
    if votes.shape[axis] == 1:  # one number a place
        return correct(outputs, predicted(votes, np.zeros(votes.shape, np.int64)))
    return (outputs.argmax(axis) == votes.argmax(axis)).reshape(len(votes), -1).mean(1)


def fidelity(outputs: Any, reference: Any) -> np.ndarray:
    """(n,) numbers whose mean is ``1 - noise / signal``: what is kept of the float network's energy. SQNR is ``-10 log10(noise / signal)``."""
    got, wanted = _flat(outputs), _flat(reference)
    if got.shape != wanted.shape:
        raise DataError(f"outputs of shape {got.shape} cannot be compared with the float network's of shape {wanted.shape}.")
    signal = (wanted**2).sum(1).mean()
    noise = ((got - wanted) ** 2).sum(1)
    return 1.0 - (noise / signal if signal > 0 else (noise > 0).astype(np.float64))


def _flat(outputs: Any) -> np.ndarray:
    arrays = outputs if isinstance(outputs, tuple | list) else (outputs,)
    return np.concatenate([np.asarray(array, dtype=np.float64).reshape(len(array), -1) for array in arrays], axis=1)


def _accuracy(name: str) -> Task:
    return Task(name, "classification", "accuracy", "higher", True, None, correct)


ACCURACY = _accuracy("classification")
AGREEMENT = Task("agreement", "agreement", "agreement with float", "higher", True, None, same_class)
FIDELITY = Task("fidelity", "agreement", "share of float's signal kept", "higher", True, None, fidelity)
TASKS = {
    "classification": ACCURACY,
    "image-classification": _accuracy("image-classification"),
    "text-classification": _accuracy("text-classification"),
    "audio-classification": _accuracy("audio-classification"),
    "regression": Task("regression", "regression", "mean squared error", "lower", False, None, squared_error),
    "agreement": AGREEMENT,
    "fidelity": FIDELITY,
}


def task_of(task: Any, labels: np.ndarray | None) -> Task:
    """A task from what the user said: a name, a `Task`, a tuple (function, metric's name, direction), or None to tell by the labels.

    Raises:
        DataError: an unknown name (close matches named), or none of these.
    """
    if isinstance(task, Task):
        return task
    if isinstance(task, str):
        if task not in TASKS:
            raise DataError(unknown("task", task, TASKS))
        return TASKS[task]
    if isinstance(task, tuple) and len(task) == 3:
        return Task.own(*task)
    if task is not None:
        raise DataError(f"a task is a name, a tersenet.Task, or a tuple (function, name, direction); got {type(task).__name__}.")
    if labels is None:
        return AGREEMENT
    return TASKS["regression"] if labels.dtype.kind == "f" and not np.array_equal(labels, np.round(labels)) else ACCURACY


def unlabelled(task: Task) -> Task:
    """What judges in a task's stead where the evaluation part has no labels."""
    if not task.labelled:
        return task
    return replace(FIDELITY if task.kind == "regression" else AGREEMENT, layout=task.layout)
