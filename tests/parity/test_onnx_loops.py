"""Loops whose number of turns is in the file, against onnxruntime; those that the data end are refused."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import tersenet
from onnx_networks import reference
from tersenet.errors import ModelError

RANDOM = np.random.default_rng(0)
X = RANDOM.standard_normal((3, 5, 4)).astype(np.float32)
WEIGHT = RANDOM.standard_normal((4, 4)).astype(np.float32)


def value(name: str, shape: Sequence[Any] | None = None, kind: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def saved(path: Path, nodes: Sequence[onnx.NodeProto], outputs: Sequence[str], constants: dict[str, np.ndarray], shape: Sequence[Any]) -> Path:
    held = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, "g", [value("x", shape)], [value(name) for name in outputs], held)
    path.write_bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString())
    return path


def counted(condition: Sequence[onnx.NodeProto]) -> onnx.NodeProto:
    """state <- tanh(state W) + turn, collected; W lies in the body."""
    nodes = [
        *condition,
        helper.make_node("MatMul", ["state", "w"], ["product"], name="product"),
        helper.make_node("Tanh", ["product"], ["squeezed"]),
        helper.make_node("Cast", ["turn"], ["number"], to=TensorProto.FLOAT),
        helper.make_node("Add", ["squeezed", "number"], ["next"]),
        helper.make_node("ReduceSum", ["next", "one"], ["seen"], keepdims=0),
    ]
    given = [value("turn", [], TensorProto.INT64), value("on", [], TensorProto.BOOL), value("state")]
    results = [value("goes_on", [], TensorProto.BOOL), value("next"), value("seen")]
    held = [numpy_helper.from_array(WEIGHT, "w"), numpy_helper.from_array(np.array([1]), "one")]
    return helper.make_node("Loop", ["count", "true", "x"], ["y", "all"], name="loop", body=helper.make_graph(nodes, "b", given, results, held))


ALWAYS = [helper.make_node("Identity", ["on"], ["goes_on"])]
UNTIL = [
    helper.make_node("ReduceMax", ["state"], ["largest"], keepdims=0),
    helper.make_node("Less", ["largest", "most"], ["goes_on"]),
]
CONSTANTS = {"count": np.array(3), "true": np.array(True), "most": np.array(2.0, np.float32)}


def test_a_loop_with_a_constant_number_of_turns(tmp_path: Path) -> None:
    path = saved(tmp_path / "loop.onnx", [counted(ALWAYS)], ["y", "all"], CONSTANTS, ["N", 4])
    model = tersenet.load(path)
    for got, wanted in zip(model(X[:, 0]), reference(path)(X[:, 0]), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-6)
    assert [name for name, array in model.graph.state_dict().items() if array.shape == (4, 4)] == ["w"], "one matrix for all turns"


@pytest.mark.parametrize(("condition", "constants"), [(UNTIL, CONSTANTS), (ALWAYS, {**CONSTANTS, "count": np.array(10**6)})])
def test_a_loop_that_the_data_end_or_that_is_too_long(condition: Sequence[onnx.NodeProto], constants: dict[str, np.ndarray], tmp_path: Path) -> None:
    path = saved(tmp_path / "loop.onnx", [counted(condition)], ["y", "all"], constants, ["N", 4])
    with pytest.raises(ModelError, match="Loop.*constant number of turns|at most 1,000"):
        tersenet.load(path)


@pytest.mark.parametrize("backwards", [0, 1])
def test_a_scan_along_an_axis_of_known_length(backwards: int, tmp_path: Path) -> None:
    """A recurrent layer written out: state <- tanh(step + state W), from (batch, time, features) along time."""
    nodes = [
        helper.make_node("MatMul", ["state", "w"], ["product"]),
        helper.make_node("Add", ["product", "step"], ["sum"]),
        helper.make_node("Tanh", ["sum"], ["next"]),
        helper.make_node("Identity", ["next"], ["seen"]),
    ]
    body = helper.make_graph(nodes, "b", [value("state"), value("step")], [value("next"), value("seen")])
    options = {"scan_input_axes": [1], "scan_output_axes": [1], "scan_input_directions": [backwards], "scan_output_directions": [backwards]}
    scan = helper.make_node("Scan", ["begun", "x"], ["last", "all"], name="scan", body=body, num_scan_inputs=1, **options)
    first = helper.make_node("ReduceMean", ["x"], ["begun"], axes=[1], keepdims=0)
    path = saved(tmp_path / "scan.onnx", [first, scan], ["last", "all"], {"w": WEIGHT}, ["N", 5, 4])
    model = tersenet.load(path)
    assert not model.fixed_batch
    for got, wanted in zip(model(X), reference(path)(X), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-6)
    with pytest.raises(ModelError, match=r"Scan.*the file states"):
        tersenet.load(saved(tmp_path / "open.onnx", [first, scan], ["last", "all"], {"w": WEIGHT}, ["N", "T", 4]))
