"""Networks that the TensorFlow Model Optimization toolkit has wrapped, in files built by hand from its published configurations."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tersenet

h5py = pytest.importorskip("h5py")
pytest.importorskip("pyfive")

GENERATOR = np.random.default_rng(0)


def random(*shape: int) -> np.ndarray:
    return GENERATOR.standard_normal(shape).astype(np.float32)


def wrapped(kind: str, name: str, inner: Mapping[str, Any], **config: Any) -> dict[str, Any]:
    return {"class_name": kind, "config": {"name": name, "trainable": True, "dtype": "float32", "layer": inner, **config}}


def layer(kind: str, name: str, **config: Any) -> dict[str, Any]:
    return {"class_name": kind, "config": {"name": name, "trainable": True, "dtype": "float32", **config}}


def saved(path: Path, layers: Sequence[Mapping[str, Any]], weights: Mapping[str, Mapping[str, np.ndarray]], shape: Sequence[int | None]) -> Path:
    first = {"class_name": "InputLayer", "config": {"name": "image", "batch_input_shape": list(shape), "dtype": "float32"}}
    with h5py.File(path, "w") as file:
        file.attrs["keras_version"] = b"2.14.0"
        file.attrs["model_config"] = json.dumps({"class_name": "Sequential", "config": {"name": "net", "layers": [first, *layers]}})
        held = file.create_group("model_weights")
        held.attrs["layer_names"] = [entry["config"]["name"].encode() for entry in layers]
        for entry in layers:
            name = entry["config"]["name"]
            group = held.create_group(name)
            group.attrs["weight_names"] = [variable.encode() for variable in weights[name]]
            for variable, array in weights[name].items():
                group.create_dataset(variable, data=array)
    return path


def archived(path: Path, layers: Sequence[Mapping[str, Any]], arrays: Mapping[str, Sequence[np.ndarray]], shape: Sequence[int | None]) -> Path:
    """A .keras file as tf_keras writes it; `arrays` are by their groups, ``prune_low_magnitude/layer``."""
    first = {"class_name": "InputLayer", "config": {"name": "image", "batch_input_shape": list(shape), "dtype": "float32"}}
    held = io.BytesIO()
    with h5py.File(held, "w") as file:
        for group, variables in arrays.items():
            for place, array in enumerate(variables):
                file[f"layers/{group}/vars/{place}"] = array
    with zipfile.ZipFile(path, "w") as made:
        made.writestr("metadata.json", json.dumps({"keras_version": "2.21.0"}))
        made.writestr("config.json", json.dumps({"class_name": "Sequential", "config": {"name": "net", "layers": [first, *layers]}}))
        made.writestr("model.weights.h5", held.getvalue())
    return path


CONV = layer("Conv2D", "conv", filters=5, kernel_size=[3, 3], strides=[1, 1], padding="same", activation="relu", use_bias=True)
FLAT = layer("Flatten", "flat")
DENSE = layer("Dense", "dense", units=4, activation="linear", use_bias=True)
SCHEDULE = {
    "class_name": "PolynomialDecay",
    "config": {"initial_sparsity": 0.0, "final_sparsity": 0.5, "power": 3, "begin_step": 0, "end_step": 10, "frequency": 1},
}
SHAPE = (None, 4, 4, 3)


def plain(path: Path, kernel: np.ndarray, bias: np.ndarray, matrix: np.ndarray, offset: np.ndarray) -> Path:
    weights = {"conv": {"conv/kernel:0": kernel, "conv/bias:0": bias}, "flat": {}, "dense": {"dense/kernel:0": matrix, "dense/bias:0": offset}}
    return saved(path, [CONV, FLAT, DENSE], weights, SHAPE)


def arrays() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    return random(3, 3, 3, 5), random(5), random(80, 4), random(4)


def test_pruned_networks_keep_their_masks(tmp_path: Path) -> None:
    kernel, bias, matrix, offset = arrays()
    masks = [(np.abs(array) > 0.7).astype(np.float32) for array in (kernel, matrix)]
    settings = {"pruning_schedule": SCHEDULE, "block_size": [1, 1], "block_pooling_type": "AVG"}
    layers = [wrapped("PruneLowMagnitude", f"prune_low_magnitude_{entry['config']['name']}", entry, **settings) for entry in (CONV, FLAT, DENSE)]
    names = [entry["config"]["name"] for entry in layers]
    step = np.asarray(10, np.int64)

    def variables(place: int, array: np.ndarray, vector: np.ndarray, mask: np.ndarray) -> dict[str, np.ndarray]:
        own = {"mask:0": mask, "threshold:0": np.asarray(0.7, np.float32), "pruning_step:0": step}
        return {f"{names[place]}/kernel:0": array, f"{names[place]}/bias:0": vector} | {f"{names[place]}/{key}": found for key, found in own.items()}

    weights = {
        names[0]: variables(0, kernel, bias, masks[0]),
        names[1]: {f"{names[1]}/pruning_step:0": step},
        names[2]: variables(2, matrix, offset, masks[1]),
    }
    model = tersenet.load(saved(tmp_path / "pruned.h5", layers, weights, SHAPE))
    same = tersenet.load(plain(tmp_path / "plain.h5", kernel * masks[0], bias, matrix * masks[1], offset))
    inputs = random(2, 4, 4, 3)
    np.testing.assert_array_equal(model(inputs), same(inputs))
    assert set(model.graph.state_dict()) == {"conv.weight", "conv.bias", "dense.weight", "dense.bias"}
    assert set(model.annotations.masks) == {"conv.weight", "dense.weight"}
    for name, mask in model.annotations.masks.items():
        np.testing.assert_array_equal(mask, model.graph.state_dict()[name].numpy() != 0)
    assert model.annotations.masks["conv.weight"].shape == (5, 3, 3, 3)


def quantized_layers(kind: str) -> list[dict[str, Any]]:
    """As quantize_model describes a network."""
    config = {
        "class_name": "Default8BitQuantizeConfig",
        "config": {"weight_attrs": ["kernel"], "activation_attrs": ["activation"], "quantize_output": False},
    }
    activation = {
        "class_name": "QuantizeAwareActivation",
        "config": {"activation": "relu", "quantizer": {"class_name": "MovingAverageQuantizer", "config": {}}},
    }
    conv = {**CONV, "config": {**CONV["config"], "activation": activation}}
    none = {"class_name": "NoOpActivation", "config": {}}
    dense = {**DENSE, "config": {**DENSE["config"], "activation": none}}
    return [
        layer("QuantizeLayer", "quantize_layer", quantizer={"class_name": "AllValuesQuantizer", "config": {"num_bits": 8}}),
        *(wrapped(kind, f"quant_{each['config']['name']}", each, quantize_config=config) for each in (conv, FLAT, dense)),
    ]


def quantized(path: Path, kind: str, order: Sequence[str], kernel: np.ndarray, bias: np.ndarray, matrix: np.ndarray, offset: np.ndarray) -> Path:
    """As quantize_model saves a network: the range of the input, of what each layer's activation returns, and of the weights."""
    step = np.asarray(-1, np.int32)

    def variables(name: str, parts: Mapping[str, np.ndarray], low: float, high: float, end: str) -> dict[str, np.ndarray]:
        ordered = {f"{name}/{part}:0": parts[part] for part in order}
        ranges = {f"{end}_min": low, f"{end}_max": high}
        own = {"optimizer_step": step, "kernel_min": -np.ones(5, np.float32), "kernel_max": np.ones(5, np.float32)}
        return ordered | {f"{name}/{key}:0": np.asarray(found, np.float32) for key, found in {**own, **ranges}.items()}

    ends = {"quantize_layer_min": np.float32(-2.0), "quantize_layer_max": np.float32(3.0), "optimizer_step": step}
    weights = {
        "quantize_layer": {f"quantize_layer/{key}:0": np.asarray(found) for key, found in ends.items()},
        "quant_conv": variables("quant_conv", {"kernel": kernel, "bias": bias}, 0.0, 6.375, "post_activation"),
        "quant_flat": {"quant_flat/optimizer_step:0": step},
        "quant_dense": variables("quant_dense", {"kernel": matrix, "bias": offset}, -10.0, 15.5, "output"),
    }
    return saved(path, quantized_layers(kind), weights, SHAPE)


