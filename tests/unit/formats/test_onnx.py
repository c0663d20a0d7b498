"""Graphs as data become files of the published schema."""

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from tersenet.errors import UnsupportedError
from tersenet.formats import onnx as rooms
from tersenet.formats.onnx import IR_VERSION, MICROSOFT, OPSET, Graph, Operator, Value, encode


def graph() -> Graph:
    operators = [
        Operator("Add", ["x", "c"], ["sum"]),
        Operator("Clip", ["sum", "", "c"], ["clipped"]),
        Operator("Softmax", ["clipped"], ["y"], {"axis": 1}),
    ]
    return Graph([Value("x", "float32", ("batch", 3))], [Value("y", "float32", ("batch", 3))], operators, {"c": np.array([1, 2, 3], np.float32)})


def test_what_goes_in_comes_out() -> None:
    model = onnx.load_model_from_string(encode(graph()))
    assert (model.ir_version, [(entry.domain, entry.version) for entry in model.opset_import]) == (IR_VERSION, [("", OPSET)])
    assert [node.op_type for node in model.graph.node] == ["Add", "Clip", "Softmax"]
    assert list(model.graph.node[1].input) == ["sum", "", "c"]
    assert model.graph.node[2].attribute[0].i == 1
    assert [size.dim_param or size.dim_value for size in model.graph.input[0].type.tensor_type.shape.dim] == ["batch", 3]
    np.testing.assert_array_equal(numpy_helper.to_array(model.graph.initializer[0]), [1, 2, 3])


@pytest.mark.parametrize("dtype", ["float32", "float64", "int8", "uint8", "int16", "int32", "int64", "bool"])
def test_constants_of_every_type(dtype: str) -> None:
    made = graph()
    made.constants["c"] = np.array([[0, 1], [1, 0]], dtype).T  # not in memory's order
    tensor = onnx.load_model_from_string(encode(made)).graph.initializer[0]
    np.testing.assert_array_equal(numpy_helper.to_array(tensor), made.constants["c"])
    assert numpy_helper.to_array(tensor).dtype == dtype


def test_another_house_is_declared_once() -> None:
    made = graph()
    made.operators += [Operator("QGemm", ["x"], ["a"], {}, MICROSOFT), Operator("QLinearAdd", ["x"], ["b"], {}, MICROSOFT)]
    assert [entry.domain for entry in onnx.load_model_from_string(encode(made)).opset_import] == ["", MICROSOFT]


def test_names_can_be_changed_everywhere() -> None:
    made = graph()
    made.rename({"x": "image", "sum": "a", "c": "k"})
    assert [value.name for value in made.inputs] == ["image"]
    assert made.operators[0] == Operator("Add", ["image", "k"], ["a"])
    assert list(made.constants) == ["k"]


def test_a_network_that_no_file_holds_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rooms, "LARGEST", 12)
    with pytest.raises(UnsupportedError, match="2 GiB"):
        encode(graph())
