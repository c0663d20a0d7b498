"""What calibration costs: its seconds over those of plain forward passes on the same samples, and memory that does not grow.

The seconds are the processor's (one thread: the wall's on a machine that does nothing else); the wall's ratio stands beside.
Forward passes and calibration run in turn, so that whatever else the machine does hits both alike.
Rows that are in the results already are left: take the file away to measure anew.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
from setting import files, images, networks
from setting.results import Results

from tersenet.graph.deploy import deployable
from tersenet.numerics.ranges import ESTIMATORS, estimator
from tersenet.schemes import Scheme
from tersenet.steps.calibrate import calibrate
from tersenet.steps.correct import means_for
from tersenet.steps.placement import place
from tersenet.targets import table

NETWORKS = {"mobilenet_v2": 64, "resnet32": 512}
BATCH = 32
LIMITS = {"minmax": 1.3, "moving-average": 1.3, "percentile": 3.0, "mse": 3.0, "entropy": 3.0}
ROUNDS = 3
MEMORY_NETWORK, FEW, MANY, GROWTH = "resnet32", 256, 4096, 1.05


def main() -> None:
    results = Results("calibration", ("figure", "network", "estimator"))
    for name, count in NETWORKS.items():
        measure_time(results, name, count)
    for chosen in LIMITS:
        if results.has(figure="memory", network=MEMORY_NETWORK, estimator=chosen):
            continue
        few, many = (in_a_process(chosen, count) for count in (FEW, MANY))
        results.put(
            figure="memory",
            network=MEMORY_NETWORK,
            estimator=chosen,
            samples=[FEW, MANY],
            bytes=[few, many],
            value=round(many / few, 3),
            limit=GROWTH,
        )


def batches(samples: np.ndarray) -> Iterator[tuple[np.ndarray]]:
    """The samples, some at a time."""
    for start in range(0, len(samples), BATCH):
        yield (samples[start : start + BATCH],)


def calibrated(module: torch.fx.GraphModule, chosen: str, samples: np.ndarray) -> None:
    """All that `Quantize` observes for LiteRT's kernels, and the ranges that come of it."""
    placement = place(module, table.capabilities(table.find("litert")), {}, {})
    observers = {name: estimator(chosen) for name, node in placement.values.items() if node.op != "get_attr"}
    calibrate(module, observers, batches(samples), means=means_for([placement]))
    for observer in observers.values():
        observer.range(Scheme("int8"))


def measure_time(results: Results, name: str, count: int) -> None:
    """A row for each estimator: the median over rounds of calibration's time over that of the forward passes beside it."""
    wanted = [chosen for chosen in ESTIMATORS if not results.has(figure="seconds", network=name, estimator=chosen)]
    if not wanted:
        return
    network, samples = networks.load(name), images.calibration(name, count)
    module = deployable(files.loaded(name))

    def forward() -> None:
        with torch.no_grad():
            for (batch,) in batches(samples):
                network(torch.from_numpy(batch))

    forward()
    for chosen in wanted:
        pairs = np.array([[timed(forward), timed(partial(calibrated, module, chosen, samples))] for _ in range(ROUNDS)])
        ratios = np.median(pairs[:, 1] / pairs[:, 0], axis=0)
        results.put(
            figure="seconds",
            network=name,
            estimator=chosen,
            samples=count,
            forward_seconds=round(float(np.median(pairs[:, 0, 0])), 3),
            calibration_seconds=round(float(np.median(pairs[:, 1, 0])), 3),
            value=round(float(ratios[0]), 3),
            wall_value=round(float(ratios[1]), 3),
            limit=LIMITS[chosen],
        )


def timed(run: Callable[[], None]) -> tuple[float, float]:
    """Seconds of the processor and of the wall."""
    process, wall = time.process_time(), time.perf_counter()
    run()
    return time.process_time() - process, time.perf_counter() - wall


def in_a_process(chosen: str, count: int) -> int:
    """Peak bytes of a fresh process while it calibrates, less the samples that it holds."""
    done = subprocess.run([sys.executable, __file__, "memory", chosen, str(count)], capture_output=True, text=True, check=True)
    return int(json.loads(done.stdout.splitlines()[-1]))


def memory(chosen: str, count: int) -> int:
    """The same, of this process."""
    samples = np.random.default_rng(0).standard_normal((count, 3, 32, 32), np.float32)
    module = deployable(files.loaded(MEMORY_NETWORK))
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here: tracing's own does not count
    calibrated(module, chosen, samples)
    return peak_bytes() - samples.nbytes


def peak_bytes() -> int:
    """The most that this process has held since its peak was set back."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


if __name__ == "__main__":
    torch.set_num_threads(1)
    if sys.argv[1:2] == ["memory"]:
        print(json.dumps(memory(sys.argv[2], int(sys.argv[3]))))
    else:
        main()
