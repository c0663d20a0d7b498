"""Data in four disjoint parts: train, calibration, selection, evaluation. numpy in, numpy out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from tersenet.data.answers import answers_of
from tersenet.data.assembly import PARTS, Assembly, assemble, check_disjoint
from tersenet.data.binding import bound, check_fit
from tersenet.data.given import check_whole
from tersenet.data.identity import called
from tersenet.data.preparation import Preparation
from tersenet.data.samples import Part, pair, read_part
from tersenet.data.tasks import ACCURACY, SAY_REGRESSION, Task
from tersenet.errors import DataError, check_known, shortened
from tersenet.plain import check_fields, check_text
from tersenet.tensors import TensorSpec
from tersenet.words import several

__all__ = ["Data", "Part"]


@dataclass(frozen=True, eq=False, repr=False)
class Data:
    """Four disjoint parts and the task that they are for.

    Args:
        train, selection, evaluation: with labels, where there are any.
        calibration: without.
        task: what outputs are judged by.
        name: what reports call the data.
        class_names: in the order of the labels' numbers; () where they are not known.
        notes: sentences for the report: what was cut from what, what judges.
        answers: what a user's own metric answers to made-up outputs of the network that the data were bound to.
    """

    train: Part = field(default_factory=Part)
    calibration: Part = field(default_factory=Part)
    selection: Part = field(default_factory=Part)
    evaluation: Part = field(default_factory=Part)
    task: Task = ACCURACY
    name: str = "data"
    class_names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    answers: tuple[str, ...] = ()
    apart: bool = field(default=False, init=False)  # known to be disjoint: a pass over all samples less

    def __post_init__(self) -> None:
        for part, found in self.parts():
            if not isinstance(found, Part):
                raise DataError(f"{part} must be a Part of samples, got {type(found).__name__}; arrays go through Data.from_arrays.")
        if not isinstance(self.task, Task) or not isinstance(self.name, str):
            raise DataError(f"data have a tersenet.Task and a name, got {type(self.task).__name__} and {type(self.name).__name__}.")
        check_fields(self, "data", DataError)
        for part, found in self.parts():
            if len(found.preparation) != len(found.inputs):
                got = f"the {part} part has {several(len(found.inputs), 'input')} and {several(len(found.preparation), 'preparation')}"
                raise DataError(f"each input has a preparation of its own, and {got}; give as many, Preparation() for none.")
        for what in ("name", "class_names", "notes"):
            check_text(getattr(self, what), f"data.{what}", DataError)

    @classmethod
    def from_arrays(
        cls,
        train: Any = None,
        calibration: Any = None,
        selection: Any = None,
        evaluation: Any = None,
        *,
        task: Any = None,
        name: str = "arrays",
        class_names: Sequence[str] = (),
        preparation: Any = None,
    ) -> Data:
        """Data from arrays, tensors or lists. Parts may be left out.

        `train` alone is cut as a source without a test part is. Where `train` is given and `calibration` is not, up to 512 samples are cut off
        `train` for it, so that the parts stay disjoint.

        Args:
            train, selection, evaluation: (x, y); for `evaluation` also x alone: then the float network's own outputs are the judge.
            calibration: x. Each x is an array (n, ...), or a dict of them by input name; (also a tuple of them in the pairs and in `calibration`).
            task: a name (`tersenet.data.tasks.TASKS`), a `Task`, or (function, name, direction); None: told by the labels.
            class_names: in the order of the labels' numbers.
            preparation: a `Preparation`, or a tuple or dict of them, one for each input.

        Raises:
            DataError: empty, NaN, infinite, object arrays, unequal lengths, labels that the task cannot use, or parts that share samples.
        """
        given = {"train": pair(train), "calibration": (calibration, None), "selection": pair(selection), "evaluation": pair(evaluation)}
        parts = {part: read_part(part, *found) for part, found in given.items() if found[0] is not None}
        if not parts:
            raise DataError("no data were given: at least one of train, calibration, selection, evaluation is needed.")
        return cls.of(assemble(parts, task, class_names, preparation), name)

    @classmethod
    def of(cls, assembly: Assembly, name: str) -> Data:
        """Data from parts that were made to fit together."""
        parts: dict[str, Any] = dict(assembly.parts)
        made = cls(**parts, task=assembly.task, name=name, class_names=assembly.class_names, notes=assembly.notes)
        object.__setattr__(made, "apart", True)
        return made

    def __repr__(self) -> str:
        return f"Data({self.name!r}, {self.task.name}: {', '.join(f'{len(part)} {name}' for name, part in self.parts())})"

    @property
    def preparation(self) -> tuple[Preparation, ...]:
        """What is done to each input before the network sees it; the same in every part."""
        return next((part.preparation for _, part in self.parts() if part), ())

    def parts(self) -> list[tuple[str, Part]]:
        """(name, part) of all four, empty ones too."""
        return [(name, getattr(self, name)) for name in PARTS]

    def bind(self, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec] = ()) -> Data:
        """The same data as a network takes them: inputs in its order, laid out, scaled and cast as it asks.

        Args:
            inputs: the network's inputs; the first axis of each is the batch.
            outputs: its outputs, where labels shall be checked against the number of classes.

        Raises:
            DataError: shapes or dtypes do not fit (both are named), a label has no class, or parts that somebody put together share samples.
        """
        for what, specs in (("inputs", inputs), ("outputs", outputs)):
            if not isinstance(specs, Sequence) or not all(isinstance(spec, TensorSpec) for spec in specs):
                raise DataError(f"{what} must be those of a network (model.{what}), got {shortened(specs)}.")
        try:
            return self._bound(inputs, outputs)
        except DataError as error:
            raise error if str(error).startswith(f"{self.name}: ") else DataError(f"{self.name}: {error}") from error

    def _bound(self, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> Data:
        named = {part: _in_order(found, inputs) if found else found for part, found in self.parts()}
        sample = next((part for part in named.values() if part), None)
        if sample is None:
            raise DataError("the data are empty; a network needs samples.")
        if not self.apart:
            check_disjoint({part: found for part, found in named.items() if found})
        image = self.task.name == "image-classification"
        preparation = tuple(bound(way, array, spec, image) for way, array, spec in zip(sample.preparation, sample.inputs, inputs, strict=True))
        for part, found in named.items():
            for way, array, spec in zip(preparation, found.inputs, inputs, strict=bool(found)):
                check_fit(way, array, spec, part)
        self._check_labels(outputs)
        made = self.changed(**{part: replace(found, preparation=preparation) if found else found for part, found in named.items()})
        with called(*self.task.functions):
            answers = answers_of(self.task, (self.evaluation or self.selection).labels, outputs)
        made = made.changed(answers=answers, task=replace(self.task, layout=inputs[0].layout))
        object.__setattr__(made, "apart", True)
        return made

    def _check_labels(self, outputs: Sequence[TensorSpec]) -> None:
        """Raise DataError where a label is beyond the classes of a network's one output (n, classes)."""
        if self.task.kind != "classification" or len(outputs) != 1 or len(outputs[0].shape) != 2 or not outputs[0].shape[1]:
            return
        single = outputs[0].shape[1] == 1
        classes = 2 if single else outputs[0].shape[1]
        has = f"the network has {classes} classes (0..{classes - 1})"
        if single:
            has = f"the network's one output tells 2 classes apart (0..1); {SAY_REGRESSION}"
        for name, part in self.parts():
            if part.labels is not None and part.labels.ndim != 1:
                wanted = f"the network has one vote among {classes} classes for a sample, which takes one label a sample"
                advice = f"; {SAY_REGRESSION}" if part.labels.shape[1:] == tuple(outputs[0].shape[1:]) else ""
                raise DataError(f"the {name} part's labels have shape {part.labels.shape[1:]} a sample; {wanted}{advice}.")
            if part.labels is not None and part.labels.dtype.kind not in "biu":
                raise DataError(f"the {name} part's labels have dtype {part.labels.dtype}; a classification needs integers from 0.")
            if part.labels is not None and part.labels.max() >= classes:
                highest = f"the {name} part's labels are out of range: the highest is {part.labels.max()}"
                raise DataError(f"{highest}, and {has}.")

    def without_evaluation(self) -> Data:
        """The same data as a step may see them."""
        return self.changed(evaluation=Part())

    def limited(self, part: str, count: int, seed: int = 0) -> Data:
        """The same data with at most `count` samples in a part, chosen by the seed with each class's share."""
        check_known("part", part, PARTS, DataError)
        check_whole(seed, "a seed")
        return self.changed(**{part: getattr(self, part).take(count, seed)})

    def changed(self, **fields: Any) -> Data:
        """The same data with other fields; of their parts, with the same samples, fewer of them, or each of them prepared."""
        made = replace(self, **fields)
        object.__setattr__(made, "apart", self.apart)
        return made

    def noted(self, note: str) -> Data:
        """The same data with one more note for the report."""
        return self.changed(notes=(*self.notes, note))

    def renamed(self, name: str) -> Data:
        """The same data under another name."""
        return self.changed(name=name)

    @cached_property
    def fingerprint(self) -> str:
        """A SHA-256 of every part, label, task and preparation: equal for equal data, in every process."""
        digest = hashlib.sha256(
            json.dumps([self.task.identity(), *self.answers, self.class_names, [way.to_json() for way in self.preparation]]).encode()
        )
        for name, part in self.parts():
            for array in (*part.inputs, *([] if part.labels is None else [part.labels])):
                digest.update(f"{name} {array.dtype} {array.shape}".encode())
                digest.update(json.dumps(array.tolist()).encode() if array.dtype.kind == "O" else np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    def to_json(self) -> dict[str, Any]:
        """What a report says of the data."""
        counts = {f"n_{name}": len(part) for name, part in self.parts()}
        judged = {"name": self.name, "task": self.task.name, "metric": self.task.metric}
        return {**judged, **counts, "fingerprint": self.fingerprint, "notes": list(self.notes)}


def _in_order(part: Part, specs: Sequence[TensorSpec]) -> Part:
    """The part with its inputs in the order of the network's."""
    wanted = [spec.name for spec in specs]
    if len(part.inputs) != len(wanted):
        got = f"{len(part.inputs)} ({', '.join(part.names) or 'not named'})"
        raise DataError(f"the network takes {len(wanted)} inputs ({', '.join(wanted)}), the data have {got}.")
    return part.ordered(wanted) if part.names and len(wanted) > 1 else part
