"""Sparse constants: packed as the schema has them, and whole again."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

pytest.importorskip("ai_edge_litert")
from tersenet.errors import ModelError
from tersenet.formats.tflite import Graph, Operator, Tensor, read, write
from tersenet.formats.tflite_sparsity import BLOCKS, Sparsity, packed, smallest, unpacked

ROWS = Sparsity((0, 1), (False, True))
MATRIX = np.array([[0, 5, 0, 0], [0, 0, 0, 0], [7, 0, 0, 9]], np.int8)


def test_rows_of_a_matrix_are_compressed_as_everybody_does_it():
    values, (rows, (segments, indices)) = packed(MATRIX, ROWS)
    assert (values.tolist(), rows, segments.tolist(), indices.tolist()) == ([5, 7, 9], 3, [0, 1, 1, 3], [1, 0, 3])
    assert segments.dtype == indices.dtype == np.uint8


def test_a_block_is_stored_where_one_of_its_values_is_not_zero():
    form = Sparsity((0, 1, 2), (False, True, False), ((1, 2),))
    values, (_, (segments, indices), width) = packed(MATRIX, form)
    assert (values.tolist(), segments.tolist(), indices.tolist(), width) == ([0, 5, 7, 0, 0, 9], [0, 1, 1, 3], [0, 0, 1], 2)


@given(
    shape=some.lists(some.sampled_from([1, 2, 4, 6, 16]), min_size=1, max_size=4),
    kept=some.floats(0, 1),
    levels=some.lists(some.booleans(), min_size=4, max_size=4),
    seed=some.integers(0, 99),
)
@settings(max_examples=60, deadline=None)
def test_every_form_gives_back_what_it_was_given(shape, kept, levels, seed):
    random = np.random.default_rng(seed)
    data = np.where(random.random(shape) < kept, random.integers(-127, 128, shape), 0).astype(np.int8)
    order = tuple(int(axis) for axis in random.permutation(len(shape)))
    cuts = [((axis, size),) for axis, size in itertools.product(range(len(shape)), BLOCKS) if shape[axis] % size == 0]
    for blocks in ((), *cuts):
        inner = tuple(range(len(shape), len(shape) + len(blocks)))
        form = Sparsity((*order, *inner), (*levels[: len(shape)], *(False for _ in inner)), blocks)
        np.testing.assert_array_equal(unpacked(*packed(data, form), shape, form), data)


def a_file(data: np.ndarray, form: Sparsity | None) -> Graph:
    tensors = (Tensor("", data.shape, data.dtype.name, None, data, sparsity=form), Tensor("y", data.shape, data.dtype.name))
    return Graph(tensors, (Operator("DENSIFY", (0,), (1,)),), (), (1,))


@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_the_smallest_form_is_smaller_in_the_file_and_read_back_whole(dtype):
    random = np.random.default_rng(0)
    data = (random.integers(1, 100, (200, 500)) * (random.random((200, 500)) < 0.2)).astype(dtype)
    form = smallest(data)
    whole, small = write(a_file(data, None)), write(a_file(data, form))
    assert len(small) < (0.5 if dtype == "int8" else 0.3) * len(whole) and small == write(a_file(data, form))
    (constant, _) = read(small).tensors
    assert constant.sparsity == form
    np.testing.assert_array_equal(constant.data, data)


def test_columns_or_blocks_are_compressed_where_that_is_smaller():
    random = np.random.default_rng(0)
    single = (random.random((16, 400)) < 0.3).astype(np.float32)
    assert smallest(single.T).order == (0, 1) and smallest(single).order == (1, 0)  # the short axis: its places are numbered in a byte
    four = np.repeat(random.random((100, 64)) < 0.25, 4, axis=0).astype(np.int8)
    assert smallest(four).blocks == ((0, 4),)


def test_what_would_not_be_smaller_stays_whole():
    random = np.random.default_rng(0)
    half = np.argsort(random.random((64, 64, 4)), axis=-1) < 2  # 2:4, an index for each value
    assert smallest(half.reshape(64, 256).astype(np.int8)) is None
    assert smallest(half.reshape(64, 256).astype(np.float32)) is not None
    assert smallest(np.zeros((8, 8), np.float32)) is None


@pytest.mark.parametrize(
    ("segments", "indices", "count"),
    [
        ([0, 1, 1, 2], [1, 0, 3], 3),
        ([0, 1, 1, 3], [1, 0, 4], 3),
        ([0, 2, 1, 3], [1, 0, 3], 3),
        ([0, 1, 3], [1, 0, 3], 3),
        ([0, 1, 1, 3], [1, 0, 3], 2),
    ],
)
def test_lists_that_do_not_fit_are_refused(segments, indices, count):
    lists = (np.array(segments, np.uint8), np.array(indices, np.uint8))
    with pytest.raises(ModelError, match="damaged"):
        unpacked(np.ones(count, np.int8), [3, lists], (3, 4), ROWS)


def test_a_constant_that_no_file_could_hold_is_refused():
    empty = (np.zeros(1 + 2**20, np.uint8), np.zeros(0, np.uint8))
    with pytest.raises(ModelError, match="damaged"):
        unpacked(np.zeros(0, np.float32), [2**20, empty], (2**20, 2**20), ROWS)
