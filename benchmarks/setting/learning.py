"""What networks learn on: CIFAR-10 and MNIST of TERSENET_DATA in parts; and how what they lose is written down."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from setting import images, networks

import tersenet
from tersenet import Data, Preparation, Train
from tersenet.data import sources
from tersenet.frontends.pt2_write import save
from tersenet.measure.quality import Scores, compare, matched_interval
from tersenet.model import Model
from tersenet.step import Context, Step
from tersenet.store import Store
from tersenet.targets import table

NORMALIZED = Preparation(1 / 255, tuple(images.MEAN), tuple(images.DEVIATION), "NHWC", "NCHW")
SIGNED = Preparation(1 / 127.5, (1.0,), stored="NHWC", layout="NHWC")
PIXELS = Preparation(1.0, stored="NHWC", layout="NHWC", dtype="float32")
# As He et al. 2016 train these networks, for fewer epochs and from published weights.
RESNET = {"batch_size": 128, "optimizer": "sgd", "momentum": 0.9, "nesterov": True, "l2": 5e-4, "augmentation": ("flip", "crop:4")}
# ResNet-32 in mixed precision: half of the time where the processor multiplies bfloat16; trainings with simulated integers stay in float32.
RESNET32 = {**RESNET, "precision": "bf16"}


def cifar(preparation: Preparation = NORMALIZED, samples: int = 50_000, seed: int = 0, size: int = 32) -> Data:
    """CIFAR-10 as JPEG: a tenth of the chosen training images to select by, the others to learn and calibrate on; the 5,000 test images judge.

    Args:
        preparation: of images that are stored as bytes (n, size, size, 3).
        samples: how many of the 50,000 training images.
        seed: of their choice.
        size: images are enlarged to it (bilinear); 32 leaves them.
    """
    train, test = images.SMALL / "train_50000.npz", images.SMALL / "test_5000.npz"
    if not train.exists():
        raise SystemExit(f"{train} is needed; say where with TERSENET_DATA")
    order = np.random.default_rng(seed).permutation(50_000)[:samples]
    pictures, labels = enlarged(images.raw(train, order, 32), size), np.load(train)["labels"].astype(np.int64)[order]
    chosen = samples // 10
    judged = np.load(test)["labels"].astype(np.int64)
    return Data.from_arrays(
        train=(pictures[chosen:], labels[chosen:]),
        selection=(pictures[:chosen], labels[:chosen]),
        evaluation=(enlarged(images.raw(test, np.arange(len(judged)), 32), size), judged),
        preparation=preparation,
        task="image-classification",
        name="cifar10",
    )


def enlarged(pictures: np.ndarray, size: int) -> np.ndarray:
    """Pictures (n, height, width, 3) of bytes as squares of a size."""
    from PIL import Image

    if pictures.shape[1] == size:
        return pictures
    return np.stack([np.asarray(Image.fromarray(picture).resize((size, size), Image.Resampling.BILINEAR)) for picture in pictures])


def mnist() -> Data:
    """MNIST, whole."""
    return sources.load(networks.DATA / "mnist")


def mnist_network(work: Path) -> Model:
    """The network of Keras's first tutorial (convolution 32, pooling, dense 128, dense 10), behind one epoch of training."""
    os.environ.setdefault("KERAS_BACKEND", "torch")
    import keras
    from keras import layers

    path = work / "mnist.keras"
    if not path.exists():
        keras.utils.set_random_seed(0)
        shape = [layers.Conv2D(32, 3, activation="relu"), layers.MaxPooling2D(2), layers.Flatten()]
        network = keras.Sequential([keras.Input((28, 28, 1)), *shape, layers.Dense(128, activation="relu"), layers.Dense(10, activation="softmax")])
        work.mkdir(parents=True, exist_ok=True)
        network.save(path)
    first = Train({"epochs": 1, "batch_size": 64}, from_scratch=True)
    return after([first], tersenet.load(path), mnist(), work / "mnist-started.pt2")


def mobilenet_v2(work: Path, size: int) -> Model:
    """MobileNetV2 0.35 as published, its input made smaller, with a linear head fitted on its features of 9,000 training images.

    A head that has learned nothing has gradients that say nothing: criteria that ask them would prune by chance.
    """
    os.environ.setdefault("KERAS_BACKEND", "torch")
    import keras
    from sklearn.linear_model import LogisticRegression

    path = work / f"mobilenet_v2-{size}.keras"
    if not path.exists():
        published = keras.models.load_model(networks.DATA / "mobilenet_v2_0.35" / "mobilenet_v2_0.35_224_backbone.keras", compile=False)
        described = published.get_config()
        described["layers"][0]["config"]["batch_shape"] = (None, size, size, 3)
        backbone = keras.Model.from_config(described)
        backbone.set_weights(published.get_weights())
        head = keras.layers.Dense(10, name="head")
        network = keras.Model(backbone.input, head(backbone.output))
        learned_on = cifar(SIGNED, 10_000, size=size).train
        pictures, labels = learned_on.inputs[0], learned_on.labels
        batches = (SIGNED.apply(pictures[start : start + 250]) for start in range(0, len(pictures), 250))
        fitted = LogisticRegression(C=0.03, max_iter=300).fit(np.concatenate(list(map(backbone.predict_on_batch, batches))), labels)
        head.set_weights([fitted.coef_.T, fitted.intercept_])
        work.mkdir(parents=True, exist_ok=True)
        network.save(path)
    return tersenet.load(path)


def after(
    steps: Sequence[Step], start: Model, data: Data, kept: Path, *, targets: Sequence[str] = (), seed: int = 0, teacher: Model | None = None
) -> Model:
    """A network behind steps, which may name a "teacher"; kept as a file, and until then so that an interrupted run goes on within its epoch.

    Args:
        kept: the file, `.pt2`.
        targets: runtimes that the steps are to think of.
    """
    if not kept.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        bound = data.bind(start.inputs, start.outputs).without_evaluation()
        tables = tuple(table.capabilities(table.find(target)) for target in targets)
        named = {} if teacher is None else {"teacher": teacher}
        context = Context(tables, bound, seed, original=start, networks=named, store=Store(kept.with_suffix(".steps")))
        model = start
        for step in steps:
            model = step.apply(model, context).model
        save(model, kept)
    return tersenet.load(kept)


def lost(reference: Scores, scores: Scores, data: Data) -> dict[str, Any]:
    """Points lost against a reference on the same samples."""
    found = compare(reference, scores, data.task)
    return {
        "accuracy": round(scores.value, 4),
        "value": round(found.drop_points or 0.0, 3),
        "ci95": None if found.drop_points_ci95 is None else [round(end, 3) for end in found.drop_points_ci95],
        "n": found.n,
    }


def paired(ours: np.ndarray, theirs: np.ndarray) -> dict[str, Any]:
    """How far the one is in front, in points, of samples told rightly (1) or not (0) by both."""
    low, high = matched_interval(int((theirs > ours).sum()), int((theirs < ours).sum()), len(ours))
    return {"points": round(100 * float(ours.mean() - theirs.mean()), 2), "points_ci95": [round(-100 * high, 2), round(-100 * low, 2)]}
