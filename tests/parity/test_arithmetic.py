"""Operators whose kernels do not round once: files against the simulation, to the last step, over all that their inputs can be."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tersenet.data.parts import Data
from tersenet.frontends.table import load
from tersenet.graph.simulate import simulate
from tersenet.step import Context
from tersenet.steps.quantize import Quantize
from tersenet.target import Artifact, ExportOptions
from tersenet.targets import table

pytest.importorskip("onnxruntime")
pytest.importorskip("ai_edge_litert")
pytest.importorskip("executorch")

ALL = ("onnxruntime", "litert", "executorch")
SHAPE = (1, 16, 64, 64)  # 65,536 values: all pairs of integers of 8 bits, nearly
OF_TWO: dict[str, tuple[Callable[..., torch.Tensor], tuple[str, ...]]] = {
    "sum": (lambda x, y: x + y, ALL),
    "sum, relu": (lambda x, y: torch.relu(x + y), ALL),
    "difference": (lambda x, y: x - y, ("litert", "executorch")),
    "product": (lambda x, y: x * y, ALL),
}
OF_ONE: dict[str, tuple[Callable[[torch.Tensor], torch.Tensor], tuple[str, ...]]] = {
    "twice itself": (lambda x: x + x, ALL),
    "sum of a row": (lambda x: x + torch.linspace(-1, 2, 64), ALL),
    "leaky relu": (lambda x: F.leaky_relu(x, 0.1), ("onnxruntime", "litert")),
    "clamp": (lambda x: x.clamp(-1, 1), ALL),
    "relu6": (F.relu6, ALL),
    "silu": (F.silu, ("litert",)),
    "hardswish": (F.hardswish, ("litert",)),
    "hardsigmoid": (F.hardsigmoid, ("litert",)),
    "average pool": (lambda x: F.avg_pool2d(x, 2), ("onnxruntime", "litert")),
    "average pool, padded": (lambda x: F.avg_pool2d(x, 3, 2, 1), ("onnxruntime", "litert")),
    "mean": (lambda x: x.mean((2, 3)), ALL),
    "mean of sixteen, powers of two": (lambda x: F.adaptive_avg_pool2d(x.reshape(1, 4096, 4, 4), 1), ALL),  # many halves
    "whole numbers": (lambda x: x.reshape(1, 1024, 8, 8), ALL),  # many lie halfway between two steps
    "twice the size": (lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"), ("litert",)),
    "another size": (lambda x: F.interpolate(x, size=(11, 23), mode="bilinear"), ("litert",)),
    "another size, corners": (lambda x: F.interpolate(x, size=(71, 23), mode="bilinear", align_corners=True), ("litert",)),
    "a sigmoid beside": (lambda x: torch.cat([torch.sigmoid(x), x], 1), ("onnxruntime", "litert")),
    "sums joined": (lambda x: torch.cat([x + 1.5, x * 0.3], 1), ALL),
}
CASES = [(name, runtime) for found in (OF_TWO, OF_ONE) for name, (_, runtimes) in found.items() for runtime in runtimes]


class Formula(nn.Module):
    def __init__(self, compute: Callable[..., torch.Tensor]) -> None:
        super().__init__()
        self.compute = compute

    def forward(self, *values: torch.Tensor) -> torch.Tensor:
        return self.compute(*values)


class OfTwo(Formula):
    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        return self.compute(x, y)


class OfOne(Formula):
    def forward(self, x: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        return self.compute(x)


@pytest.mark.parametrize(("name", "runtime"), CASES)
def test_a_file_computes_what_is_simulated(name: str, runtime: str, tmp_path: Path) -> None:
    target = table.find(runtime)
    capabilities = table.capabilities(target)
    for seed in range(2):
        random = np.random.default_rng(seed)
        arrays = [spread(random) for _ in range(2 if name in OF_TWO else 1)]
        arrays = [np.rint(20 * array) for array in arrays] if name == "whole numbers" else arrays
        module = OfTwo(OF_TWO[name][0]) if name in OF_TWO else OfOne(OF_ONE[name][0])
        model = load(module.eval(), tuple(map(torch.from_numpy, arrays)))
        data = Data.from_arrays(calibration=tuple(arrays) if len(arrays) > 1 else arrays[0]).bind(model.inputs, model.outputs)
        quantized = Quantize(power_of_two=name.endswith("powers of two")).run(model, Context((capabilities,), data)).model
        (plan,) = quantized.plans
        assert not plan.float_operators
        export = table.exporter(target).export(quantized, tmp_path / f"{seed}{target.extension}", ExportOptions())
        found = Artifact(export.path, runtime, table.runner(target).load(export.path), export.inputs, export.outputs)(*arrays)
        simulated = simulate(quantized, plan, capabilities.arithmetic)(*arrays)
        step = list(plan.values.values())[-1].scale[0]
        assert np.abs(found - simulated).max() < 0.01 * step


def spread(random: np.random.Generator) -> np.ndarray:
    """Values over all of a random grid, in random order."""
    low, high = -random.uniform(0, 3), random.uniform(0.5, 6)
    count = int(np.prod(SHAPE))
    return random.permutation(np.linspace(low, high, count)).astype(np.float32).reshape(SHAPE)
