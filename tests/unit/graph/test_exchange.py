"""Activations are exchanged for the ones that were asked for, or for what every runtime has a kernel for; outputs keep their meaning."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import tersenet
from tersenet import Train
from tersenet.capabilities import Capabilities, Kernel
from tersenet.errors import RecipeError
from tersenet.graph.exchange import cheap, exchanged
from tersenet.graph.initialization import initialized
from tersenet.model import Model
from tersenet.step import Context
from tersenet.testing.networks import small_convolutional
from tersenet.testing.step import FAKE_TABLE, _data

INPUTS = np.random.default_rng(0).standard_normal((4, 6)).astype(np.float32)


def network(*activations: nn.Module) -> tuple[nn.Sequential, Model]:
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for activation in activations:
        layers += [nn.Linear(6, 6), activation]
    module = nn.Sequential(*layers, nn.Linear(6, 2), nn.Sigmoid()).eval()
    return module, tersenet.load(module, (torch.zeros(2, 6),))


class Swish(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.sigmoid(x)


PAIRS = [
    (nn.SiLU(), "silu", "hardswish", nn.Hardswish()),
    (Swish(), "silu", "hardswish", nn.Hardswish()),
    (nn.Sigmoid(), "sigmoid", "hardsigmoid", nn.Hardsigmoid()),
    (nn.GELU(), "gelu", "relu", nn.ReLU()),
    (nn.PReLU(), "prelu", "relu", nn.ReLU()),
    (nn.ReLU(), "relu", "relu6", nn.ReLU6()),
]


@pytest.mark.parametrize(("before", "old", "new", "after"), PAIRS, ids=[f"{type(row[0]).__name__}" for row in PAIRS])
def test_a_pair(before: nn.Module, old: str, new: str, after: nn.Module) -> None:
    module, model = network(before, nn.Tanh())
    found, counts = exchanged(model, {old: new})
    module[1] = after
    assert counts == {old: 1}
    assert np.allclose(found(INPUTS), module(torch.from_numpy(INPUTS)).detach().numpy(), atol=1e-6)
    assert np.allclose(model(INPUTS), network(before, nn.Tanh())[1](INPUTS)), "the model that was given stays"


def table(*kinds: str) -> Capabilities:
    return Capabilities("fake", dict.fromkeys(kinds, Kernel()))


def test_cheap_is_what_every_runtime_has_a_kernel_for() -> None:
    _, model = network(nn.SiLU(), nn.GELU(), nn.ReLU(), nn.Sigmoid())
    wide, narrow = table("relu", "relu6", "hardswish", "hardsigmoid", "gelu"), table("relu", "relu6", "sigmoid", "gelu")
    assert cheap(model, [wide.kernels]) == {"silu": "hardswish", "sigmoid": "hardsigmoid"}
    assert cheap(model, [wide.kernels, narrow.kernels]) == {"silu": "relu6"}
    assert cheap(model, [table("relu").kernels]) == {"silu": "relu", "gelu": "relu"}


def test_the_step_says_what_it_exchanged_and_refuses_what_is_not_there() -> None:
    model = small_convolutional()
    context = Context((FAKE_TABLE,), _data())
    result = Train(training={"epochs": 1}, exchange="relu:relu6").apply(model, context)
    assert (result.changed[0].what, result.changed[0].why) == ("relu", "2 became relu6")
    with pytest.raises(RecipeError, match="there is no silu to exchange in this network"):
        Train(exchange=("silu:hardswish",)).apply(model, context)
    with pytest.raises(RecipeError, match="exchange cheap needs at least one runtime"):
        Train(exchange=("cheap",)).apply(model, Context((), _data()))


@pytest.mark.parametrize(
    ("exchange", "message"),
    [("silu", "an exchange is a pair"), ("sylu:relu", "did you mean 'silu'"), ("silu:tanh", "unknown activation that silu can become")],
)
def test_what_is_no_exchange_is_refused(exchange: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        Train(exchange=(exchange,))


def test_random_weights_are_seeded_and_as_wide_as_their_operator_asks() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(16, 64, 3), nn.BatchNorm2d(64), nn.ReLU(), nn.Flatten(), nn.Linear(64, 50)).eval()
    model = tersenet.load(module, (torch.zeros(2, 16, 3, 3),))
    first, again, other = initialized(model, 1), initialized(model, 1), initialized(model, 2)
    assert first.fingerprint == again.fingerprint != other.fingerprint
    state = first.graph.state_dict()
    assert float(state["0.weight"].std()) == pytest.approx((2 / (16 * 9)) ** 0.5, rel=0.05)
    assert float(state["4.weight"].abs().max()) == pytest.approx(1 / 8, rel=0.02)
    assert [float(state[f"1.{name}"].mean()) for name in ("weight", "bias", "running_mean", "running_var")] == [1, 0, 0, 1]
    assert [node.name for node in first.graph.graph.nodes] == [node.name for node in model.graph.graph.nodes]


def test_random_weights_of_recurrent_layers_and_tables() -> None:
    class Reader(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.lstm, self.scale = nn.Embedding(100, 16), nn.LSTM(16, 25, batch_first=True), nn.Parameter(torch.ones(25))

        def forward(self, tokens: torch.Tensor) -> torch.Tensor:
            return self.lstm(self.table(tokens))[0][:, -1] * self.scale

    state = initialized(tersenet.load(Reader(), (torch.zeros(2, 3, dtype=torch.long),))).graph.state_dict()
    assert float(state["table.weight"].std()) == pytest.approx(1, rel=0.05)
    assert all(0.19 < float(state[f"lstm.{name}"].abs().max()) <= 0.2 for name in ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0"))
    assert torch.equal(state["scale"], torch.ones(25))
