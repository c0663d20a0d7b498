"""Judging a file that is there already, in its own runtime. Needs no torch (save for ExecuTorch's files)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tersenet.data import sources
from tersenet.data.identity import called
from tersenet.data.parts import Data
from tersenet.data.processing import Processing
from tersenet.errors import DataError, MissingDependencyError, ModelError, check_readable
from tersenet.manifest import beside
from tersenet.measure.environment import check_conditions
from tersenet.measure.latency import in_turn, prepared
from tersenet.measure.memory import peak_memory
from tersenet.measure.packing import packed_bytes
from tersenet.measure.quality import Scores, compare
from tersenet.measure.quality import evaluate as scores_of
from tersenet.measure.trial import try_out
from tersenet.plain import fields_to_plain
from tersenet.progress import Progress, check_progress, silent
from tersenet.target import Artifact, Placement, Target, as_batch, feed
from tersenet.targets import table
from tersenet.tensors import Port, TensorSpec

TIMED_SAMPLES = 8


def evaluate(
    file: str | Path, data: Any, *, against: str | Path | None = None, threads: int = 1, seed: int = 0, progress: Progress = silent
) -> dict[str, Any]:
    """Accuracy, latency, memory and size of any artifact, measured on itself.

    Args:
        file: a model file of one of the runtimes; the manifest of its run is used where it lies beside it.
        data: a `Data`, or the name of a source; its evaluation part judges.
        against: another file: timed in turn with the first, and compared on the same samples.
        threads: that the runtime is given.
        seed: of cuts and intervals.
        progress: called with (done, total, what).

    Returns:
        Plain facts, as ``tersenet measure --json`` prints them.
    """
    check_conditions(threads, seed)
    check_progress(progress)
    for path in [file] if against is None else [file, against]:
        if not isinstance(path, str | Path):
            raise ModelError(f"a file must be given by its path, got {type(path).__name__}.")
    artifact, target = opened(Path(file), threads)
    bound = _bound(data, artifact, seed)
    with called(*bound.task.functions):
        return _measured(artifact, target, bound, against, threads, seed, progress)


def _measured(
    artifact: Artifact, target: Target, bound: Data, against: str | Path | None, threads: int, seed: int, progress: Progress
) -> dict[str, Any]:
    """What `evaluate` returns of a file that is open and of data that are bound to it."""
    scores = scores_of(artifact, bound.evaluation, bound.task, progress=progress)
    samples = [bound.evaluation.batch(slice(index, index + 1))[0] for index in range(min(TIMED_SAMPLES, len(bound.evaluation)))]
    found = _facts(artifact, target, scores, bound, samples, threads)
    if against is None:
        if target.times:
            found["latency_ms"] = fields_to_plain(_timed(artifact, artifact, samples, threads, seed).compressed)
        return found
    other, other_target = opened(Path(against), threads)
    reference = scores_of(other, bound.evaluation, bound.task, progress=progress)
    if not bound.task.labelled:
        scores = scores_of(artifact, bound.evaluation, bound.task, reference=reference.outputs, progress=progress)
    found["quality"] = fields_to_plain(compare(reference, scores, bound.task, seed, progress))
    found["against"] = _facts(other, other_target, reference, bound, samples, threads)
    if target.times and other_target.times:
        timed = _timed(other, artifact, samples, threads, seed)
        found["latency_ms"], found["against"]["latency_ms"] = fields_to_plain(timed.compressed), fields_to_plain(timed.reference)
        found["speedup"], found["speedup_ci95"] = timed.speedup, timed.speedup_ci95
    return found


def opened(path: Path, threads: int = 1) -> tuple[Artifact, Target]:
    """A file with its runner; its ports come from the manifest beside it where there is one."""
    check_readable(path, ModelError)
    known = beside(path) if path.is_file() else None
    if known is None:
        return _loaded(path, table.target_of(path), threads)
    manifest, name, plain = known
    found = manifest.files[name]
    inputs, outputs = (found.float_inputs, found.float_outputs) if plain else (found.inputs, found.outputs)
    return _loaded(path, table.find(table.find(name).float_twin if plain else name), threads, inputs, outputs)


def _loaded(path: Path, target: Target, threads: int, inputs: Sequence[Port] = (), outputs: Sequence[Port] = ()) -> tuple[Artifact, Target]:
    runner = table.runner(target)
    if target.fragile and path.is_file():
        try_out(path, target.runner, threads)
    return Artifact(path, target.name, runner.load(path, threads), inputs, outputs), target


def _bound(data: Any, artifact: Artifact, seed: int) -> Data:
    specs = [source_spec(port) for port in artifact.inputs]
    bound = sources.load(data, specs, seed, processing=_processing(artifact, specs)).bind(specs)
    if not len(bound.evaluation):
        raise DataError(f"{bound.name}: a file is judged on an evaluation part, and these data have none.")
    return bound


def _processing(artifact: Artifact, specs: Sequence[TensorSpec]) -> Processing | None:
    """How the run that made a file prepared its data, where the network's source had said so; None where it had not."""
    known = beside(artifact.path)
    if known is None or not any(way.decoded for way in known[0].preparation):
        return None
    inputs = {spec.name: way for spec, way in zip(specs, known[0].preparation, strict=False)}
    return Processing(inputs, known[0].class_names)


def source_spec(port: Port) -> TensorSpec:
    """What the network takes where its file takes `port`: the source's order of axes, floats for quantized integers, any batch."""
    shape, layout = list(port.shape), list(port.layout)
    if port.axes:
        back = np.argsort(port.axes)
        shape = [port.shape[axis] for axis in back]
        layout = [port.layout[axis] for axis in back] if port.layout else []
    return TensorSpec(port.source or port.name, (None, *shape[1:]), "float32" if port.scale is not None else port.dtype, "".join(layout))


def _facts(artifact: Artifact, target: Target, scores: Scores, data: Data, samples: list[tuple[np.ndarray, ...]], threads: int) -> dict[str, Any]:
    fed = [feed(as_batch(array, port), port) for array, port in zip(samples[0], artifact.inputs, strict=True)]
    memory = peak_memory(artifact.session, artifact.path, fed, target.runner, target.requires, threads)
    placement = _placement(artifact)
    return {
        "file": str(artifact.path),
        "target": target.name,
        "bytes": artifact.path.stat().st_size,
        "packed_bytes": packed_bytes(artifact.path),
        "data": data.name,
        "quality": {"metric": data.task.metric, "value": scores.value, "n": scores.n},
        "peak_memory_bytes": memory.bytes,
        "memory_is": memory.what,
        **({"notes": list(memory.notes)} if memory.notes else {}),
        "operators": dict(placement.operators) if placement else None,
        "delegated": placement.delegated if placement else None,
        "inputs": [port.to_json() for port in artifact.inputs],
        "outputs": [port.to_json() for port in artifact.outputs],
    }


def _placement(artifact: Artifact) -> Placement | None:
    """Which operators the runtime runs; None where only the runtime itself is installed, and looking inside a file takes more."""
    try:
        return artifact.session.operators()
    except MissingDependencyError:
        return None


def _timed(reference: Artifact, compressed: Artifact, samples: list[tuple[np.ndarray, ...]], threads: int, seed: int) -> Any:
    prepare = [
        prepared(artifact, [[as_batch(array, port) for array, port in zip(sample, artifact.inputs, strict=True)] for sample in samples])
        for artifact in (reference, compressed)
    ]
    return in_turn(prepare[0], prepare[1], threads, seed=seed)
