"""The road from a TensorFlow SavedModel, as the page of networks has it: tf2onnx in an environment of its own, then the .onnx file."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

import tersenet
from tersenet.testing.frontend import check_frontend

pytestmark = pytest.mark.slow

TENSORFLOW = os.environ.get("TERSENET_TENSORFLOW", "")
WRITE = """
import sys
import numpy as np
import tensorflow as tf

tf.random.set_seed(0)
network = tf.keras.Sequential([
    tf.keras.Input((12, 12, 3), name="image"),
    tf.keras.layers.Conv2D(8, 3, strides=2, padding="same", activation="relu"),
    tf.keras.layers.BatchNormalization(),
    tf.keras.layers.DepthwiseConv2D(3, activation="relu6"),
    tf.keras.layers.GlobalAveragePooling2D(),
    tf.keras.layers.Dense(10, activation="softmax"),
])
network.export(sys.argv[1] + "/saved", verbose=False)
images = np.random.default_rng(0).standard_normal((5, 12, 12, 3)).astype(np.float32)
np.savez(sys.argv[1] + "/reference.npz", images=images, scores=network(images).numpy())
"""


def run(*command: str) -> None:
    quiet = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "", "KERAS_BACKEND": "tensorflow"}  # other tests have chosen torch
    done = subprocess.run([TENSORFLOW, *command], capture_output=True, text=True, env=quiet, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.skipif(not TENSORFLOW, reason="TERSENET_TENSORFLOW is not set: the path of a Python that has tensorflow-cpu and tf2onnx")
def test_a_saved_model_comes_through_onnx(tmp_path: Path) -> None:
    run("-c", WRITE, str(tmp_path))
    run("-m", "tf2onnx.convert", "--saved-model", str(tmp_path / "saved"), "--output", str(tmp_path / "net.onnx"))

    kept = np.load(tmp_path / "reference.npz")
    evaluated = {"training": "a SavedModel is exported as it is evaluated"}
    check_frontend(tersenet.load, tmp_path / "net.onnx", lambda images: kept["scores"][: len(images)], [[kept["images"]]], excused=evaluated)
