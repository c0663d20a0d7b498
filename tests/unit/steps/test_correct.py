"""Biases that take out what rounded weights add: the mean over the calibration samples is the float network's again."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from tersenet import Artifact, Data, Quantize
from tersenet.frontends.table import load
from tersenet.graph.simulate import simulate
from tersenet.model import Model
from tersenet.plan import QuantizationPlan
from tersenet.step import Context
from tersenet.target import ExportOptions
from tersenet.targets import table

NETWORKS = {
    "convolution": lambda: nn.Conv2d(4, 8, 3, padding=1, stride=2),
    "depthwise": lambda: nn.Conv2d(4, 8, 3, padding=2, dilation=2, groups=4),
    "transposed": lambda: nn.ConvTranspose2d(4, 6, 3, stride=2),
    "without a bias": lambda: nn.Conv2d(4, 8, 3, padding=1, bias=False),
    "features": lambda: nn.Sequential(nn.Flatten(), nn.Linear(4 * 6 * 6, 5)),
    "rows": lambda: nn.Sequential(nn.Flatten(2), nn.Linear(36, 5)),
}


def quantized(network: nn.Module, target: str = "litert", **options) -> tuple[Model, Model, np.ndarray]:
    """The network, the same with a plan, and the samples that it was calibrated on, all far from zero."""
    x = (3 + np.random.default_rng(0).standard_normal((40, 4, 6, 6))).astype(np.float32)
    model = load(network.eval(), (torch.zeros(2, 4, 6, 6),))
    tables = (table.capabilities(table.find(target)),)
    step = Quantize(weights="int4", batch_size=16, **options)  # 16, 16 and 8: the last is smaller
    return model, step.apply(model, Context(tables, Data.from_arrays(calibration=x).bind(model.inputs))).model, x


def mean_error(model: Model, compressed: Model, x: np.ndarray) -> np.ndarray:
    """How far the mean of each channel is off, weights and biases alone being on grids."""
    simulated = simulate(model, replace(compressed.plans[0], values={}))
    channels = -1 if model(x).ndim < 4 else 1
    return np.abs(np.moveaxis(simulated(x).astype(float) - model(x), channels, 0).reshape(model(x).shape[channels], -1).mean(1))


@pytest.mark.parametrize("name", NETWORKS)
def test_means_are_those_of_the_float_network(name):
    torch.manual_seed(0)
    network = NETWORKS[name]()
    model, plain, x = quantized(network, correct_biases=False)
    assert not plain.plans[0].offsets
    model, corrected, x = quantized(network)
    assert mean_error(model, plain, x).max() > 0.02
    np.testing.assert_allclose(mean_error(model, corrected, x), 0, atol=2e-3)  # a bias of four-bit weights has coarse steps itself


def test_the_offset_is_the_error_of_the_weights_times_the_mean_of_the_input():
    torch.manual_seed(1)
    network = nn.Conv2d(4, 3, (6, 6))  # one position: the mean image meets the whole kernel
    _, compressed, x = quantized(network)
    plan = compressed.plans[0]
    ((anchor, offset),) = plan.offsets.items()
    scales = np.array(plan.units[anchor].weights["weight"].scale).reshape(-1, 1, 1, 1)
    weight = network.weight.detach().numpy()
    error = np.round(weight / scales).clip(-7, 7) * scales - weight
    np.testing.assert_allclose(offset, -(error * x.mean(0)).sum((1, 2, 3)), atol=1e-5)


def test_weights_that_lie_on_their_grid_move_nothing():
    network = nn.Conv2d(4, 8, 1)
    nn.init.constant_(network.weight, 0.5)
    assert not quantized(network)[1].plans[0].offsets


def test_a_plan_keeps_its_offsets_in_json():
    plan = quantized(nn.Conv2d(4, 8, 3))[1].plans[0]
    assert plan.offsets
    again = QuantizationPlan.from_json(json.loads(json.dumps(plan.to_json())))
    assert again == plan
    assert not plan.same_numbers(replace(plan, offsets={}))


@pytest.mark.parametrize("target", ["litert", "onnxruntime", "litert-micro"])
@pytest.mark.parametrize("name", ["depthwise", "without a bias", "features"])
def test_files_hold_the_moved_biases(target, name, tmp_path):
    torch.manual_seed(0)
    _, compressed, x = quantized(NETWORKS[name](), target)
    row = table.find(target)
    path = tmp_path / f"model{row.extension}"
    export = table.exporter(row).export(compressed, path, ExportOptions())
    artifact = Artifact(path, target, table.runner(row).load(path), export.inputs, export.outputs)
    plan = compressed.plans[0]
    step = max(encoding.scale[0] for encoding in plan.values.values() if encoding.role == "output")
    measured = np.concatenate([artifact(sample[None]) for sample in x[:8]])
    np.testing.assert_allclose(measured, simulate(compressed, plan)(x[:8]), atol=1.01 * step)
    assert plan.offsets
    # What was moved is more than the tolerance: a file without it would be seen.
    assert max(abs(number) for offset in plan.offsets.values() for number in offset) > 1.5 * step
