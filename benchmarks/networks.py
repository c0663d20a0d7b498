"""Published networks in the formats that they are published in, compressed from the command line and judged on real data.

    python benchmarks/networks.py [--retime] [WORD...]      networks whose names hold one of the words

Each row is an artifact: quality, bytes and latency of float and int8 as the record has them. Where an integer file of the same network
was published, ours is held against it: bytes, quality on the same samples (by labels, else by what the float file says), and time in turn within
one process. `--retime` measures the times of all rows again, of
the files that lie under .bench/published (what is not there is compressed again); for a machine that has nothing else to do.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from setting import published
from setting.networks import BENCH, DATA
from setting.results import Results

import tersenet
from tersenet.manifest import Manifest
from tersenet.measure.agreement import sqnr_db
from tersenet.measure.latency import in_turn, prepared
from tersenet.targets import table

HERE = Path(__file__).resolve().parent
TARGETS = ("onnxruntime", "litert", "executorch", "litert-micro")
SECONDS = 6.0
SAMPLES_TIMED = 8


def main() -> None:
    if not DATA.exists():
        print("networks: the published networks are in TERSENET_DATA, which is not there")
        return
    words, again = [word for word in sys.argv[1:] if word != "--retime"], "--retime" in sys.argv
    results = Results("networks", ("network", "target"))
    for name, network in published.NETWORKS.items():
        if words and not any(word in name for word in words):
            continue
        for target in TARGETS:
            row = next((row for row in results.rows if (row["network"], row["target"]) == (name, target)), None)
            if row is not None and again and "refused" not in row and (folder_of(network, target) / "report.json").exists():
                results.put(**{**row, **times(network, target)})
            elif row is None or (again and "refused" not in row):
                results.put(network=name, target=target, **compressed(network, target))


def folder_of(network: published.Published, target: str) -> Path:
    """Where a run's files lie."""
    return BENCH / "published" / f"{network.short}-{target}"


def compressed(network: published.Published, target: str) -> dict[str, Any]:
    """One run of the command line, as a row."""
    folder = folder_of(network, target)
    shutil.rmtree(folder, ignore_errors=True)
    here = HERE / "setting" / "published.py"
    model = f"{here}:{network.model}" if network.model.isidentifier() else published.file_of(network)
    command = [str(Path(sys.executable).with_name("tersenet")), "compress", str(model), "--data", f"{here}:{network.data}", "--to", target]
    if target == "litert" and network.reference:
        command += network.io  # as the published file
    if network.recipe:
        command += ["--recipe", str(HERE / "setting" / network.recipe)]
    start = time.perf_counter()
    surroundings = {**os.environ, "PYTHONPATH": str(HERE), "TERSENET_DATA": str(DATA)}
    done = subprocess.run([*command, "--out", str(folder)], capture_output=True, text=True, env=surroundings, check=False)
    if done.returncode == 2:
        return {"refused": done.stderr.strip().splitlines()[-1][:600]}
    if done.returncode:
        raise SystemExit(done.stderr)
    record = json.loads((folder / "report.json").read_text())
    (artifact,) = record["artifacts"]
    row = {
        "metric": artifact["quality"]["metric"],
        "unit": artifact["quality"]["unit"],
        "float_quality": artifact["float"]["quality"],
        "quality": artifact["quality"]["value"],
        "drop_points": artifact["quality"]["drop_points"],
        "drop_points_ci95": artifact["quality"]["drop_points_ci95"],
        "n": artifact["quality"]["n"],
        "float_bytes": artifact["float"]["bytes"],
        "bytes": artifact["bytes"],
        "float_ms": (artifact["float"]["latency_ms"] or {}).get("median"),
        "ms": (artifact["latency_ms"] or {}).get("median"),
        "speedup": artifact["speedup"],
        "agreement": artifact["agreement"],
        "float_ops": [f"{operator['op']}: {operator['why']}" for operator in artifact["float_ops"]][:8],
        "compress_seconds": round(time.perf_counter() - start, 1),
    }
    if target == "litert" and network.reference:
        row["reference"] = against(folder, network)
    return row


def times(network: published.Published, target: str) -> dict[str, Any]:
    """The fields of a row that are times, of files that were made before."""
    folder = folder_of(network, target)
    entry, row = Manifest.read(folder / "manifest.json").files[target], table.find(target)
    found: dict[str, Any] = {}
    if row.times:
        data: tersenet.Data = getattr(published, network.data)()
        batches = [data.evaluation.batch(slice(index, index + 1))[0] for index in range(SAMPLES_TIMED)]
        pair = ((entry.float_path, entry.float_inputs), (entry.path, entry.inputs))
        plain, ours = (tersenet.Artifact(folder / path, target, table.runner(row).load(folder / path, 1), ports) for path, ports in pair)
        timed = in_turn(prepared(plain, batches), prepared(ours, batches), threads=1, seconds=SECONDS)
        found = {"float_ms": timed.reference.median, "ms": timed.compressed.median, "speedup": timed.speedup}
    if target == "litert" and network.reference:
        found["reference"] = against(folder, network)
    return found


def against(folder: Path, network: published.Published) -> dict[str, Any]:
    """The published integer file on the same samples, and its time against ours."""
    data: tersenet.Data = getattr(published, network.data)()
    entry, reference = Manifest.read(folder / "manifest.json").files["litert"], DATA / network.reference
    ours, theirs, plain = opened(folder / entry.path), opened(reference), opened(folder / entry.float_path)
    samples = [arrays[0] for arrays, _ in data.evaluation.batches(1)]
    batches = [[_stored(sample, ours)] for sample in samples[:SAMPLES_TIMED]]
    timed = in_turn(prepared(theirs, batches), prepared(ours, batches), threads=1, seconds=SECONDS, least=200, most=4000)
    low, high = timed.speedup_ci95 or (timed.speedup, timed.speedup)
    found = {"bytes": reference.stat().st_size, "time_ratio": round(1 / timed.speedup, 4), "ci95": [round(1 / high, 4), round(1 / low, 4)]}
    said = [
        np.concatenate([np.asarray(artifact(_stored(sample, artifact))).reshape(1, -1) for sample in samples]) for artifact in (ours, theirs, plain)
    ]
    if data.task.kind == "regression" or data.task.name == "fidelity":
        return {**found, "sqnr_db": [round(sqnr_db(said[2], one), 2) for one in said[:2]]}
    labels = said[2].argmax(1) if data.evaluation.labels is None else data.evaluation.labels
    return {**found, **behind(*((one.argmax(1) == labels).astype(float) for one in said[:2]))}


def behind(ours: np.ndarray, theirs: np.ndarray) -> dict[str, float]:
    """By how many points fewer samples are told rightly by us, of (n,) hits each; its paired 95 % interval is as far on both sides."""
    gap = theirs - ours
    return {"n": len(gap), "behind_points": round(100 * float(gap.mean()), 2), "interval": round(196 * float(gap.std() / np.sqrt(len(gap))), 2)}


def opened(path: Path) -> tersenet.Artifact:
    """A file in its runtime, which takes what the file itself takes."""
    target = table.target_of(path)
    session = table.runner(target).load(path, 1)
    return tersenet.Artifact(path, target.name, session, session.inputs)


def _stored(images: np.ndarray, artifact: tersenet.Artifact) -> np.ndarray:
    """Images of a network whose channels come first, as its file takes them."""
    wanted = artifact.inputs[0].shape
    return images if images.ndim != 4 or images.shape[1:] == tuple(wanted[1:]) else np.ascontiguousarray(images.transpose(0, 2, 3, 1))


if __name__ == "__main__":
    main()
