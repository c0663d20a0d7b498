"""Which counts of channels kernels like: the time of an int8 convolution by its number of channels, in each runtime.

    python benchmarks/channels.py [TARGET...]

Two 1x1 convolutions, 64 channels -> COUNT -> 64 over 28x28 places, one thread. Files of all counts are run in turn, so that whatever else the
machine does hits all alike; a row's value is the median time over that of the narrowest file. Where kernels make 8 or 16 channels at once,
time is a staircase with steps so wide. `channel_multiple` of the tables of capabilities comes from here and from the kernels' sources.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from setting.results import Results
from torch import nn

import tersenet
from tersenet.step import Context
from tersenet.target import ExportOptions
from tersenet.targets import table

TARGETS = sys.argv[1:] or ["onnxruntime", "litert", "executorch"]
COUNTS = (*range(16, 33, 2), *range(36, 65, 4))
WIDE, PLACES, TURNS, RUNS = 64, 28, 60, 20


def main() -> None:
    results = Results("channels", ("target", "channels"))
    for target in TARGETS:
        if all(results.has(target=target, channels=count) for count in COUNTS):
            continue
        with tempfile.TemporaryDirectory() as folder:
            artifacts = [exported(target, count, Path(folder)) for count in COUNTS]
            medians = np.median(in_turn(artifacts), axis=0)
        for count, median in zip(COUNTS, medians, strict=True):
            results.put(target=target, channels=count, microseconds=round(float(median), 1), value=round(float(median / medians[0]), 3))


def exported(target: str, count: int, folder: Path) -> tersenet.Artifact:
    """The int8 file of one network."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(WIDE, count, 1), nn.ReLU(), nn.Conv2d(count, WIDE, 1))
    model = tersenet.load(network.eval(), (torch.zeros(2, WIDE, PLACES, PLACES),))
    samples = np.random.default_rng(0).standard_normal((8, WIDE, PLACES, PLACES)).astype(np.float32)
    found = table.find(target)
    context = Context((table.capabilities(found),), tersenet.Data.from_arrays(calibration=samples))
    quantized = tersenet.Quantize().apply(model, context).model
    path = folder / f"{target}-{count}{found.extension}"
    written = table.exporter(found).export(quantized, path, ExportOptions(integer_io=True))
    return tersenet.Artifact(written.path, target, table.runner(found).load(written.path), written.inputs, written.outputs)


def in_turn(artifacts: list[tersenet.Artifact]) -> np.ndarray:
    """(turns, files): microseconds of one run, the fastest of `RUNS` in each turn."""
    rows = []
    for _ in range(TURNS):
        row = []
        for artifact in artifacts:
            port = artifact.inputs[0]
            batch = [np.zeros((1, *port.shape[1:]), port.dtype)]
            spent = []
            for _ in range(RUNS):
                start = time.perf_counter_ns()
                artifact.session.run(batch)
                spent.append(time.perf_counter_ns() - start)
            row.append(min(spent) / 1000)
        rows.append(row)
    return np.array(rows)


if __name__ == "__main__":
    main()
