"""Published Keras files against Keras itself, and against the float .tflite that lies beside each."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tersenet
from keras_models import learning, reference
from photographs import photographs
from tersenet.testing.frontend import check_frontend

keras = pytest.importorskip("keras")

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning")
# The .tflite of ad01 has other biases (its batch norms were updated once more), that of the streaming network is quantized.
TINY = {
    "mlperf_tiny/image_classification/pretrainedResnet.h5": ("pretrainedResnet.tflite", 255.0),
    "mlperf_tiny/visual_wake_words/vww_96.h5": ("vww_96_float.tflite", 1.0),
    "mlperf_tiny/anomaly_detection/ad01.h5": ("", 1.0),
    "mlperf_tiny/streaming_wakeword/str_ww_ref_model.h5": ("", 1.0),
}
BACKBONE = "mobilenet_v2_0.35/mobilenet_v2_0.35_224_backbone.keras"


def repaired(path: Path, folder: Path) -> Path:
    """A copy that Keras 3 reads too: it refuses DepthwiseConv2D with `groups`."""
    import h5py

    copied = folder / path.name
    shutil.copyfile(path, copied)
    with h5py.File(copied, "r+") as file:
        config = json.loads(file.attrs["model_config"])
        for layer in config["config"]["layers"]:
            if layer["class_name"] == "DepthwiseConv2D":
                layer["config"].pop("groups", None)
        file.attrs["model_config"] = json.dumps(config)
    return copied


def samples(model: Any, largest: float) -> np.ndarray:
    return (largest * np.random.default_rng(0).random((3, *model.inputs[0].shape[1:]))).astype(np.float32)


@pytest.mark.parametrize("name", TINY)
def test_old_files_compute_what_keras_and_litert_compute(name: str, tersenet_data: Path, tmp_path: Path) -> None:
    path = tersenet_data / name
    theirs = keras.models.load_model(repaired(path, tmp_path), compile=False)
    beside, largest = TINY[name]
    inputs = samples(theirs, largest)
    tolerance = 3e-4 if "ad01" in name else 1e-4  # ten batch norms, each of three samples alone, magnify what is rounded
    model = check_frontend(tersenet.load, path, reference(theirs), [[inputs]], training=learning(theirs), tolerance=tolerance)
    assert [spec.name for spec in model.inputs] == ["input_1"]
    if beside:
        wanted = [litert(path.parent / beside, sample) for sample in inputs]
        np.testing.assert_allclose(model(inputs), np.concatenate(wanted), rtol=1e-3, atol=1e-4 * max(1.0, float(np.abs(wanted).max())))


def litert(path: Path, sample: np.ndarray) -> np.ndarray:
    interpreter = pytest.importorskip("ai_edge_litert.interpreter").Interpreter(str(path))
    interpreter.allocate_tensors()
    (given,), (made,) = interpreter.get_input_details(), interpreter.get_output_details()
    interpreter.set_tensor(given["index"], sample[None].reshape(given["shape"]))
    interpreter.invoke()
    return np.array(interpreter.get_tensor(made["index"]))


@pytest.mark.slow
def test_a_backbone_computes_what_keras_computes(tersenet_data: Path) -> None:
    theirs = keras.models.load_model(tersenet_data / BACKBONE, compile=False)
    real = photographs(tersenet_data, 224) / np.float32(127.5) - 1
    sets = [[samples(theirs, 1.0)], [real]]
    # fifty batch norms in training mode magnify what is rounded
    model = check_frontend(tersenet.load, tersenet_data / BACKBONE, reference(theirs), sets, training=learning(theirs), tolerance=3e-4)
    assert "block_1_expand.weight" in model.graph.state_dict()


def separate(keras: Any, folder: Path) -> tuple[Any, Path]:
    """A network whose configuration alone is in a file."""
    x = keras.Input((6,))
    y = keras.layers.LSTM(4)(keras.layers.Reshape((2, 3))(x))
    model = keras.Model(x, keras.layers.Dense(3)(keras.layers.Dense(5, activation="relu")(y)))
    (folder / "net.json").write_text(model.to_json())
    return model, folder / "net.json"


@pytest.mark.parametrize("pieces", [False, True])
def test_weights_in_files_of_their_own(pieces: bool, tmp_path: Path) -> None:
    model, path = separate(keras, tmp_path)
    weights = tmp_path / ("net.weights.json" if pieces else "net.weights.h5")
    model.save_weights(weights, **{"max_shard_size": 300 / 1024**3} if pieces else {})  # so small that the LSTM lies in two pieces
    assert len(list(tmp_path.glob("*.h5"))) == (3 if pieces else 1)
    check_frontend(lambda each: tersenet.load(each, weights=weights), path, reference(model), [[samples(model, 1.0)]], training=learning(model))
    model.save(tmp_path / "net.keras")
    whole = tersenet.load(tmp_path / "net.keras")
    assert whole.fingerprint == tersenet.load(tmp_path / "net.keras", weights=weights).fingerprint


def test_weights_in_pieces_that_are_not_all_there(tmp_path: Path) -> None:
    model, path = separate(keras, tmp_path)
    weights = tmp_path / "net.weights.json"
    model.save_weights(weights, max_shard_size=300 / 1024**3)
    with pytest.raises(tersenet.TersenetError, match="a configuration alone: name the file of its weights"):
        tersenet.load(path)
    with pytest.raises(tersenet.TersenetError, match="lists weights in pieces: a network is"):
        tersenet.load(weights)
    (tmp_path / "net_00001.weights.h5").unlink()
    with pytest.raises(tersenet.TersenetError, match=r"net_00001\.weights\.h5 is missing"):
        tersenet.load(path, weights=weights)
    weights.write_text(json.dumps({"weight_map": {"/layers/dense/vars": "../net_00000.weights.h5"}}))
    with pytest.raises(tersenet.TersenetError, match="must be the name of an .h5 file beside it"):
        tersenet.load(path, weights=weights)
    weights.write_text("{}")
    with pytest.raises(tersenet.TersenetError, match="JSON with a weight_map"):
        tersenet.load(path, weights=weights)
