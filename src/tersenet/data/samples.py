"""The samples of one part: arrays as they are stored, checked where they enter, prepared batch by batch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tersenet.data import cuts
from tersenet.data.given import as_array, check_json, check_whole
from tersenet.data.preparation import Preparation
from tersenet.errors import DataError
from tersenet.plain import check_fields


@dataclass(frozen=True, eq=False, repr=False)
class Part:
    """Samples of one purpose, as they are stored; `batches` prepares them.

    Args:
        inputs: one (n, ...) array for each input of the network.
        labels: (n, ...), or None.
        names: of the inputs, where they were given by name.
        preparation: one for each input.
    """

    inputs: tuple[np.ndarray, ...] = ()
    labels: np.ndarray | None = None
    names: tuple[str, ...] = ()
    preparation: tuple[Preparation, ...] = ()

    def __post_init__(self) -> None:
        check_fields(self, "a part", DataError)

    def __repr__(self) -> str:
        inputs = ", ".join(f"{array.dtype} {array.shape[1:]}" for array in self.inputs)
        return f"Part({len(self)} samples of {inputs}, {'not ' if self.labels is None else ''}labelled)" if self.inputs else "Part(empty)"

    def __len__(self) -> int:
        return len(self.inputs[0]) if self.inputs else 0

    def __getitem__(self, index: slice | np.ndarray) -> Part:
        """The samples of a slice or of an array of indexes."""
        return replace(self, inputs=tuple(array[index] for array in self.inputs), labels=None if self.labels is None else self.labels[index])

    def ordered(self, names: Sequence[str]) -> Part:
        """The same samples with their named inputs in this order.

        Raises:
            DataError: a name is not among the part's.
        """
        missing = [name for name in names if name not in self.names]
        if missing:
            raise DataError(f"the inputs must be {', '.join(names)}; the data lack {', '.join(missing)} and have {', '.join(self.names)}.")
        order = [self.names.index(name) for name in names]
        ways = tuple(self.preparation[place] for place in order) if self.preparation else ()
        return replace(self, inputs=tuple(self.inputs[place] for place in order), names=tuple(names), preparation=ways)

    def take(self, count: int, seed: int | None = None) -> Part:
        """At most `count` samples: the first, or with a seed a random choice that keeps each class's share."""
        check_whole(count, "a number of samples")
        if seed is not None:
            check_whole(seed, "a seed")
        if count >= len(self):
            return self
        if seed is None:
            return self[:count]
        return self[cuts.pick(strata(self.labels), count, np.random.default_rng(seed), len(self))]

    def batches(self, size: int) -> Iterator[tuple[tuple[np.ndarray, ...], np.ndarray | None]]:
        """Prepared batches, in order, one at a time.

        Args:
            size: samples in a batch; the last may have fewer.

        Returns:
            An iterator of (inputs as the network takes them, labels or None); fresh arrays, free to be changed.
        """
        check_whole(size, "a batch's size", least=1)
        return (self.batch(slice(start, start + size)) for start in range(0, len(self), size))

    def batch(self, index: slice | np.ndarray) -> tuple[tuple[np.ndarray, ...], np.ndarray | None]:
        """The samples of a slice or of an array of indexes, prepared; fresh arrays."""
        labels = None if self.labels is None else np.array(self.labels[index])
        return tuple(way.apply(array[index]) for way, array in zip(self.preparation, self.inputs, strict=True)), labels

    def arrays(self) -> tuple[np.ndarray, ...]:
        """All inputs, prepared at once: for small parts."""
        return self.batch(slice(None))[0]


def strata(labels: np.ndarray | None) -> np.ndarray | None:
    """Labels that a cut can be stratified by: one whole number a sample."""
    return labels if labels is not None and labels.ndim == 1 and labels.dtype.kind in "biu" else None


def pair(value: Any) -> tuple[Any, Any]:
    """(inputs, labels) of what was given for a part: a pair, or inputs alone."""
    if isinstance(value, tuple):
        if len(value) != 2:
            several = "several inputs go in a dict or a tuple of their own: ((a, b), y)"
            raise DataError(f"a labelled part is a pair (x, y), got a tuple of {len(value)}; {several}.")
        return value
    return value, None


def read_part(part: str, inputs: Any, labels: Any) -> Part:
    """A part of checked, read-only arrays."""
    names: tuple[str, ...] = ()
    if isinstance(inputs, Mapping):
        names, inputs = tuple(str(name) for name in inputs), tuple(inputs.values())
    arrays = tuple(checked(array, f"the {part} part") for array in (inputs if isinstance(inputs, tuple) else (inputs,)))
    lengths = {len(array) for array in arrays}
    if not arrays or 0 in lengths:
        raise DataError(f"the {part} part is empty; it needs at least one sample (leave it out where there is none).")
    if labels is not None:
        labels = as_array(labels, f"the {part} part's labels")
        if labels.dtype.kind == "O":
            check_json(labels, f"the {part} part's labels")
        lengths.add(len(labels) if labels.ndim else -1)
    if len(lengths) > 1:
        counts = [len(array) for array in arrays] + ([] if labels is None else [len(labels) if labels.ndim else "a single number"])
        what = "inputs" if labels is None else "inputs and labels"
        raise DataError(f"the {part} part's {what} must have equal lengths, got {' and '.join(map(str, counts))}.")
    return Part(arrays, labels, names)


def checked(value: Any, what: str) -> np.ndarray:
    """An input as an array of finite numbers (or of texts), at least one axis.

    Raises:
        DataError: NaN, infinite, objects, complex numbers, or a single number.
    """
    array = as_array(value, what)
    if array.ndim == 0:
        raise DataError(f"{what} must be an array of samples, got a single {array.dtype}.")
    if array.dtype.kind == "U" or (array.dtype.kind == "O" and all(isinstance(entry, str) for entry in array.ravel().tolist())):
        return array
    if array.dtype.kind not in "biuf":
        raise DataError(f"{what} has dtype {array.dtype}; numbers are needed. Objects come of samples with different shapes: pad them to one.")
    if array.dtype.kind == "f" and array.size:
        low, high = float(array.min()), float(array.max())  # two passes without a temporary: NaN and infinity survive both
        if np.isnan(low) or np.isnan(high):
            raise DataError(f"{what} holds NaN in {int(np.isnan(array).sum())} places; every number must be finite.")
        if np.isinf(low) or np.isinf(high):
            raise DataError(f"{what} holds infinite numbers ({low} to {high}); every number must be finite.")
    return array
