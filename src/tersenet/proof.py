"""The proof of one target: both files exported, run in their own runtime, and everything measured on themselves."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from tersenet.data.parts import Data, Part
from tersenet.expectation import Expectation, chosen_rows
from tersenet.layers import file_agreement
from tersenet.measure.agreement import agreement
from tersenet.measure.latency import in_turn, prepared
from tersenet.measure.memory import Memory, peak_memory
from tersenet.measure.packing import packed_bytes
from tersenet.measure.quality import Scores, compare, evaluate
from tersenet.progress import Progress, silent
from tersenet.record import Agreement, ArtifactRecord, FloatOperator, FloatTwin, Latency, Layer
from tersenet.target import Artifact, Export, Runner, Target, as_batch, feed, read
from tersenet.targets import table

# A runtime of reference kernels takes seconds a sample: it judges as many samples as fit in this time, at least `LEAST`.
QUALITY_SECONDS = 60.0
LEAST_SAMPLES = 200
TIMED_SAMPLES = 8


@dataclass(frozen=True)
class Pair:
    """A target's two files, as exported.

    Args:
        target: the runtime.
        compressed, plain: what the exporter wrote for the compressed network and for the float one.
        seconds: that the compressed file's export took.
    """

    target: Target
    compressed: Export
    plain: Export
    seconds: float


@dataclass(frozen=True)
class Conditions:
    """How files are measured."""

    threads: int = 1
    seed: int = 0
    latency_seconds: float = 3.0
    progress: Progress = silent


def prove(pair: Pair, expected: Expectation, data: Data, conditions: Conditions, folder: Path) -> ArtifactRecord:
    """Run both files in their own runtime and record what they reached.

    Args:
        pair: the files.
        expected: what the simulation and the plan say.
        data: bound to the network; its evaluation part judges.
        conditions: threads, seed, time.
        folder: the run's, which the record's path is relative to.
    """
    start = time.perf_counter()
    target = pair.target
    twin = table.find(target.float_twin)
    compressed = opened(target, pair.compressed, conditions.threads)
    plain = opened(twin, pair.plain, conditions.threads)
    rows = _judged_rows(compressed, data.evaluation, conditions.seed)
    part = data.evaluation[rows] if len(rows) < len(data.evaluation) else data.evaluation
    float_scores = _scores(plain, part, data, None, conditions, f"{target.name}, float")
    reference = None if data.task.labelled else float_scores.outputs
    scores = _scores(compressed, part, data, reference, conditions, target.name)
    placement = compressed.session.operators()
    samples = [part.batch(slice(index, index + 1))[0] for index in range(min(TIMED_SAMPLES, len(part)))]
    latency, plain_latency, speedup, interval = _latency(target, plain, compressed, samples, conditions)
    memory = _memory(target, compressed, samples[0], conditions)
    plain_memory = _memory(twin, plain, samples[0], conditions)
    return ArtifactRecord(
        target=target.name,
        path=pair.compressed.path.relative_to(folder).as_posix(),
        bytes=pair.compressed.path.stat().st_size,
        sha256=hashlib.sha256(pair.compressed.path.read_bytes()).hexdigest(),
        twin=FloatTwin(
            pair.plain.path.stat().st_size, float_scores.value, plain_latency, plain_memory.bytes, plain_memory.what, packed_bytes(pair.plain.path)
        ),
        seconds={"export": round(pair.seconds, 3), "measure": round(time.perf_counter() - start, 3)},
        operators=dict(placement.operators),
        delegated=placement.delegated,
        declined=tuple(FloatOperator(row["op"], row["name"], row["why"]) for row in placement.declined),
        quality=compare(float_scores, scores, data.task, conditions.seed, conditions.progress),
        latency_ms=latency,
        speedup=speedup,
        speedup_ci95=interval,
        peak_memory_bytes=memory.bytes,
        memory_is=memory.what,
        bytes_moved=None if target.times else expected.bytes_moved,
        float_ops=expected.float_ops,
        layers=_layers(pair, expected),
        agreement=_agreement(expected, scores, rows, data),
        notes=(*_notes(pair, part, data), *memory.notes),
        packed_bytes=packed_bytes(pair.compressed.path),
        stateful=pair.compressed.stateful,
    )


def opened(target: Target, export: Export, threads: int) -> Artifact:
    """A file that was just exported, loaded in its runtime."""
    return Artifact(export.path, target.name, table.runner(target).load(export.path, threads), export.inputs, export.outputs)


def _judged_rows(compressed: Artifact, evaluation: Part, seed: int) -> np.ndarray:
    """All evaluation samples, or as many as a slow runtime can judge in time."""
    inputs, _ = evaluation.batch(slice(0, 2))
    compressed(*inputs)
    start = time.perf_counter()
    compressed(*inputs)
    each = (time.perf_counter() - start) / len(inputs[0])
    count = len(evaluation) if each * len(evaluation) <= QUALITY_SECONDS else max(LEAST_SAMPLES, int(QUALITY_SECONDS / each))
    return chosen_rows(len(evaluation), count, seed)


def _scores(artifact: Artifact, part: Part, data: Data, reference: object, conditions: Conditions, what: str) -> Scores:
    def progress(done: int, total: int, _: str) -> None:
        conditions.progress(done, total, f"measuring quality ({what})")

    return evaluate(artifact, part, data.task, reference=reference, progress=progress)


def _latency(
    target: Target, plain: Artifact, compressed: Artifact, samples: list[tuple[np.ndarray, ...]], conditions: Conditions
) -> tuple[Latency | None, Latency | None, float | None, tuple[float, float] | None]:
    if not target.times:
        return None, None, None, None
    conditions.progress(0, 1, f"timing ({target.name})")
    batches = [[as_batch(array, port) for array, port in zip(sample, compressed.inputs, strict=True)] for sample in samples]
    timed = in_turn(prepared(plain, batches), prepared(compressed, batches), conditions.threads, conditions.latency_seconds, seed=conditions.seed)
    conditions.progress(1, 1, f"timing ({target.name})")
    return timed.compressed, timed.reference, timed.speedup, timed.speedup_ci95


def _memory(target: Target, artifact: Artifact, sample: tuple[np.ndarray, ...], conditions: Conditions) -> Memory:
    fed = [feed(as_batch(array, port), port) for array, port in zip(sample, artifact.inputs, strict=True)]
    return peak_memory(artifact.session, artifact.path, fed, target.runner, target.requires, conditions.threads)


def _layers(pair: Pair, expected: Expectation) -> tuple[Layer, ...]:
    """The layers' records, with the agreement of the file's own tensors where they were asked for and the runtime shows them."""
    if not expected.inner:
        return tuple(expected.layers.values())
    export = pair.compressed.debug or pair.compressed
    fed = [feed(as_batch(array, port), port) for array, port in zip(expected.sample, export.inputs, strict=True)]
    runner = table.runner(pair.target)
    inner = _returned(runner, export, fed) if pair.compressed.debug else runner.inner(export.path, fed)
    agreements = file_agreement(expected.inner, inner or {}, export)
    return tuple(replace(layer, agreement_db=agreements.get(name)) for name, layer in expected.layers.items())


def _returned(runner: Runner, export: Export, fed: list[np.ndarray]) -> dict[str, np.ndarray]:
    """What a debug file returns, in floats, by the names of its outputs."""
    return {port.name: read(array, port) for array, port in zip(runner.load(export.path).run(fed), export.outputs, strict=True)}


def _agreement(expected: Expectation, scores: Scores, judged: np.ndarray, data: Data) -> Agreement | None:
    """File against simulation, on the samples that both have seen."""
    if expected.simulated is None:
        return None
    common = np.intersect1d(expected.rows, judged)
    simulated = expected.simulated(common)
    measured = _rows(scores.outputs, np.searchsorted(judged, common))
    task = data.task
    return agreement(simulated, measured, expected.step, classes=task.kind in ("classification", "agreement"), layout=task.layout)


def _rows(outputs: np.ndarray | Sequence[np.ndarray], rows: np.ndarray) -> np.ndarray | list[np.ndarray]:
    return outputs[rows] if isinstance(outputs, np.ndarray) else [array[rows] for array in outputs]


def _notes(pair: Pair, part: Part, data: Data) -> tuple[str, ...]:
    if len(part) == len(data.evaluation):
        return pair.compressed.notes
    slow = f"judged on {len(part)} of {len(data.evaluation)} evaluation samples: this runtime's kernels are slow on this machine"
    return (*pair.compressed.notes, slow)
