"""Quantized files against the simulated graph, operator by operator, and the forms that they come in."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

import networks
from networks import CASES, Case
from tersenet.data.parts import Data
from tersenet.graph.deploy import deployable
from tersenet.graph.simulate import simulate
from tersenet.graph.trace import trace
from tersenet.graph.walk import outputs
from tersenet.model import Model
from tersenet.step import Context
from tersenet.steps.quantize import Quantize
from tersenet.target import Artifact, ExportOptions
from tersenet.targets.onnxruntime.capabilities import capabilities
from tersenet.targets.onnxruntime.export import OnnxExporter
from tersenet.targets.onnxruntime.run import OnnxRunner

# Averages of integers often lie half between two of them, and the kernel rounds those up where the simulation rounds to even.
HALVES = {"avg pool", "avg pool 1d", "avg pool padded", "avg pool padded, not counted", "adaptive pool even"}
# Steps and poles: half a step of a value may become any number of steps of the next.
STEEP = {"rounding", "reciprocal", "comparisons", "where", "gather", "cast"}
# What onnxruntime has no integer kernel for.
FLOAT = {
    *("transposed", "transposed grouped", "transposed 1d", "rsub", "einsum", "power", "log softmax", "mean axis", "sum", "max", "argmax", "prod"),
    *("var", "std", "cumsum", "norm", "bilinear", "bilinear corners", "masked fill", "triangles", "lstm", "lstm deep", "gru"),
    *("Tanh", "Hardsigmoid", "Hardswish", "SiLU", "GELU", "ELU", "SELU", "CELU", "Softplus", "mish", "gelu tanh", "prelu", "prelu one"),
    *("layer norm", "layer norm two axes", "group norm", "instance norm", "rms norm"),
}
INTEGER_CASES = [case for case in CASES if case.name not in STEEP | FLOAT]


def quantized(model: Model, arrays: tuple[np.ndarray, ...]) -> Model:
    data = Data.from_arrays(calibration=arrays if len(arrays) > 1 else arrays[0]).bind(model.inputs, model.outputs)
    return Quantize().run(model, Context((capabilities(),), data)).model


def exported(model: Model, path: Path, **options) -> Artifact:
    export = OnnxExporter().export(model, path, ExportOptions(**options))
    return Artifact(path, "onnxruntime", OnnxRunner().load(path), export.inputs, export.outputs)


@pytest.fixture(scope="module", params=INTEGER_CASES, ids=lambda case: case.name)
def case(request) -> Case:
    return request.param


@pytest.fixture(scope="module")
def model(case: Case) -> Model:
    module, inputs = networks.made(case, batch=2)
    model = quantized(trace(module, inputs, name=case.name), networks.samples(case, 64))
    assert model.plans[0].units
    return model


def test_the_file_agrees_with_the_simulation(case: Case, model: Model, tmp_path: Path) -> None:
    plan = model.plans[0]
    artifact = exported(model, tmp_path / "model.onnx")
    onnx.checker.check_model(onnx.load(tmp_path / "model.onnx"), full_check=True)
    arrays = networks.samples(case, 64)
    result, expected = artifact(*arrays), simulate(model, plan, capabilities().arithmetic)(*arrays)
    last = plan.values.get(outputs(deployable(model))[0].name)
    step = last.scale[0] if last is not None else 1e-5 * float(np.abs(expected).max())
    distance = np.abs(result - expected)
    assert distance.max() <= 1.001 * step
    if case.name not in HALVES:
        assert (distance > step / 2).mean() < 0.002


def test_every_kernel_of_the_table_runs_in_integers(case: Case, model: Model, tmp_path: Path) -> None:
    placement = exported(model, tmp_path / "model.onnx").session.operators()
    if case.name == "adaptive pool":  # to sizes that do not divide the input's
        assert {entry["op"] for entry in placement.declined} == {"MatMul", "FusedMatMul"}
    elif not model.plans[0].float_operators:
        assert placement.delegated == 1.0, placement.declined
    else:
        assert len(placement.declined) <= len(model.plans[0].float_operators)


def test_the_qoperator_form_and_integer_inputs_and_outputs_compute_the_same(case: Case, model: Model, tmp_path: Path) -> None:
    standard = exported(model, tmp_path / "standard.onnx")
    fused = exported(model, tmp_path / "fused.onnx", format={"qoperator": True})
    integers = exported(model, tmp_path / "integers.onnx", integer_io=True)
    for port in (*integers.inputs, *integers.outputs):
        assert (port.dtype == "uint8") == (port.scale is not None)
    arrays = networks.samples(case, 7)
    expected = standard(*arrays)
    np.testing.assert_array_equal(fused(*arrays), expected)
    np.testing.assert_array_equal(integers(*arrays), expected)


def test_every_value_of_the_plan_can_be_looked_at(case: Case, model: Model, tmp_path: Path) -> None:
    for options in ({}, {"qoperator": True}):
        export = OnnxExporter().export(model, tmp_path / "model.onnx", ExportOptions(format=options))
        arrays = networks.samples(case, 3)
        values = OnnxRunner().inner(tmp_path / "model.onnx", arrays)
        constants = {name for name, encoding in model.plans[0].values.items() if encoding.role == "constant"}
        missing = [name for name in set(model.plans[0].values) - constants if export.names.get(name) not in values]
        assert not missing


def test_weights_take_a_byte_and_scales_are_shared(tmp_path: Path) -> None:
    torch.manual_seed(0)
    layers = [part for _ in range(6) for part in (nn.Conv2d(32, 32, 3, padding=1), nn.ReLU())]
    module = nn.Sequential(*layers).eval()
    images = np.random.default_rng(0).standard_normal((16, 32, 8, 8)).astype(np.float32)
    model = quantized(trace(module, (torch.from_numpy(images[:2]),)), (images,))
    weights = 6 * 32 * (32 * 9 + 4 + 4)  # integers, biases, scales
    for options, limit in (({}, 1.08), ({"qoperator": True}, 1.06)):
        exported(model, tmp_path / "model.onnx", format=options)
        assert (tmp_path / "model.onnx").stat().st_size < limit * weights


def test_a_clip_that_the_grid_does_not_imply_is_kept(tmp_path: Path) -> None:
    """Scales that are powers of two reach beyond 6, so relu6 must still be there."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU6()).eval()
    images = 20 * np.random.default_rng(0).standard_normal((16, 4, 8, 8)).astype(np.float32)
    traced = trace(module, (torch.from_numpy(images[:2]),))
    data = Data.from_arrays(calibration=images).bind(traced.inputs, traced.outputs)
    model = Quantize(power_of_two=True).run(traced, Context((capabilities(),), data)).model
    last = next(iter(model.plans[0].units.values())).result
    assert max(model.plans[0].values[last].range) > 6.1
    artifact = exported(model, tmp_path / "model.onnx")
    result, expected = artifact(images), simulate(model, model.plans[0], capabilities().arithmetic)(images)
    assert result.max() <= 6.0
    assert (result == 6.0).any()
    np.testing.assert_allclose(result, expected, atol=1.001 * model.plans[0].values[last].scale[0])
    assert artifact.session.operators().delegated == 1.0


def test_the_same_plan_gives_the_same_bytes(tmp_path: Path) -> None:
    module, inputs = networks.made(next(case for case in CASES if case.name == "transformer"), batch=2)
    model = quantized(trace(module, inputs), tuple(tensor.numpy() for tensor in inputs))
    for options in ({}, {"qoperator": True}):
        first, second = (OnnxExporter().export(model, tmp_path / name, ExportOptions(format=options)).path.read_bytes() for name in ("a", "b"))
        assert first == second
