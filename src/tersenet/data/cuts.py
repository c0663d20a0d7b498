"""Cutting samples into disjoint parts, and finding samples that two parts share."""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence

import numpy as np

from tersenet.errors import DataError

SHARES = {"evaluation": 0.2, "selection": 0.1}
CALIBRATION_MOST = 512
FEWEST = 5


def pick(labels: np.ndarray | None, count: int, generator: np.random.Generator, total: int) -> np.ndarray:
    """Indexes of `count` of `total` samples in random order, each class with its share (to within one sample).

    Samples are shuffled, put in order of class, and taken at even distances: systematic sampling.

    Args:
        labels: (total,) class indexes; None to take no notice of classes.
        count: at most `total`.
    """
    order = generator.permutation(total)
    if labels is not None:
        order = order[np.argsort(labels[order], kind="stable")]
    places = ((np.arange(count) + 0.5) * total / max(count, 1)).astype(np.int64)
    return generator.permutation(order[places])


def cut(inputs: Sequence[np.ndarray], labels: np.ndarray | None, seed: int, parts: Sequence[str]) -> dict[str, np.ndarray]:
    """Cut samples, stratified and seeded: 20 % evaluation, 10 % selection, up to 512 calibration (at most half of what is left), the rest train.

    Copies of one sample stay together, so that no part holds what another does; shares are then of different samples.

    Args:
        inputs: (n, ...) arrays.
        labels: (n,) classes to stratify by; None for none.
        parts: which of evaluation, selection, calibration to cut off.

    Returns:
        Indexes of each of `parts` and of ``train``; no index is in two.

    Raises:
        DataError: too few samples.
    """
    total = len(inputs[0])
    if total < FEWEST:
        raise DataError(f"{total} samples are too few to cut {', '.join(parts)} off them; at least {FEWEST} are needed (or give the parts yourself).")
    first = first_copies(inputs)
    left = np.unique(first)
    if len(left) < FEWEST:  # a handful of different samples: copies cannot but be in several parts
        first = left = np.arange(total)
    generator = np.random.default_rng(seed)
    different, chosen = len(left), {}
    for part in ("evaluation", "selection", "calibration"):
        if part not in parts:
            continue
        count = min(CALIBRATION_MOST, len(left) // 2) if part == "calibration" else max(1, round(SHARES[part] * different))
        taken = left[pick(None if labels is None else labels[left], count, generator, len(left))]
        left = np.setdiff1d(left, taken, assume_unique=True)
        chosen[part] = _with_copies(taken, first)[: CALIBRATION_MOST if part == "calibration" else total]
    return {**chosen, "train": _with_copies(generator.permutation(left), first)}


def _with_copies(index: np.ndarray, first: np.ndarray) -> np.ndarray:
    """The samples of `index`, each with its copies behind all of them."""
    copies = np.flatnonzero(np.isin(first, index))
    return np.concatenate([index, np.setdiff1d(copies, index, assume_unique=True)])


def also_in(one: Sequence[np.ndarray], other: Sequence[np.ndarray]) -> np.ndarray:
    """(n,) whether each sample of `one` also occurs in `other`, number for number, whatever shape it has there.

    Checksums find the candidates and their bytes decide, so that large parts cost one pass.

    Args:
        one, other: the inputs of each part, (n, ...) arrays; floats are compared in the shorter of their types, all else in one that holds both.
    """
    found = np.zeros(len(one[0]), bool)
    if len(one) != len(other) or any(_size(a) != _size(b) for a, b in zip(one, other, strict=True)):
        return found
    one, other = zip(*(_of_one_type(a, b) for a, b in zip(one, other, strict=True)), strict=True)
    left, right = _checksums(one), _checksums(other)
    suspects = np.flatnonzero(np.isin(left, right))
    if len(suspects):
        known = {_row(other, int(index)) for index in np.flatnonzero(np.isin(right, left))}
        found[suspects] = [_row(one, int(index)) in known for index in suspects]
    return found


def _size(array: np.ndarray) -> int:
    """Numbers of a sample."""
    return math.prod(array.shape[1:])


def _of_one_type(one: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if one.dtype == other.dtype:
        return one, other
    if one.dtype.kind == other.dtype.kind == "f":
        kind = min(one.dtype, other.dtype, key=lambda dtype: dtype.itemsize)
    elif "O" in (one.dtype.kind, other.dtype.kind):
        kind = np.dtype(object)
    else:
        kind = np.result_type(one, other)
    return one.astype(kind), other.astype(kind)


def different(inputs: Sequence[np.ndarray]) -> int:
    """How many different samples there are."""
    return len(np.unique(first_copies(inputs)))


def repeats(inputs: Sequence[np.ndarray]) -> int:
    """How many samples are copies of an earlier one."""
    first = first_copies(inputs)
    return len(first) - len(np.unique(first))


def first_copies(inputs: Sequence[np.ndarray]) -> np.ndarray:
    """(n,) for each sample the index of the first that equals it, number for number: its own where there is none."""
    sums = _checksums(inputs)
    first = np.arange(len(sums))
    values, counts = np.unique(sums, return_counts=True)
    seen: dict[bytes, int] = {}
    for index in np.flatnonzero(np.isin(sums, values[counts > 1])):
        first[index] = seen.setdefault(_row(inputs, int(index)), int(index))
    return first


def _checksums(inputs: Sequence[np.ndarray]) -> np.ndarray:
    arrays = [array if array.dtype.kind == "O" else np.ascontiguousarray(array) for array in inputs]
    sums = np.zeros(len(arrays[0]), np.int64)
    for index in range(len(sums)):
        value = 0
        for array in arrays:
            value = zlib.crc32(_bytes(array, index), value)
        sums[index] = value
    return sums


def _bytes(array: np.ndarray, index: int) -> bytes:
    """A sample's bytes; zeros have one sign."""
    if array.dtype.kind == "O":
        return str(array[index]).encode()
    return (array[index] + array.dtype.type(0) if array.dtype.kind == "f" else array[index]).tobytes()


def _row(inputs: Sequence[np.ndarray], index: int) -> bytes:
    return b"".join(_bytes(array, index) for array in inputs)
