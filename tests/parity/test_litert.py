"""Every lowering of LiteRT against torch in floats, against the simulation in integers, in the real interpreters."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch

from operator_networks import FLOATS, OF_IMAGES, RECURRENT, WEIGHTED, image_networks
from tersenet.data.parts import Data
from tersenet.errors import UnsupportedError
from tersenet.frontends.table import load
from tersenet.graph.deploy import deployable
from tersenet.graph.simulate import simulate
from tersenet.graph.walk import outputs
from tersenet.model import Model
from tersenet.step import Context
from tersenet.steps.quantize import Quantize
from tersenet.target import Artifact, ExportOptions

pytest.importorskip("ai_edge_litert")
from tersenet.targets.litert.capabilities import LITERT, LITERT_MICRO
from tersenet.targets.litert.export import LiteRTExporter
from tersenet.targets.litert.micro import MicroExporter
from tersenet.targets.litert.micro_run import MicroRunner
from tersenet.targets.litert.run import LiteRTRunner

QUANTIZED = {**WEIGHTED, **image_networks(OF_IMAGES)}
ALL = {**QUANTIZED, **RECURRENT, **{f"{name} in floats": entry for name, entry in image_networks(FLOATS).items()}}
# Composed of float operators even in an integer network, so that the file's floats are not the simulation's to the last bit.
ROUGH = {"transformer", "layer norm", "layer norm of channels", "group norm", "instance norm", "rms norm"}
# Tables of the integer kernels of 16 bits are a few of their many steps off.
STEPS_OF_16_BITS = 6.0


@cache  # a network is traced once for all of its files
def network(name: str) -> tuple[Model, list[np.ndarray]]:
    make, shapes = ALL[name]
    torch.manual_seed(0)
    module = make().eval()
    generator = torch.Generator().manual_seed(1)
    arguments = tuple(torch.randn(shape, generator=generator) for shape in shapes)
    return load(module, arguments), [argument.numpy() for argument in arguments]


def quantized(name: str, capabilities, activations: str = "int8") -> tuple[Model, list[np.ndarray]]:
    model, arrays = network(name)
    data = Data.from_arrays(calibration=tuple(arrays) if len(arrays) > 1 else arrays[0])
    return Quantize(activations=activations).apply(model, Context((capabilities,), data)).model, arrays


def run(exporter, runner, model: Model, arrays: list[np.ndarray], path) -> np.ndarray:
    export = exporter.export(model, path, ExportOptions())
    return Artifact(export.path, "litert", runner.load(export.path), export.inputs, export.outputs)(*arrays)


def steps_apart(model: Model, capabilities, result: np.ndarray, arrays: list[np.ndarray]) -> np.ndarray:
    """How far a file is from the simulation, in steps of its output."""
    plan = model.plan_for(capabilities.name)
    last = outputs(deployable(model))[0].name
    assert plan is not None
    scale = plan.values[last].scale[0] if last in plan.values else max((encoding.scale[0] for encoding in plan.values.values()), default=1e-5)
    return np.abs(result - simulate(model, plan, capabilities.arithmetic)(*arrays)) / scale


@pytest.mark.parametrize("name", sorted(ALL))
def test_floats(name, tmp_path):
    model, arrays = network(name)
    expected = model(*arrays)
    result = run(LiteRTExporter(), LiteRTRunner(), model, arrays, tmp_path / "model.tflite")
    assert result.dtype == expected.dtype
    np.testing.assert_allclose(result, expected, rtol=0, atol=1e-5 * max(1.0, float(np.abs(expected).max())))


@pytest.mark.parametrize("name", sorted(QUANTIZED))
def test_integers(name, tmp_path):
    model, arrays = quantized(name, LITERT)
    result = run(LiteRTExporter(), LiteRTRunner(), model, arrays, tmp_path / "model.tflite")
    apart = steps_apart(model, LITERT, result, arrays)
    assert apart.max() < (3 if name in ROUGH else 2.01)
    assert (apart > 1.01).mean() < 0.02
    assert (apart > 0.5).mean() < 0.2 or name in ROUGH


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(QUANTIZED))
def test_integers_of_16_bits(name, tmp_path):
    model, arrays = quantized(name, LITERT, "int16")
    result = run(LiteRTExporter(), LiteRTRunner(), model, arrays, tmp_path / "model.tflite")
    assert steps_apart(model, LITERT, result, arrays).max() < STEPS_OF_16_BITS


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(QUANTIZED))
def test_microcontrollers(name, tmp_path):
    pytest.importorskip("tflite_micro")
    try:
        model, arrays = quantized(name, LITERT_MICRO)
        result = run(MicroExporter(), MicroRunner(), model, arrays, tmp_path / "model.tflite")
    except UnsupportedError as error:
        assert "integers" in str(error)
        return
    assert steps_apart(model, LITERT_MICRO, result, arrays).max() < 0.01  # the same integers


@pytest.mark.slow
@pytest.mark.parametrize("name", ["conv relu6", "depthwise strided", "transposed padded", "linear relu", "residual", "conv1d chain", "sub"])
def test_microcontrollers_of_16_bits(name, tmp_path):
    pytest.importorskip("tflite_micro")
    model, arrays = quantized(name, LITERT_MICRO, "int16")
    result = run(MicroExporter(), MicroRunner(), model, arrays, tmp_path / "model.tflite")
    assert steps_apart(model, LITERT_MICRO, result, arrays).max() < 0.01
