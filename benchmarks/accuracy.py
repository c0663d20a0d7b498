"""What int8 loses, in the runtime: trained ResNets on 5,000 test images, five draws of calibration images, peers beside.

A drop is in points, float in torch against the file in its runtime, on the same images. `value` of a summary is the mean (or the
worst) over the seeds. Against the best peer: how much oftener its file is right on the same images with the same draws, held against
half of the 95 % interval's width.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from setting import files, images, networks
from setting.results import Results

import tersenet
from tersenet.graph.deploy import deployable
from tersenet.graph.simulate import simulate
from tersenet.graph.walk import outputs
from tersenet.measure.agreement import agreement
from tersenet.plan import QuantizationPlan
from tersenet.target import ExportOptions
from tersenet.targets import table

NETWORKS, SEEDS = sys.argv[1:] or ["resnet32", "resnet44"], range(5)
MEAN_LIMIT, WORST_LIMIT, AGREEMENT_LIMIT = 0.2, 0.4, 0.995
AGREEMENT_SAMPLES = 1000  # of each draw: the simulation runs in floats and is slow
MICRO_SAMPLES = 250  # the microcontroller's reference kernels take a tenth of a second a sample
# Seeds that a peer is given: it takes minutes for each where there are few.
PEER_SEEDS: Mapping[str, range] = {
    "onnxruntime": SEEDS,
    "ai-edge-quantizer": SEEDS,
    "nncf": range(1),
    "litert-torch": range(1),
    "executorch": range(1),
}


def main() -> None:
    torch.set_num_threads(1)
    judged = images.evaluation()
    if judged is None or not networks.trained("resnet32").exists():
        print("accuracy: trained networks and test images are in TERSENET_DATA, which is not there")
        return
    results = Results("accuracy", ("figure", "network", "target", "tool", "seed"))
    for name in NETWORKS:
        plain = outputs_in_torch(name, judged[0])
        for seed in SEEDS:
            our_row(results, name, seed, judged, plain)
        for peer, seeds in PEER_SEEDS.items():
            for seed in seeds:
                peer_row(results, name, peer, seed, judged, plain)
        for target in (*files.TARGETS, "litert-micro"):
            summaries(results, name, target, judged)


def outputs_in_torch(name: str, x: np.ndarray) -> np.ndarray:
    """The float network's scores."""
    network = networks.load(name)
    with torch.no_grad():
        return np.concatenate([network(part).numpy() for part in torch.from_numpy(x).split(250)])


def our_row(results: Results, name: str, seed: int, judged: tuple[np.ndarray, np.ndarray], plain: np.ndarray) -> None:
    """One calibration draw, all targets: the files made, run, and compared with the simulation of their plan."""
    targets = [*files.TARGETS, *(["litert-micro"] if seed == 0 else [])]
    wanted = [target for target in targets if not results.has(figure="drop", network=name, target=target, tool="tersenet", seed=seed)]
    if not wanted:
        return
    x, y = judged
    model = files.quantized(files.loaded(name), images.calibration(name, 256, seed), targets)
    simulated: dict[tuple[int, tuple[tuple[str, str], ...]], np.ndarray] = {}
    for target in wanted:
        count = MICRO_SAMPLES if target == "litert-micro" else len(x)
        path = our_path(name, target, seed)
        path.parent.mkdir(parents=True, exist_ok=True)
        export = table.exporter(table.find(target)).export(model, path, ExportOptions())
        artifact = tersenet.Artifact(path, target, table.runner(table.find(target)).load(path), export.inputs, export.outputs)
        measured = np.concatenate([artifact(sample[None]) for sample in x[:count]])
        position, plan = next((index, plan) for index, plan in enumerate(model.plans) if target in plan.serves)
        arithmetic = table.capabilities(table.find(target)).arithmetic
        key = (position, tuple(arithmetic.items()))
        if key not in simulated:
            network = simulate(model, plan, arithmetic)
            simulated[key] = np.concatenate([network(x[start : start + 100]) for start in range(0, AGREEMENT_SAMPLES, 100)])
        common = min(count, AGREEMENT_SAMPLES)
        agreed = agreement(simulated[key][:common], measured[:common], output_step(model, plan))
        put_drop(results, name, target, "tersenet", seed, (y[:count], plain[:count], measured), top1=agreed.top1, ties=agreed.ties)


