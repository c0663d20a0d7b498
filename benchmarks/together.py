"""All steps together on real data: pruned, taught by the whole network, quantized; each stage's loss, bytes and time, measured in the runtimes.

    python benchmarks/together.py [CASE...]

A float network learns for eight epochs; from the same start, pruning, distillation from it and training with simulated integers share eight. `lost`
is in points of the float network's accuracy on the evaluation part, with its paired 95 % interval; speed and size are the files', beside the float
file of the whole network in the same runtime. Interrupted, it goes on where it was; rows that are in the results already are left.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from setting import files, learning, networks
from setting.results import Results
from setting.timing import exported, timed

import tersenet
from tersenet import Data, Distill, Model, Prune, Quantize, Recipe, Shorten, Sparsify, Train
from tersenet.graph.cost import cost
from tersenet.measure.packing import packed_bytes
from tersenet.measure.quality import evaluate
from tersenet.recipe import find_recipe
from tersenet.step import Step
from tersenet.target import Artifact

WORK = Path(tempfile.gettempdir()) / "tersenet-together"
TARGETS = ["onnxruntime", "litert"]
STAGES = ("pruned", "integers, not trained", "integers")


@dataclass(frozen=True)
class Case:
    """A network and what is done to it.

    Args:
        start: the network that all start from.
        data: what it learns and is judged on.
        training: options of every training, but its epochs.
        smaller: steps that prune and teach, in float; the float network is their "teacher".
        integers: options of training with simulated integers; it learns from the same teacher.
        limits: stage -> points that may be lost.
    """

    start: Callable[[], Model]
    data: Callable[[], Data]
    training: Mapping[str, Any]
    smaller: Sequence[Step]
    integers: Mapping[str, Any]
    limits: Mapping[str, float]


def main(chosen: list[str]) -> None:
    torch.set_num_threads(1)
    results = Results("together", ("network", "stage", "target"))
    for name in chosen or CASES:
        if not all(results.has(network=name, stage=stage, target=target) for stage in STAGES for target in TARGETS):
            measure(results, name, CASES[name]())


def measure(results: Results, name: str, case: Case) -> None:
    """All rows of a case: the float network, what pruning leaves of it, and that in integers, with training and without."""
    data, start, work = case.data(), case.start(), WORK / name
    whole = learning.after([Train({**case.training, "epochs": 8})], start, data, work / "float.pt2")
    small = learning.after(case.smaller, start, data, work / "pruned.pt2", targets=TARGETS, teacher=whole)
    judged = data.bind(start.inputs, start.outputs)
    float_scores = evaluate(whole, judged.evaluation, data.task, size=100)
    shares = {"float": round(float_scores.value, 4), **left(whole, small)}
    aware = Quantize(training={**case.training, **case.integers, "teacher": str(work / "float.pt2"), "distill": {"method": "soft"}})
    recipes = dict(zip(STAGES, (None, Quantize(), aware), strict=True))
    for stage, step in recipes.items():
        found = artifacts(small, data, step, work / stage.replace(" ", "-"))
        for target, (artifact, agreement) in found.items():
            scores = evaluate(artifact, judged.evaluation, data.task)
            row = {**shares, **learning.lost(float_scores, scores, data), "agreement_top1": agreement}
            row |= {"limit": case.limits[stage]} if stage in case.limits else {}
            row |= timed(exported(whole, target, work, "float"), artifact, judged)
            row["packed_times_smaller"] = round((work / f"float{artifact.path.suffix}").stat().st_size / packed_bytes(artifact.path), 2)
            results.put(network=name, stage=stage, target=target, **row)


def left(whole: Model, small: Model) -> dict[str, float]:
    """Shares of the whole network's arithmetic and parameters."""
    before, after = cost(whole), cost(small)
    return {"macs_share": round(after.macs / before.macs, 4), "parameters_share": round(after.parameters / before.parameters, 4)}


def artifacts(model: Model, data: Data, step: Step | None, folder: Path) -> dict[str, tuple[Artifact, float | None]]:
    """Its files by runtime, behind a step, each with the share of samples on which it agrees with its simulation; float ones without a step."""
    if step is None:
        folder.mkdir(exist_ok=True)
        return {target: (exported(model, target, folder, "network"), None) for target in TARGETS}
    report = tersenet.compress(model, data, to=TARGETS, recipe=Recipe([step]), out=folder)
    agreed = {record.target: record.agreement.top1 if record.agreement else None for record in report.records}
    return {target: (report.artifacts[target], agreed[target]) for target in TARGETS}


