"""What a change of a network is worth on its runtimes: both networks as files, quantized the usual way, timed in turn."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tersenet.measure.latency import in_turn, prepared
from tersenet.model import Model
from tersenet.progress import silent
from tersenet.proof import opened
from tersenet.step import Context, Worth
from tersenet.steps.quantize import Quantize
from tersenet.target import Artifact, ExportOptions, Target, as_batch

SECONDS = 2.0  # of timing, for each runtime and variant
SAMPLES = 4


@contextmanager
def stopwatch(
    targets: Sequence[Target], exporters: Mapping[str, Any], context: Context, options: ExportOptions, threads: int = 1
) -> Iterator[Stopwatch]:
    """A `Stopwatch` whose files are gone behind it; arguments as it has them."""
    with tempfile.TemporaryDirectory() as folder:
        yield Stopwatch(targets, exporters, context, options, threads, Path(folder))


@dataclass
class Stopwatch:
    """Compares networks as files of some runtimes; what `Context.time_on_target` is. The network that others are compared with is written once.

    Args:
        targets: the runtimes.
        exporters: theirs, by name.
        context: capabilities, calibration and seed.
        options: of the files.
        threads: that runtimes are given.
        folder: of the files.
    """

    targets: Sequence[Target]
    exporters: Mapping[str, Any]
    context: Context
    options: ExportOptions
    threads: int
    folder: Path
    known: dict[tuple[str, str], Artifact] = field(default_factory=dict)

    def __call__(self, model: Model, before: Model) -> dict[str, Worth]:
        """Sizes and times of both, by the name of the runtime."""
        found = {}
        after = self._quantized(model)
        for target in self.targets:
            key = (before.fingerprint, target.name)
            if key not in self.known:
                self.known[key] = self._written(self._quantized(before), target, f"before-{len(self.known)}")
            found[target.name] = self._compared(self._written(after, target, "after"), self.known[key], target)
        return found

    def _quantized(self, model: Model) -> Model:
        return Quantize().apply(model, replace(self.context, progress=silent)).model

    def _written(self, model: Model, target: Target, name: str) -> Artifact:
        path = self.folder / f"{name}-{target.name}{target.extension}"
        options = replace(self.options, format={}, inside=False)
        return opened(target, self.exporters[target.name].export(model, path, options), self.threads)

    def _compared(self, after: Artifact, before: Artifact, target: Target) -> Worth:
        sizes = (after.path.stat().st_size, before.path.stat().st_size)
        if not target.times:
            return Worth(*sizes)
        part = self.context.require("calibration", "rebuild")
        samples = [part.batch(slice(index, index + 1))[0] for index in range(min(SAMPLES, len(part)))]
        batches = [[as_batch(array, port) for array, port in zip(sample, after.inputs, strict=True)] for sample in samples]
        timed = in_turn(prepared(before, batches), prepared(after, batches), self.threads, SECONDS, seed=self.context.seed)
        return Worth(*sizes, timed.speedup, timed.speedup_ci95)
