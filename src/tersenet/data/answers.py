"""What a user's own metric answers to made-up outputs: it is known by that, whatever its code reaches and however it is written."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import redirect_stderr, redirect_stdout
from typing import Any

import numpy as np

from tersenet.data.tasks import Task
from tersenet.tensors import TensorSpec

MOST = 1 << 25  # numbers of an output that are made up; where all samples need more, some are asked about
SAMPLES = 512
OPEN = 4  # the size of an axis that the network leaves open and no label tells


def answers_of(task: Task, labels: np.ndarray | None, outputs: Sequence[TensorSpec]) -> tuple[str, ...]:
    """A metric's answers, nine digits of each; () of the tasks that are built in, without labels, and of a metric that answers anew each time.

    Args:
        task: whose metric is asked.
        labels: (n, ...) of the part that judges.
        outputs: of the network.
    """
    if task.kind != "own" or labels is None or not outputs:
        return ()
    large = max(math.prod(_shape(spec, labels)) for spec in outputs) > MOST
    some = labels[:SAMPLES] if large else labels  # a metric may know how many there are
    once, again = ([_answer(task, made, some) for made in _outputs(some, outputs)] for _ in range(2))
    return tuple(once) if once == again else ()


def _answer(task: Task, outputs: Any, labels: np.ndarray) -> str:
    silence = io.StringIO()  # what it says of outputs that nobody has is for nobody
    try:
        with redirect_stdout(silence), redirect_stderr(silence), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return f"{float(task.function(outputs, labels)):.9g}"  # type: ignore[misc]  # a user's own has one
    except (Exception, SystemExit) as error:  # noqa: BLE001  # it may ask of outputs what these are not
        return type(error).__name__


def _outputs(labels: np.ndarray, specs: Sequence[TensorSpec]) -> Iterator[Any]:
    """Outputs to judge: normal numbers, small and large, shares of one, and shares that mostly vote for the label."""
    generator = np.random.default_rng(0)
    for way in ("normal", "large", "shares", "right"):
        made = tuple(_made(way, generator, _shape(spec, labels), labels).astype(spec.dtype) for spec in specs)
        yield made[0] if len(made) == 1 else made


def _shape(spec: TensorSpec, labels: np.ndarray) -> tuple[int, ...]:
    told = labels.shape + (OPEN,) * len(spec.shape)
    return (len(labels), *(told[axis] if size is None else size for axis, size in enumerate(spec.shape) if axis))


def _made(way: str, generator: np.random.Generator, shape: tuple[int, ...], labels: np.ndarray) -> np.ndarray:
    if way in ("normal", "large"):
        return (3 if way == "normal" else 30) * generator.standard_normal(shape)
    raw = generator.random(shape)
    if way == "right" and labels.ndim == 1 and len(shape) == 2 and labels.dtype.kind in "iu":
        hit = generator.random(len(labels)) < 0.7
        raw[hit, labels[hit] % shape[1]] += 2
    return raw / raw.sum(-1, keepdims=True) if len(shape) > 1 and shape[-1] > 1 else raw