def resnet32() -> Case:
    """Half of the multiply-accumulates gone: He et al. 2016 have a ResNet-20, of 0.59 of them, trail by 1.2 points."""
    training = {**learning.RESNET32, "learning_rate": 0.02}
    smaller = [
        Prune(macs=0.5, criterion="l2", shortcuts=False),
        Distill(teacher="teacher", training={**training, "learning_rate": 0.01, "epochs": 7}),
    ]
    integers = {"epochs": 1, "learning_rate": 0.002, "precision": "float32"}
    return Case(partial(files.loaded, "resnet32"), learning.cifar, training, smaller, integers, {"pruned": 1.5, "integers": 1.8})


def resnet32_short() -> Case:
    """As many of them gone, five whole residual branches first: of narrow layers a kernel's time is not in its multiplications."""
    case = resnet32()
    training = {**case.training, "epochs": 7}
    smaller = [
        Shorten(count=5),
        Prune(macs=0.235, criterion="l2", shortcuts=False),
        Distill(teacher="teacher", training=training),
    ]
    return replace(case, smaller=smaller)


def mnist() -> Case:
    """Three quarters of the weights zero by a schedule: no smaller file, a smaller one once it is packed."""
    training = {"learning_rate": 1e-3, "batch_size": 64}
    zero = Sparsify(schedule=((0, 0.5), (1, 0.75)), scope="global", training={**training, "schedule": "constant", "epochs": 2})
    smaller = [zero, Distill(teacher="teacher", training={**training, "epochs": 5})]
    return Case(
        partial(learning.mnist_network, WORK), learning.mnist, training, smaller, {"epochs": 1, "learning_rate": 1e-4}, dict.fromkeys(STAGES, 0.2)
    )


def resnet8() -> Case:
    """MLPerf Tiny's ResNet-8 with the steps of `--recipe smallest`; its reference file in int8 has 98,496 bytes."""
    training = {**learning.RESNET, "l2": 1e-4, "learning_rate": 0.02, "precision": "bf16"}
    prune, taught, _ = find_recipe("smallest").steps
    adam = {"batch_size": 64, "optimizer": "adam", "momentum": 0.0, "nesterov": False, "l2": 0.0}  # pixels of 0 to 255: SGD hardly gets on
    smaller = [prune, replace(taught, teacher="teacher", training={**training, **adam, "learning_rate": 2e-3, "epochs": 7})]
    published = networks.DATA / "mlperf_tiny/image_classification/pretrainedResnet.h5"
    data = partial(learning.cifar, learning.PIXELS)
    return Case(
        partial(tersenet.load, published),
        data,
        training,
        smaller,
        {**adam, "epochs": 1, "learning_rate": 1e-4, "precision": "float32"},
        {"integers": 1.5},
    )


def mobilenet_v2() -> Case:
    """MobileNetV2 0.35 on images of 64 x 64, five branches shorter; what quantization after training loses is beside it.

    Its last layer has 1,280 channels to tell a thousand classes apart, three quarters of which ten do without.
    """
    training = {"batch_size": 64, "optimizer": "adam", "learning_rate": 1e-3, "augmentation": ("flip", "crop:8")}
    prune = partial(Prune, criterion="taylor", shortcuts=False)
    smaller = [
        Shorten(count=5),
        prune(layers=(("Conv_1", 0.75),)),
        prune(macs=0.25, multiple=8, keep=("Conv_1",)),
        Distill(teacher="teacher", training={**training, "epochs": 7}),
    ]
    data = partial(learning.cifar, learning.SIGNED, size=64)
    return Case(partial(learning.mobilenet_v2, WORK, 64), data, training, smaller, {"epochs": 1, "learning_rate": 1e-4}, {"integers": 1.5})


CASES: Mapping[str, Callable[[], Case]] = {
    "mnist": mnist,
    "resnet8": resnet8,
    "resnet32": resnet32,
    "resnet32_short": resnet32_short,
    "mobilenet_v2": mobilenet_v2,
}


if __name__ == "__main__":
    main(sys.argv[1:])
