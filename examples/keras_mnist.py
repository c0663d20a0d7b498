"""The convolutional network of every Keras tutorial: trained by Keras, saved as a .keras file, compressed for four runtimes.

TERSENET_DATA=FOLDER python examples/keras_mnist.py [FOLDER]

FOLDER/mnist holds MNIST's four IDX files; without them scikit-learn's digits stand in. Needs `pip install keras`.
"""

import os
import sys
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "torch")  # any backend saves the same file

import keras
import numpy as np
from keras import layers

import tersenet as tn
from tersenet.data import sources
from tersenet.report.text import show

TRAINED_ON, JUDGED_ON = 6000, 1000


def handwriting() -> tn.Data:
    """Digits of 28 x 28 pixels, uint8."""
    folder = Path(os.environ.get("TERSENET_DATA", ".")) / "mnist"
    if folder.is_dir():
        return sources.load(folder).limited("train", TRAINED_ON).limited("evaluation", JUDGED_ON)
    print(f"no MNIST at {folder} (TERSENET_DATA): scikit-learn's digits stand in, enlarged from 8 x 8 to 28 x 28 pixels")
    small = sources.load("digits")
    parts = {name: (enlarged(part.arrays()[0]), part.labels) for name, part in small.parts()}
    calibration = parts.pop("calibration")[0]
    return tn.Data.from_arrays(**parts, calibration=calibration, task="image-classification", name="digits, enlarged")


def enlarged(images: np.ndarray) -> np.ndarray:
    """(n, 1, 8, 8) in 0..1 as (n, 28, 28) in 0..255."""
    pixels = (images[:, 0] * 255).round().astype(np.uint8)
    return np.pad(pixels.repeat(3, 1).repeat(3, 2), ((0, 0), (2, 2), (2, 2)))


def trained(images: np.ndarray, labels: np.ndarray) -> keras.Model:
    """The network after three epochs; images (n, 28, 28, 1) in 0..1."""
    keras.utils.set_random_seed(0)
    network = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(32, 3, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Conv2D(64, 3, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Flatten(),
            layers.Dropout(0.5),
            layers.Dense(10, activation="softmax"),
        ]
    )
    network.compile(loss="sparse_categorical_crossentropy", optimizer=keras.optimizers.Adam(2e-3))
    network.fit(images, labels, batch_size=64, epochs=3, verbose=0)
    return network


def main(folder: str = "runs/keras-mnist") -> None:
    data = handwriting()
    images = data.train.inputs[0][..., None] / np.float32(255)
    path = Path(folder) / "mnist.keras"
    path.parent.mkdir(parents=True, exist_ok=True)
    trained(images, data.train.labels).save(path)

    # From here on neither Keras nor a backend is needed; images of uint8 are scaled to 0..1 and laid out as the network takes them.
    runtimes = ["onnxruntime", "litert", "litert-micro", "executorch"]
    show(tn.compress(path, data, to=runtimes, budget=tn.Budget(max_drop=1.0), out=Path(folder) / "int8"))


if __name__ == "__main__":
    main(*sys.argv[1:2])
