"""Quantized files become float networks, and what they knew of their numbers is kept beside them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import tersenet
from onnx_networks import reference
from tersenet.schemes import Encoding, Scheme

RANDOM = np.random.default_rng(0)
X = RANDOM.standard_normal((3, 2, 6, 6)).astype(np.float32)
WEIGHT = RANDOM.integers(-60, 61, (4, 2, 3, 3)).astype(np.int8)  # seven bits: more saturate in the reference, on x86 without VNNI
SCALES = np.array([0.01, 0.02, 0.005, 0.015], np.float32)
CONSTANTS = {
    "w": WEIGHT,
    "ws": SCALES,
    "wz": np.zeros(4, np.int8),
    "xs": np.array(0.03, np.float32),
    "xz": np.array(128, np.uint8),
    "ys": np.array(0.02, np.float32),
    "yz": np.array(0, np.uint8),
}


def saved(path: Path, nodes: list[onnx.NodeProto], constants: dict[str, np.ndarray], shape: tuple[int | str, ...] = ("N", 2, 6, 6)) -> Path:
    """A file of one input ``x`` and one output ``y``."""
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    path.write_bytes(helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString())
    return path


def qdq() -> list[onnx.NodeProto]:
    """A convolution between pairs; the grid of its result starts at zero, which cuts as a ReLU does."""
    return [
        helper.make_node("QuantizeLinear", ["x", "xs", "xz"], ["xq"]),
        helper.make_node("DequantizeLinear", ["xq", "xs", "xz"], ["xr"]),
        helper.make_node("DequantizeLinear", ["w", "ws", "wz"], ["wr"], axis=0),
        helper.make_node("Conv", ["xr", "wr"], ["c"], name="conv"),
        helper.make_node("QuantizeLinear", ["c", "ys", "yz"], ["cq"]),
        helper.make_node("DequantizeLinear", ["cq", "ys", "yz"], ["y"]),
    ]


def qoperator() -> list[onnx.NodeProto]:
    """The same as one operator on integers."""
    return [
        helper.make_node("QuantizeLinear", ["x", "xs", "xz"], ["xq"]),
        helper.make_node("QLinearConv", ["xq", "xs", "xz", "w", "ws", "wz", "ys", "yz"], ["cq"], name="conv"),
        helper.make_node("DequantizeLinear", ["cq", "ys", "yz"], ["y"]),
    ]


@pytest.mark.parametrize("nodes", [qdq(), qoperator()], ids=["pairs", "operators"])
def test_grids_become_annotations_and_the_network_is_float(nodes: list[onnx.NodeProto], tmp_path: Path) -> None:
    path = saved(tmp_path / "a.onnx", nodes, CONSTANTS)
    model = tersenet.load(path)
    assert [str(node.target) for node in model.graph.graph.nodes if node.op == "call_function"] == ["aten.conv2d.default", "aten.relu.default"]
    ((name, weight),) = model.graph.named_parameters()
    np.testing.assert_allclose(weight.detach(), WEIGHT * SCALES.reshape(4, 1, 1, 1), rtol=1e-6)
    kept = model.annotations.weights[name]
    assert kept.scheme.dtype == "int8" and kept.axis == 0
    np.testing.assert_allclose(kept.scale, SCALES, rtol=1e-6)
    values = model.annotations.values
    assert set(values) == {"x", next(node.name for node in model.graph.graph.nodes if "relu" in node.name)}
    assert values["x"] == Encoding(Scheme("uint8"), (values["x"].scale[0],), (128,)) and values["x"].scale[0] == pytest.approx(0.03)
    wanted, got = reference(path)(X), model(X)
    inside = got < 255 * 0.02  # the file cuts what lies above its grid
    assert np.abs(np.where(inside, got - wanted, 0)).max() < 0.25 and got.min() == 0


def test_numbers_that_are_scaled_as_they_come(tmp_path: Path) -> None:
    matrix, x = RANDOM.integers(0, 255, (6, 5)).astype(np.uint8), RANDOM.standard_normal((3, 6)).astype(np.float32)
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]),
        helper.make_node("MatMulInteger", ["q", "w", "z", "wz"], ["i"], name="fc"),
        helper.make_node("Cast", ["i"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["s", "ws"], ["m"]),
        helper.make_node("Mul", ["f", "m"], ["p"]),
        helper.make_node("Add", ["p", "b"], ["y"]),
    ]
    bias = RANDOM.standard_normal(5).astype(np.float32)
    constants = {"w": matrix, "wz": np.array(120, np.uint8), "ws": np.array(0.01, np.float32), "b": bias}
    path = saved(tmp_path / "a.onnx", nodes, constants, ("N", 6))
    model = tersenet.load(path)
    assert [str(node.target) for node in model.graph.graph.nodes if node.op == "call_function"] == ["aten.linear.default"]
    np.testing.assert_allclose(model(x), x @ ((matrix.astype(np.float32) - 120) * 0.01) + bias, atol=1e-5)
    np.testing.assert_allclose(model(x), reference(path)(x), atol=0.1)


@pytest.mark.parametrize("zero", ["", "z", "other"])
def test_integers_that_are_scaled_as_they_come_are_read_with_the_zero_point_that_the_file_gives(zero: str, tmp_path: Path) -> None:
    """Without one, or with another than was found, the integers themselves are multiplied."""
    weight = np.random.default_rng(0).integers(-9, 9, (4, 5)).astype(np.int8)
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]),
        helper.make_node("MatMulInteger", ["q", "w", zero], ["n"]),
        helper.make_node("Cast", ["n"], ["f"], to=1),
        helper.make_node("Mul", ["f", "s"], ["y"]),
    ]
    other = np.array(7, np.uint8)
    model = tersenet.load(saved(tmp_path / "a.onnx", nodes, {"w": weight, "other": other}, ("N", 4)))
    x = np.random.default_rng(1).uniform(-1, 2, (1, 4)).astype(np.float32)
    low, high = min(0, x.min()), max(0, x.max())
    scale = (high - low) / 255
    shift = {"": 0.0, "z": round(-low / scale), "other": 7.0}[zero]
    whole = np.round(x / scale) + round(-low / scale) - shift
    np.testing.assert_allclose(model(x), scale * whole @ weight, atol=0.1 if zero == "z" else 1e-3)


def test_zero_points_of_channels_that_come_in(tmp_path: Path) -> None:
    """ConvInteger subtracts them from its weights along the first axis, also where no file holds them."""
    random = np.random.default_rng(0)
    weights = random.integers(-100, 100, (3, 2, 3, 3)).astype(np.int8)
    inputs = [helper.make_tensor_value_info("x", TensorProto.UINT8, ["N", 2, 3, 3]), helper.make_tensor_value_info("zero", TensorProto.INT8, [3])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.INT32, ["N", 3, 1, 1])]
    held = [numpy_helper.from_array(weights, "w"), numpy_helper.from_array(np.uint8(7), "seven")]
    graph = helper.make_graph([helper.make_node("ConvInteger", ["x", "w", "seven", "zero"], ["y"])], "g", inputs, outputs, held)
    path = tmp_path / "net.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    x, zero = random.integers(0, 255, (2, 2, 3, 3)).astype(np.uint8), np.array([-5, 0, 9], np.int8)
    by_hand = np.einsum("ncij,ocij->no", x.astype(int) - 7, weights.astype(int) - zero.reshape(3, 1, 1, 1).astype(int))
    np.testing.assert_array_equal(np.asarray(tersenet.load(path)(x, zero)).reshape(2, 3), by_hand)