@pytest.mark.parametrize(("kind", "order"), [("QuantizeWrapperV2", ("kernel", "bias")), ("QuantizeWrapper", ("bias", "kernel"))])
def test_quantized_networks_keep_their_ranges(kind: str, order: Sequence[str], tmp_path: Path) -> None:
    held = arrays()
    model = tersenet.load(quantized(tmp_path / "quantized.h5", kind, order, *held))
    same = tersenet.load(plain(tmp_path / "plain.h5", *held))
    inputs = random(2, 4, 4, 3)
    np.testing.assert_array_equal(model(inputs), same(inputs))
    assert set(model.graph.state_dict()) == set(same.graph.state_dict())
    grids = {name: encoding for name, encoding in model.annotations.values.items()}
    ranges = {name: encoding.range for name, encoding in grids.items()}
    np.testing.assert_allclose(ranges["image"], (-2.0, 3.0), atol=0.02)
    (relu,) = (name for name in ranges if name.startswith("relu"))
    np.testing.assert_allclose(ranges[relu], (0.0, 6.375), atol=1e-5)
    assert grids[relu].scale[0] == pytest.approx(0.025)
    (linear,) = (name for name in ranges if name.startswith("linear"))
    np.testing.assert_allclose(ranges[linear], (-10.0, 15.5), atol=0.1)


