"""Small networks that contract suites run on: seeded, untrained, with batch norm that has seen something."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from tersenet.frontends.table import load
from tersenet.model import Model


class SmallConvolutional(nn.Module):
    """Convolutions of three kinds, a residual sum, pooling and a linear layer: (n, 3, 8, 8) to five scores."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU())
        self.depthwise = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False), nn.BatchNorm2d(8), nn.ReLU6())
        self.pointwise = nn.Sequential(nn.Conv2d(8, 8, 1, bias=False), nn.BatchNorm2d(8))
        self.pool = nn.MaxPool2d(2)
        self.head = nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        x = torch.relu(x + self.pointwise(self.depthwise(x)))
        return self.head(self.pool(x).mean((2, 3)))


def small_convolutional(seed: int = 0) -> Model:
    """`SmallConvolutional`, loaded."""
    torch.manual_seed(seed)
    network = SmallConvolutional()
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            torch.nn.init.uniform_(layer.weight, 0.5, 1.5)
            torch.nn.init.normal_(layer.bias, 0.0, 0.3)
            layer.running_mean = torch.randn(layer.num_features) * 0.3
            layer.running_var = torch.rand(layer.num_features) * 1.5 + 0.5
    return load(network.eval(), (torch.zeros(2, 3, 8, 8),), name="small")


def samples(count: int, seed: int = 0) -> np.ndarray:
    """Inputs for it: (count, 3, 8, 8), normal."""
    return np.random.default_rng(seed).standard_normal((count, 3, 8, 8)).astype(np.float32)
