"""Float files against torch, operator by operator; names, sharing, sizes and bytes."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

import networks
from networks import CASES, Case, Function
from tersenet.errors import RecipeError, UnsupportedError
from tersenet.graph.trace import trace
from tersenet.model import Model
from tersenet.target import Artifact, ExportOptions
from tersenet.targets.onnxruntime.export import OnnxExporter
from tersenet.targets.onnxruntime.run import OnnxRunner


def exported(model: Model, path: Path, **options) -> Artifact:
    export = OnnxExporter().export(model, path, ExportOptions(**options))
    onnx.checker.check_model(onnx.load(path), full_check=True)
    return Artifact(path, "onnxruntime", OnnxRunner().load(path), export.inputs, export.outputs)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_float_file_computes_what_torch_computes(case: Case, tmp_path: Path) -> None:
    module, inputs = networks.made(case, batch=2)
    model = trace(module, inputs, name=case.name)
    assert not model.fixed_batch
    artifact = exported(model, tmp_path / "model.onnx")
    for batch in (2, 1, 7):  # the file keeps its batch open
        arrays = networks.samples(case, batch)
        with torch.no_grad():
            expected = module(*(torch.from_numpy(array) for array in arrays)).numpy()
        result = artifact(*arrays)
        assert result.shape == expected.shape
        assert result.dtype == expected.dtype
        np.testing.assert_allclose(result, expected, rtol=0, atol=1e-5 * max(1.0, float(np.abs(expected).max())))


def test_open_sizes_are_named(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Embedding(11, 8), nn.LSTM(8, 4, batch_first=True))
    module = Function(lambda parts, x: parts[1](parts[0](x))[0], network)
    model = trace(module, (torch.zeros(2, 5, dtype=torch.int64),), dynamic={"inputs_0": {1: "length"}})
    artifact = exported(model, tmp_path / "model.onnx")
    graph = onnx.load(tmp_path / "model.onnx").graph
    names = [[size.dim_param or size.dim_value for size in value.type.tensor_type.shape.dim] for value in (*graph.input, *graph.output)]
    assert names == [["batch", "size_1"], ["batch", "size_1", 4]]
    for shape in ((1, 3), (4, 9)):
        tokens = np.random.default_rng(0).integers(0, 11, shape)
        with torch.no_grad():
            expected = module(torch.from_numpy(tokens)).numpy()
        np.testing.assert_allclose(artifact(tokens), expected, atol=1e-6)


def test_attention_over_any_length(tmp_path: Path) -> None:
    module = nn.TransformerEncoderLayer(12, 3, 16, batch_first=True).eval()
    model = trace(module, (torch.rand(2, 5, 12),), dynamic={"src": {1: "length"}})
    artifact = exported(model, tmp_path / "model.onnx")
    tokens = torch.rand(3, 9, 12)
    with torch.no_grad():
        np.testing.assert_allclose(artifact(tokens.numpy()), module(tokens).numpy(), atol=1e-5)


def test_the_same_network_gives_the_same_bytes(tmp_path: Path) -> None:
    module, inputs = networks.made(next(case for case in CASES if case.name == "transformer"), batch=2)
    for name in ("a", "b"):
        OnnxExporter().export(trace(module, inputs), tmp_path / name, ExportOptions())
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_the_file_holds_weights_and_little_else(tmp_path: Path) -> None:
    module = nn.Sequential(nn.Conv2d(3, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 32, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(2048, 10))
    weights = sum(parameter.nbytes for parameter in module.parameters())
    exported(trace(module, (torch.zeros(2, 3, 8, 8),)), tmp_path / "model.onnx")
    model = onnx.load(tmp_path / "model.onnx")
    assert (tmp_path / "model.onnx").stat().st_size < weights + 500
    assert not model.graph.value_info
    assert not any(node.name or node.doc_string for node in model.graph.node)
    assert [value.name for value in (*model.graph.input, *model.graph.output)] == ["input", "output"]


def test_equal_constants_are_held_once(tmp_path: Path) -> None:
    layer = nn.Linear(8, 8)
    module = Function(lambda one, other, x: other(torch.relu(one(x))), layer, layer)
    exported(trace(module, (torch.zeros(2, 8),)), tmp_path / "model.onnx")
    assert len(onnx.load(tmp_path / "model.onnx").graph.initializer) == 2


def test_names_lead_from_the_graph_to_the_file(tmp_path: Path) -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Tanh(), nn.Conv2d(4, 5, 3)).eval()
    model = trace(module, (torch.zeros(2, 3, 8, 8),))
    export = OnnxExporter().export(model, tmp_path / "model.onnx", ExportOptions())
    assert set(export.names) - {"conv2d", "tanh", "conv2d_1"} == {next(node.name for node in model.graph.graph.nodes if node.op == "placeholder")}
    image = np.random.default_rng(0).standard_normal((2, 3, 8, 8)).astype(np.float32)
    values = OnnxRunner().inner(tmp_path / "model.onnx", [image])
    with torch.no_grad():
        expected = module[:2](torch.from_numpy(image)).numpy()
    np.testing.assert_allclose(values[export.names["tanh"]], expected, atol=1e-6)
    np.testing.assert_allclose(values[export.names["conv2d_1"]], OnnxRunner().load(export.path).run([image])[0], atol=1e-6)


def test_a_value_may_be_input_and_output_and_returned_twice(tmp_path: Path) -> None:
    model = trace(Function(lambda x: (x, torch.relu(x), torch.relu(x) + 0)), (torch.zeros(2, 4),))
    artifact = exported(model, tmp_path / "model.onnx")
    array = np.array([[-1.0, 2.0, 0.5, -3.0]], np.float32)
    for result, expected in zip(artifact(array), (array, np.maximum(array, 0), np.maximum(array, 0)), strict=True):
        np.testing.assert_array_equal(result, expected)


def test_images_may_come_with_channels_last(tmp_path: Path) -> None:
    module = nn.Conv2d(3, 4, 3).eval()
    model = trace(module, (torch.zeros(2, 3, 8, 9),))
    artifact = exported(model, tmp_path / "model.onnx", layout="NHWC")
    assert (artifact.inputs[0].shape, artifact.inputs[0].layout, artifact.inputs[0].axes) == ((None, 8, 9, 3), "NHWC", (0, 2, 3, 1))
    image = np.random.default_rng(0).standard_normal((2, 3, 8, 9)).astype(np.float32)
    with torch.no_grad():
        np.testing.assert_allclose(artifact(image), module(torch.from_numpy(image)).numpy(), atol=1e-5)


def test_an_operator_without_a_builder_is_named(tmp_path: Path) -> None:
    model = trace(Function(lambda x: torch.special.i0(x)), (torch.zeros(2, 4),))
    with pytest.raises(UnsupportedError, match=r"special_i0.*operators/table\.py"):
        OnnxExporter().export(model, tmp_path / "model.onnx", ExportOptions())
    assert not (tmp_path / "model.onnx").exists()


def test_an_unknown_option_is_refused(tmp_path: Path) -> None:
    model = trace(nn.ReLU(), (torch.zeros(2, 4),))
    with pytest.raises(RecipeError, match="did you mean 'qoperator'"):
        OnnxExporter().export(model, tmp_path / "model.onnx", ExportOptions(format={"qoperatr": True}))
