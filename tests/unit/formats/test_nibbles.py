"""Integers of 4 bits, two a byte."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tersenet.formats.nibbles import fit, packed, unpacked

integers = st.lists(st.integers(-8, 7), max_size=65)


@given(integers)
def test_what_is_packed_comes_back_from_half_the_bytes(numbers: list[int]) -> None:
    array = np.array(numbers, np.int8)
    data = packed(array)
    assert len(data) == (len(numbers) + 1) // 2
    np.testing.assert_array_equal(unpacked(np.frombuffer(data, np.uint8), len(numbers)), array)


def test_the_first_of_two_lies_in_the_lower_half_as_onnx_has_it() -> None:
    onnx = pytest.importorskip("onnx")
    array = np.arange(-8, 7, dtype=np.int8).reshape(3, 5)
    tensor = onnx.TensorProto(dims=array.shape, data_type=onnx.TensorProto.INT4, raw_data=packed(array))
    np.testing.assert_array_equal(onnx.numpy_helper.to_array(tensor).astype(np.int8), array)


def test_what_fits() -> None:
    assert fit(np.array([-8, 7], np.int8))
    assert not fit(np.array([8], np.int8)) and not fit(np.array([-9], np.int8)) and not fit(np.zeros(0, np.int8))
