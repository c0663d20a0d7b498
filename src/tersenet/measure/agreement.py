"""How far two networks' outputs, or two files' inner tensors, are from one another."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tersenet.errors import DataError
from tersenet.record import Agreement
from tersenet.tensors import class_axis

SQNR_LIMIT_DB = 200.0


def sqnr_db(reference: np.ndarray, other: np.ndarray) -> float:
    """Signal to quantization noise: ``10 log10(sum(reference**2) / sum((reference - other)**2))``.

    Args:
        reference, other: arrays of the same shape.

    Returns:
        Decibels, held within +-200: 200 where the two are equal, -200 where the reference is zero and the other is not.

    >>> round(sqnr_db(np.array([3.0, 4.0]), np.array([3.0, 4.5])), 2)
    20.0
    """
    first, second = np.asarray(reference, np.float64), np.asarray(other, np.float64)
    if first.shape != second.shape:
        raise DataError(f"two arrays must have the same shape to be compared, got {first.shape} and {second.shape}.")
    return decibels(float(np.sum(first * first)), float(np.sum((first - second) ** 2)))


def decibels(signal: float, noise: float) -> float:
    """``10 log10(signal / noise)`` of two powers, held within +-`SQNR_LIMIT_DB`; what is not finite counts as noise alone."""
    if not np.isfinite(signal) or not np.isfinite(noise):
        return -SQNR_LIMIT_DB
    if noise == 0:
        return SQNR_LIMIT_DB
    if signal == 0:
        return -SQNR_LIMIT_DB
    return float(np.clip(10 * (np.log10(signal) - np.log10(noise)), -SQNR_LIMIT_DB, SQNR_LIMIT_DB))


def agreement(
    simulated: np.ndarray | Sequence[np.ndarray],
    measured: np.ndarray | Sequence[np.ndarray],
    step: float | None = None,
    classes: bool = True,
    layout: str = "",
) -> Agreement:
    """Compare a file's outputs with those of the simulated graph that it came from.

    Args:
        simulated: outputs, samples first: one array, or one for each output of the network. Of several, classes are the first's.
        measured: the same of the file.
        step: the scale of the quantized output (its grid's step); None where the output is float.
        classes: outputs are scores of classes, along `tersenet.tensors.class_axis`.
        layout: of the network's first input, where it is known.

    Returns:
        Samples whose two best simulated classes lie within one step are ties: left out of `top1`, and counted.

    Raises:
        DataError: the shapes differ.
    """
    firsts, seconds = _arrays(simulated), _arrays(measured)
    if [array.shape for array in firsts] != [array.shape for array in seconds]:
        raise DataError(f"outputs must have equal shapes, got {[array.shape for array in firsts]} and {[array.shape for array in seconds]}.")
    flat = [np.concatenate([array.reshape(-1).astype(np.float64) for array in arrays]) for arrays in (firsts, seconds)]
    axis = class_axis(firsts[0].shape, layout)
    top1, ties = _top1(firsts[0], seconds[0], step, axis) if classes and firsts[0].ndim > 1 and firsts[0].shape[axis] > 1 else (None, 0)
    largest = float(np.max(np.abs(flat[0] - flat[1]))) if flat[0].size else 0.0
    return Agreement(top1, ties, largest, sqnr_db(flat[0], flat[1]), len(firsts[0]))


def _arrays(outputs: np.ndarray | Sequence[np.ndarray]) -> list[np.ndarray]:
    return [outputs] if isinstance(outputs, np.ndarray) else [np.asarray(array) for array in outputs]


def _top1(simulated: np.ndarray, measured: np.ndarray, step: float | None, axis: int) -> tuple[float | None, int]:
    first, second = (np.moveaxis(array, axis, -1).reshape(-1, array.shape[axis]) for array in (simulated, measured))
    best = np.partition(first.astype(np.float64), -2, axis=-1)[:, -2:]
    # outputs are multiples of the step in float32, so their difference is one only up to rounding
    ties = best[:, 1] - best[:, 0] <= (step or 0.0) * (1 + 1e-3)
    same = first.argmax(-1) == second.argmax(-1)
    counted = same[~ties]
    return (float(counted.mean()) if counted.size else None), int(ties.sum())
