"""Permutes that undo one another vanish, and nothing else changes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

import tersenet as tn
from tersenet.graph.deploy import deployable
from tersenet.graph.operators import kind_of

FIRST, LAST = (0, 3, 1, 2), (0, 2, 3, 1)


def last(function: Callable[[torch.Tensor], torch.Tensor], images: torch.Tensor) -> torch.Tensor:
    """An operator of torch's on images with channels last, as a frontend writes it."""
    return function(images.permute(FIRST)).permute(LAST)


class Residual(nn.Module):
    """Preprocessing, convolutions with batch norm, a residual sum, squeeze and excite, uneven padding, concatenation, pooling, a flatten."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1, bias=False)
        self.norm, self.other = _norm(8), _norm(8)
        self.depthwise = nn.Conv2d(8, 8, 3, groups=8)
        self.squeeze, self.excite = nn.Linear(8, 4), nn.Linear(4, 8)
        self.hidden, self.classes = nn.Linear(8 * 3 * 3 * 2, 16), nn.Linear(16, 5)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        images = images / 127.5 - 1
        images = torch.relu(last(self.norm, last(self.first, images)))
        images = images + F.relu6(last(self.other, last(self.second, images)))
        gate = torch.sigmoid(self.excite(torch.relu(self.squeeze(images.mean((1, 2))))))
        images = F.pad(images * gate.reshape(-1, 1, 1, 8), (0, 0, 0, 1, 0, 1))
        images = torch.cat([last(self.depthwise, images), last(self.depthwise, images) * 2], -1)
        images = last(lambda value: F.max_pool2d(value, 2), images)
        return torch.softmax(self.classes(torch.relu(self.hidden(torch.relu(images.flatten(1))))), -1)


class Hourglass(nn.Module):
    """Images out as they came in: pooling, resizing, a skip, a constant for each channel, slices and pieces of the channels."""

    def __init__(self) -> None:
        super().__init__()
        self.inward, self.outward = nn.Conv2d(4, 8, 3, padding=1), nn.Conv2d(12, 4, 1)
        self.scale = nn.Parameter(torch.rand(8) + 0.5)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        deep = last(self.inward, images) * self.scale
        one, two = deep.split(4, dim=-1)
        deep = torch.cat([one.clamp(-1, 1), two], -1)[:, :, :, :8]
        deep = last(lambda value: F.interpolate(F.max_pool2d(value, 2), scale_factor=2.0), deep)
        return torch.tanh(last(self.outward, torch.cat([deep, images.relu()], -1)))


class Sequence(nn.Module):
    """Signals with time before features, from an image's rows."""

    def __init__(self) -> None:
        super().__init__()
        self.image, self.first, self.second = nn.Conv2d(1, 3, 3, padding=1), nn.Conv1d(3, 6, 3), nn.Conv1d(6, 6, 3, stride=2)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        signal = last(self.image, images).reshape(images.shape[0], 64, 3)
        signal = torch.relu(self.first(signal.transpose(1, 2)).transpose(1, 2))
        return self.second(signal.transpose(1, 2)).transpose(1, 2).mean(1)


def _norm(channels: int) -> nn.BatchNorm2d:
    norm = nn.BatchNorm2d(channels)
    norm.running_mean = torch.linspace(-1, 1, channels)
    norm.running_var = torch.linspace(0.5, 2, channels)
    return norm


def _permutes(graph: torch.fx.GraphModule) -> int:
    return sum(kind_of(node) == "permute" for node in graph.graph.nodes)


@pytest.mark.parametrize(
    ("network", "shape", "left"),
    [(Residual, (2, 8, 8, 3), 1), (Hourglass, (2, 8, 8, 4), 3), (Sequence, (2, 8, 8, 1), 0)],
)
def test_channels_last_networks_are_turned_at_their_ends_alone(network: type[nn.Module], shape: tuple[int, ...], left: int) -> None:
    torch.manual_seed(0)
    module = network().eval()
    model = tn.load(module, (torch.rand(shape),))
    deployed = deployable(model)
    assert _permutes(deployed) == left
    assert not isinstance(deployed.graph.find_nodes(op="placeholder")[0].meta["val"].shape[0], int), "the batch is still open"
    for node in deployed.graph.find_nodes(op="call_function", target=torch.ops.aten.relu.default):
        assert str(node.meta["val"].shape[0]) == str(deployed.graph.find_nodes(op="placeholder")[0].meta["val"].shape[0])
    images = torch.rand(3, *shape[1:])
    torch.testing.assert_close(deployed(images)[0], module(images), rtol=1e-5, atol=1e-5)
    assert not any(kind_of(node) == "batch_norm" for node in deployed.graph.nodes)


def test_a_network_that_gains_nothing_keeps_its_graph() -> None:
    class Heads(nn.Module):
        def forward(self, tokens: torch.Tensor) -> torch.Tensor:
            heads = (tokens.reshape(-1, 6, 2, 4).permute(0, 2, 1, 3) * 0.5).softmax(-1)
            return (heads @ heads.transpose(-1, -2)).relu()

    deployed = deployable(tn.load(Heads(), (torch.rand(2, 6, 8),)))
    kinds = [kind_of(node) for node in deployed.graph.nodes if kind_of(node)]
    assert kinds == ["reshape", "permute", "mul", "softmax", "permute", "matmul", "relu"]


def test_a_graph_given_to_be_deployed_stays_as_it_is() -> None:
    model = tn.load(Residual().eval(), (torch.rand(2, 8, 8, 3),))
    before = model.graph.code
    deployable(model)
    assert model.graph.code == before


STEPS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "first": lambda value: value.permute(FIRST),
    "last": lambda value: value.permute(LAST),
    "swap": lambda value: value.transpose(1, 3),
    "relu": torch.relu,
    "double": lambda value: value * 2.0,
    "self": lambda value: value + torch.tanh(value),
    "joined": lambda value: torch.cat([value, value.sigmoid()], 2),
    "sliced": lambda value: value[:, :, 1:],
    "padded": lambda value: F.pad(value, (1, 0, 0, 2)),
    "pieces": lambda value: torch.cat(list(reversed(value.split(1, dim=1))), 1),
    "softmax": lambda value: value.softmax(2),
    "mean": lambda value: value.mean((1, 3), keepdim=True) + value,
    "constant": lambda value: value * torch.arange(1.0, value.shape[-1] + 1),
    "flat": lambda value: value.reshape(value.shape[0], value.shape[1], -1).reshape(value.shape[0], value.shape[1], value.shape[2], -1),
}


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.lists(st.sampled_from(sorted(STEPS)), min_size=2, max_size=9), st.sampled_from(["mean", "flatten", "as it is"]))
def test_any_chain_computes_the_same(names: list[str], end: str) -> None:
    class Chain(nn.Module):
        def forward(self, value: torch.Tensor) -> Any:
            for name in names:
                value = STEPS[name](value)
            return value.mean((1, 2)) if end == "mean" else value.flatten(1).relu() if end == "flatten" else value

    module = Chain()
    model = tn.load(module, (torch.rand(2, 4, 5, 3),))
    deployed = deployable(model)
    value = torch.rand(3, 4, 5, 3) - 0.5
    torch.testing.assert_close(deployed(value)[0], module(value), rtol=1e-5, atol=1e-6)
    assert _permutes(deployed) <= _permutes(model.graph)
