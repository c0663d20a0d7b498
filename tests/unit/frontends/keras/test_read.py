"""Keras networks in memory, with layers of the user's own, with sizes left open, with policies of other types."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import tersenet
from keras_models import floats, learning, made, reference, words
from tersenet.errors import ModelError
from tersenet.frontends.keras.layer import Layer
from tersenet.testing.frontend import check_frontend

keras = pytest.importorskip("keras")

pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file"),
]


class Scale(keras.layers.Layer):
    """A layer that only its author knows."""

    def __init__(self, gain: float, **named: Any) -> None:
        super().__init__(**named)
        self.gain = gain

    def build(self, shape: Any) -> None:
        self.factor = self.add_weight(shape=(shape[-1],), initializer="random_normal", name="factor")

    def call(self, x: Any) -> Any:
        return x * self.factor * self.gain

    def compute_output_shape(self, shape: Any) -> Any:
        return shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "gain": self.gain}


class OurScale(torch.nn.Module):
    def __init__(self, factor: np.ndarray, gain: float) -> None:
        super().__init__()
        self.factor = torch.nn.Parameter(torch.from_numpy(factor))
        self.gain = gain

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.factor * self.gain


def scale(layer: Layer) -> torch.nn.Module:
    return OurScale(layer.weights.own[0], layer.config["gain"])


def own_layers() -> Any:
    layers = keras.layers
    x = keras.Input((5, 4))
    return keras.Model(x, layers.TimeDistributed(Scale(2.0))(Scale(3.0, name="first")(x)))


@pytest.mark.parametrize("ending", [".keras", ".h5"])
def test_a_layer_of_ones_own_is_converted_by_ones_own_function(ending: str, tmp_path: Path) -> None:
    model, path = own_layers(), tmp_path / f"net{ending}"
    model.save(path)
    found = check_frontend(
        lambda source: tersenet.load_keras(source, layers={"Scale": scale}), path, reference(model), [[floats(5, 4)]], training=learning(model)
    )
    assert "first.factor" in found.graph.state_dict()
    with pytest.raises(ModelError, match=r"'first' is a .*Scale, which is none of Keras's own; .*load_keras"):
        tersenet.load(path)


@keras.saving.register_keras_serializable(package="ours")
class Weighted(Scale):
    """Files call it ``ours>Weighted``."""


@pytest.mark.parametrize("key", ["Weighted", "ours>Weighted"])
@pytest.mark.parametrize("ending", [".keras", ".h5"])
def test_a_registered_layer_is_named_with_or_without_its_package(ending: str, key: str, tmp_path: Path) -> None:
    layers, path = keras.layers, tmp_path / f"net{ending}"
    x = keras.Input((5, 4))
    model = keras.Model(x, layers.TimeDistributed(Weighted(2.0))(Weighted(3.0)(Weighted(1.5)(x))))
    model.save(path)
    check_frontend(
        lambda source: tersenet.load_keras(source, layers={key: scale}), path, reference(model), [[floats(5, 4)]], training=learning(model)
    )


def test_a_converter_that_fails_or_returns_something_else(tmp_path: Path) -> None:
    own_layers().save(tmp_path / "net.keras")
    with pytest.raises(ModelError, match="must return a torch module, got int"):
        tersenet.load_keras(tmp_path / "net.keras", layers={"Scale": lambda layer: 1})
    with pytest.raises(ModelError, match="ZeroDivisionError"):
        tersenet.load_keras(tmp_path / "net.keras", layers={"Scale": lambda layer: 1 / 0})


def test_a_converter_of_ones_own_goes_before_ours(tmp_path: Path) -> None:
    model, inputs = made("tutorial")
    model.save(tmp_path / "net.keras")
    found = tersenet.load_keras(tmp_path / "net.keras", layers={"Dropout": lambda layer: torch.nn.ReLU()})
    np.testing.assert_allclose(found(*inputs), reference(model)(*inputs), atol=1e-5)


def test_load_keras_takes_keras_networks_alone(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"does not exist"):
        tersenet.load_keras(tmp_path / "none.keras")
    with pytest.raises(ModelError, match=r"got Linear"):
        tersenet.load_keras(torch.nn.Linear(1, 1))


def test_a_network_in_memory() -> None:
    model, inputs = made("residual")
    found = check_frontend(tersenet.load, model, reference(model), [inputs], training=learning(model))
    assert found.name == model.name
    assert [spec.name for spec in found.inputs] == ["image"]
    assert found.inputs[0].layout == "NHWC"


def test_a_network_from_a_python_file(tmp_path: Path) -> None:
    code = "import keras\ndef network():\n    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])\n"
    (tmp_path / "net.py").write_text(code)
    found = tersenet.load(f"{tmp_path / 'net.py'}:network")
    assert found.format == "keras"
    assert found.name == "network"


def test_sizes_that_are_open_can_be_fixed(tmp_path: Path) -> None:
    model, _ = made("any_length")
    model.save(tmp_path / "net.keras")
    opened = tersenet.load(tmp_path / "net.keras")
    assert opened.inputs[0].shape == (None, None)
    for length in (5, 12):
        np.testing.assert_allclose(opened(words(length)), reference(model)(words(length)), atol=1e-5)
    fixed = tersenet.load(tmp_path / "net.keras", (words(12),))
    assert fixed.inputs[0].shape == (None, 12)
    with pytest.raises(ModelError, match="takes 1 inputs"):
        tersenet.load(tmp_path / "net.keras", (words(12), words(12)))


def test_mixed_precision_is_read_in_float32(tmp_path: Path) -> None:
    policy = keras.mixed_precision.DTypePolicy("mixed_float16")
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, dtype=policy)])
    model.save(tmp_path / "net.keras")
    found = tersenet.load(tmp_path / "net.keras")
    np.testing.assert_allclose(found(floats(4)), reference(model)(floats(4)).astype(np.float32), atol=0.01)
    assert found.outputs[0].dtype == "float32"


def test_what_cannot_be_kept_is_noted(tmp_path: Path) -> None:
    layers = keras.layers
    model = keras.Sequential([keras.Input((5, 3)), layers.LSTM(4, recurrent_dropout=0.5, name="memory")])
    model.save(tmp_path / "net.keras")
    assert tersenet.load(tmp_path / "net.keras").provenance["notes"] == ["memory: its recurrent dropout is left out of later training"]


def test_a_sequence_operator_stays_one(tmp_path: Path) -> None:
    model, _ = made("reviews")
    model.save(tmp_path / "net.keras")
    names = [str(node.target) for node in tersenet.load(tmp_path / "net.keras").graph.graph.nodes]
    assert names.count("aten.lstm.input") == 1
    layers = keras.layers
    both = keras.Sequential([keras.Input((5, 3)), layers.Bidirectional(layers.LSTM(4, return_sequences=True)), layers.GRU(3)])
    names = [str(node.target) for node in tersenet.load(both).graph.graph.nodes]
    assert names.count("aten.lstm.input") == 1
    assert names.count("aten.gru.input") == 1


@pytest.mark.parametrize(
    ("name", "what"), [("none.h5", r"does not exist\."), ("other.safetensors", r"what model\.save_weights writes, .* no HDF5 file\.")]
)
def test_files_of_weights_that_a_keras_network_does_not_take(name: str, what: str, tmp_path: Path) -> None:
    model, _ = made("tutorial")
    model.save(tmp_path / "net.keras")
    (tmp_path / "other.safetensors").write_bytes(b"\x02\0\0\0\0\0\0\0{}")
    with pytest.raises(ModelError, match=rf"net\.keras: the file of weights \S*{name}.* {what}$") as caught:
        tersenet.load(tmp_path / "net.keras", weights=str(tmp_path / name))
    assert ".." not in str(caught.value)
