"""Quantization-aware training on real data: files measured in their runtimes, against the float network after as many epochs from the same start.

    python benchmarks/qat.py [CASE...]

Eight epochs at most. MNIST: the network of Keras's first tutorial, all eight with simulated int8. ResNet-8 of MLPerf Tiny, as published: five in
float, three with simulated integers. ResNet-32, as published, with weights of 4 bits: three with simulated integers alone. `value` is the loss in
points on the evaluation part, of the float network after eight epochs; without a limit the paired interval must reach zero. Rows that are in the
results already are left; a killed run goes on within the epoch.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from setting import files, learning, networks
from setting.results import Results

import tersenet
from tersenet import Data, Model, Quantize, Recipe, Train
from tersenet.measure.quality import evaluate

TARGETS = ["onnxruntime", "litert", "executorch"]
WORK = Path(tempfile.gettempdir()) / "tersenet-qat"
EPOCHS = 8


@dataclass(frozen=True)
class Case:
    """A network and how it learns.

    Args:
        start: the network that all start from.
        data: what it learns and is judged on.
        training: options of every training, but its epochs.
        aware: options of that with simulated integers.
        before: epochs in float before that.
        quantize: options of the step.
        limit: points that may be lost; None: the paired interval must reach zero.
    """

    start: Callable[[], Model]
    data: Callable[[], Data]
    training: Mapping[str, Any]
    aware: Mapping[str, Any]
    before: int = 0
    quantize: Mapping[str, Any] = field(default_factory=dict)
    limit: float | None = None


CASES: Mapping[str, Case] = {
    "mnist": Case(lambda: learning.mnist_network(WORK), learning.mnist, {"learning_rate": 1e-3, "batch_size": 64}, {"epochs": EPOCHS}, limit=0.1),
    "resnet8": Case(
        lambda: tersenet.load(networks.DATA / "mlperf_tiny/image_classification/pretrainedResnet.h5"),
        lambda: learning.cifar(learning.PIXELS),
        {**learning.RESNET, "l2": 1e-4, "learning_rate": 0.01},
        {"epochs": 3, "learning_rate": 0.002},
        before=5,
    ),
    "resnet32": Case(
        lambda: files.loaded("resnet32"),
        learning.cifar,
        {**learning.RESNET32, "learning_rate": 0.02},
        {"epochs": 3, "learning_rate": 0.01, "precision": "float32"},
        quantize={"weights": "int4"},
        limit=0.7,
    ),
}


def main(chosen: list[str]) -> None:
    torch.set_num_threads(1)
    results = Results("qat", ("network", "target"))
    for name in chosen or CASES:
        if not all(results.has(network=name, target=target) for target in TARGETS):
            measure(results, name, CASES[name])


def measure(results: Results, name: str, case: Case) -> None:
    """The rows of one network."""
    data, start, work = case.data(), case.start(), WORK / name
    reference = in_float(start, data, case, EPOCHS, work)
    before = in_float(start, data, case, case.before, work)
    held = data.bind(start.inputs, start.outputs).evaluation
    float_scores = evaluate(reference, held, data.task, size=100)
    recipe = Recipe([Quantize(**case.quantize, training={**case.training, **case.aware})])
    report = tersenet.compress(before, data, to=TARGETS, recipe=recipe, out=work / "integers")
    for record in report.records:
        scores = evaluate(report.artifacts[record.target], held, data.task)
        results.put(
            network=name,
            target=record.target,
            epochs=case.before + case.aware["epochs"],
            aware_epochs=case.aware["epochs"],
            weights=case.quantize.get("weights", "int8"),
            float=round(float_scores.value, 4),
            **judged(learning.lost(float_scores, scores, data), case.limit),
            bytes=record.bytes,
            packed_bytes=record.packed_bytes,
            agreement_top1=record.agreement.top1 if record.agreement else None,
        )


def judged(row: dict[str, Any], limit: float | None) -> dict[str, Any]:
    """A row with what it was to reach."""
    if limit is None:
        return {**row, "within_interval": row["ci95"][0] <= 0}
    return {**row, "limit": limit}


def in_float(start: Model, data: Data, case: Case, epochs: int, work: Path) -> Model:
    """The network after so many epochs in float."""
    return learning.after([Train({**case.training, "epochs": epochs})], start, data, work / f"float-{epochs}.pt2") if epochs else start


if __name__ == "__main__":
    main(sys.argv[1:])
