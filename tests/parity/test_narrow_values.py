"""Values of 2 to 7 bits in the real runtimes: files compute what is simulated, integer for integer, and take the operators that clip for it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tersenet.data.parts import Data
from tersenet.frontends.table import load
from tersenet.graph.simulate import simulate
from tersenet.model import Model
from tersenet.step import Context
from tersenet.steps.quantize import Override, Quantize
from tersenet.target import Artifact, Export, ExportOptions
from tersenet.targets import table

pytest.importorskip("onnxruntime")
pytest.importorskip("ai_edge_litert")
pytest.importorskip("tflite_micro")

RUNTIMES = ("onnxruntime", "litert", "litert-micro", "executorch")
WIDTHS = ("int2", "int3", "int4", "int5", "int6", "int7")
# A program of executorch takes seconds to make.
CASES = [
    pytest.param(runtime, width, marks=[pytest.mark.slow] if runtime == "executorch" and width != "int4" else [])
    for runtime in RUNTIMES
    for width in WIDTHS
]
IMAGES = np.random.default_rng(0).standard_normal((96, 3, 8, 8)).astype(np.float32)


class Small(nn.Module):
    """Sums with and without a relu behind them, a concatenation of what has one and what has none, depthwise, relu6, hardswish, pooling, linear."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 16, 3, padding=1)
        self.depthwise, self.pointwise = nn.Conv2d(16, 16, 3, padding=1, groups=16), nn.Conv2d(16, 16, 1)
        self.one, self.other = nn.Conv2d(16, 8, 1), nn.Conv2d(16, 8, 1)
        self.last, self.hidden, self.head = nn.Conv2d(16, 24, 3, stride=2, padding=1), nn.Linear(96, 32), nn.Linear(32, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.first(x))
        x = x + self.pointwise(F.relu6(self.depthwise(x)))
        x = F.relu(x + self.second(x))
        x = torch.cat([F.relu(self.one(x)), self.other(x)], 1)
        x = F.max_pool2d(F.hardswish(self.last(x)), 2)
        return self.head(F.relu(self.hidden(x.flatten(1))))


class Averages(nn.Module):
    """Means over windows and whole images, of what has a relu behind it and of what has none; a clamp, a leaky relu, a product, a pad, a split."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 16, 1), nn.Conv2d(8, 8, 3)
        self.head = nn.Linear(24, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.avg_pool2d(F.relu(self.first(x)), 2)
        y = F.avg_pool2d(self.second(x), 2)
        one, two = F.leaky_relu(self.second(x)).split(8, 1)
        z = self.third(F.pad(torch.clamp(one * two, -0.1, 0.2), (1, 1, 1, 1)))
        return self.head(torch.cat([y.mean((2, 3)), F.adaptive_avg_pool2d(z, 1).flatten(1)], 1))


def model(module: nn.Module) -> Model:
    torch.manual_seed(0)
    return load(module.eval(), (torch.from_numpy(IMAGES[:2]),))


@pytest.fixture(scope="module")
def network() -> Model:
    return model(Small())


@pytest.fixture(scope="module")
def averages() -> Model:
    return model(Averages())


def quantized(network: Model, runtime: str, **options) -> Model:
    data = Data.from_arrays(calibration=IMAGES[:32]).bind(network.inputs, network.outputs)
    return Quantize(**{"ranges": "mse", **options}).apply(network, Context((table.capabilities(table.find(runtime)),), data)).model


def exported(model: Model, runtime: str, path: Path, **options) -> tuple[Export, Artifact]:
    target = table.find(runtime)
    export = table.exporter(target).export(model, path, ExportOptions(**options))
    return export, Artifact(export.path, runtime, table.runner(target).load(export.path), export.inputs, export.outputs)


def steps_apart(model: Model, runtime: str, artifact: Artifact) -> np.ndarray:
    plan, x = model.plan_for(runtime), IMAGES[32:]
    expected = simulate(model, plan, table.capabilities(table.find(runtime)).arithmetic)(x)
    return np.abs(artifact(x) - expected) / plan.values[list(plan.values)[-1]].scale[0]


@pytest.mark.parametrize(("runtime", "width"), CASES)
def test_files_compute_what_is_simulated(network: Model, runtime: str, width: str, tmp_path: Path) -> None:
    model = quantized(network, runtime, activations=width)
    assert len(model.plans[0].narrow) == len(model.plans[0].values) - 2  # all but the input and the output
    _, artifact = exported(model, runtime, tmp_path / "model")
    assert steps_apart(model, runtime, artifact).max() < 0.01


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_means_pads_and_parts_stay_on_their_grids(averages: Model, runtime: str, tmp_path: Path) -> None:
    model = quantized(averages, runtime, activations="int4")
    _, artifact = exported(model, runtime, tmp_path / "model", integer_io=True)
    assert (steps_apart(model, runtime, artifact) > 0.5).mean() < 0.01


@pytest.mark.parametrize("runtime", RUNTIMES[:3])
def test_layers_of_their_own_bits(network: Model, runtime: str, tmp_path: Path) -> None:
    overrides = (Override("second", activations="int8"), Override("hidden", activations="int2"))
    model = quantized(network, runtime, activations="int5", weights="int4", overrides=overrides)
    assert {encoding.scheme.bits for encoding in model.plans[0].values.values()} == {2, 5, 8}
    export, artifact = exported(model, runtime, tmp_path / "model")
    assert steps_apart(model, runtime, artifact).max() < 0.01
    again, _ = exported(model, runtime, tmp_path / "again")
    assert again.path.read_bytes() == export.path.read_bytes()


def test_kernels_stay_integer_kernels(network: Model, tmp_path: Path) -> None:
    """Between them stand clips of integers, and nothing else: no conversion to floats and back."""
    for runtime, clip in (("onnxruntime", "Clip"), ("litert", "MAXIMUM")):
        wide = exported(quantized(network, runtime), runtime, tmp_path / f"{runtime}-wide")[1].session.operators().operators
        narrow = exported(quantized(network, runtime, activations="int4"), runtime, tmp_path / f"{runtime}-narrow")[1].session.operators().operators
        assert {kind: count for kind, count in narrow.items() if kind != clip} == {kind: count for kind, count in wide.items() if kind != clip}
        assert narrow[clip] > wide.get(clip, 0)


def test_qoperator_files_are_the_same(network: Model, tmp_path: Path) -> None:
    model = quantized(network, "onnxruntime", activations="int4")
    _, artifact = exported(model, "onnxruntime", tmp_path / "model", format={"qoperator": True})
    assert steps_apart(model, "onnxruntime", artifact).max() < 0.01


@pytest.mark.parametrize("runtime", RUNTIMES[:2])
def test_inner_values_of_a_file_are_found_under_their_names(network: Model, runtime: str, tmp_path: Path) -> None:
    model = quantized(network, runtime, activations="int4")
    export, _ = exported(model, runtime, tmp_path / "model")
    assert set(model.plans[0].narrow) - {"flatten"} <= set(export.names)
