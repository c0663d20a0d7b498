"""Weights of 2 to 7 bits: files compute what is simulated; those of at most 4 bits lie two a byte where kernels take them, and are read back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from tersenet.data.parts import Data
from tersenet.errors import RecipeError
from tersenet.frontends.table import load
from tersenet.graph.simulate import simulate
from tersenet.model import Model
from tersenet.step import Context, StepResult
from tersenet.steps.quantize import Quantize
from tersenet.target import Artifact, Export, ExportOptions
from tersenet.targets import table

pytest.importorskip("onnxruntime")
pytest.importorskip("ai_edge_litert")
pytest.importorskip("tflite_micro")

RUNTIMES = ("onnxruntime", "litert", "litert-micro", "executorch")
STORES = RUNTIMES[:3]
IMAGES = np.random.default_rng(0).standard_normal((64, 3, 8, 8)).astype(np.float32)


class Every(nn.Module):
    """Plain, grouped, depthwise and pointwise convolutions, a linear layer of many rows, one of one row, and one of an odd number of inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.grouped = nn.Conv2d(3, 16, 3, stride=2, padding=1), nn.Conv2d(16, 32, 3, padding=1, groups=2)
        self.depthwise, self.pointwise = nn.Conv2d(32, 32, 3, padding=1, groups=32), nn.Conv2d(32, 24, 1)
        self.rows, self.row, self.odd = nn.Linear(16, 16), nn.Linear(384, 31), nn.Linear(31, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.grouped(torch.relu(self.first(x))))
        x = torch.relu(self.pointwise(torch.relu(self.depthwise(x))))
        x = torch.relu(self.rows(x.flatten(2)))
        return self.odd(torch.relu(self.row(x.flatten(1))))


@pytest.fixture(scope="module")
def network() -> Model:
    torch.manual_seed(0)
    return load(Every().eval(), (torch.from_numpy(IMAGES[:2]),))


def quantized(network: Model, runtime: str, **options) -> StepResult:
    data = Data.from_arrays(calibration=IMAGES).bind(network.inputs, network.outputs)
    return Quantize(**options).apply(network, Context((table.capabilities(table.find(runtime)),), data))


def exported(model: Model, runtime: str, path: Path, choice: str = "fast") -> tuple[Export, Artifact]:
    target = table.find(runtime)
    options = ExportOptions(format={"four_bit_weights": choice} if runtime in STORES else {})
    export = table.exporter(target).export(model, path.with_suffix(target.extension), options)
    return export, Artifact(export.path, runtime, table.runner(target).load(export.path), export.inputs, export.outputs)


@pytest.mark.parametrize("weights", ["int7", "int6", "int5", "int4", "int3", "int2"])
@pytest.mark.parametrize("runtime", STORES)
def test_files_agree_with_the_simulation(network: Model, runtime: str, weights: str, tmp_path: Path) -> None:
    model = quantized(network, runtime, weights=weights).model
    _, artifact = exported(model, runtime, tmp_path / "model")
    plan = model.plans[0]
    expected = simulate(model, plan, table.capabilities(table.find(runtime)).arithmetic)(IMAGES)
    steps = np.abs(artifact(IMAGES) - expected) / list(plan.values.values())[-1].scale[0]
    assert (steps < 0.01).mean() > 0.99 and steps.max() < 1.01


def test_executorch_agrees_too_and_keeps_a_byte_each(network: Model, tmp_path: Path) -> None:
    pytest.importorskip("executorch")
    sizes = []
    for weights in ("int8", "int3"):
        result = quantized(network, "executorch", weights=weights)
        export, artifact = exported(result.model, "executorch", tmp_path / weights)
        plan, arithmetic = result.model.plans[0], table.capabilities(table.find("executorch")).arithmetic
        steps = np.abs(artifact(IMAGES) - simulate(result.model, plan, arithmetic)(IMAGES)) / list(plan.values.values())[-1].scale[0]
        assert (steps < 0.01).mean() > 0.99 and steps.max() < 1.01
        sizes.append(export.path.stat().st_size)
    assert abs(sizes[0] - sizes[1]) < 64
    assert "int3 weights of conv2d (executorch)" in {change.what for change in result.skipped}


@pytest.mark.parametrize("options", [{}, {"weights": "int3", "granularity": "per-tensor"}, {"weights": "int2", "full_range": True}], ids=str)
@pytest.mark.parametrize("runtime", STORES)
def test_two_a_byte_gives_the_same_bits_in_fewer_bytes(network: Model, runtime: str, options: dict, tmp_path: Path) -> None:
    model = quantized(network, runtime, **{"weights": "int4", **options}).model
    whole, one = exported(model, runtime, tmp_path / "whole", "never")
    export, two = exported(model, runtime, tmp_path / "half")
    np.testing.assert_array_equal(one(IMAGES), two(IMAGES))
    assert export.path.read_bytes() == exported(model, runtime, tmp_path / "again")[0].path.read_bytes()
    saved = whole.path.stat().st_size - export.path.stat().st_size
    halves = {"first": 216, "grouped": 1152, "depthwise": 144, "pointwise": 384, "rows": 128, "row": 5952, "odd": 155}
    stored = set(halves)
    if runtime == "litert":
        stored = {"row"}
    elif runtime == "litert-micro":
        stored -= {"odd", *(("rows", "row") if options.get("granularity") != "per-tensor" else ())}
    wanted = sum(halves[name] for name in stored)
    assert wanted - 64 * len(halves) <= saved <= wanted + 64 * len(halves)
    assert any("two a byte" in note for note in export.notes)
    assert any("in a byte each" in note for note in export.notes) == (stored != set(halves))


