"""The runner of ONNX files: ports, placement, and files that are none."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from torch import nn

from tersenet.errors import ModelError
from tersenet.graph.trace import trace
from tersenet.target import ExportOptions
from tersenet.targets.onnxruntime.export import OnnxExporter
from tersenet.targets.onnxruntime.run import OnnxRunner


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> Path:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5)).eval()
    path = tmp_path_factory.mktemp("runner") / "model.onnx"
    OnnxExporter().export(trace(module, (torch.zeros(2, 3, 8, 8),)), path, ExportOptions())
    return path


def test_a_file_tells_its_ports(file: Path) -> None:
    session = OnnxRunner().load(file, threads=1)
    assert [(port.name, port.shape, port.dtype) for port in session.inputs] == [("input", (None, 3, 8, 8), "float32")]
    assert [(port.name, port.shape, port.dtype) for port in session.outputs] == [("output", (None, 5), "float32")]
    assert session.memory() is None


def test_a_float_file_is_wholly_on_its_own_kernels(file: Path) -> None:
    placement = OnnxRunner().load(file).operators()
    assert (placement.delegated, placement.declined) == (1.0, ())
    assert placement.operators["Conv"] == 1
    assert "Relu" not in placement.operators  # fused into the convolution


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.9, 0.999])
def test_a_truncated_file_is_refused(file: Path, tmp_path: Path, share: float) -> None:
    raw = file.read_bytes()
    (tmp_path / "short.onnx").write_bytes(raw[: int(len(raw) * share)])
    with pytest.raises(ModelError, match=r"short\.onnx is not a model that onnxruntime"):
        OnnxRunner().load(tmp_path / "short.onnx")


def test_a_damaged_file_runs_or_is_refused_and_nothing_is_printed(file: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    random = np.random.default_rng(0)
    raw = np.frombuffer(file.read_bytes(), np.uint8)
    refused = 0
    for _ in range(30):
        damaged = raw.copy()
        damaged[random.integers(0, 400, 2)] = random.integers(0, 256, 2)  # the weights come last
        (tmp_path / "damaged.onnx").write_bytes(damaged.tobytes())
        try:
            session = OnnxRunner().load(tmp_path / "damaged.onnx")
            session.operators()
            session.run([np.zeros([size or 1 for size in port.shape], port.dtype) for port in session.inputs])
        except ModelError:
            refused += 1
    assert 0 < refused < 30
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("raw", [b"\x80\x04]\x94.", b"PK\x03\x04", bytes(1000), b"\xff" * 64], ids=["pickle", "zip", "zeros", "ones"])
def test_another_file_is_refused(tmp_path: Path, raw: bytes) -> None:
    (tmp_path / "other.onnx").write_bytes(raw)
    with pytest.raises(ModelError, match=r"other\.onnx is not a model"):
        OnnxRunner().load(tmp_path / "other.onnx")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"cannot read .*absent\.onnx"):
        OnnxRunner().load(tmp_path / "absent.onnx")


def test_a_file_with_an_operator_of_another_house_is_refused(tmp_path: Path) -> None:
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    result = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
    graph = helper.make_graph([helper.make_node("Secret", ["x"], ["y"], domain="elsewhere")], "g", [value], [result])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("elsewhere", 1)], ir_version=10), tmp_path / "odd.onnx")
    with pytest.raises(ModelError, match="Secret"):
        OnnxRunner().load(tmp_path / "odd.onnx")


def test_arrays_that_do_not_fit_are_refused(file: Path) -> None:
    session = OnnxRunner().load(file)
    with pytest.raises(ModelError, match="could not run"):
        session.run([np.zeros((1, 4, 8, 8), np.float32)])
    with pytest.raises(ModelError, match="could not run"):
        session.run([np.zeros((1, 3, 8, 8), np.int32)])
