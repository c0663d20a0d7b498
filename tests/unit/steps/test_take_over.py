"""Grids that the source had are kept by `Quantize`: ranges of values, scales of weights."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import nn

from tersenet import Data, Quantize
from tersenet.annotations import Annotations
from tersenet.capabilities import Capabilities, Kernel
from tersenet.frontends.table import load
from tersenet.model import Model
from tersenet.schemes import Encoding, Scheme
from tersenet.step import Context, StepResult

TABLE = Capabilities("fake", {"conv2d": Kernel(weights=("int8",), granularities=("per-channel", "per-tensor"), fuses=("relu",))})
VALUE = Encoding(Scheme("uint8"), (0.125,), (3,))
SCALES = (0.0625, 0.03125, 0.015625)
WEIGHT = Encoding(Scheme("int8", symmetric=True, granularity="per-channel"), SCALES, (0, 0, 0), 0, "weight")


def annotated() -> Model:
    """A convolution whose weight lies on a grid that its largest number does not give away."""
    network = nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU())
    integers = torch.from_numpy(np.random.default_rng(0).integers(-100, 101, (3, 2, 3, 3))).float()
    with torch.no_grad():
        network[0].weight.copy_(integers * torch.tensor(SCALES).reshape(3, 1, 1, 1))
    model = load(network.eval(), (torch.zeros(2, 2, 8, 8),))
    names = {"relu": VALUE, image(model): VALUE, "gone": VALUE}
    return replace(model, annotations=Annotations(values=names, weights={"0.weight": WEIGHT}))


def image(model: Model) -> str:
    """The name of the node that takes the images."""
    return next(node.name for node in model.graph.graph.nodes if node.op == "placeholder")


def quantized(model: Model, **options: object) -> StepResult:
    x = np.random.default_rng(1).standard_normal((8, 2, 8, 8)).astype(np.float32)
    return Quantize(**options).apply(model, Context((TABLE,), Data.from_arrays(calibration=x)))


def test_values_and_weights_keep_their_grids_and_the_step_says_so() -> None:
    model = annotated()
    result = quantized(model)
    plan = result.model.plans[0]
    for name in ("relu", image(model)):
        kept = plan.values[name].stored_as("uint8")
        np.testing.assert_allclose((*kept.scale, *kept.zero_point), (0.125, 3), rtol=1e-6)
    assert plan.units["conv2d"].weights["weight"].scale == SCALES
    (change,) = [entry for entry in result.changed if entry.what.startswith("grids of the source")]
    assert change.why.startswith("2 values and 1 weights") and "gone" not in change.why


def test_what_is_pooled_has_the_grid_of_what_it_comes_from() -> None:
    table = replace(TABLE, kernels={**TABLE.kernels, "max_pool2d": Kernel(shares="result"), "concat": Kernel(shares="all")})
    narrow = Encoding(Scheme("uint8"), (2.0**-10,), (0,))  # data go beyond it

    class Joined(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(2, 3, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            pooled = torch.max_pool2d(torch.relu(self.conv(x)), 2)
            return torch.cat([pooled, pooled * 1.0], 1)

    model = load(Joined().eval(), (torch.zeros(2, 2, 8, 8),))
    x = np.random.default_rng(1).standard_normal((8, 2, 8, 8)).astype(np.float32)
    context = Context((table,), Data.from_arrays(calibration=x))
    alone = Quantize().apply(replace(model, annotations=Annotations(values={"relu": narrow})), context).model.plans[0].values
    assert alone["cat"].scale > narrow.scale  # one part of it is not known
    everything = Annotations(values={"relu": narrow, "mul": narrow})
    known = Quantize().apply(replace(model, annotations=everything), context).model.plans[0].values
    for name in ("relu", "max_pool2d", "mul", "cat"):
        np.testing.assert_allclose(known[name].scale, narrow.scale, rtol=1e-6)


def test_grids_of_values_that_are_gone_are_listed() -> None:
    network = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU())
    model = load(network.eval(), (torch.zeros(2, 2, 8, 8),))
    model = replace(model, annotations=Annotations(values={"batch_norm": VALUE, "relu": VALUE, "elsewhere": VALUE}))
    result = quantized(model)
    lost = {entry.what: entry.why for entry in result.skipped if entry.what.startswith("the source's grid of")}
    assert set(lost) == {"the source's grid of batch_norm (1)", "the source's grid of elsewhere"}
    assert all("was calibrated" in why for why in lost.values())


def test_they_are_calibrated_when_asked() -> None:
    result = quantized(annotated(), take_over=False)
    plan = result.model.plans[0]
    assert plan.values["relu"].scale != (0.125,) and plan.units["conv2d"].weights["weight"].scale != SCALES
    assert not [entry for entry in result.changed if entry.what.startswith("grids of the source")]


def test_a_weight_that_has_left_its_grid_gets_a_new_one() -> None:
    model = annotated()
    with torch.no_grad():
        model.graph.get_parameter("0.weight").mul_(1.01)
    assert quantized(model).model.plans[0].units["conv2d"].weights["weight"].scale != SCALES
