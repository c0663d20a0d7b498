"""Layers taken apart: at full ranks the same network, whatever strides, paddings and dilations; what cannot be, says why."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from tersenet.annotations import Annotations
from tersenet.graph.cost import cost
from tersenet.graph.factors import METHODS, Factors, factored, layers
from tersenet.graph.trace import trace
from tersenet.model import Model
from tersenet.testing.networks import small_convolutional


class Shapes(nn.Module):
    """Convolutions of every geometry, one and two axes, a linear layer on a sequence, and two layers that share a weight."""

    def __init__(self) -> None:
        super().__init__()
        self.strided = nn.Conv2d(3, 8, (3, 5), stride=(2, 1), padding=(1, 2), dilation=(1, 1))
        self.same = nn.Conv2d(8, 8, 3, padding="same", dilation=2, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.point = nn.Conv2d(8, 6, 1, stride=2, padding=1)
        self.grouped = nn.Conv2d(6, 6, 3, padding=1, groups=2)
        self.line = nn.Conv1d(6, 7, 3, padding=1)
        self.dense = nn.Linear(7, 9)
        self.tied = nn.Linear(9, 9)
        self.again = nn.Linear(9, 9, bias=False)
        self.again.weight = self.tied.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.norm(self.same(torch.relu(self.strided(x)))))
        x = self.grouped(self.point(x))
        return self.again(self.tied(self.dense(self.line(x.flatten(2)).transpose(1, 2))))


def network() -> Model:
    torch.manual_seed(0)
    return trace(Shapes().eval(), (torch.randn(2, 3, 9, 8),))


def whole(model: Model, method: str) -> list[Factors]:
    chosen = []
    for layer in layers(model):
        if not layer.why:
            way = layer.ways(method)
            chosen.append(Factors(layer, way, tuple(len(one.values) for one in layer.spectra(way))))
    return chosen


@pytest.mark.parametrize("method", METHODS)
def test_at_full_ranks_outputs_are_the_same_for_any_batch(method: str) -> None:
    model = network()
    x = np.random.default_rng(0).standard_normal((5, 3, 9, 8)).astype(np.float32)
    rebuilt = factored(model, whole(model, method))
    assert np.abs(rebuilt(x) - model(x)).max() < 1e-5
    assert all(factors.numbers == sum(tensor.numel() for tensor in factors.tensors) for factors in whole(model, method))
    names = {name.rpartition(".")[0] for name in rebuilt.graph.state_dict()}
    assert {"strided", "strided.reduce", "point.reduce", "dense.reduce"} <= names
    assert ("strided.core" in names) == (method == "tucker")


def test_what_cannot_be_taken_apart_says_why() -> None:
    why = {layer.name: layer.why for layer in layers(network()) if layer.why}
    assert why.pop("grouped") == "it has 2 groups, and factors mix all channels"
    assert list(why.values()) == ["its weight is shared with another layer"]
    depthwise = {layer.name: layer.why for layer in layers(small_convolutional()) if layer.why}
    assert depthwise == {"depthwise.0": "each of its 8 channels has a filter of its own"}


def test_masks_and_codebooks_are_not_torn_apart() -> None:
    model = small_convolutional()
    weight = model.graph.get_parameter("pointwise.0.weight")
    masked = replace(model, annotations=Annotations(masks={"pointwise.0.weight": np.ones(weight.shape, bool)}))
    shared = replace(model, annotations=Annotations(codebooks={"pointwise.0.weight": np.zeros(weight.shape, np.uint8)}))
    assert [layer.why for layer in layers(masked) if layer.name == "pointwise.0"] == ["zeros of its mask would not stay zero"]
    assert [layer.why for layer in layers(shared) if layer.name == "pointwise.0"] == ["its weights share values, and factors would not"]


def test_what_a_column_and_a_row_cost_is_counted() -> None:
    model = network()
    layer = next(layer for layer in layers(model) if layer.name == "strided")
    rebuilt = factored(model, [Factors(layer, "spatial", (4,))])
    # 5 x 8 results of the column's height 3, and 5 x 8 of the row's width 5
    assert cost(model).macs - cost(rebuilt).macs == 5 * 8 * 8 * 3 * 15 - (5 * 8 * 4 * 3 * 3 + 5 * 8 * 8 * 4 * 5)


def test_the_network_that_came_stays() -> None:
    model = network()
    before = model.fingerprint
    factored(model, whole(model, "tucker"))
    object.__getattribute__(model, "__dict__").pop("fingerprint", None)
    assert model.fingerprint == before


def test_what_was_taken_apart_can_be_taken_apart_again() -> None:
    model = network()
    once = factored(model, whole(model, "tucker"))
    twice = factored(once, whole(once, "channel"))
    x = np.random.default_rng(1).standard_normal((2, 3, 9, 8)).astype(np.float32)
    assert np.abs(twice(x) - model(x)).max() < 1e-5
    assert {"dense.reduce.weight", "dense.reduce2.weight", "dense.reduce.reduce.weight"} <= set(twice.graph.state_dict())