def test_on_request_litert_holds_convolutions_two_a_byte_and_rounds_otherwise(network: Model, tmp_path: Path) -> None:
    model = quantized(network, "litert", weights="int4").model
    whole, one = exported(model, "litert", tmp_path / "whole", "never")
    half, two = exported(model, "litert", tmp_path / "half", "always")
    assert half.path.stat().st_size < whole.path.stat().st_size - 7500
    assert np.abs(one(IMAGES) - two(IMAGES)).max() < 4 * list(model.plans[0].values.values())[-1].scale[0]
    assert len(two.session.operators().declined) > len(one.session.operators().declined)


@pytest.mark.parametrize("runtime", ["onnxruntime", "litert"])
def test_files_of_four_bits_are_read_back(network: Model, runtime: str, tmp_path: Path) -> None:
    model = quantized(network, runtime, weights="int4").model
    export, _ = exported(model, runtime, tmp_path / "model", "always")
    back = load(export.path)
    plain = load(exported(model, runtime, tmp_path / "whole", "never")[0].path)
    images = IMAGES if runtime == "onnxruntime" else IMAGES.transpose(0, 2, 3, 1)
    np.testing.assert_array_equal(back(images[:1]), plain(images[:1]))
    for mine, theirs in zip(back.graph.parameters(), plain.graph.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_kernels_stay_integer_and_the_manifest_asks_for_the_runtime_that_opens_them(network: Model, tmp_path: Path) -> None:
    model = quantized(network, "onnxruntime", weights="int4").model
    whole, one = exported(model, "onnxruntime", tmp_path / "whole", "never")
    half, two = exported(model, "onnxruntime", tmp_path / "half")
    assert one.session.operators() == two.session.operators()
    assert not whole.runtime and half.runtime == "onnxruntime>=1.23"
    target = table.find("onnxruntime")
    fused = table.exporter(target).export(model, tmp_path / "fused.onnx", ExportOptions(format={"qoperator": True}))
    found = Artifact(fused.path, "onnxruntime", table.runner(target).load(fused.path), fused.inputs, fused.outputs)
    np.testing.assert_array_equal(found(IMAGES), two(IMAGES))
    assert fused.path.stat().st_size < whole.path.stat().st_size - 7500


def test_large_biases_keep_a_byte_where_xnnpack_has_no_room(tmp_path: Path) -> None:
    torch.manual_seed(0)
    layer = nn.Linear(64, 32)
    with torch.no_grad():
        layer.bias[::2] *= 3e6
    rows = np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32)
    model = load(layer.eval(), (torch.from_numpy(rows[:2]),))
    data = Data.from_arrays(calibration=rows).bind(model.inputs, model.outputs)
    made = Quantize(weights="int4", correct_biases=False).apply(model, Context((table.capabilities(table.find("litert")),), data)).model
    export, artifact = exported(made, "litert", tmp_path / "model")
    np.testing.assert_array_equal(artifact(rows), exported(made, "litert", tmp_path / "whole", "never")[1](rows))
    assert any("in a byte each" in note for note in export.notes)


def test_wider_weights_say_nothing_and_words_that_are_none_are_refused(network: Model, tmp_path: Path) -> None:
    for runtime in STORES:
        result = quantized(network, runtime, weights="int5")
        export, _ = exported(result.model, runtime, tmp_path / runtime, "always")
        assert not any("4 bits" in note for note in export.notes)
        assert f"int5 weights of conv2d ({runtime})" in {change.what for change in result.skipped}
        with pytest.raises(RecipeError, match=r"'sometimes'.*always"):
            exported(result.model, runtime, tmp_path / runtime, "sometimes")


def test_layers_of_their_own_width_are_told_apart(network: Model) -> None:
    result = quantized(network, "litert", overrides=({"layers": "row", "weights": "int3"}, {"layers": "first", "weights": "int6"}))
    widths = {name: unit.weights["weight"].scheme.dtype for name, unit in result.model.plans[0].units.items() if "weight" in unit.weights}
    assert sorted(widths.values()) == ["int3", "int6", *["int8"] * 5]
    told = {change.what: change.why for change in result.skipped}
    assert "each is stored in a byte" in told["int6 weights of conv2d (litert)"]
    assert "where it multiplies one row" in told["int3 weights of linear (litert)"]
