"""What a plan expects of a file."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import tersenet
from tersenet.expectation import expectations
from tersenet.progress import silent
from tersenet.step import Context
from tersenet.targets import table


@pytest.mark.parametrize("target", ["onnxruntime", "litert", "executorch"])
def test_a_bias_that_the_plan_alone_adds_is_moved_too(target: str) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.ReLU()).eval()
    samples = np.random.default_rng(0).random((64, 3, 8, 8), np.float32)
    model = tersenet.load(network, (torch.zeros(2, 3, 8, 8),))
    data = tersenet.Data.from_arrays(calibration=samples[:32], evaluation=samples[32:]).bind(model.inputs)
    capabilities = table.capabilities(table.find(target))
    quantized = tersenet.Quantize().apply(model, Context((capabilities,), data)).model
    plan = quantized.plan_for(target)
    assert plan is not None and plan.offsets
    expected = expectations(quantized, plan, [capabilities], data, 0, silent)[target]
    weights, images, bias = 4 * 3 * 9, 3 * 64 + 4 * 36, 4 * 4
    assert expected.bytes_moved == weights + images + bias
