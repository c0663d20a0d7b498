"""From parts that were read to parts that fit together: labels fitted to the task, missing parts cut, overlaps refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tersenet.data import cuts
from tersenet.data.labels import check_classes, fitted, names_of, plain
from tersenet.data.preparation import Preparation
from tersenet.data.samples import Part, strata
from tersenet.data.tasks import Task, task_of, unlabelled
from tersenet.errors import DataError, shortened
from tersenet.words import several

PARTS = ("train", "calibration", "selection", "evaluation")


@dataclass(frozen=True)
class Assembly:
    """Parts that fit together, the task that judges them, class names, and notes on what was cut."""

    parts: dict[str, Part]
    task: Task
    class_names: tuple[str, ...]
    notes: tuple[str, ...]


def assemble(
    parts: Mapping[str, Part], task: Any = None, class_names: Sequence[str] = (), preparation: Any = None, seed: int = 0, published: bool = False
) -> Assembly:
    """Make parts fit together.

    Args:
        parts: as they were read, by name; none empty.
        task: a name, a `Task`, (function, name, direction), or None to tell by the labels.
        class_names: in the order of the labels' numbers; () takes the labels' own words.
        preparation: one, or a tuple or dict of them, one for each input; None for none.
        seed: of what is cut.
        published: a source with a test part of its own: what it lacks is cut off its train part, without the samples that judge.

    Raises:
        DataError: the parts have different inputs, share samples (calibration may be a part of train), or have labels that the task cannot use.
    """
    first = next(iter(parts.values()))
    if first.names:
        parts = {part: found.ordered(first.names) if set(found.names) == set(first.names) else found for part, found in parts.items()}
    for part, found in parts.items():
        if len(found.inputs) != len(first.inputs) or found.names != first.names:
            got, other = (list(entry.names) or len(entry.inputs) for entry in (found, first))
            last = len(found.inputs) + (found.labels is not None) == len(first.inputs)
            hint = " The last array of a tuple is its labels; without labels give ((x, y), None)." if last else ""
            raise DataError(f"every part must have the same inputs; {part} has {got}, another has {other}.{hint}")
        if [array.dtype == np.uint8 for array in found.inputs] != [array.dtype == np.uint8 for array in first.inputs]:
            raise DataError(f"inputs must be uint8 in every part or in none, or their scales would differ; {part} differs.")
    labels = [None if part.labels is None else plain(part.labels) for part in parts.values()]
    class_names = _class_names(class_names) or names_of(labels)
    judged = task_of(task, next((found for found in labels if found is not None), None))
    ways = _preparations(preparation, first)
    ready = {part: replace(_fitted(part, found, judged, class_names), preparation=ways) for part, found in parts.items()}
    if judged.kind == "classification":
        check_classes([(part, found.labels) for part, found in ready.items() if found.labels is not None])
    ready, left_out = _without_judges(ready) if published else (ready, [])
    shared = check_disjoint(ready)
    ready, notes = _completed(ready, seed, published)
    notes = left_out + shared + notes
    if "evaluation" in ready and ready["evaluation"].labels is None:
        judged = unlabelled(judged)
        notes.append(f"the evaluation part has no labels: the float network's own outputs are the judge ({judged.metric}, SQNR)")
    return Assembly(ready, judged, class_names, tuple(notes))


def _class_names(given: Any) -> tuple[str, ...]:
    try:
        names = iter(given)
    except TypeError:
        names = None
    if names is None or isinstance(given, str):
        raise DataError(f"class names must be a list of names, got {shortened(given)}.")
    return tuple(str(name) for name in names)


def _completed(parts: dict[str, Part], seed: int, published: bool) -> tuple[dict[str, Part], list[str]]:
    """Cut what is missing off the train part: everything of a source or where `train` is all there is, else calibration alone."""
    missing = [part for part in PARTS if part not in parts]
    if "train" not in parts or not missing:
        return parts, []
    if not published and len(parts) > 1:
        if "calibration" not in missing:
            return parts, []
        missing = ["calibration"]
    train = parts["train"]
    given = cuts.also_in(train.inputs, parts["calibration"].inputs) if "calibration" in parts else np.zeros(len(train), bool)
    free = np.flatnonzero(~given)  # what calibrates may not judge
    chosen = {part: free[index] for part, index in cuts.cut(train[free].inputs, strata(train[free].labels), seed, missing).items()}
    chosen["train"] = np.concatenate([chosen["train"], np.flatnonzero(given)])
    made = {**parts, **{part: train[index] for part, index in chosen.items()}}
    if "calibration" in missing:
        made["calibration"] = replace(made["calibration"], labels=None)
    sizes = ", ".join(f"{len(made[part])} {part}" for part in (*missing, "train"))
    apart = "none in two parts" if cuts.different(train.inputs) >= cuts.FEWEST else "copies of one sample in several parts"
    return made, [f"cut from one set of {len(train)} samples, stratified and seeded, {apart}: {sizes}"]


def _without_judges(parts: dict[str, Part]) -> tuple[dict[str, Part], list[str]]:
    """Take out of a published train part what its test part holds as well.

    Raises:
        DataError: that is most of it.
    """
    if not {"train", "evaluation"} <= parts.keys() or not (count := _common(parts["train"], parts["evaluation"])) or _few(parts["evaluation"]):
        return parts, []
    train = parts["train"]
    if 2 * count > len(train):
        raise DataError(f"{count} of {len(train)} train samples are in the test part too; there must be others to learn from.")
    left = np.flatnonzero(~cuts.also_in(train.inputs, parts["evaluation"].inputs))
    return {**parts, "train": train[left]}, [f"{count} of {len(train)} train samples left out, for the evaluation part has them too"]


def check_disjoint(parts: Mapping[str, Part]) -> list[str]:
    """Hold apart what learns or chooses and what judges it.

    Returns:
        Notes on what a judge shares all the same, having a handful of different samples, which cannot but be in both.

    Raises:
        DataError: they share samples.
    """
    notes = []
    for judge, others in (("evaluation", ("train", "calibration", "selection")), ("selection", ("train", "calibration"))):
        for name in others:
            common = _common(parts[name], parts[judge]) if name in parts and judge in parts else 0
            found = f"{common} of {len(parts[name])} {name} samples overlap the {judge} part" if common else ""
            if common and not _few(parts[judge]):
                raise DataError(f"{found}; the parts must be disjoint, or the proof is a lie. Take them out of one of the two.")
            if common:
                notes.append(f"{found}, which has less than {cuts.FEWEST} different samples")
    return notes


def _common(part: Part, judge: Part) -> int:
    """How many samples of a part are in another."""
    return int(cuts.also_in(part.inputs, judge.inputs).sum())


def _few(judge: Part) -> bool:
    return cuts.different(judge.inputs) < cuts.FEWEST


def _fitted(name: str, part: Part, task: Task, class_names: Sequence[str]) -> Part:
    return part if part.labels is None else replace(part, labels=fitted(part.labels, name, task, class_names))


def _preparations(preparation: Any, part: Part) -> tuple[Preparation, ...]:
    """One preparation for each input."""
    count = len(part.inputs)
    if preparation is None:
        return (Preparation(),) * count
    if isinstance(preparation, Preparation):
        return (preparation,) * count
    if isinstance(preparation, Mapping):
        strangers = sorted(str(name) for name in preparation if name not in part.names)
        if strangers:
            known = ", ".join(part.names) or "not named (give them as a dict)"
            raise DataError(f"preparations are given for {', '.join(strangers)}; the inputs are {known}.")
        preparation = [preparation.get(name, Preparation()) for name in part.names]
    if not isinstance(preparation, Sequence):
        raise DataError(f"a preparation must be a tersenet.Preparation, or a tuple or dict of them, got {type(preparation).__name__}.")
    ways = tuple(preparation)
    if len(ways) != count or not all(isinstance(way, Preparation) for way in ways):
        got = len(ways) if len(ways) != count else shortened(preparation)
        raise DataError(f"{several(count, 'preparation')} (tersenet.Preparation), one for each input, must be given, got {got}.")
    return ways
