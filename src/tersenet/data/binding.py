"""How stored samples become what a network's input asks for: layout, added or dropped channel axis, flattening, scale, dtype."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from math import prod

import numpy as np

from tersenet.data.preparation import Preparation
from tersenet.errors import DataError
from tersenet.tensors import TensorSpec

KINDS = {"f": "fractions", "i": "whole numbers", "u": "whole numbers", "b": "true or false", "c": "complex numbers"}
CHECKED = 256  # samples that are prepared at once to look at them
SPATIAL = {1: "W", 2: "HW", 3: "DHW"}


def bound(preparation: Preparation, array: np.ndarray, spec: TensorSpec, image: bool) -> Preparation:
    """The preparation with everything decided that was left open.

    Args:
        preparation: as the user or the source declared it.
        array: (n, ...) as stored.
        spec: the network's input; its first axis is the batch.
        image: uint8 numbers are pixels, whatever their shape.

    Raises:
        DataError: no layout makes the shapes fit (both are named), or the dtype cannot be what the network takes.
    """
    _check_no_texts(array, spec)
    _check_dtype(preparation, spec)
    stored, layout, shape = _fit(array.shape[1:], spec, preparation)
    scale = preparation.scale
    target = np.dtype(spec.dtype)
    if scale is None:
        scale = 1 / 255 if array.dtype == np.uint8 and target.kind == "f" and (image or array.ndim > 2) else 1.0
    return replace(preparation, scale=scale, stored=stored, layout=layout, shape=shape, dtype=spec.dtype)


def _check_no_texts(array: np.ndarray, spec: TensorSpec) -> None:
    if array.dtype.kind in "OUST":
        cure = "turn them into token ids first (tersenet.Data.from_arrays)"
        raise DataError(f"the data are texts and the network's input {spec.name!r} takes {spec.dtype} of shape {_shown(spec)}: {cure}.")


def _check_dtype(preparation: Preparation, spec: TensorSpec) -> None:
    """Raise DataError where a declared dtype is of another kind than what the network takes: widths of one kind are the network's to say."""
    kinds = [KINDS.get(np.dtype(name).kind, name) for name in (preparation.dtype or spec.dtype, spec.dtype)]
    if kinds[0] != kinds[1]:
        got = f"the network's input {spec.name!r} takes {spec.dtype}, and the preparation declares {preparation.dtype} ({kinds[0]})"
        raise DataError(f"{got}; leave dtype out of tersenet.Preparation, the network's is taken.")


def _check_numbers(array: np.ndarray, spec: TensorSpec, target: np.dtype) -> None:
    """Raise DataError where the dtype that the network takes cannot hold the numbers."""
    if target.kind not in "iufb" or not array.size or array.dtype == target or array.dtype.kind == "b":
        return
    if target.kind == "b":
        if not np.isin(array, (0, 1)).all():
            raise DataError(f"the network's input {spec.name!r} takes bool, and the data reach from {array.min()} to {array.max()}; give 0 and 1.")
        return
    if target.kind in "iu" and array.dtype.kind == "f" and not np.array_equal(array, np.round(array)):
        raise DataError(f"the network's input {spec.name!r} takes {spec.dtype}, the data are fractions of dtype {array.dtype}; give whole numbers.")
    limits = np.finfo(target) if target.kind == "f" else np.iinfo(target)
    if array.min() < limits.min or array.max() > limits.max:
        raise DataError(f"the network's input {spec.name!r} takes {spec.dtype}, and the data reach from {array.min()} to {array.max()}.")


def check_fit(preparation: Preparation, array: np.ndarray, spec: TensorSpec, part: str) -> None:
    """Raise DataError where a part's prepared samples do not have the shape that the network takes, or its numbers do not fit the dtype."""
    _check_no_texts(array, spec)
    target = np.dtype(spec.dtype)
    if preparation.counts and target.kind in "iub":  # what is made of the stored numbers must fit
        for start in range(0, len(array), CHECKED):
            preparation.apply(array[start : start + CHECKED])
    else:
        _check_numbers(array, spec, target)
    got = preparation.apply(array[:1]).shape[1:]
    if not _matches(got, spec.shape[1:]):
        raise DataError(f"the {part} part's samples have shape {got}, the network's input {spec.name!r} takes shape {_shown(spec)}.")


