"""Calls of the real command line, and small networks and data for it, for tests from outside."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tersenet import cli

NETWORKS = """
import torch
from torch import nn


class Small(nn.Module):
    def __init__(self, outputs=3):
        super().__init__()
        self.conv = nn.Conv2d(1, 8, 3, padding=1)
        self.head = nn.Linear(8, outputs)

    def forward(self, x):
        return self.head(torch.relu(self.conv(x)).mean((2, 3)))


class Tokens(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(20, 8)
        self.head = nn.Linear(8 + 4, 3)

    def forward(self, tokens, numbers):
        return self.head(torch.cat([torch.relu(self.embedding(tokens)).mean(1), numbers], 1))


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Linear(6, 16)
        self.a, self.b = nn.Linear(16, 3), nn.Linear(16, 2)

    def forward(self, x):
        x = torch.relu(self.body(x))
        return self.a(x), self.b(x)


class Sequence(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv1d(4, 8, 3, padding=1)
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        return self.head(torch.relu(self.conv(x.transpose(1, 2))).mean(2))


class FixedBatch(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Linear(6, 3)

    def forward(self, x):
        return self.body(x.reshape(2, 6))


class Branching(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Linear(6, 3)

    def forward(self, x):
        if x.sum() > 0:
            return self.body(x)
        return -self.body(x)


def made(module, *shapes):
    return module.eval(), tuple(shape if isinstance(shape, torch.Tensor) else torch.zeros(shape) for shape in shapes)


def small():
    torch.manual_seed(0)
    return made(Small(), (2, 1, 6, 6))


def regression():
    torch.manual_seed(0)
    return made(nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 1)), (2, 6))


def flat():
    torch.manual_seed(0)
    return made(nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 3)), (2, 6))


def tokens():
    torch.manual_seed(0)
    return made(Tokens(), torch.zeros(2, 5, dtype=torch.int64), (2, 4))


def two():
    torch.manual_seed(0)
    return made(Two(), (2, 6))


def sequence():
    torch.manual_seed(0)
    return made(Sequence(), (2, 7, 4))


def fixed():
    torch.manual_seed(0)
    return made(FixedBatch(), (2, 6))


def image_out():
    torch.manual_seed(0)
    return made(nn.Conv2d(1, 4, 3, padding=1), (2, 1, 6, 6))


def branching():
    return made(Branching(), (2, 6))


def poisoned(number):
    network, inputs = small()
    with torch.no_grad():
        network.conv.weight[0, 0, 0, 0] = number
    return network, inputs


def nan():
    return poisoned(float("nan"))


def infinite():
    return poisoned(float("inf"))


def failing():
    raise RuntimeError("the user's own trouble")


def nothing():
    return None


bare = Small()
"""


def write_sources(folder: Path) -> None:
    """networks.py, small.npz (labelled images), flat.npz (labelled vectors) in a folder."""
    (folder / "networks.py").write_text(NETWORKS)
    np.savez(folder / "small.npz", **images(160))
    np.savez(folder / "flat.npz", **vectors(160))


def images(count: int, seed: int = 0) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    return {"x": random.standard_normal((count, 1, 6, 6)).astype(np.float32), "y": random.integers(0, 3, count)}


def vectors(count: int, seed: int = 0) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    return {"x": random.standard_normal((count, 6)).astype(np.float32), "y": random.integers(0, 3, count)}


@dataclass(frozen=True)
class Outcome:
    """What a call of the command line came to."""

    code: int
    out: str
    err: str


def call(capsys: pytest.CaptureFixture[str], *arguments: Any) -> Outcome:
    """Run the command line in this process."""
    capsys.readouterr()
    code = cli.main([str(argument) for argument in arguments])
    seen = capsys.readouterr()
    return Outcome(code, seen.out, seen.err)


def message(error: str) -> str:
    """What stderr holds beside progress and the usage that click puts before its errors."""
    lines = [line for line in error.splitlines() if line.startswith(("tersenet: ", "Error: "))]
    assert len(lines) == 1, f"one message is wanted, got:\n{error}"
    return error[error.index(lines[0]) :].strip()
