"""How long files take in their runtime, two in turn, one sample a time and one thread."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

import tersenet
from tersenet.measure.latency import in_turn, prepared
from tersenet.model import Model
from tersenet.target import Artifact, ExportOptions, as_batch
from tersenet.targets import table


def timed(plain: Artifact, artifact: Artifact, data: tersenet.Data) -> dict[str, Any]:
    """Milliseconds of a file, and how many times as fast and as small as another it is."""
    batches = [data.evaluation.batch(slice(index, index + 1))[0] for index in range(8)]
    found = in_turn(*(prepared(one, laid_out(one, batches)) for one in (plain, artifact)), seconds=20.0, least=400)
    before, after = (one.path.stat().st_size for one in (plain, artifact))
    return {
        "ms": round(found.compressed.median, 4),
        "speedup": round(found.speedup, 3),
        "speedup_ci95": [round(end, 3) for end in found.speedup_ci95],
        "bytes": after,
        "times_smaller": round(before / after, 2),
    }


def exported(model: Model, target: str, folder: Path, name: str) -> Artifact:
    """A network's file for a runtime, opened in it."""
    found = table.find(target)
    written = table.exporter(found).export(model, (folder / name).with_suffix(found.extension), ExportOptions())
    return Artifact(written.path, target, table.runner(found).load(written.path), written.inputs, written.outputs)


def laid_out(artifact: Artifact, batches: list[tuple[np.ndarray, ...]]) -> list[list[np.ndarray]]:
    """Batches as a file takes them."""
    return [[as_batch(array, port) for array, port in zip(batch, artifact.inputs, strict=True)] for batch in batches]
