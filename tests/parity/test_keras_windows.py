"""Windows that slide, over random sizes: convolutions against Keras, pooling against its definition."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_layers import Case, convert, inputs_of, layer_of, randomized
from tersenet.frontends.keras.layer import Layer, Weights
from tersenet.frontends.keras.layers.activations import ACTIVATIONS, OF_KERAS_2

keras = pytest.importorskip("keras")
EACH_DAY_THE_SAME = settings(max_examples=60, deadline=None, derandomize=True)


def compared(kind: str, options: dict[str, Any], shape: tuple[int, ...]) -> None:
    layer = getattr(keras.layers, kind)(**options)
    inputs = inputs_of(Case((shape,)), batch=2)
    x = torch.from_numpy(inputs[0])
    with torch.no_grad():
        layer(x)
        randomized(layer)
        theirs, ours = layer(x), convert(layer_of(layer, [(None, *shape)]))(x)
    assert ours.shape == theirs.shape
    np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=1e-4, atol=1e-5)


@st.composite
def windows(draw: st.DrawFn, transposed: bool = False) -> tuple[int, dict[str, Any], tuple[int, ...]]:
    """How many dimensions, options, the shape of the input."""
    rank = draw(st.integers(1, 2))
    kernel = draw(st.tuples(*[st.integers(1, 5)] * rank))
    strides, dilation = draw(st.tuples(*[st.integers(1, 4)] * rank)), (1,) * rank
    if max(strides) == 1:
        dilation = draw(st.tuples(*[st.integers(1, 3)] * rank))
    padding = draw(st.sampled_from(["valid", "same"] + ["causal"] * (rank == 1 and not transposed)))
    first = draw(st.booleans())
    reach = [(size - 1) * spread + 1 for size, spread in zip(kernel, dilation, strict=True)]
    sizes = tuple(draw(st.integers(least if padding == "valid" else 1, least + 7)) for least in reach)
    options: dict[str, Any] = {"kernel_size": kernel, "strides": strides, "dilation_rate": dilation, "padding": padding}
    options["data_format"] = "channels_first" if first else "channels_last"
    channels = draw(st.sampled_from([2, 4]))
    return rank, options, (channels, *sizes) if first else (*sizes, channels)


@EACH_DAY_THE_SAME
@given(windows(), st.sampled_from([1, 2]))
def test_convolutions(window: tuple[int, dict[str, Any], tuple[int, ...]], groups: int) -> None:
    rank, options, shape = window
    compared(f"Conv{rank}D", {"filters": 4, "groups": groups, **options}, shape)


@EACH_DAY_THE_SAME
@given(windows(), st.integers(1, 3))
def test_depthwise_convolutions(window: tuple[int, dict[str, Any], tuple[int, ...]], multiplier: int) -> None:
    rank, options, shape = window
    padding = "same" if options["padding"] == "causal" else options["padding"]  # which Keras does not have here
    compared(f"DepthwiseConv{rank}D", {"depth_multiplier": multiplier, **options, "padding": padding}, shape)


@EACH_DAY_THE_SAME
@given(windows(transposed=True), st.data())
def test_transposed_convolutions(window: tuple[int, dict[str, Any], tuple[int, ...]], data: st.DataObject) -> None:
    rank, options, shape = window
    if data.draw(st.booleans()) and min(options["strides"]) > 1:
        options["output_padding"] = tuple(data.draw(st.integers(0, stride - 1)) for stride in options["strides"])
    try:
        getattr(keras.layers, f"Conv{rank}DTranspose")(filters=3, **options)(torch.zeros(1, *shape))
    except (ValueError, RuntimeError):  # Keras has no result of no size
        return
    compared(f"Conv{rank}DTranspose", {"filters": 3, **options}, shape)


def pooled(x: np.ndarray, window: int, stride: int, is_same: bool, mean: bool) -> np.ndarray:
    """Pooling of (batch, length, ..., channels) by its definition: each window as far as it lies in the input."""
    places = []
    for length in x.shape[1:-1]:
        count = -(-length // stride) if is_same else (length - window) // stride + 1
        before = max(0, (count - 1) * stride + window - length) // 2 if is_same else 0
        places.append([range(max(0, place * stride - before), min(length, place * stride - before + window)) for place in range(count)])
    result = np.zeros((x.shape[0], *(len(each) for each in places), x.shape[-1]), np.float32)
    for index in itertools.product(*(range(len(each)) for each in places)):
        part = x[np.ix_(range(x.shape[0]), *(places[axis][place] for axis, place in enumerate(index)), range(x.shape[-1]))]
        over = tuple(range(1, x.ndim - 1))
        result[(slice(None), *index)] = part.mean(over) if mean else part.max(over)
    return result


@EACH_DAY_THE_SAME
@given(st.integers(1, 3), st.integers(1, 4), st.integers(1, 4), st.booleans(), st.booleans(), st.booleans(), st.data())
def test_pooling(rank: int, window: int, stride: int, is_same: bool, mean: bool, first: bool, data: st.DataObject) -> None:
    """Keras on torch counts what is padded where the padding differs on two sides; TensorFlow, JAX and we do not."""
    sizes = [data.draw(st.integers(1 if is_same else window, 5 if rank == 3 else 9)) for _ in range(rank)]
    x = inputs_of(Case(((*sizes, 3),)), batch=2)[0]
    shape = (None, 3, *sizes) if first else (None, *sizes, 3)
    config = {"pool_size": [window] * rank, "strides": [stride] * rank, "padding": "same" if is_same else "valid"}
    config["data_format"] = "channels_first" if first else "channels_last"
    module = convert(Layer(f"{'Average' if mean else 'Max'}Pooling{rank}D", "a", config, Weights(), (shape,)))
    found = module(torch.from_numpy(np.moveaxis(x, -1, 1).copy() if first else x)).numpy()
    np.testing.assert_allclose(np.moveaxis(found, 1, -1) if first else found, pooled(x, window, stride, is_same, mean), rtol=1e-5, atol=1e-6)


def test_separable_causal_convolution_of_keras_2() -> None:
    layer = keras.layers.SeparableConv1D(5, 3, dilation_rate=2)
    x = torch.randn(2, 9, 4)
    with torch.no_grad():
        theirs = layer(torch.nn.functional.pad(x, (0, 0, 4, 0)))
        found = layer_of(layer, [(None, 9, 4)])
        ours = convert(Layer(found.kind, found.name, {**found.config, "padding": "causal"}, found.weights, found.input_shapes))(x)
    np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=1e-5, atol=1e-6)


def test_every_activation_of_keras_is_known() -> None:
    """Save ``threshold``, which needs arguments that a name does not give."""
    from keras.src.activations import ALL_OBJECTS_DICT

    known = {name for name in ACTIVATIONS if not name.startswith(OF_KERAS_2)}
    assert known == (set(ALL_OBJECTS_DICT) - {"threshold"}) | {"softmax_v2"}


def test_the_hard_sigmoid_of_keras_2() -> None:
    x = torch.tensor([-3.0, -2.5, 0.0, 1.0, 2.5])
    assert ACTIVATIONS[OF_KERAS_2 + "hard_sigmoid"](x).tolist() == pytest.approx([0.0, 0.0, 0.5, 0.7, 1.0])
