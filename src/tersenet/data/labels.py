"""Labels as a task needs them: class indexes or targets, checked where they enter."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tersenet.data.tasks import SAY_REGRESSION, Task
from tersenet.errors import DataError

WORDS = "OUST"  # numpy's kinds of objects, texts and bytes


def class_indexes(labels: np.ndarray, part: str, class_names: Sequence[str]) -> np.ndarray:
    """Labels of a classification as int64 indexes: whole numbers, one-hot rows, (n, 1) columns, or names out of `class_names`.

    Raises:
        DataError: fractions, negative numbers, NaN, names that are not classes, indexes beyond the class names, or another dtype.
    """
    labels = plain(labels)
    if labels.dtype.kind in WORDS:
        return _indexes_of_names(labels, part, class_names)
    if labels.dtype.kind not in "biuf":
        raise DataError(f"the {part} part's labels have dtype {labels.dtype}; a classification needs integers from 0.")
    if labels.dtype.kind == "f":
        if not np.isfinite(labels).all():
            raise DataError(f"the {part} part's labels hold NaN or infinite numbers; a classification needs integers from 0.")
        if not np.array_equal(labels, np.round(labels)):
            got = f"the {part} part's labels have dtype {labels.dtype} and fractions"
            raise DataError(f"{got}; a classification needs integers from 0; {SAY_REGRESSION}.")
    if labels.ndim == 2 and labels.shape[1] > 1 and set(np.unique(labels)) <= {0, 1} and (labels.sum(1) == 1).all():
        labels = labels.argmax(1)  # one-hot
    elif labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    indexes = labels.astype(np.int64)
    if indexes.size and indexes.min() < 0:
        lowest = f"the {part} part's labels are out of range: the lowest is {indexes.min()}"
        raise DataError(f"{lowest}; classes count from 0, and {SAY_REGRESSION}.")
    if class_names and indexes.size and indexes.max() >= len(class_names):
        highest = f"the {part} part's labels are out of range: the highest is {indexes.max()}"
        raise DataError(f"{highest}, and there are {len(class_names)} class names (0..{len(class_names) - 1}).")
    return indexes


def _indexes_of_names(labels: np.ndarray, part: str, class_names: Sequence[str]) -> np.ndarray:
    index = {name: number for number, name in enumerate(class_names)}
    strangers = sorted({str(name) for name in labels.ravel().tolist()} - set(index))
    if strangers:
        known = ", ".join(class_names) or "none given"
        raise DataError(f"the {part} part's labels are names, and {', '.join(strangers[:3])} not among the class names ({known}).")
    return np.array([index[str(name)] for name in labels.ravel().tolist()], dtype=np.int64).reshape(labels.shape)


def targets(labels: np.ndarray, part: str) -> np.ndarray:
    """Labels of a regression as finite float32 numbers.

    Raises:
        DataError: NaN, infinite, or not numbers.
    """
    if labels.dtype.kind not in "biuf":
        raise DataError(f"the {part} part's labels have dtype {labels.dtype}; a regression needs numbers.")
    if not np.isfinite(labels).all():
        raise DataError(f"the {part} part's labels hold NaN or infinite numbers; labels must be finite. Take these samples out.")
    return labels.astype(np.float32)


def fitted(labels: np.ndarray, part: str, task: Task, class_names: Sequence[str]) -> np.ndarray:
    """Labels as the task needs them."""
    if task.kind == "classification":
        return class_indexes(labels, part, class_names)
    if task.kind == "regression":
        return targets(labels, part)
    if labels.dtype.kind == "f" and np.isnan(labels).any():
        raise DataError(f"the {part} part's labels hold NaN.")
    return labels


def names_of(labels: Sequence[np.ndarray | None]) -> tuple[str, ...]:
    """Class names, sorted, where labels are words; () where they are numbers."""
    words = [part for part in (plain(found) for found in labels if found is not None) if part.dtype.kind in WORDS]
    return tuple(sorted({str(name) for part in words for name in part.ravel().tolist()}))


def plain(labels: np.ndarray) -> np.ndarray:
    """Words that are all whole numbers, and objects that are, as int64: sorted as words, 10 would come before 2."""
    if labels.dtype.kind not in WORDS:
        return labels
    try:
        return np.array([int(str(entry)) for entry in labels.ravel().tolist()], dtype=np.int64).reshape(labels.shape)
    except (ValueError, OverflowError):
        return labels


def check_classes(labelled: Sequence[tuple[str, np.ndarray]]) -> None:
    """Raise DataError where all labels, or those of the evaluation part, are of one class only: any network would be perfect or useless."""
    evaluation = [labels for name, labels in labelled if name == "evaluation"]
    groups = [("labels", [labels for _, labels in labelled]), ("evaluation part's labels", evaluation)]
    for what, arrays in groups:
        merged = np.concatenate([array.ravel() for array in arrays]) if arrays else np.zeros(0, np.int64)
        if merged.size > 1 and (merged == merged[0]).all():
            raise DataError(f"the {what} hold one class only ({merged[0]}) in {merged.size} samples; a classification needs at least two.")
