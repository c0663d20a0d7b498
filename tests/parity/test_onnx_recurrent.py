"""Recurrent layers whose sequences end early, at lengths that the file holds, against onnxruntime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import tersenet
from onnx_networks import reference
from tersenet.errors import ModelError

STEPS, BATCH, FEATURES, SIZE = 7, 3, 4, 5
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
DATA = np.random.default_rng(0).standard_normal((STEPS, BATCH, FEATURES)).astype(np.float32)


def saved(path: Path, kind: str, direction: str, lengths: list[int]) -> Path:
    """A recurrent layer with every input but peepholes, and every output."""
    random, directions, gates = np.random.default_rng(1), 2 if direction == "bidirectional" else 1, GATES[kind]
    shapes = {"w": (gates * SIZE, FEATURES), "r": (gates * SIZE, SIZE), "b": (2 * gates * SIZE,), "h": (BATCH, SIZE), "c": (BATCH, SIZE)}
    held = {name: random.standard_normal((directions, *shape)).astype(np.float32) for name, shape in shapes.items()}
    names = ["w", "r", "b", "lengths", "h", "c"][: 6 if kind == "LSTM" else 5]
    outputs = ["y", "y_h", "y_c"][: 3 if kind == "LSTM" else 2]
    node = helper.make_node(kind, ["x", *names], outputs, name="layer", hidden_size=SIZE, direction=direction)
    constants = [numpy_helper.from_array(array, name) for name, array in held.items() if name in names]
    constants.append(numpy_helper.from_array(np.array(lengths, np.int32), "lengths"))
    given: Any = helper.make_tensor_value_info("x", TensorProto.FLOAT, [STEPS, BATCH, FEATURES])
    made = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
    graph = helper.make_graph([node], "g", [given], made, constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("kind", GATES)
def test_a_sequence_ends_where_the_file_says(kind: str, direction: str, tmp_path: Path) -> None:
    path = saved(tmp_path / "net.onnx", kind, direction, [STEPS, 1, 4])
    results = tersenet.load(path)(DATA)
    for ours, theirs in zip(results, reference(path)(DATA), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)
    assert not results[0][1:, :, 1].any() and results[0][0, :, 1].all()


@pytest.mark.parametrize(
    ("lengths", "what"),
    [
        ([STEPS, 1, STEPS + 1], r"between 1 and the 7 steps of the input, got \[7, 1, 8\]"),
        ([STEPS, 0, 2], "between 1 and the 7 steps"),
        ([4, 2], "one constant for each sequence of a batch of known size"),
    ],
    ids=["beyond", "empty", "too few"],
)
def test_lengths_that_cannot_be(lengths: list[int], what: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=what):
        tersenet.load(saved(tmp_path / "net.onnx", "GRU", "forward", lengths))
