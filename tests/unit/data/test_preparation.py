"""What is done to stored samples."""

import json
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tersenet.data.parts import Data
from tersenet.data.preparation import Preparation, laid_out
from tersenet.errors import DataError
from tersenet.tensors import TensorSpec

PIXELS = np.arange(256, dtype=np.uint8).reshape(4, 8, 8, 1)


def test_pixels_are_divided_to_the_last_bit() -> None:
    assert np.array_equal(Preparation(scale=1 / 255).apply(PIXELS), PIXELS / np.float32(255))


def test_mean_and_std_lie_along_the_channels() -> None:
    images = np.random.default_rng(0).integers(0, 256, (5, 6, 7, 3), dtype=np.uint8)
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    wanted = ((images / np.float32(255) - np.float32(mean)) / np.float32(std)).transpose(0, 3, 1, 2)
    way = Preparation(scale=1 / 255, mean=mean, std=std, stored="NHWC", layout="NCHW", dtype="float32")
    assert np.allclose(way.apply(images), wanted, atol=1e-6)
    turned = images.transpose(0, 3, 1, 2)
    assert np.allclose(Preparation(scale=1 / 255, mean=mean, std=std).apply(turned), wanted, atol=1e-6)
    with pytest.raises(DataError, match="2 channels does not fit"):
        Preparation(mean=(1.0, 2.0)).apply(images)


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "int16", "uint8", "bool"])
def test_arithmetic_is_right_for_every_stored_dtype(dtype: str) -> None:
    array = np.array([[0, 1], [1, 0]]).astype(dtype)
    assert np.allclose(Preparation(scale=0.5, mean=1.0, std=2.0).apply(array), (array.astype(float) * 0.5 - 1) / 2)  # type: ignore[arg-type]
    assert array.tolist() == [[0, 1], [1, 0]]


def test_nothing_to_do_is_a_copy() -> None:
    array = np.arange(6.0).reshape(2, 3)
    prepared = Preparation().apply(array)
    assert np.array_equal(prepared, array) and not np.shares_memory(prepared, array)


def test_reshaped_and_cast_at_the_end() -> None:
    prepared = Preparation(shape=(64,), dtype="float64").apply(PIXELS)
    assert prepared.shape == (4, 64) and prepared.dtype == np.float64


def test_json_both_ways() -> None:
    way = Preparation(scale=1 / 255, mean=(0.5,), std=(0.25,), stored="NHW", layout="NCHW", dtype="float32", size=(32, 32))
    assert Preparation.from_json(json.loads(json.dumps(way.to_json()))) == way
    with pytest.raises(DataError, match="did you mean 'scale'"):
        Preparation.from_json({"scales": 1})


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"scale": 0.0}, "scale must be finite and positive"),
        ({"scale": float("nan")}, "scale must be finite"),
        ({"std": (0.0,)}, "std must be finite and positive"),
        ({"mean": (float("inf"),)}, "mean must be finite"),
        ({"stored": "HWC"}, "N .the batch. first"),
        ({"layout": "NHH"}, "one capital letter"),
        ({"stored": "NHWC", "layout": "NCW"}, "the same axes"),
    ],
)
def test_bad_preparations(fields: dict, message: str) -> None:
    with pytest.raises(DataError, match=message):
        Preparation(**fields)


@given(st.permutations("CHW"), st.permutations("CHW"), st.integers(0, 99))
def test_layouts_turn_and_turn_back(stored: list[str], layout: list[str], seed: int) -> None:
    one, other = "N" + "".join(stored), "N" + "".join(layout)
    array = np.random.default_rng(seed).random((2, 3, 4, 5))
    turned = laid_out(array, one, other)
    assert dict(zip(one, array.shape, strict=True)) == dict(zip(other, turned.shape, strict=True))
    assert np.array_equal(laid_out(turned, other, one), array)


def test_channels_come_and_go() -> None:
    array = np.arange(24.0).reshape(2, 3, 4)
    assert laid_out(array, "NHW", "NCHW").shape == (2, 1, 3, 4) and laid_out(array, "NHW", "NHWC").shape == (2, 3, 4, 1)
    assert np.array_equal(laid_out(laid_out(array, "NHW", "NCHW"), "NCHW", "NHW"), array)
    with pytest.raises(DataError, match="3 channels; layout NHW has none"):
        laid_out(np.zeros((2, 3, 4, 4)), "NCHW", "NHW")
    with pytest.raises(DataError, match="has 4 axes"):
        laid_out(array, "NCHW", "NHWC")


@pytest.mark.parametrize("numbers", [{"scale": 1e300}, {"std": 1e-300}, {"mean": 1e300}, {"scale": 3e34, "dtype": "float16"}])
@pytest.mark.parametrize("array", [np.full((2, 3), 7, np.uint8), np.full((2, 3), 7.0, np.float32)])
def test_numbers_that_are_not_finite_are_refused_in_one_line(numbers: dict, array: np.ndarray) -> None:
    with warnings.catch_warnings(), pytest.raises(DataError, match="prepared samples must be finite numbers, and Preparation"):
        warnings.simplefilter("error")
        Preparation(**numbers).apply(array)


def test_a_dtype_of_another_kind_than_the_networks_is_refused_and_a_width_is_not() -> None:
    spec = TensorSpec("x", (None, 3), "float32")
    data = {name: Data.from_arrays(calibration=np.zeros((2, 3)), preparation=Preparation(dtype=name)) for name in ("int8", "float64")}
    with pytest.raises(DataError, match="takes float32, and the preparation declares int8"):
        data["int8"].bind([spec])
    assert data["float64"].bind([spec]).calibration.arrays()[0].dtype == np.float32


def test_a_shape_must_hold_the_samples() -> None:
    with pytest.raises(DataError, match="has 5 numbers"):
        Preparation(shape=(5,)).apply(np.zeros((2, 3)))


@pytest.mark.parametrize(
    ("dtype", "way", "message"),
    [
        ("int64", Preparation(scale=0.5), "whole numbers from -9223372036854775808 to 9223372036854775807"),
        ("uint8", Preparation(mean=128), "from 0 to 255 .uint8., and .* makes -128 to 127 of these"),
        ("int8", Preparation(scale=1e6), "from -128 to 127 .int8."),
        ("bool", Preparation(scale=0.3), "from 0 to 1 .bool."),
    ],
)
def test_whole_numbers_are_neither_cut_nor_turned_around(dtype: str, way: Preparation, message: str) -> None:
    pixels = np.arange(256, dtype=np.uint8).reshape(64, 4)
    with pytest.raises(DataError, match=message):
        Data.from_arrays(calibration=pixels, preparation=way).bind([TensorSpec("x", (None, 4), dtype)])


def test_pixels_for_a_network_of_int8() -> None:
    pixels = np.arange(256, dtype=np.uint8).reshape(64, 4)
    for way in (Preparation(mean=128), Preparation(scale=1 / 255, mean=128 / 255, std=1 / 255)):  # the second misses whole numbers by a hair
        data = Data.from_arrays(calibration=pixels, preparation=way).bind([TensorSpec("x", (None, 4), "int8")])
        assert data.calibration.arrays()[0].ravel().tolist() == list(range(-128, 128))


def test_only_zeros_and_ones_are_true_and_false() -> None:
    spec = TensorSpec("x", (None, 4), "bool")
    assert Data.from_arrays(calibration=np.eye(4)).bind([spec]).calibration.arrays()[0].trace() == 4
    with pytest.raises(DataError, match="takes bool, and the data reach from 0.0 to 0.5; give 0 and 1"):
        Data.from_arrays(calibration=np.eye(4) / 2).bind([spec])
