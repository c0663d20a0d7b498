"""Inner values of two networks are matched by size, by order and by name, and refused where nothing is alike."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import tersenet
from tersenet.errors import RecipeError
from tersenet.graph.matching import Match, inner_values, matched, named, watched
from tersenet.graph.training import trainable
from tersenet.model import Model
from tersenet.step import Context
from tersenet.steps.prune import Prune
from tersenet.testing.networks import samples, small_convolutional


class Residual(nn.Module):
    """A small ResNet: as many blocks as asked for in each of three stages."""

    def __init__(self, blocks: int, width: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, padding=1)
        self.stages = nn.ModuleList()
        for stage in range(3):
            down = nn.Conv2d(width << max(stage - 1, 0), width << stage, 3, stride=2 if stage else 1, padding=1)
            self.stages.append(nn.ModuleList([down, *(nn.Conv2d(width << stage, width << stage, 3, padding=1) for _ in range(blocks))]))
        self.head = nn.Linear(4 * width, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.stem(x))
        for down, *blocks in self.stages:
            x = torch.relu(down(x))
            for block in blocks:
                x = torch.relu(x + block(x))
        return self.head(x.mean((2, 3)))


class Encoder(nn.Module):
    """Attention blocks over (n, 6, 4)."""

    def __init__(self, blocks: int, width: int) -> None:
        super().__init__()
        self.embed = nn.Linear(4, width)
        self.blocks = nn.ModuleList(nn.TransformerEncoderLayer(width, 2, 2 * width, batch_first=True) for _ in range(blocks))
        self.head = nn.Linear(width, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.embed(x)
        for block in self.blocks:
            x = block(x)
        return self.head(x.mean(1))


class Recurrent(nn.Module):
    def __init__(self, layers: int, width: int) -> None:
        super().__init__()
        self.cells = nn.LSTM(4, width, layers, batch_first=True)
        self.head = nn.Linear(width, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.cells(x)[0])


def plain(*widths: int) -> Model:
    layers: list[nn.Module] = []
    for before, after in zip((10, *widths), widths, strict=False):
        layers += [nn.Linear(before, after), nn.ReLU()]
    return tersenet.load(nn.Sequential(*layers, nn.Linear(widths[-1], 3)), (torch.zeros(2, 10),))


def residual(blocks: int, width: int, size: int = 16) -> Model:
    return tersenet.load(Residual(blocks, width).eval(), (torch.zeros(2, 3, size, size),))


def encoder(blocks: int, width: int) -> Model:
    return tersenet.load(Encoder(blocks, width).eval(), (torch.zeros(2, 6, 4),))


def found(student: Model, teacher: Model) -> list[Match]:
    return matched(inner_values(student), inner_values(teacher))


def shown(matches: list[Match]) -> list[tuple[str, str]]:
    return [(f"{one}", f"{other}") for one, other in matches]


def test_images_match_at_the_ends_of_stages_by_size() -> None:
    assert [(one.channels, other.channels, one.grid, one.grid == other.grid) for one, other in found(residual(1, 4), residual(3, 8))] == [
        (4, 8, (16, 16), True),
        (8, 16, (8, 8), True),
        (16, 32, (4, 4), True),
    ]
    last = found(residual(1, 4), residual(3, 8))[-1][1]
    model = residual(3, 8)
    assert last.name == [node.name for node in model.graph.graph.nodes if "relu" in node.name][-1], "the last value of the stage"


def test_images_of_other_sizes_match_in_order_from_the_end() -> None:
    matches = found(residual(1, 4, size=16), residual(1, 4, size=20))
    assert [(one.grid, other.grid) for one, other in matches] == [((16, 16), (20, 20)), ((8, 8), (10, 10)), ((4, 4), (5, 5))]


def test_sequences_of_other_depths_match_evenly() -> None:
    matches = found(encoder(2, 8), encoder(4, 16))
    assert [(one.layer, other.layer) for one, other in matches] == [("blocks.0", "blocks.1"), ("blocks.1", "blocks.3")]
    assert all((one.axis, one.channels, other.channels, one.grid) == (2, 8, 16, (6,)) for one, other in matches)


def test_recurrent_layers_match_by_what_they_end_with() -> None:
    models = [tersenet.load(Recurrent(*shape), (torch.zeros(2, 6, 4),)) for shape in ((1, 8), (2, 16))]
    assert shown(found(*models)) == [("cells (8 channels x 6)", "cells (16 channels x 6)")]


def test_hidden_layers_match_evenly() -> None:
    assert [(one.channels, other.channels) for one, other in found(plain(16, 8), plain(64, 63, 32, 31))] == [(16, 63), (8, 31)]


def test_a_pruned_network_matches_what_it_was() -> None:
    whole = small_convolutional()
    pruned = Prune(ratio=0.5).apply(whole, Context()).model
    matches = found(pruned, whole)
    assert [one.name for one, _ in matches] == [other.name for _, other in matches]
    assert [(one.channels, other.channels) for one, other in matches] == [(4, 8), (4, 8)]


def test_layers_taken_out_leave_the_others_with_their_own() -> None:
    values = inner_values(encoder(4, 8))
    joins = [value for value in values if value.joins]
    assert [one.name for one, _ in matched([joins[0], joins[-1]], values)] == [joins[0].name, joins[-1].name]
    assert all(one is other for one, other in matched([joins[0], joins[-1]], values))


def test_layers_that_somebody_named() -> None:
    values = inner_values(residual(1, 4)), inner_values(residual(3, 8))
    (match,) = named(*values, ["stages.1.0:stages.1"])
    assert (match[0].layer, match[1].layer) == ("stages.1.0", "stages.1.3")
    with pytest.raises(RecipeError, match=r"unknown layer of the teacher 'stages.7'"):
        named(*values, ["stages.1:stages.7"])
    with pytest.raises(RecipeError, match="have other numbers of axes"):
        named(values[0], inner_values(plain(16)), ["stages.1:0"])


def test_a_network_returns_what_is_watched() -> None:
    model = small_convolutional()
    module = trainable(model)
    matches = found(model, model)
    watched(module, [one.name for one, _ in matches])
    results = module(torch.from_numpy(samples(3)))
    assert [tuple(result.shape) for result in results] == [(3, 5), (3, 8, 8, 8), (3, 8, 4, 4)]
    with pytest.raises(RecipeError, match="was rewritten, and its value nowhere is gone"):
        watched(module, ["nowhere"])
