"""What data hold, and what is wrong with them: for `tersenet inspect --data`."""

from __future__ import annotations

from collections.abc import Iterator
from math import sqrt
from typing import Any

import numpy as np

from tersenet.data import cuts
from tersenet.data.parts import Data, Part
from tersenet.data.samples import strata

FEW_CALIBRATION = 64  # min-max ranges of common networks still move below about this many samples
FEW_EVALUATION = 500
IMBALANCE = 10


def describe(data: Data) -> dict[str, Any]:
    """What data hold and what is wrong with them.

    Returns:
        Plain JSON: ``name``, ``task``, ``metric``, ``class_names``, ``fingerprint``, ``preparation``, ``notes``; ``parts``, each with
        ``n``, ``inputs`` (name, shape of a sample, dtype, range as stored) and ``classes`` (label -> samples); and ``problems``, sentences.
    """
    return {
        "name": data.name,
        "task": data.task.name,
        "metric": data.task.metric,
        "class_names": list(data.class_names),
        "fingerprint": data.fingerprint,
        "preparation": [way.to_json() for way in data.preparation],
        "notes": list(data.notes),
        "parts": {name: _part(data, part) for name, part in data.parts()},
        "problems": [*_missing(data), *_sizes(data), *_classes(data), *_constants(data), *_duplicates(data)],
    }


def _part(data: Data, part: Part) -> dict[str, Any]:
    names = part.names or tuple(f"input {number}" if number else "input" for number in range(len(part.inputs)))
    inputs = [_input(name, array) for name, array in zip(names, part.inputs, strict=True)]
    return {"n": len(part), "inputs": inputs, "classes": {_class(data, label): count for label, count in _counts(data, part).items()}}


def _input(name: str, array: np.ndarray) -> dict[str, Any]:
    if array.dtype.kind in "OU":
        lengths = [len(str(text)) for text in array.ravel().tolist()]
        return {"name": name, "shape": list(array.shape[1:]), "dtype": "text", "characters": [min(lengths), max(lengths)]}
    return {"name": name, "shape": list(array.shape[1:]), "dtype": str(array.dtype), "range": list(_range(array))}


def _range(array: np.ndarray) -> tuple[float, float]:
    return (float(array.min()), float(array.max())) if array.size else (0.0, 0.0)


def _counts(data: Data, part: Part) -> dict[int, int]:
    """Samples of each class; {} where labels are no classes."""
    labels = strata(part.labels) if data.task.kind in ("classification", "agreement") else None
    if labels is None:
        return {}
    values, counts = np.unique(labels, return_counts=True)
    return {int(value): int(count) for value, count in zip(values, counts, strict=True)}


def _class(data: Data, label: int) -> str:
    return data.class_names[label] if label < len(data.class_names) else str(label)


def _missing(data: Data) -> Iterator[str]:
    if not data.calibration:
        yield "there is no calibration part: ranges of activations cannot be measured, so int8 needs one."
    if not data.evaluation:
        yield "there is no evaluation part: nothing can be proven."
    elif data.evaluation.labels is None:
        yield "the evaluation part has no labels: only agreement with the float network can be measured, not how often it is right."
    for name in ("train", "selection"):
        part = getattr(data, name)
        if part and part.labels is None:
            yield f"the {name} part has no labels."


def _sizes(data: Data) -> Iterator[str]:
    calibration, evaluation = len(data.calibration), len(data.evaluation)
    if 0 < calibration < FEW_CALIBRATION:
        yield f"{calibration} calibration samples are few; {FEW_CALIBRATION} or more give steadier ranges."
    if 0 < evaluation < FEW_EVALUATION and data.task.bounded:
        width = 100 * 1.96 * sqrt(0.09 / evaluation)
        yield f"{evaluation} evaluation samples are few: an accuracy of 90 % is known to +-{width:.1f} points only."


def _classes(data: Data) -> Iterator[str]:
    counts = {name: found for name, part in data.parts() if (found := _counts(data, part))}
    everywhere = {label for found in counts.values() for label in found}
    for name, found in counts.items():
        least, most = min(found, key=found.__getitem__), max(found, key=found.__getitem__)
        if found[most] >= IMBALANCE * found[least]:
            yield (
                f"the {name} part is unbalanced: class {_class(data, most)} has {found[most]} samples, class {_class(data, least)} {found[least]}; "
                f"always answering {_class(data, most)} would be right on {100 * found[most] / sum(found.values()):.0f} %."
            )
        absent = sorted(everywhere - set(found))
        if absent:
            yield f"the {name} part lacks classes that other parts have: {', '.join(_class(data, label) for label in absent[:10])}."
    gaps = sorted(set(range(max(everywhere, default=-1) + 1)) - everywhere)
    if gaps:
        yield f"no sample has label {', '.join(map(str, gaps[:10]))}, although higher ones occur."


def _constants(data: Data) -> Iterator[str]:
    for name, part in data.parts():
        for number, array in enumerate(part.inputs):
            what = f"input {part.names[number] if part.names else number} of the {name} part"
            if array.dtype.kind in "OU" or len(part) < 2:
                continue
            low, high = _range(array)
            if low == high:
                yield f"{what} is the same number ({low:g}) everywhere."
            elif array.ndim > 1 and array[0].size > 1:
                flat = array.reshape(len(array), -1)
                blank = int((flat.max(1) == flat.min(1)).sum())
                if blank:
                    yield f"{blank} of {len(array)} samples of {what} are blank (one number throughout)."


def _duplicates(data: Data) -> Iterator[str]:
    parts = [(name, part) for name, part in data.parts() if part]
    for name, part in parts:
        again = cuts.repeats(part.inputs)
        if again:
            yield f"{again} of {len(part)} {name} samples repeat another of the same part."
    for index, (name, part) in enumerate(parts):
        for other, later in parts[index + 1 :]:
            common = int(cuts.also_in(part.inputs, later.inputs).sum())
            if common:
                yield f"{common} of {len(part)} {name} samples also occur in the {other} part."
