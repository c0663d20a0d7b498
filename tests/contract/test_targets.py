"""Every target in the table keeps the contract."""

from __future__ import annotations

import importlib.util

import pytest
import torch
from torch import nn

import tersenet
from tersenet.graph.simulate import simulate
from tersenet.measure.agreement import sqnr_db
from tersenet.step import Context
from tersenet.targets import table
from tersenet.testing.networks import samples
from tersenet.testing.target import check_target


@pytest.mark.parametrize("name", sorted(table.TARGETS))
def test_target(name, tmp_path):
    target = table.find(name)
    missing = [module for module in target.requires if importlib.util.find_spec(module.partition(".")[0]) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} not installed")
    check_target(target, tmp_path)


@pytest.mark.parametrize("name", sorted(table.TARGETS))
def test_means_over_windows_agree_with_the_simulation(name, tmp_path):
    """Every fourth mean of four integers is a half: rounded otherwise than the kernel does, the SQNR would be about 40 dB."""
    target = table.find(name)
    if table.missing(target.requires):
        pytest.skip(f"{name} is not installed")
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2), nn.Conv2d(8, 4, 1)).eval()
    model = tersenet.load(network, (torch.zeros(2, 3, 8, 8),))
    exporter = table.exporter(target)
    data = tersenet.Data.from_arrays(calibration=samples(64, 1))
    quantized = tersenet.Quantize().apply(model, Context((exporter.capabilities(""),), data)).model
    export = exporter.export(quantized, tmp_path / f"model{target.extension}", tersenet.ExportOptions())
    artifact = tersenet.Artifact(export.path, name, table.runner(target).load(export.path), export.inputs, export.outputs)
    x = samples(32, 2)
    assert sqnr_db(simulate(quantized, quantized.plans[0])(x), artifact(x)) > 48
