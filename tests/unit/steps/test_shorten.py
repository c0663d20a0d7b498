"""Residual branches that leave: which can, what is left, and which go first."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tersenet import Data, Recipe, Shorten
from tersenet.errors import RecipeError
from tersenet.graph.branches import branches, without
from tersenet.graph.cost import cost
from tersenet.graph.trace import trace
from tersenet.model import Model
from tersenet.step import Context
from tersenet.testing.step import check_step


class Block(nn.Module):
    def __init__(self, before: int, after: int, strength: float) -> None:
        super().__init__()
        self.conv1, self.norm, self.conv2 = nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.Conv2d(after, after, 3, padding=1)
        self.short = nn.Conv2d(before, after, 1) if before != after else nn.Identity()
        with torch.no_grad():
            self.conv2.weight *= strength
            self.conv2.bias *= strength

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.short(x) + self.conv2(torch.relu(self.norm(self.conv1(x)))))


class Residual(nn.Module):
    """Blocks whose shortcut is an identity, but for the second, which changes the width; sums of sums behind them."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.blocks = nn.ModuleList([Block(8, 8, 1.0), Block(8, 16, 1.0), Block(16, 16, 0.01), Block(16, 16, 0.3)])
        self.mlp = nn.ModuleList([nn.Linear(16, 16), nn.Linear(16, 16)])
        self.head = nn.Linear(16, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.stem(x))
        for block in self.blocks:
            x = block(x)
        x = x.mean((2, 3))
        for layer in self.mlp:
            x = x + torch.tanh(layer(x))
        return self.head(x)


torch.manual_seed(0)
NETWORK = Residual().eval()
MODEL = trace(NETWORK, (torch.randn(2, 3, 8, 8),))
X = np.random.default_rng(0).standard_normal((64, 3, 8, 8)).astype(np.float32)
CONTEXT = Context(data=Data.from_arrays(calibration=X))


def named(model: Model) -> list[str]:
    return [branch.name for branch in branches(model.graph)]


def test_branches_are_those_whose_shortcut_is_an_identity() -> None:
    assert named(MODEL) == ["blocks.0", "blocks.2", "blocks.3", "mlp.0", "mlp.1"]


@pytest.mark.parametrize("gone", [("blocks.2",), ("blocks.0", "blocks.3"), ("mlp.0", "mlp.1"), ("mlp.1",), ("mlp.0", "blocks.2")])
def test_what_is_left_is_the_source_without_these_branches(gone: tuple[str, ...]) -> None:
    """The reference: the source's own modules, the branch replaced by nothing."""
    found = [branch for branch in branches(MODEL.graph) if branch.name in gone]
    model = without(MODEL, found)
    x = torch.relu(NETWORK.stem(torch.from_numpy(X)))
    for place, block in enumerate(NETWORK.blocks):
        x = x if f"blocks.{place}" in gone else block(x)
    x = x.mean((2, 3))
    for place, layer in enumerate(NETWORK.mlp):
        x = x if f"mlp.{place}" in gone else x + torch.tanh(layer(x))
    assert np.allclose(model(X), NETWORK.head(x).detach().numpy(), atol=1e-5)
    assert not any(name.startswith(gone) for name in model.graph.state_dict())
    assert set(named(model)) == set(named(MODEL)) - set(gone)


def test_the_weakest_leaves_first() -> None:
    result = Shorten(count=1).apply(MODEL, CONTEXT)
    assert result.changed[0].what == "blocks.2"
    assert result.changed[0].why == "3 layers leave; their input goes on as it is"
    assert cost(result.model).macs < cost(MODEL).macs
    two = Shorten(count=2, keep="mlp*").apply(MODEL, CONTEXT)
    assert [change.what for change in two.changed[:2]] == ["blocks.2", "blocks.3"]
    assert {entry.what: entry.why for entry in two.skipped}["mlp.0"] == "it was asked to keep it"


def test_as_many_as_a_drop_permits() -> None:
    result = Shorten(max_drop=20.0).apply(MODEL, CONTEXT)
    same = (result.model(X).argmax(1) == MODEL(X).argmax(1)).mean()
    assert 100 * (1 - same) <= 20.0
    more = Shorten(max_drop=100.0).apply(MODEL, CONTEXT)
    assert named(more.model) == []
    assert 0 < len(named(result.model)) < 5


@pytest.mark.parametrize("share", [0.2, 0.4, 0.6])
def test_as_many_as_have_a_share_of_the_arithmetic(share: float) -> None:
    """The weakest first, and none more than it takes: put back, the last one would leave too much."""
    whole = cost(MODEL).macs
    result = Shorten(macs=share).apply(MODEL, CONTEXT)
    gone = [change.what for change in result.changed if change.what in named(MODEL)]
    assert cost(result.model).macs <= (1 - share) * whole
    assert gone[0] == "blocks.2"
    assert cost(without(MODEL, [branch for branch in branches(MODEL.graph) if branch.name in gone[:-1]])).macs > (1 - share) * whole


def test_a_network_without_any_says_so() -> None:
    plain = trace(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)).eval(), (torch.randn(2, 4),))
    data = Data.from_arrays(calibration=np.zeros((8, 4), np.float32))
    result = Shorten(max_drop=5.0).apply(plain, Context(data=data))
    assert [(entry.what, entry.why) for entry in result.skipped] == [("residual branches", "this network has none whose shortcut is an identity")]


@pytest.mark.parametrize(
    "options, message",
    [
        ({}, "takes one of count"),
        (dict(count=1, max_drop=2.0), "takes one of count"),
        (dict(count=1, macs=0.5), "takes one of count"),
        (dict(macs=1.0), "takes one of count"),
        (dict(macs=0.95), r"95\.0% of the multiply-accumulates were to leave, and the branches that can have .*ask for less"),
        (dict(count=6), "6 residual branches were to leave, and this network has 5 that can"),
        (dict(count=1, keep="block"), "unknown branch 'block'"),
    ],
)
def test_what_makes_no_sense_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        Shorten(**options).apply(MODEL, CONTEXT)


def test_it_is_a_step_of_recipes() -> None:
    recipe = Recipe.from_json([{"step": "shorten", "count": 1, "keep": ["mlp*"]}])
    assert Recipe.from_json(recipe.to_json()) == recipe


def test_the_contract() -> None:
    check_step(Shorten(max_drop=10.0))
