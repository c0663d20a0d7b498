"""How long the way to a .tflite takes: from the calibrated plan, and the whole of `compress --to litert`, measuring left out."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from setting import files, images, networks
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
        images.kept(NAME, SAMPLES)
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
    """The command as a user types it, from the start of its process, and what of it was running and timing the files."""
    case = Path(__file__).parent / "setting" / "case.py"
    command = [
        str(Path(sys.executable).parent / "tersenet"),
        "compress",
        f"{case}:network",
        "--data",
        f"{case}:data",
        "--to",
        "litert",
        "--out",
        str(out),
    ]
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    seconds = time.perf_counter() - start
    record = json.loads((out / "report.json").read_text())
    return seconds, sum(artifact["seconds"]["measure"] for artifact in record["artifacts"])


if __name__ == "__main__":
    main()
