"""A published MobileNetV2 of Keras with a new head for CIFAR-10: fitted on its features, put on in Keras, compressed for three runtimes.

TERSENET_DATA=FOLDER python examples/keras_mobilenet.py [FOLDER]

FOLDER/mobilenet_v2_0.35 holds the backbone as a .keras file, FOLDER/cifar10_jpeg the images as train_50000.npz and test_5000.npz (JPEGs in
one row of bytes, their offsets, their labels). Needs `pip install keras`.
"""

import io
import os
import sys
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "torch")  # any backend saves the same file

import keras
import numpy as np
from keras import layers
from PIL import Image
from sklearn.linear_model import LogisticRegression

import tersenet as tn
from tersenet.report.text import show

SIZE = 224
FITTED_ON, CALIBRATED_ON, JUDGED_ON = 800, 128, 300
NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
PIXELS = tn.Preparation(scale=1 / 127.5, mean=1, stored="NHWC", layout="NHWC")  # what the backbone takes: -1..1


def pictures(name: str, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Images (count, 224, 224, 3) uint8 and their classes, drawn at random."""
    archive = np.load(Path(os.environ["TERSENET_DATA"]) / "cifar10_jpeg" / name)
    jpeg, offsets = archive["jpeg"], archive["offsets"]
    chosen = np.random.default_rng(0).permutation(len(offsets) - 1)[:count]
    opened = (Image.open(io.BytesIO(jpeg[offsets[index] : offsets[index + 1]].tobytes())) for index in chosen)
    return np.stack([np.asarray(image.convert("RGB").resize((SIZE, SIZE))) for image in opened]), archive["labels"][chosen].astype(np.int64)


def with_head(backbone: keras.Model, images: np.ndarray, labels: np.ndarray) -> keras.Model:
    """The backbone and a linear head, fitted on its features of the images."""
    features = np.concatenate([backbone.predict_on_batch(PIXELS.apply(images[start : start + 32])) for start in range(0, len(images), 32)])
    fitted = LogisticRegression(C=0.03, max_iter=1000).fit(features, labels)
    head = layers.Dense(len(NAMES), name="head")
    network = keras.Model(backbone.input, head(backbone.output))
    head.set_weights([fitted.coef_.T, fitted.intercept_])
    return network


def main(folder: str = "runs/keras-mobilenet") -> None:
    (published,) = (Path(os.environ["TERSENET_DATA"]) / "mobilenet_v2_0.35").glob("*.keras")
    images, labels = pictures("train_50000.npz", FITTED_ON)
    path = Path(folder) / "mobilenet.keras"
    path.parent.mkdir(parents=True, exist_ok=True)
    with_head(keras.models.load_model(published, compile=False), images, labels).save(path)

    evaluation = pictures("test_5000.npz", JUDGED_ON)
    described = {"task": "image-classification", "name": "CIFAR-10, enlarged", "class_names": NAMES, "preparation": PIXELS}
    data = tn.Data.from_arrays(calibration=images[:CALIBRATED_ON], evaluation=evaluation, **described)
    # Small pictures made large are smooth, with sharp borders: a few values are far from all others, and ranges leave them out.
    recipe = tn.Recipe([tn.Quantize(ranges="mse")])
    show(tn.compress(path, data, to=["litert", "onnxruntime", "executorch"], recipe=recipe, out=Path(folder) / "int8"))


if __name__ == "__main__":
    main(*sys.argv[1:2])