def _fit(sample: tuple[int, ...], spec: TensorSpec, preparation: Preparation) -> tuple[str, str, tuple[int, ...]]:
    """(stored, layout, shape): the first way that fits, the plainest first."""
    wanted = spec.shape[1:]
    for stored, layout, shape in _ways(sample, spec, preparation):
        if _matches(_result(sample, stored, layout, shape), wanted):
            return stored, layout, shape
    raise DataError(
        f"the data's samples have shape {sample}, the network's input {spec.name!r} takes shape {_shown(spec)}, "
        "and no layout of images makes them fit; give data of that shape, or declare tersenet.Preparation(stored=..., layout=...)."
    )


def _ways(sample: tuple[int, ...], spec: TensorSpec, preparation: Preparation) -> Iterator[tuple[str, str, tuple[int, ...]]]:
    known, asked = preparation.stored, preparation.layout or spec.layout
    if preparation.shape:
        yield known, preparation.layout, preparation.shape
        return
    if known and asked and len(known) == len(sample) + 1 and not (set(known) ^ set(asked)) - {"C"}:
        yield known, asked, ()
        if preparation.layout:
            return
    for stored, layout, shape in _guesses(sample, spec.shape[1:]):
        if not known or not stored or stored == known:
            yield stored or known, layout or (known if not shape else ""), shape


def _guesses(sample: tuple[int, ...], wanted: tuple[int | None, ...]) -> Iterator[tuple[str, str, tuple[int, ...]]]:
    yield "", "", ()
    rank, target = len(sample), len(wanted)
    if rank == target and rank in (3, 4):  # sequences (n, time, features) are not turned around on a guess
        space = SPATIAL[rank - 1]
        yield f"N{space}C", f"NC{space}", ()
        yield f"NC{space}", f"N{space}C", ()
    if rank + 1 == target and rank in SPATIAL:
        yield f"N{SPATIAL[rank]}", f"NC{SPATIAL[rank]}", ()
        yield f"N{SPATIAL[rank]}", f"N{SPATIAL[rank]}C", ()
    if rank - 1 == target and target in SPATIAL:
        space = SPATIAL[target]
        yield f"NC{space}", f"N{space}", ()
        yield f"N{space}C", f"N{space}", ()
    sizes = [size for size in wanted if size is not None]
    if target == 1 and rank > 1 and sizes:
        yield "", "", (prod(sample),)
    if rank == 1 and target > 1 and len(sizes) == target and 1 in (sizes[0], sizes[-1]):
        yield "", "", tuple(sizes)


def _result(sample: tuple[int, ...], stored: str, layout: str, shape: tuple[int, ...]) -> tuple[int, ...] | None:
    """A sample's shape after `laid_out` and reshape; None where that is not possible."""
    if shape:
        return shape if prod(shape) == prod(sample) else None
    if not stored or not layout or stored == layout:
        return sample
    sizes = dict(zip(stored[1:], sample, strict=True))
    if "C" not in layout and sizes.get("C", 1) != 1:
        return None
    return tuple(sizes.get(letter, 1) for letter in layout[1:])


def _matches(sample: tuple[int, ...] | None, wanted: tuple[int | None, ...]) -> bool:
    return sample is not None and len(sample) == len(wanted) and all(want is None or got == want for got, want in zip(sample, wanted, strict=True))


def _shown(spec: TensorSpec) -> str:
    return "(" + ", ".join("any" if size is None else str(size) for size in spec.shape[1:]) + ("," if len(spec.shape) == 2 else "") + ")"
