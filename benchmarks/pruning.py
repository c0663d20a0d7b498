"""Half of ResNet-32's multiply-accumulates gone: what accuracy is left, and what is won in time, beside chance and Torch-Pruning.

    python benchmarks/pruning.py [EPOCHS [SAMPLES]]      8 epochs on all training images, unless told

All start from the same published weights and learn for the same epochs in the same loop: ours (the smallest channels within residual branches),
channels taken by chance, and the network that Torch-Pruning leaves (`benchmarks/peers/install torch-pruning`; its rows are left out without).
Accuracy is of CIFAR-10's 5,000 test images as JPEG; latency of the float files, in turn with the unpruned one's, one thread. Interrupted, it goes
on where it was; rows that are in the results already are left. A row "A - B" is the difference in accuracy of all seeds that both have, in points,
with its paired 95 % interval; `right` is which images were told rightly, a bit each.
"""

from __future__ import annotations

import base64
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from setting import files, learning, networks
from setting.networks import BENCH
from setting.results import Results
from setting.timing import exported, timed

import tersenet
from tersenet.graph.cost import cost
from tersenet.measure.quality import Scores, evaluate
from tersenet.model import Model
from tersenet.step import Step

NAME, SHARE, PEER = "resnet32", 0.5, "torch-pruning"
EPOCHS = int(sys.argv[1]) if len(sys.argv) > 1 else 8
SAMPLES = int(sys.argv[2]) if len(sys.argv) > 2 else 50_000
SEEDS = (0, 1)
TARGETS = ("onnxruntime", "litert")
TRAINING = tersenet.Training(**learning.RESNET32, learning_rate=0.01, epochs=EPOCHS)
LEARN = tersenet.Train(TRAINING)
STEPS: dict[str, tuple[Step, ...]] = {
    "ours": (tersenet.Prune(macs=SHARE, criterion="l2", shortcuts=False, training=TRAINING),),
    "random": (tersenet.Prune(macs=SHARE, criterion="random", training=TRAINING),),
    PEER: (LEARN,),
}


def main() -> None:
    torch.set_num_threads(1)
    results = Results("pruning", ("method", "seed", "epochs", "samples"))
    wanted = [name for name in STEPS if name != PEER or files.installed(PEER)]
    for seed in SEEDS:
        data = learning.cifar(samples=SAMPLES, seed=seed)
        for method in wanted:
            if not results.has(method=method, seed=seed, epochs=EPOCHS, samples=SAMPLES):
                measure(results, method, seed, data)
    for other in wanted[1:]:
        difference(results, "ours", other)


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
    whole, before = files.loaded(NAME), start(method)
    kept = BENCH / "pruning" / f"{method}-{seed}-{EPOCHS}-{SAMPLES}.pt2"
    model = learning.after(STEPS[method], before, data, kept, targets=TARGETS, seed=seed)
    bound = data.bind(model.inputs, model.outputs)
    scores = evaluate(model, bound.evaluation, bound.task, size=250)
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
        **{target: in_turn(whole, model, target, bound) for target in TARGETS},
        right=base64.b64encode(np.packbits(scores.samples > 0)).decode(),
    )


def wald(scores: Scores) -> list[float]:
    half = 1.96 * (scores.value * (1 - scores.value) / scores.n) ** 0.5
    return [round(scores.value - half, 4), round(scores.value + half, 4)]


def in_turn(whole: Model, model: Model, target: str, data: tersenet.Data) -> dict[str, object]:
    """A network's float file beside the whole one's."""
    with tempfile.TemporaryDirectory() as folder:
        return timed(*(exported(network, target, Path(folder), name) for name, network in (("whole", whole), ("left", model))), data)


def difference(results: Results, first: str, second: str) -> None:
    """All seeds together, the same images through both."""
    found = {
        (row["method"], row["seed"]): right(row) for row in results.rows if row["epochs"] == EPOCHS and row["samples"] == SAMPLES and row["seed"] >= 0
    }
    seeds = [seed for seed in SEEDS if (first, seed) in found and (second, seed) in found]
    if seeds:
        ours, theirs = (np.concatenate([found[method, seed] for seed in seeds]) for method in (first, second))
        told = {"method": f"{first} - {second}", "seed": -1, "epochs": EPOCHS, "samples": SAMPLES, "seeds": len(seeds)}
        results.put(**told, **learning.paired(ours, theirs))


def right(row: dict[str, str]) -> np.ndarray:
    """Which of the 5,000 images a network told rightly, 1 or 0, as its row keeps it."""
    return np.unpackbits(np.frombuffer(base64.b64decode(row["right"]), np.uint8))[:5000].astype(np.int64)


if __name__ == "__main__":
    main()