def test_archives_of_pruned_networks(tmp_path: Path) -> None:
    """The weights that are pruned stand beside their masks, and once more among the layer's own."""
    kernel, bias, matrix, offset = arrays()
    masks = [(np.abs(array) > 0.7).astype(np.float32) for array in (kernel, matrix)]
    layers = [wrapped("PruneLowMagnitude", f"prune_low_magnitude_{entry['config']['name']}", entry) for entry in (CONV, FLAT, DENSE)]
    step, threshold = np.asarray(10, np.int64), np.asarray(0.7, np.float32)
    stored = {
        "prune_low_magnitude": [kernel, masks[0], threshold, step],
        "prune_low_magnitude/layer": [kernel, bias],
        "prune_low_magnitude_1": [step],
        "prune_low_magnitude_2": [matrix, masks[1], threshold, step],
        "prune_low_magnitude_2/layer": [matrix, offset],
    }
    model = tersenet.load(archived(tmp_path / "pruned.keras", layers, stored, SHAPE))
    same = tersenet.load(plain(tmp_path / "plain.h5", kernel * masks[0], bias, matrix * masks[1], offset))
    inputs = random(2, 4, 4, 3)
    np.testing.assert_array_equal(model(inputs), same(inputs))
    np.testing.assert_array_equal(model.annotations.masks["conv.weight"], masks[0].transpose(3, 2, 0, 1) != 0)
    np.testing.assert_array_equal(model.annotations.masks["dense.weight"], masks[1].T != 0)


def test_archives_of_pruned_layers_whose_weights_have_one_shape(tmp_path: Path) -> None:
    """Groups come in the order of the alphabet, masks in that of the layer: each finds its weight by the weight's numbers."""
    cell = layer("SimpleRNN", "cell", units=3, activation="tanh", use_bias=True, return_sequences=True)
    both = layer("Bidirectional", "both", layer=cell, merge_mode="concat")
    kernels, masks, bias = [random(3, 3) for _ in range(4)], [np.triu(np.ones((3, 3), np.float32), shift) for shift in (-1, 0, 1, 2)], random(3)
    masked = [kernel * mask for kernel, mask in zip(kernels, masks, strict=True)]
    thresholds = [each for mask in masks for each in (mask, np.asarray(0.7, np.float32))]

    def halves(group: str, arrays: Sequence[np.ndarray]) -> dict[str, Sequence[np.ndarray]]:
        return {f"{group}/forward_layer/cell": [*arrays[:2], bias], f"{group}/backward_layer/cell": [*arrays[2:], bias]}

    pruned = wrapped("PruneLowMagnitude", "prune_low_magnitude_both", both)
    stored = {"prune_low_magnitude": [*kernels, *thresholds, np.asarray(10, np.int64)], **halves("prune_low_magnitude/layer", kernels)}
    model = tersenet.load(archived(tmp_path / "pruned.keras", [pruned], stored, (None, 4, 3)))
    same = tersenet.load(archived(tmp_path / "plain.keras", [both], halves("bidirectional", masked), (None, 4, 3)))
    inputs = random(2, 4, 3)
    np.testing.assert_array_equal(model(inputs), same(inputs))


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("kind", ["QuantizeWrapperV2", "QuantizeWrapper"])
def test_archives_of_quantized_networks(kind: str, frozen: bool, tmp_path: Path) -> None:
    """The weights that are rounded are among the wrapper's own alone, unless the layer does not learn; so are all ranges."""
    held = arrays()
    flat = tersenet.load(quantized(tmp_path / "quantized.h5", kind, ("kernel", "bias") if kind.endswith("V2") else ("bias", "kernel"), *held))
    kernel, bias, matrix, offset = held
    step, ones = np.asarray(-1, np.int32), np.ones(5, np.float32)
    learn = kind.endswith("V2") and not frozen
    name = "quantize_wrapper_v2" if kind.endswith("V2") else "quantize_wrapper"
    one = [np.asarray(number, np.float32) for number in (-1.0, 1.0)]
    stored = {
        "quantize_layer": [np.asarray(-2.0, np.float32), np.asarray(3.0, np.float32), step],
        name: [*([kernel, bias] if learn else []), kernel, step, -ones, ones, np.asarray(0.0, np.float32), np.asarray(6.375, np.float32)],
        f"{name}/layer": [bias],
        f"{name}_1": [step],
        f"{name}_2": [*([matrix, offset] if learn else []), matrix, step, *one, np.asarray(-10.0, np.float32), np.asarray(15.5, np.float32)],
        f"{name}_2/layer": [offset],
    }
    model = tersenet.load(archived(tmp_path / "quantized.keras", quantized_layers(kind), stored, SHAPE))
    assert model.fingerprint == flat.fingerprint
