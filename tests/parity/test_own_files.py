"""Integer files of ours as input: the network in them is read back on the grids that it was written with, whatever form the file has."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tersenet.data.parts import Data
from tersenet.frontends.table import load
from tersenet.graph.deploy import deployable
from tersenet.graph.walk import outputs
from tersenet.model import Model
from tersenet.step import Context
from tersenet.steps.quantize import Quantize
from tersenet.target import Artifact, ExportOptions

pytest.importorskip("ai_edge_litert")
pytest.importorskip("onnxruntime")
from tersenet.targets.litert import capabilities as litert
from tersenet.targets.litert.export import LiteRTExporter
from tersenet.targets.litert.run import LiteRTRunner
from tersenet.targets.onnxruntime import capabilities as onnxruntime
from tersenet.targets.onnxruntime.export import OnnxExporter
from tersenet.targets.onnxruntime.run import OnnxRunner

RANDOM = np.random.default_rng(0)


class Residual(nn.Module):
    """Convolutions with a skip, a mean over the image, a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.norm, self.head = nn.BatchNorm2d(8), nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.norm(self.first(x)))
        x = torch.relu(x + self.second(x))
        return self.head(x.mean((2, 3)))


def mobile() -> nn.Module:
    """Depthwise and pointwise convolutions under relu6, pooling, softmax."""
    layers = [nn.Conv2d(3, 8, 1), nn.ReLU6(), nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.ReLU6(), nn.MaxPool2d(2), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(8 * 16, 4), nn.Softmax(1))


def sequence() -> nn.Module:
    return nn.Sequential(nn.Conv1d(4, 8, 3, padding=1), nn.Tanh(), nn.Conv1d(8, 6, 3, stride=2), nn.Sigmoid())


IMAGES = RANDOM.standard_normal((32, 3, 8, 8)).astype(np.float32)
NETWORKS: dict[str, tuple[Callable[[], nn.Module], np.ndarray]] = {
    "residual": (Residual, IMAGES),
    "mobile": (mobile, IMAGES),
    "rows": (lambda: nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 3)), RANDOM.standard_normal((32, 12)).astype(np.float32)),
    "sequence": (sequence, RANDOM.standard_normal((32, 4, 20)).astype(np.float32)),
}
FORMS: dict[str, tuple[str, dict[str, Any]]] = {
    "pairs": ("onnxruntime", {}),
    "pairs, integers in and out": ("onnxruntime", {"integer_io": True}),
    "operators": ("onnxruntime", {"format": {"qoperator": True}}),
    "operators, integers in and out": ("onnxruntime", {"format": {"qoperator": True}, "integer_io": True}),
    "litert": ("litert", {"batch": 1}),
    "litert, integers in and out": ("litert", {"batch": 1, "integer_io": True}),
}
RUNTIMES = {
    "onnxruntime": (onnxruntime.capabilities, OnnxExporter, OnnxRunner, "model.onnx"),
    "litert": (litert.capabilities, LiteRTExporter, LiteRTRunner, "model.tflite"),
}


def quantized(model: Model, runtime: str, x: np.ndarray) -> Model:
    data = Data.from_arrays(calibration=x).bind(model.inputs, model.outputs)
    return Quantize().run(model, Context((RUNTIMES[runtime][0](),), data)).model


def written(model: Model, runtime: str, folder: Path, options: dict[str, Any]) -> Artifact:
    _, exporter, runner, name = RUNTIMES[runtime]
    folder.mkdir()
    export = exporter().export(model, folder / name, ExportOptions(**options))
    return Artifact(export.path, runtime, runner().load(export.path), export.inputs, export.outputs)


def grids(model: Model) -> set[tuple[float, int]]:
    """Scale and zero point, on the int8 grid, of every activation of its plan."""
    found = [encoding for encoding in model.plans[0].values.values() if encoding.role not in ("constant", "weight", "bias")]
    return {(round(float(encoding.scale[0]), 9), encoding.stored_as("int8").zero_point[0]) for encoding in found}


def one_by_one(call: Callable[[np.ndarray], Any], x: np.ndarray) -> np.ndarray:
    return np.concatenate([call(x[place : place + 1]) for place in range(len(x))])


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", NETWORKS)
def test_an_integer_file_is_read_back_on_its_own_grids(name: str, form: str, tmp_path: Path) -> None:
    make, x = NETWORKS[name]
    runtime, options = FORMS[form]
    torch.manual_seed(0)
    first = quantized(load(make().eval(), (torch.from_numpy(x[:2]),)), runtime, x)
    artifact = written(first, runtime, tmp_path / "first", options)
    back = load(artifact.path)
    (port,), (result,) = artifact.inputs, artifact.outputs
    stored = x.transpose(port.axes) if port.axes else x
    takes, gives = (spec.dtype.startswith("float") for spec in (back.inputs[0], back.outputs[0]))  # LiteRT's integers as what they stand for
    inside = stored if takes else np.clip(np.round(stored / port.scale) + port.zero_point, *ENDS[port.dtype]).astype(port.dtype)
    last = first.plans[0].values.get(outputs(deployable(first))[0].name)
    step = last.scale[0] if last is not None else 1e-4
    wanted = one_by_one(artifact, x)
    # As a float network: the network before it was rounded, save for its weights.
    found = one_by_one(back, inside)
    found = found if gives else result.scale * (found.astype(np.float32) - result.zero_point)
    found = found.transpose(np.argsort(result.axes)) if result.axes else found
    assert np.abs(found - wanted).max() <= 8 * step + 0.1 * np.abs(wanted).max()
    # Quantized again, for the same runtime: the same grids, the same answers.
    again = quantized(back, runtime, inside)
    assert grids(first) <= grids(again) | {(1.0, 0)}
    second = written(again, runtime, tmp_path / "second", {"batch": 1} if runtime == "litert" else {})
    repeated = one_by_one(second, inside)
    repeated = repeated if gives else result.scale * (repeated.astype(np.float32) - result.zero_point)
    repeated = repeated.transpose(np.argsort(result.axes)) if result.axes else repeated
    np.testing.assert_allclose(repeated, wanted, atol=1.001 * step)


ENDS = {"uint8": (0, 255), "int8": (-128, 127)}
