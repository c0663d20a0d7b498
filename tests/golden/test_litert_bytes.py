"""The exact bytes of one tiny file: nobody changes the format without noticing."""

import hashlib

import numpy as np
import pytest

pytest.importorskip("ai_edge_litert")
from tersenet.formats.tflite import Graph, Numbers, Operator, Signature, Tensor, read, write

GOLDEN = "b9c8389300e07e9d91571ef50fc34da1994a7c6f050afea0db544bb0c5e5671a"
LENGTH_SIGNED, GOLDEN_SIGNED = 592, "9898be64ba83cafedcc8604ce2d806aed0b27970f9c4155a5369b8d3359682ee"


def tiny() -> Graph:
    """Two int8 values added, a relu fused."""
    tensors = (
        Tensor("x", (1, 4), "int8", Numbers((0.5,), (0,))),
        Tensor("", (4,), "int8", Numbers((0.25,), (-1,)), np.array([1, 2, 3, 4], np.int8)),
        Tensor("y", (1, 4), "int8", Numbers((0.5,), (0,))),
    )
    return Graph(tensors, (Operator("ADD", (0, 1), (2,), {"fusedActivationFunction": 1, "potScaleInt16": False}),), (0,), (2,))


def test_bytes():
    data = write(tiny())
    assert len(data) == 480
    assert hashlib.sha256(data).hexdigest() == GOLDEN


def test_bytes_of_a_signature():
    """It costs this file 112 bytes, shares the tensors' names, and changes nothing else that a reader sees."""
    data = write(tiny(), Signature(("x",), ("y",)))
    assert len(data) == LENGTH_SIGNED
    assert hashlib.sha256(data).hexdigest() == GOLDEN_SIGNED
    assert read(data).operators == read(write(tiny())).operators


def test_the_interpreter_runs_it():
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=write(tiny()))
    interpreter.allocate_tensors()
    interpreter.set_tensor(0, np.array([[-9, -2, 0, 5]], np.int8))
    interpreter.invoke()
    # 0.25 * (q + 1) is added to 0.5 * x: 0.5, 0.75, 1, 1.25 to -4.5, -1, 0, 2.5
    np.testing.assert_array_equal(interpreter.get_tensor(2), [[0, 0, 2, 8]])