def our_path(name: str, target: str, seed: int) -> Path:
    return networks.BENCH / "files" / name / f"seed-{seed}" / f"{target}{table.find(target).extension}"


def output_step(model: tersenet.Model, plan: QuantizationPlan) -> float | None:
    """The scale of the scores' grid."""
    encoding = plan.values.get(outputs(deployable(model))[0].name)
    return encoding.scale[0] if encoding else None


def peer_row(results: Results, name: str, peer: str, seed: int, judged: tuple[np.ndarray, np.ndarray], plain: np.ndarray) -> None:
    """A peer's file on the same images, calibrated on the same draw."""
    target = files.PEERS[peer].target
    if results.has(figure="drop", network=name, target=target, tool=peer, seed=seed):
        return
    path = files.theirs(name, peer, seed)
    if path is None:
        print(f"{name}: {peer} is not installed or failed")
        return
    artifact = files.opened(path)
    put_drop(results, name, target, peer, seed, (judged[1], plain, np.concatenate([artifact(sample[None]) for sample in judged[0]])))


def put_drop(
    results: Results, name: str, target: str, tool: str, seed: int, scores: tuple[np.ndarray, np.ndarray, np.ndarray], **agreed: float | None
) -> None:
    """The paired drop with its standard error."""
    labels, plain, measured = scores
    gap = (plain.argmax(1) == labels).astype(float) - (measured.argmax(1) == labels)
    error = 100 * float(gap.std() / np.sqrt(len(gap)))
    float_accuracy = round(100 * float((plain.argmax(1) == labels).mean()), 2)
    row = {"n": len(labels), "float_accuracy": float_accuracy, "value": round(100 * float(gap.mean()), 3), "standard_error": round(error, 3)}
    results.put(figure="drop", network=name, target=target, tool=tool, seed=seed, **row, **agreed)


def summaries(results: Results, name: str, target: str, judged: tuple[np.ndarray, np.ndarray]) -> None:
    """Mean and worst drop over the seeds, the least agreement, and the best peer beside."""
    drops = [row for row in results.rows if row["figure"] == "drop" and row["network"] == name and row["target"] == target]
    own = [row for row in drops if row["tool"] == "tersenet"]
    key = {"network": name, "target": target, "tool": "tersenet", "seed": "all"}
    results.put(figure="least agreement", **key, value=min(row["top1"] for row in own), limit=AGREEMENT_LIMIT, at_most=False)
    if len(own) < len(SEEDS):
        return
    mean = float(np.mean([row["value"] for row in own]))
    results.put(figure="mean drop", **key, value=round(mean, 3), limit=MEAN_LIMIT)
    results.put(figure="worst drop", **key, value=max(row["value"] for row in own), limit=WORST_LIMIT)
    peers = {tool: float(np.mean([row["value"] for row in drops if row["tool"] == tool])) for tool in {row["tool"] for row in drops} - {"tersenet"}}
    if peers:
        best = min(peers, key=lambda tool: peers[tool])
        seeds = sorted(row["seed"] for row in drops if row["tool"] == best)
        gap = np.mean([_right(name, best, target, seed, judged) - _right(name, "tersenet", target, seed, judged) for seed in seeds], axis=0)
        interval = 1.96 * 100 * float(gap.std() / np.sqrt(len(gap)))
        results.put(
            figure="behind the best peer",
            **key,
            peer=best,
            seeds=len(seeds),
            peer_drop=round(peers[best], 3),
            value=round(100 * float(gap.mean()), 3),
            limit=round(interval, 3),
        )


def _right(name: str, tool: str, target: str, seed: int, judged: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """1.0 for each image that a file is right about; kept beside the files."""
    kept = networks.BENCH / "files" / name / f"right-{tool}-{target}-{seed}.npy"
    if not kept.exists():
        path = our_path(name, target, seed) if tool == "tersenet" else files.theirs(name, tool, seed)
        if path is None:
            raise FileNotFoundError(f"the file of {tool} for {name} is gone; remove its rows from the results")
        artifact = files.opened(path)
        scores = np.concatenate([artifact(sample[None]) for sample in judged[0]])
        np.save(kept, scores.argmax(1) == judged[1])
    return np.load(kept).astype(float)


if __name__ == "__main__":
    main()
