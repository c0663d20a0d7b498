"""Quantization-aware training on real data: files measured in their runtimes, against the float network after as many epochs from the same start.

MNIST: the network of Keras's first tutorial (convolution 32, pooling, dense 128, dense 10), after one epoch of training; eight epochs in float, eight
with simulated int8. ResNet-8 of MLPerf Tiny: as published, int8 within the paired interval of float. ResNet-32: three epochs with weights of
4 bits. `value` is the loss in points on the evaluation part. Rows that are in the results already are left; a killed run goes on within the epoch.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from setting import images, networks
from setting.results import Results

import tersenet
from tersenet import Data, Model, Quantize, Recipe, Train
from tersenet.data import sources
from tersenet.measure.quality import Scores, compare, evaluate
from tersenet.step import Context
from tersenet.store import Store

os.environ.setdefault("KERAS_BACKEND", "torch")
CASES = ("mnist", "resnet8", "resnet32")
TARGETS = ["onnxruntime", "litert", "executorch"]
WORK = Path(tempfile.gettempdir()) / "tersenet-qat"
FINE = {"learning_rate": 1e-3, "batch_size": 64}
# Case -> epochs, options of the step, points that may be lost (None: the paired interval must reach zero).
PLANS: Mapping[str, tuple[int, dict[str, Any], float | None]] = {
    "mnist": (8, {}, 0.1),
    "resnet8": (4, {"training": {"learning_rate": 1e-4, "augmentation": ("flip", "crop")}}, None),
    "resnet32": (3, {"weights": "int4", "training": {"learning_rate": 1e-4, "augmentation": ("flip", "crop")}}, 0.7),
}


def main(cases: list[str]) -> None:
    if not images.SMALL.exists():
        print("qat: networks and data are in TERSENET_DATA, which is not there")
        return
    results = Results("qat", ("network", "target"))
    for name in cases or CASES:
        if not all(results.has(network=name, target=target) for target in TARGETS):
            measured(results, name)


def measured(results: Results, name: str) -> None:
    """The rows of one network."""
    epochs, options, limit = PLANS[name]
    start, data = MAKERS[name]()
    reference = in_float(start, data, epochs) if name == "mnist" else start
    held = data.bind(start.inputs).evaluation
    judged = evaluate(reference, held, data.task)
    training = {**FINE, **options.get("training", {}), "epochs": epochs}
    recipe = Recipe([Quantize(**{**options, "training": training})])
    report = tersenet.compress(start, data, to=TARGETS, recipe=recipe, out=WORK / name)
    for record in report.records:
        scores = evaluate(report.artifacts[record.target], held, data.task)
        results.put(
            network=name,
            target=record.target,
            epochs=epochs,
            weights=options.get("weights", "int8"),
            **lost(judged, scores, data, limit),
            **facts(record),
        )


def lost(reference: Scores, scores: Scores, data: Data, limit: float | None) -> dict[str, Any]:
    """Points lost of the float network's accuracy on the same samples."""
    found = compare(reference, scores, data.task)
    ends = found.drop_points_ci95
    row = {
        "float": round(reference.value, 4),
        "accuracy": round(scores.value, 4),
        "value": round(found.drop_points or 0.0, 3),
        "ci95": ends,
        "n": found.n,
    }
    if limit is None and ends is not None:
        return {**row, "within_interval": ends[0] <= 0}
    return {**row, "limit": limit}


def facts(record: Any) -> dict[str, Any]:
    return {"bytes": record.bytes, "agreement_top1": record.agreement.top1 if record.agreement else None}


def in_float(start: Model, data: Data, epochs: int) -> Model:
    """The network after so many epochs in float."""
    context = Context((), data.bind(start.inputs), store=Store(WORK / "float"))
    return Train(training={**FINE, "epochs": epochs}).apply(start, context).model


def mnist() -> tuple[Model, Data]:
    import keras
    from keras import layers

    shape = [layers.Conv2D(32, 3, activation="relu"), layers.MaxPooling2D(2), layers.Flatten()]
    network = keras.Sequential([keras.Input((28, 28, 1)), *shape, layers.Dense(128, activation="relu"), layers.Dense(10, activation="softmax")])
    WORK.mkdir(parents=True, exist_ok=True)
    network.save(WORK / "mnist.keras")
    model, data = tersenet.load(WORK / "mnist.keras"), sources.load(networks.DATA / "mnist")
    context = Context((), data.bind(model.inputs), store=Store(WORK / "start"))
    return Train(training={**FINE, "epochs": 1}, from_scratch=True).apply(model, context).model, data


def resnet8() -> tuple[Model, Data]:
    """Its images are bytes, 0 to 255, channels last."""
    model = tersenet.load(networks.DATA / "mlperf_tiny/image_classification/pretrainedResnet.h5")
    return model, cifar(lambda source, chosen: images.raw(source, chosen, 32).astype(np.float32))


def resnet32() -> tuple[Model, Data]:
    network = tersenet.load(networks.load("resnet32"), (networks.example("resnet32"),))
    return network, cifar(lambda source, chosen: images.decoded(source, chosen, 32))


def cifar(read: Any, train: int = 45_000, selection: int = 4_500) -> Data:
    """CIFAR-10 of TERSENET_DATA: training, calibration and selection of the training images, evaluation the test images."""
    source, judged = images.SMALL / "train_50000.npz", images.SMALL / "test_5000.npz"
    labels, evaluated = (np.load(path)["labels"].astype(np.int64) for path in (source, judged))
    order = np.random.default_rng(0).permutation(len(labels))
    parts = {"train": order[:train], "selection": order[train : train + selection]}
    calibration = read(source, order[-500:])
    held = {name: (read(source, chosen), labels[chosen]) for name, chosen in parts.items()}
    evaluation = (read(judged, np.arange(len(evaluated))), evaluated)
    return Data.from_arrays(**held, calibration=calibration, evaluation=evaluation, task="image-classification", name="cifar10")


MAKERS: Mapping[str, Any] = {"mnist": mnist, "resnet8": resnet8, "resnet32": resnet32}


if __name__ == "__main__":
    main(sys.argv[1:])
