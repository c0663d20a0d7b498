"""The demo: a small network trained on scikit-learn's digits, compressed for every runtime that is installed."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from tersenet.data import sources
from tersenet.data.parts import Data
from tersenet.errors import MissingDependencyError
from tersenet.frontends.table import load
from tersenet.journey import Settings, compress
from tersenet.model import Model
from tersenet.progress import Progress
from tersenet.record import Report
from tersenet.targets import table

EPOCHS = 12
BATCH = 64


class Block(nn.Module):
    """Two convolutions around which the input is added again (He et al. 2016)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels), nn.ReLU())
        self.second = nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(x + self.second(self.first(x)))


class DigitsNetwork(nn.Module):
    """A residual network for 8x8 digits: (n, 1, 8, 8) in 0..1 to ten scores."""

    def __init__(self, channels: int = 32) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels), nn.ReLU())
        self.blocks = nn.Sequential(Block(channels), nn.MaxPool2d(2), Block(channels))
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 10))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.blocks(self.stem(x)))


def trained(data: Data, progress: Progress, seed: int = 0) -> Model:
    """The network after `EPOCHS` epochs of Adam on the train part: on one thread, so that it is the same on every machine of a kind."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return _trained(data, progress, seed)
    finally:
        torch.set_num_threads(threads)


def _trained(data: Data, progress: Progress, seed: int) -> Model:
    torch.manual_seed(seed)
    network = DigitsNetwork()
    (x,), labels = data.train.batch(slice(None))
    images, classes = torch.from_numpy(x), torch.as_tensor(labels, dtype=torch.int64)
    optimizer = torch.optim.Adam(network.parameters(), 3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS)
    for epoch in range(EPOCHS):
        for chosen in torch.randperm(len(images)).split(BATCH):
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(images[chosen]), classes[chosen]).backward()
            optimizer.step()
        schedule.step()
        progress(epoch + 1, EPOCHS, "training on digits")
    return load(network.eval(), (images[:2],), name="digits-resnet")


def demo(out: str | Path, progress: Progress) -> Report:
    """Train, compress for every installed runtime, prove.

    Raises:
        MissingDependencyError: no runtime is installed.
    """
    data = sources.load("digits")
    installed = [row["target"] for row in table.describe() if row["installed"]]
    if not installed:
        raise MissingDependencyError("the demo needs a runtime; install one: pip install 'tersenet[all]'.")
    return compress(trained(data, progress), data, to=installed, out=out, settings=Settings(progress=progress))
