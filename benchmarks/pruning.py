"""Half of ResNet-32's multiply-accumulates gone: what accuracy is left, and what is won in time, beside chance and Torch-Pruning.

    python benchmarks/pruning.py [EPOCHS [SAMPLES]]      8 epochs on all training images, unless told

All start from the same published weights and learn for the same epochs in the same loop: the float network, ours (equal ratios, and ratios by
sensitivity), ours by chance, and the network that Torch-Pruning leaves (`benchmarks/peers/install torch-pruning`; its rows are left out without).
Accuracy is of CIFAR-10's 5,000 test images as JPEG; latency of the float files, in turn with the unpruned one's, one thread. Interrupted, it goes
on where it was; rows that are in the results already are left. A row "A - B" is the difference in accuracy of all seeds, in points, with its
paired 95 % interval.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from setting import files, images, networks
from setting.networks import BENCH
from setting.results import Results

import tersenet
from tersenet.graph.cost import cost
from tersenet.measure.latency import in_turn, prepared
from tersenet.measure.quality import Scores, evaluate, matched_interval
from tersenet.model import Model
from tersenet.step import Context, Step
from tersenet.store import Store
from tersenet.target import Artifact, ExportOptions, as_batch
from tersenet.targets import table

NAME, SHARE, PEER = "resnet32", 0.5, "torch-pruning"
EPOCHS = int(sys.argv[1]) if len(sys.argv) > 1 else 8
SAMPLES = int(sys.argv[2]) if len(sys.argv) > 2 else 50_000
SEEDS = (0, 1)
TARGETS = ("onnxruntime", "litert")
TRAINING = tersenet.Training(
    epochs=EPOCHS, batch_size=128, optimizer="sgd", momentum=0.9, nesterov=True, learning_rate=0.02, l2=5e-4, augmentation=("flip", "crop:4")
)
LEARN = tersenet.Train(TRAINING)
STEPS: dict[str, tuple[Step, ...]] = {
    "float": (LEARN,),
    "ours": (tersenet.Prune(macs=SHARE, criterion="taylor", training=TRAINING),),
    "ours, adaptive": (tersenet.Prune(macs=SHARE, criterion="taylor", ratios="adaptive", training=TRAINING),),
    "random": (tersenet.Prune(macs=SHARE, criterion="random", training=TRAINING),),
    PEER: (LEARN,),
}


def main() -> None:
    results = Results("pruning", ("method", "seed", "epochs", "samples"))
    wanted = [name for name in STEPS if name != PEER or files.installed(PEER)]
    for seed in SEEDS:
        data = parts(seed)
        for method in wanted:
            if not results.has(method=method, seed=seed, epochs=EPOCHS, samples=SAMPLES):
                measure(results, method, seed, data)
    for other in [*wanted[2:], "float"]:
        difference(results, "ours", other)


def parts(seed: int) -> tersenet.Data:
    """CIFAR-10 as JPEG; without TERSENET_DATA there is nothing to learn."""
    train, test = images.SMALL / "train_50000.npz", images.SMALL / "test_5000.npz"
    if not train.exists():
        raise SystemExit(f"{train} is needed; say where with TERSENET_DATA")
    order = np.random.default_rng(seed).permutation(50_000)[:SAMPLES]
    pictures, labels = images.raw(train, order, 32), np.load(train)["labels"].astype(np.int64)[order]
    chosen = SAMPLES // 10
    judged = np.load(test)["labels"].astype(np.int64)
    return tersenet.Data.from_arrays(
        train=(pictures[chosen:], labels[chosen:]),
        selection=(pictures[:chosen], labels[:chosen]),
        evaluation=(images.raw(test, np.arange(len(judged)), 32), judged),
        preparation=tersenet.Preparation(1 / 255, tuple(images.MEAN), tuple(images.DEVIATION), "NHWC", "NCHW"),
        task="image-classification",
    )


def start(method: str) -> Model:
    """What a method starts from: the published network, or what the peer leaves of it."""
    if method != PEER:
        return files.loaded(NAME)
    file = BENCH / "pruning" / f"{PEER}-{SHARE}.pt2"
    if not file.exists():
        networks.load(NAME)  # so that the peer finds its weights
        file.parent.mkdir(parents=True, exist_ok=True)
        script = files.HERE / "peers" / f"with_{PEER}.py"
        subprocess.run([BENCH / PEER / "bin" / "python", script, NAME, str(SHARE), file], check=True)
    return tersenet.load(file)


def measure(results: Results, method: str, seed: int, data: tersenet.Data) -> None:
    """One method with one seed: cut, taught, judged, timed."""
    torch.set_num_threads(1)
    before = model = start(method)
    bound = data.bind(model.inputs, model.outputs)
    tables = tuple(table.capabilities(table.find(target)) for target in TARGETS)
    context = Context(tables, bound.without_evaluation(), seed, store=Store(BENCH / "pruning" / "steps"))
    for step in STEPS[method]:
        model = step.apply(model, context).model
    scores = evaluate(model, bound.evaluation, bound.task, size=250)
    hits(method, seed).parent.mkdir(parents=True, exist_ok=True)
    np.save(hits(method, seed), scores.samples)
    whole = files.loaded(NAME)
    results.put(
        method=method,
        seed=seed,
        epochs=EPOCHS,
        samples=SAMPLES,
        accuracy=round(scores.value, 4),
        accuracy_ci95=wald(scores),
        before_training=round(evaluate(before, bound.evaluation, bound.task, size=250).value, 4) if method == PEER else None,
        macs=cost(model).macs,
        macs_share=round(cost(model).macs / cost(whole).macs, 4),
        parameters=cost(model).parameters,
        **{target: timed(whole, model, target, bound) for target in TARGETS},
    )


def hits(method: str, seed: int) -> Path:
    """Where it is kept which images a network got right."""
    return BENCH / "pruning" / f"{method}-{seed}-{EPOCHS}-{SAMPLES}.npy"


def wald(scores: Scores) -> list[float]:
    half = 1.96 * (scores.value * (1 - scores.value) / scores.n) ** 0.5
    return [round(scores.value - half, 4), round(scores.value + half, 4)]


def timed(whole: Model, model: Model, target: str, data: tersenet.Data) -> dict[str, object]:
    """Milliseconds of the file, and how many times as fast as the unpruned one's it is."""
    batches = [data.evaluation.batch(slice(index, index + 1))[0] for index in range(8)]
    with tempfile.TemporaryDirectory() as folder:
        pair = [exported(network, target, Path(folder) / f"{place}") for place, network in enumerate((whole, model))]
        found = in_turn(*(prepared(artifact, laid_out(artifact, batches)) for artifact in pair), seconds=20.0, least=400)
        size = pair[1].path.stat().st_size
    return {"ms": round(found.compressed.median, 4), "speedup": round(found.speedup, 3), "ci95": found.speedup_ci95, "bytes": size}


def exported(model: Model, target: str, path: Path) -> Artifact:
    found = table.find(target)
    written = table.exporter(found).export(model, path.with_suffix(found.extension), ExportOptions())
    return Artifact(written.path, target, table.runner(found).load(written.path), written.inputs, written.outputs)


def laid_out(artifact: Artifact, batches: list[tuple[np.ndarray, ...]]) -> list[list[np.ndarray]]:
    return [[as_batch(array, port) for array, port in zip(batch, artifact.inputs, strict=True)] for batch in batches]


def difference(results: Results, first: str, second: str) -> None:
    """All seeds together, the same images through both."""
    if not all(hits(method, seed).exists() for method in (first, second) for seed in SEEDS):
        return
    ours, theirs = (np.concatenate([np.load(hits(method, seed)) for seed in SEEDS]) for method in (first, second))
    low, high = matched_interval(int((theirs > ours).sum()), int((theirs < ours).sum()), len(ours))
    results.put(
        method=f"{first} - {second}",
        seed=-1,
        epochs=EPOCHS,
        samples=SAMPLES,
        points=round(100 * float(ours.mean() - theirs.mean()), 2),
        points_ci95=[round(-100 * high, 2), round(-100 * low, 2)],
    )


if __name__ == "__main__":
    main()
