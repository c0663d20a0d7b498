"""Networks that were read are their sources in training mode too, dropout off: batch norm by the batch's own statistics."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import tersenet
from tersenet.testing.frontend import check_frontend

IMAGES = [np.random.default_rng(0).random((4, 9, 9, 3), dtype=np.float32)]


@pytest.mark.parametrize("ending", ["keras", "h5"])
def test_a_keras_network(ending: str, tmp_path: Path) -> None:
    os.environ.setdefault("KERAS_BACKEND", "torch")
    keras = pytest.importorskip("keras")
    keras.utils.set_random_seed(0)
    layers = keras.layers
    source = layers.Input((9, 9, 3))
    value = layers.BatchNormalization(epsilon=1e-2)(source)
    value = layers.ReLU()(layers.BatchNormalization(momentum=0.8)(layers.Conv2D(6, 3, padding="same", use_bias=False)(value)))
    value = layers.BatchNormalization(scale=False)(layers.SeparableConv2D(4, 3, strides=2)(value))
    model = keras.Model(source, layers.Dense(5)(layers.Dropout(0.0)(layers.Flatten()(value))))
    path = tmp_path / f"network.{ending}"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.save(path)

    def run(training: bool):
        return lambda images: model(images, training=training).detach().numpy()

    check_frontend(tersenet.load, path, run(False), [IMAGES], training=run(True))


def test_an_onnx_network(tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    torch.manual_seed(0)
    module = nn.Sequential(nn.BatchNorm2d(3), nn.ReLU(), nn.Conv2d(3, 4, 3), nn.MaxPool2d(2), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(36, 2))
    images = torch.rand(5, 3, 9, 9)
    module.eval()
    path = tmp_path / "network.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module,
            (images,),
            path,
            dynamo=False,
            input_names=["images"],
            dynamic_axes={"images": {0: "batch"}},
            training=torch.onnx.TrainingMode.PRESERVE,
        )

    def run(training: bool):
        def forward(array: np.ndarray) -> np.ndarray:
            with torch.no_grad():
                return module.train(training)(torch.from_numpy(array)).numpy()

        return forward

    check_frontend(tersenet.load, path, run(False), [[images.numpy()]], training=run(True))
