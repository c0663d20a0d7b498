"""The writer and the reader of .tflite files."""

import numpy as np
import pytest

pytest.importorskip("ai_edge_litert")
pytest.importorskip("flatbuffers")
from tersenet.errors import ModelError
from tersenet.formats.tflite import CODES, OPTION_TABLES, Graph, Numbers, Operator, Tensor, read, write
from tersenet.formats.tflite_versions import BY_TYPE, version_of


def a_graph(copies: int = 1) -> Graph:
    """A convolution on int8, `copies` times with weights of the same bytes."""
    grid = Numbers((0.5,), (3,))
    weight = np.arange(8, dtype=np.int8).reshape(2, 1, 1, 4)
    tensors = [Tensor("x", (1, 2, 2, 4), "int8", grid)]
    operators = []
    for index in range(copies):
        tensors.append(Tensor("", weight.shape, "int8", Numbers((0.25, 0.5), (0, 0)), weight))
        tensors.append(Tensor("", (2,), "int32", Numbers((0.125, 0.25), (0, 0)), np.array([7, -7], np.int32)))
        tensors.append(Tensor(f"y{index}", (1, 2, 2, 2), "int8", grid))
        options = {"padding": 1, "strideH": 1, "strideW": 1, "fusedActivationFunction": 1}
        operators.append(Operator("CONV_2D", (0, 3 * index + 1, 3 * index + 2), (3 * index + 3,), options))
    return Graph(tuple(tensors), tuple(operators), (0,), tuple(3 * index + 3 for index in range(copies)))


def test_what_is_written_is_read():
    graph = a_graph()
    found = read(write(graph))
    assert (found.inputs, found.outputs) == (graph.inputs, graph.outputs)
    for given, got in zip(graph.tensors, found.tensors, strict=True):
        assert (given.name, given.shape, given.dtype, given.numbers) == (got.name, got.shape, got.dtype, got.numbers)
        np.testing.assert_array_equal(given.data if given.data is not None else 0, got.data if got.data is not None else 0)
    (operator,) = found.operators
    assert (operator.code, operator.inputs, operator.outputs) == ("CONV_2D", (0, 1, 2), (3,))
    assert operator.options["strideH"] == 1 and operator.options["fusedActivationFunction"] == 1


def test_equal_things_are_written_once():
    sizes = [len(write(a_graph(copies))) for copies in (1, 2, 3)]
    assert sizes[2] - sizes[1] < 200  # three tensors and an operator, no data, shapes, numbers or options
    assert sizes[2] - sizes[1] < sizes[0] / 3


def test_equal_graphs_give_equal_bytes():
    assert write(a_graph(2)) == write(a_graph(2))


def test_constants_lie_at_multiples_of_16():
    data = write(a_graph())
    assert data.index(np.arange(8, dtype=np.int8).tobytes()) % 16 == 0
    assert data.index(np.array([7, -7], np.int32).tobytes()) % 16 == 0


def test_versions_follow_types():
    graph = a_graph()
    assert version_of(graph.operators[0], graph.tensors) == 3
    floats = [Tensor("", shape, "float32") for shape in ((1, 2, 2, 4), (2, 1, 1, 4), (2,), (1, 2, 2, 2))]
    assert version_of(graph.operators[0], floats) == 1
    grouped = [Tensor("", (1, 2, 2, 8), "int8"), *graph.tensors[1:]]
    assert version_of(graph.operators[0], grouped) == 6


def test_tables_speak_of_operators_that_exist():
    assert set(OPTION_TABLES) | set(BY_TYPE) <= set(CODES)


@pytest.mark.parametrize("content", [b"", b"TFL3", bytes(range(256)) * 4, b"\x10\x00\x00\x00TFL3" + b"\xff" * 64])
def test_what_is_no_file_is_refused(content):
    with pytest.raises(ModelError, match=r"\.tflite"):
        read(content)


def test_a_file_cut_short_is_refused_wherever_it_is_cut():
    data = write(a_graph())
    for size in range(0, len(data) - 16, 7):
        try:
            graph = read(data[:size])
        except ModelError:
            continue
        # What can still be read must be whole.
        assert all(tensor.data is None or tensor.data.shape == tensor.shape for tensor in graph.tensors)


def test_a_flipped_byte_never_raises_anything_else():
    data = bytearray(write(a_graph()))
    random = np.random.default_rng(0)
    for _ in range(400):
        damaged = bytearray(data)
        damaged[int(random.integers(8, len(data)))] ^= int(random.integers(1, 256))
        try:
            read(bytes(damaged))
        except ModelError:
            continue


@pytest.mark.parametrize("numbers", [Numbers((0.5,), (203,)), Numbers((float("nan"),), (0,)), Numbers((-1.0,), (0,))])
def test_numbers_that_no_integer_has_are_refused(numbers):
    graph = a_graph()
    data = write(Graph((Tensor("x", (1, 2, 2, 4), "int8", numbers), *graph.tensors[1:]), graph.operators, graph.inputs, graph.outputs))
    with pytest.raises(ModelError, match="zero points that no int8"):
        read(data)
