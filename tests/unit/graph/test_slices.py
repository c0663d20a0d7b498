"""Slices behind a convolution go behind its batch norm and activation; others stay."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from tersenet.frontends.table import load
from tersenet.graph.deploy import deployable
from tersenet.graph.operators import kind_of
from tersenet.graph.walk import calls


class Cropped(nn.Module):
    def __init__(self, cut, *behind):
        super().__init__()
        self.up = nn.ConvTranspose2d(3, 4, 3, stride=2)
        self.cut = cut
        self.behind = nn.Sequential(*behind)

    def forward(self, x):
        return self.behind(self.cut(self.up(x)))


def kinds(module: nn.Module) -> list[str]:
    torch.manual_seed(0)
    for buffer in module.buffers():
        if buffer.is_floating_point():
            buffer.uniform_(0.5, 2)
    x = torch.randn(2, 3, 5, 6)
    model = load(module.eval(), (x,))
    graph = deployable(model)
    np.testing.assert_allclose(graph(x)[0].detach().numpy(), model(x.numpy()), atol=1e-5)
    return [kind_of(node) for node in calls(graph)]


def test_slices_go_behind_batch_norm_and_activation() -> None:
    found = kinds(Cropped(lambda y: y[:, :, :-1, 1:], nn.BatchNorm2d(4), nn.ReLU()))
    assert found == ["conv_transpose2d", "relu", "slice", "slice"]


def test_an_activation_alone_too() -> None:
    assert kinds(Cropped(lambda y: y.narrow(2, 0, 10), nn.Hardswish())) == ["conv_transpose2d", "hardswish", "slice"]


def test_slices_of_channels_stay() -> None:
    assert kinds(Cropped(lambda y: y[:, :2], nn.ReLU())) == ["conv_transpose2d", "slice", "relu"]


def test_what_is_read_twice_stays() -> None:
    class Twice(Cropped):
        def forward(self, x):
            y = self.up(x)
            return torch.relu(y[:, :, 1:]) + y[:, :, :-1]

    found = kinds(Twice(None))
    assert found == ["conv_transpose2d", "slice", "relu", "slice", "add"]


def test_what_is_not_pointwise_stays() -> None:
    assert kinds(Cropped(lambda y: y[:, :, 1:], nn.Softmax(2))) == ["conv_transpose2d", "slice", "softmax"]
