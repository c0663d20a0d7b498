"""Writes in place: they are followed through every name of the memory that they change."""

import numpy as np
import pytest
import torch
from torch import nn

from tersenet.graph.trace import trace
from traced import agree, operators, randn

torch.set_num_threads(1)


def test_writes_in_place_become_functional():
    class Writes(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = x * 2
            y.add_(1).relu_()
            y[:, 0] = -1.0
            y[:, 1:].mul_(3)
            return y.clamp_(-5, 5)

    model = trace(Writes(), (randn(1, 4),))
    assert not any(name.endswith("_") for name in operators(model))
    agree(Writes(), model, randn(5, 4))


def through_a_view(x: torch.Tensor) -> torch.Tensor:
    y = x * 1
    y.view(-1).add_(1)
    return y


def through_a_part(x: torch.Tensor) -> torch.Tensor:
    y = x * 1
    y.chunk(2, 1)[0].mul_(3)
    return y


def through_detach(x: torch.Tensor) -> torch.Tensor:
    y = x * 1
    y.detach().add_(5)
    return y


def into_the_input(x: torch.Tensor) -> torch.Tensor:
    x.detach().mul_(2)
    return x + 1


def view_of_a_view_made_before(x: torch.Tensor) -> torch.Tensor:
    y = x * 1
    z = y.select(1, 0).unsqueeze(0)
    y.add_(1)
    return z


def keeps_its_type(x: torch.Tensor) -> torch.Tensor:
    y = torch.ones(4, dtype=torch.int32)
    return (x > 0).int().add_((x > 1).long()) * y.mul_(2)


@pytest.mark.parametrize("function", [through_a_view, through_a_part, through_detach, into_the_input, view_of_a_view_made_before, keeps_its_type])
def test_writes_are_seen_under_every_name(function):
    class Writes(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return function(x)

    model = trace(Writes(), (randn(2, 4),))
    assert not any(name.endswith("_") for name in operators(model))
    x = randn(3, 4)
    wanted = Writes()(x.clone()).numpy()
    got = model(x.numpy().copy())
    assert got.dtype == wanted.dtype
    np.testing.assert_allclose(got, wanted, atol=1e-6)


def test_batch_norm_keeps_its_form_beside_writes_into_views():
    class Writes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bn = nn.BatchNorm2d(3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.bn(x)
            y[:, 0] = 0
            return y

    model = trace(Writes(), (randn(1, 3, 4, 4),))
    assert "batch_norm" in operators(model)
    agree(Writes(), model, randn(2, 3, 4, 4))
