"""The table of Keras layers is Keras's own list, and each row leads to a function."""

from __future__ import annotations

import importlib
import inspect
import os
import re
from typing import Any

import numpy as np
import pytest

os.environ.setdefault("KERAS_BACKEND", "torch")

from keras_table import CHINESE
from tersenet.errors import ModelError
from tersenet.frontends.keras.layer import Layer, Weights
from tersenet.frontends.keras.table import LAYERS, LIMITS, PASSES_MASK, REFUSED

keras = pytest.importorskip("keras")
# What Keras 3 has no longer, and files of Keras 2 may have.
KERAS_2 = {"CuDNNGRU", "CuDNNLSTM", "DenseFeatures", "LocallyConnected1D", "LocallyConnected2D", "RandomHeight", "RandomWidth"}
KERAS_2 |= {"SyncBatchNormalization", "ThresholdedReLU"}


def own() -> dict[str, type]:
    """Every public class of keras.layers that is a layer, by the name that files have."""
    found = [getattr(keras.layers, name) for name in dir(keras.layers)]
    return {kind.__name__: kind for kind in found if inspect.isclass(kind) and issubclass(kind, keras.layers.Layer)}


def test_every_layer_of_keras_is_converted_or_refused() -> None:
    rows = set(LAYERS) | set(REFUSED)
    assert set(own()) - rows == set(), "a new layer of Keras needs a row: a converter, or the reason why there is none"
    public = {name for name in dir(keras.layers) if inspect.isclass(getattr(keras.layers, name))}
    assert rows - set(own()) - public == KERAS_2
    assert not set(LAYERS) & set(REFUSED)
    assert set(LIMITS) <= set(LAYERS)


def test_the_sentences_of_the_table_are_there_in_chinese() -> None:
    assert set(CHINESE) == {*LIMITS.values(), *REFUSED.values()}
    assert all(re.search(r"[\u4e00-\u9fff]", sentence) for sentence in CHINESE.values())


@pytest.mark.parametrize("kind", sorted(LAYERS))
def test_a_row_leads_to_a_function(kind: str) -> None:
    module, function = LAYERS[kind]
    assert inspect.isfunction(getattr(importlib.import_module(module), function))


def test_the_layers_that_pass_masks_are_those_of_keras() -> None:
    """A layer says so in its constructor; one that works out its mask itself has a module that does."""
    base = keras.layers.Layer.compute_mask
    passing = set()
    for name, kind in own().items():
        parents = [parent for parent in kind.__mro__[:4] if parent.__module__.startswith("keras.src.layers") and parent is not keras.layers.Layer]
        if kind.compute_mask is base and any("self.supports_masking = True" in inspect.getsource(parent) for parent in parents):
            passing.add(name)
    assert {kind for kind in PASSES_MASK if kind not in KERAS_2} == passing & set(LAYERS)


