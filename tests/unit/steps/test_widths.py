"""Weights of every width learn on their own grid, and come back from JSON as they were."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import tersenet
from tersenet.data.digits import read_digits
from tersenet.errors import RecipeError
from tersenet.graph.deploy import deployable
from tersenet.graph.simulate import simulate
from tersenet.graph.walk import bind, calls, constant
from tersenet.numerics.affine import dequantize, encode, quantize
from tersenet.schemes import Encoding, Scheme
from tersenet.step import Context
from tersenet.steps.quantize import WEIGHTS, Quantize
from tersenet.steps.table import step_from_json
from tersenet.targets.litert.capabilities import LITERT

DATA = read_digits()


@given(st.sampled_from(WEIGHTS), st.booleans(), st.integers(0, 2**32 - 1))
def test_integers_of_every_width_come_back(weights: str, restricted: bool, seed: int) -> None:
    scheme = Scheme(weights, symmetric=True, restricted=restricted)
    bits = int(weights.removeprefix("int"))
    assert (scheme.lowest, scheme.highest) == (-(2 ** (bits - 1)) + restricted, 2 ** (bits - 1) - 1)
    encoding = encode(-1.0, 1.0, scheme)
    assert Encoding.from_json(encoding.to_json()) == encoding
    integers = torch.from_numpy(np.random.default_rng(seed).integers(scheme.lowest, scheme.highest + 1, 64))
    assert torch.equal(quantize(dequantize(integers, encoding), encoding).long(), integers)


@pytest.mark.parametrize(("weights", "learn"), [("int7", "steps"), ("int6", "moving"), ("int5", "steps"), ("int3", "steps")])
def test_a_network_learns_on_grids_of_every_width(weights: str, learn: str) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 6, 3, stride=2), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Linear(54, 10)).eval()
    model = tersenet.load(network, (torch.zeros(2, 1, 8, 8),))
    step = Quantize(weights=weights, training={"epochs": 6, "learning_rate": 2e-2, "batch_size": 32, "learn": learn})
    assert step_from_json(step.to_json()) == step
    context = Context((LITERT,), DATA)
    before, after = (made.apply(model, context).model for made in (Quantize(weights=weights), step))
    assert correct(after) > correct(before) + 0.2
    module, bits = deployable(after, after.plans[0]), int(weights.removeprefix("int"))
    for node in calls(module):
        unit = after.plans[0].units.get(node.name)
        if unit is not None and "weight" in unit.weights:
            assert unit.weights["weight"].scheme.dtype == weights
            integers = quantize(constant(module, bind(node)["weight"]), unit.weights["weight"])
            assert 2 <= len(torch.unique(integers)) <= 2**bits


def correct(model: tersenet.Model) -> float:
    arrays, labels = DATA.evaluation.batch(np.arange(len(DATA.evaluation)))
    return float((simulate(model, model.plans[0])(*arrays).argmax(1) == labels).mean())


@pytest.mark.parametrize("options", [{"weights": "int9"}, {"weights": "int1"}, {"weights": "uint4"}, {"activations": "int1"}])
def test_widths_that_there_are_not_are_refused_with_those_that_there_are(options: dict) -> None:
    with pytest.raises(RecipeError, match="int8"):
        Quantize(**options)
