"""What onnxruntime's and LiteRT's kernels compute, integer for integer, on values that fall near halves."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from tersenet import Artifact, Data, Quantize
from tersenet.frontends.table import load
from tersenet.graph.simulate import simulate
from tersenet.step import Context
from tersenet.target import ExportOptions
from tersenet.targets import table

NETWORKS = {
    "inverted residual": lambda: nn.Sequential(
        nn.Conv2d(3, 24, 1), nn.ReLU6(), nn.Conv2d(24, 24, 3, padding=1, groups=24), nn.ReLU6(), nn.Conv2d(24, 8, 1), nn.Conv2d(8, 24, 3, stride=2)
    ),
    "linear": lambda: nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 64), nn.ReLU(), nn.Linear(64, 10)),
}


@pytest.mark.parametrize("target", ["litert", "onnxruntime"])
@pytest.mark.parametrize("name", NETWORKS)
def test_files_compute_the_integers_that_were_simulated(target, name, tmp_path):
    torch.manual_seed(0)
    x = (1 + np.random.default_rng(0).standard_normal((24, 3, 32, 32))).astype(np.float32)
    row = table.find(target)
    pytest.importorskip({"litert": "ai_edge_litert"}.get(target, target))
    model = load(NETWORKS[name]().eval(), (torch.zeros(2, 3, 32, 32),))
    data = Data.from_arrays(calibration=x).bind(model.inputs)
    model = Quantize().apply(model, Context((table.capabilities(row),), data)).model
    path = tmp_path / f"model{row.extension}"
    export = table.exporter(row).export(model, path, ExportOptions())
    artifact = Artifact(path, target, table.runner(row).load(path), export.inputs, export.outputs)
    measured = np.concatenate([artifact(sample[None]) for sample in x])
    scale = next(encoding.scale[0] for encoding in model.plans[0].values.values() if encoding.role == "output")
    np.testing.assert_array_equal(np.round(measured / scale), np.round(simulate(model, model.plans[0])(x) / scale))
