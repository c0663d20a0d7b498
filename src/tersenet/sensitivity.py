"""What it costs in quality to compress one part of a network alone: what steps and searches choose by."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tersenet.data.tasks import FIDELITY, unlabelled
from tersenet.measure.quality import outputs_of, score
from tersenet.model import Model
from tersenet.step import Context
from tersenet.store import signature, write_file

SAMPLES = 512  # that judge, at most
OUTPUT_BYTES = 2**28  # of all their outputs, at most: fewer samples judge a network of large outputs
FILE_NAME = "sensitivity.json"


@dataclass(frozen=True)
class Harm:
    """What a variant of a network lost.

    Args:
        drop_points: of the task's metric; where there are no labels, of the agreement with the network's own outputs. Worse is positive.
        distance: energy of the difference of outputs over that of the network's own outputs; 0 where nothing changed.
    """

    drop_points: float
    distance: float

    @property
    def total(self) -> float:
        """One number, at least 0: the drop as a share, and the distance, which tells apart what so few samples cannot."""
        return max(self.drop_points, 0.0) / 100 + self.distance


@dataclass(frozen=True)
class Variant:
    """A network with one part compressed.

    Args:
        name: of the part.
        amount: how much: a ratio, a number of bits.
        make: makes it; called when it is measured, and the network is let go behind it.
    """

    name: str
    amount: float
    make: Callable[[], Model]


class Jury:
    """Judges variants of a network, all on the same samples: the selection part's, or the calibration part's against the network's own outputs.

    Args:
        model: what variants are compared with.
        context: data and seed.
        step: that asks.

    Raises:
        DataError: no selection part with labels, and no calibration part.
    """

    def __init__(self, model: Model, context: Context, step: str) -> None:
        data = context.data
        if data is not None and len(data.selection) and data.selection.labels is not None and data.task.labelled:
            part, self.task, self.where = data.selection, data.task, "the selection part"
        else:
            part = context.require("calibration", step)
            self.task, self.where = unlabelled(data.task), "the calibration part"  # type: ignore[union-attr]  # there is a part
        each = sum(4 * math.prod(size or 1 for size in spec.shape[1:]) for spec in model.outputs)
        self.part = part.take(max(1, min(SAMPLES, OUTPUT_BYTES // max(1, each))), context.seed)
        self.size = model.batches_of(64)
        self.outputs, labels = outputs_of(model, self.part, self.size)
        self.labels = labels if self.task.labelled else self.outputs
        self.value = score(self.outputs, self.labels, self.task).value

    def harm(self, variant: Model) -> Harm:
        """Run a variant."""
        outputs, _ = outputs_of(variant, self.part, self.size)
        drop = self.task.drop_points(self.value, score(outputs, self.labels, self.task).value)
        return Harm(drop, max(0.0, 1 - FIDELITY.value(outputs, self.outputs)))


def measured(jury: Jury, model: Model, context: Context, variants: Sequence[Variant], step: str) -> list[Harm]:
    """Measure variants one after the other; one network at a time is in memory. With a store, what was measured once is not measured again.

    Args:
        jury: of the model.
        model: that the variants are made of.
        context: data, seed, store and progress are used.
        variants: names and amounts tell them apart, with `step`.
        step: what makes them, as plain text; another one measures anew.

    Returns:
        A harm for each variant.
    """
    names = [[variant.name, variant.amount] for variant in variants]
    data = "" if context.data is None else context.data.fingerprint
    key = signature(sensitivity=step, model=model.fingerprint, data=data, variants=names, seed=context.seed)
    finished = None if context.store is None else context.store.get(key)
    if finished is not None:
        return _read(finished / FILE_NAME)
    draft = None if context.store is None else context.store.draft(key) / FILE_NAME
    found = _read(draft) if draft is not None and draft.exists() else []
    for variant in variants[len(found) :]:
        context.progress(len(found), len(variants), f"measuring sensitivity ({variant.name})")
        found.append(jury.harm(variant.make()))
        if draft is not None:
            write_file(draft, _text(found))
    context.progress(len(variants), len(variants), "measuring sensitivity")
    if context.store is not None:
        context.store.put(key, lambda folder: write_file(folder / FILE_NAME, _text(found)))
    return found


def _text(found: Sequence[Harm]) -> str:
    return json.dumps([asdict(harm) for harm in found])


def _read(path: Path) -> list[Harm]:
    return [Harm(**record) for record in json.loads(path.read_text(encoding="utf-8"))]