REFUSALS: list[tuple[str, dict[str, Any], tuple[tuple[int | None, ...], ...], str]] = [
    ("BatchNormalization", {"renorm": True}, ((None, 4),), "renorm"),
    ("AlphaDropout", {"rate": 0.1, "noise_shape": [None, 1]}, ((None, 4),), "noise_shape"),
    ("CategoryEncoding", {"num_tokens": 10**9}, ((None, 4),), "at most 1,000,000 classes"),
    ("CategoryEncoding", {"num_tokens": 4, "sparse": True}, ((None, 4),), "sparse"),
    ("Discretization", {"bin_boundaries": [1.0, 0.0]}, ((None, 4),), "rising"),
    ("Discretization", {"num_bins": 4}, ((None, 4),), "adapted"),
    ("IntegerLookup", {"vocabulary": "words.txt"}, ((None, 4),), "vocabulary"),
    ("IntegerLookup", {"vocabulary": [1, 2], "invert": True}, ((None, 4),), "invert"),
    ("IntegerLookup", {"vocabulary": [1, 2], "num_oov_indices": 0}, ((None, 4),), "num_oov_indices"),
    ("IntegerLookup", {"vocabulary": [1, 1]}, ((None, 4),), "once"),
    ("IntegerLookup", {"vocabulary": [1, 2], "output_mode": "tf_idf"}, ((None, 4),), "tf_idf"),
    ("IntegerLookup", {"vocabulary": [1, 2], "num_oov_indices": 2, "oov_method": "farmhash"}, ((None, 4),), "hash"),
    ("RandomCrop", {"height": 4, "width": 4}, ((None, 8, 8, 3),), "Keras 2 resizes"),
    ("Resizing", {"height": 4, "width": 4, "interpolation": "bicubic"}, ((None, 8, 8, 3),), "a = -0.75"),
    ("Resizing", {"height": 4, "width": 4, "crop_to_aspect_ratio": True, "pad_to_aspect_ratio": True}, ((None, 8, 8, 3),), "both"),
    ("Resizing", {"height": 4, "width": 4}, ((None, None, 8, 3),), "known size"),
    ("Resizing", {"height": 10**9, "width": 4, "interpolation": "nearest"}, ((None, 8, 8, 3),), "65536 pixels"),
    ("UpSampling2D", {"interpolation": "lanczos3"}, ((None, 8, 8, 3),), "Lanczos"),
    ("MelSpectrogram", {"fft_length": 10**6}, ((None, 100),), "fft_length"),
    ("Reshape", {"target_shape": [5]}, ((None, 4),), "4 values are not 5"),
    ("Reshape", {"target_shape": [-1, -1]}, ((None, 4),), "leave one size open"),
    ("Permute", {"dims": [1, 1]}, ((None, 4, 5),), "dims"),
    ("Cropping1D", {"cropping": [2, 2]}, ((None, 4, 5),), "must leave something"),
    ("Concatenate", {"axis": 5}, ((None, 4), (None, 4)), "axis 5"),
    ("Dot", {"axes": 0}, ((None, 4), (None, 4)), "behind the batch"),
    ("Subtract", {}, ((None, 4),), "two tensors"),
    ("Dropout", {"rate": 2}, ((None, 4),), "between 0 and 1"),
    ("GaussianNoise", {"stddev": "x"}, ((None, 4),), "must be a number"),
    ("Activation", {"activation": "rellu"}, ((None, 4),), "did you mean 'relu'"),
    ("Activation", {"activation": 3}, ((None, 4),), "must be a name"),
    ("MaxPooling2D", {"pool_size": [2]}, ((None, 8, 8, 3),), "must be 2 numbers"),
    ("MaxPooling2D", {"pool_size": 0}, ((None, 8, 8, 3),), "at least 1"),
    ("MaxPooling2D", {"padding": "full"}, ((None, 8, 8, 3),), "must be one of"),
    ("MaxPooling2D", {}, ((None, 8, 8),), "4 axes"),
    ("Flatten", {"data_format": 3}, ((None, 8, 8),), "data_format"),
    ("Softmax", {"axis": 7}, ((None, 8),), "must be axes"),
    ("Softmax", {"axis": [1, -1]}, ((None, 8),), "twice"),
    ("GroupNormalization", {"groups": 3}, ((None, 8),), "divide the 8 channels"),
    ("EinsumDense", {"equation": "abc"}, ((None, 8),), "equation"),
    ("Rescaling", {"scale": "x"}, ((None, 8),), "must be numbers"),
    ("Normalization", {"mean": [float("inf")], "variance": [1.0]}, ((None, 8),), "finite"),
    ("Dense", {"units": -1}, ((None, 8),), "at least 1"),
    ("Dense", {"units": 2}, ((None, None),), "known size"),
    ("Conv2D", {"filters": 4, "kernel_size": 3, "groups": 3}, ((None, 8, 8, 4),), "must divide"),
    ("Conv2D", {"filters": 4, "kernel_size": 3, "strides": 2, "dilation_rate": 2}, ((None, 8, 8, 4),), "at once"),
    ("Conv2DTranspose", {"filters": 4, "kernel_size": 3, "output_padding": 1}, ((None, 8, 8, 4),), "below its strides"),
]


@pytest.mark.parametrize(("kind", "config", "shapes", "message"), REFUSALS)
def test_what_is_not_converted_says_why(kind: str, config: dict[str, Any], shapes: tuple[tuple[int | None, ...], ...], message: str) -> None:
    with pytest.raises(ModelError, match=message) as raised:
        convert(Layer(kind, "mine", config, Weights(), shapes))
    assert "'mine'" in str(raised.value), "the message names the layer"


def convert(layer: Layer) -> Any:
    module, function = LAYERS[layer.kind]
    return getattr(importlib.import_module(module), function)(layer)


def test_thresholded_relu_of_keras_2() -> None:
    import torch

    module = convert(Layer("ThresholdedReLU", "a", {"theta": 0.5}, Weights(), ((None, 4),)))
    assert module(torch.tensor([-1.0, 0.4, 0.5, 2.0])).tolist() == [0, 0, 0, 2]


def test_numbers_as_keras_2_wrote_them() -> None:
    import torch

    module = convert(Layer("LeakyReLU", "a", {"alpha": {"type": "ndarray", "value": 0.25}}, Weights(), ((None, 4),)))
    assert module(torch.tensor([-4.0, 2.0])).tolist() == [-1.0, 2.0]
    scale = {"class_name": "__numpy__", "config": {"value": [1.0, 2.0], "dtype": "float32"}}
    module = convert(Layer("Rescaling", "a", {"scale": scale, "offset": 0.0}, Weights(), ((None, 2),)))
    assert module(torch.tensor([[3.0, 4.0]])).tolist() == [[3.0, 8.0]]


def test_activations_of_keras_2_are_told_apart() -> None:
    from tersenet.frontends.keras.layers.activations import mark_keras_2

    config = {"layers": [{"config": {"activation": "relu", "recurrent_activation": "hard_sigmoid"}}, {"config": {"activation": "hard_sigmoid"}}]}
    mark_keras_2(config)
    assert config == {
        "layers": [
            {"config": {"activation": "relu", "recurrent_activation": "keras2>hard_sigmoid"}},
            {"config": {"activation": "keras2>hard_sigmoid"}},
        ]
    }


def test_parameters_are_copies() -> None:
    kernel, bias = np.ones((8, 2), np.float32), np.zeros(2, np.float32)
    module = convert(Layer("Dense", "a", {"units": 2}, Weights((kernel, bias)), ((None, 8),)))
    kernel[:], bias[:] = 5, 5
    assert module.weight.max().item() == 1
    assert module.bias.max().item() == 0
    assert [name for name, _ in module.named_parameters()] == ["weight", "bias"]
