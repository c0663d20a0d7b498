"""How long the way to a .tflite takes: from the calibrated plan, and the whole of `compress --to litert`, measuring left out."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from setting import case, files, images, networks
from setting.results import Results

import tersenet
from tersenet.target import ExportOptions
from tersenet.targets import table

NAME, SAMPLES, BATCH = "mobilenet_v2", 256, 32
EXPORT_SECONDS = 0.5
FORWARDS, REST_SECONDS = 1.5, 5.0
ROUNDS = 5


def main() -> None:
    torch.set_num_threads(1)
    results = Results("export_time", ("figure", "network"))
    samples = images.calibration(NAME, SAMPLES)
    network = networks.load(NAME)
    model = files.quantized(tersenet.load(network, (networks.example(NAME),), name=NAME), samples, ["litert"])
    with tempfile.TemporaryDirectory() as folder:
        seconds = [export_seconds(model, Path(folder) / f"{number}.tflite") for number in range(ROUNDS)]
        results.put(
            figure="plan to .tflite",
            network=NAME,
            all=[round(one, 3) for one in seconds],
            value=round(float(np.median(seconds)), 3),
            limit=EXPORT_SECONDS,
        )
        forward = min(forward_seconds(network, samples) for _ in range(2))
        case.data()  # decoded once and kept: the command reads arrays
        whole, measuring = compress_seconds(Path(folder) / "run")
        forward = min(forward, forward_seconds(network, samples))
    allowed = FORWARDS * forward + REST_SECONDS
    results.put(
        figure="compress --to litert, measuring left out",
        network=NAME,
        forward_seconds=round(forward, 2),
        measuring_seconds=round(measuring, 2),
        value=round(whole - measuring, 2),
        limit=round(allowed, 2),
    )


def export_seconds(model: tersenet.Model, path: Path) -> float:
    """From the calibrated plan to the file."""
    start = time.perf_counter()
    table.exporter(table.find("litert")).export(model, path, ExportOptions())
    return time.perf_counter() - start


def forward_seconds(network: torch.nn.Module, samples: np.ndarray) -> float:
    """Plain forward passes over the samples."""
    start = time.perf_counter()
    with torch.no_grad():
        for part in torch.from_numpy(samples).split(BATCH):
            network(part)
    return time.perf_counter() - start


def compress_seconds(out: Path) -> tuple[float, float]:
    """The command from the start of its process to its end, and what of it was measuring: both files in the runtime, and the simulation."""
    start = time.perf_counter()
    subprocess.run([sys.executable, __file__, "compress", str(out)], check=True, capture_output=True)
    seconds = time.perf_counter() - start
    record = json.loads((out / "report.json").read_text())
    simulating = float((out / "simulating.txt").read_text())
    return seconds, simulating + sum(artifact["seconds"]["measure"] for artifact in record["artifacts"])


def compress(out: str) -> None:
    """What `compress_seconds` times: the command, with a clock around the simulation."""
    from tersenet import cli, journey

    simulate, spent = journey.expectations, []

    def timed(*arguments: Any, **named: Any) -> Any:
        start = time.perf_counter()
        found = simulate(*arguments, **named)
        spent.append(time.perf_counter() - start)
        return found

    journey.expectations = timed
    sys.argv = ["tersenet", "compress", f"{case.__file__}:network", "--data", f"{case.__file__}:data", "--to", "litert", "--out", out]
    try:
        cli.main()
    finally:
        (Path(out) / "simulating.txt").write_text(str(sum(spent)))


if __name__ == "__main__":
    if sys.argv[1:2] == ["compress"]:
        compress(sys.argv[2])
    else:
        main()
