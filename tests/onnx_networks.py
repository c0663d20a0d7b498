"""Small torch networks and their ONNX files by both of torch's exporters: shared by the tests of the frontend."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from torch import nn


class Block(nn.Module):
    """A residual block, pooling, and a flatten by `view`."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU())
        self.second = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False), nn.BatchNorm2d(8), nn.SiLU())
        self.head = nn.Linear(8 * 4, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        x = torch.max_pool2d(x + self.second(x), 2)
        return self.head(x.view(x.size(0), -1))


class Upsampling(nn.Module):
    """Transposed convolution, both kinds of resizing, blocks of pixels, group norm, a skip."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.up = nn.ConvTranspose2d(8, 8, 3, stride=2, padding=1, output_padding=1)
        self.norm = nn.GroupNorm(2, 8)
        self.last = nn.Conv2d(8, 12, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = nn.functional.gelu(self.norm(self.up(self.down(x))))
        z = nn.functional.interpolate(self.down(x), scale_factor=2, mode="nearest")
        w = nn.functional.interpolate(self.down(x), scale_factor=2, mode="bilinear", align_corners=False)
        return nn.functional.pixel_shuffle(self.last(torch.sigmoid(y) + z * w), 2)


class Recurrent(nn.Module):
    """Two layers of LSTM, both ways, then a GRU."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(6, 5, num_layers=2, bidirectional=True, batch_first=True)
        self.gru = nn.GRU(10, 4, batch_first=True)
        self.head = nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x, _ = self.lstm(x)
        x, _ = self.gru(x)
        return self.head(x[:, -1])


class Transformer(nn.Module):
    """Embedding, a class token, attention written out, layer norm."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(20, 8)
        self.token = nn.Parameter(torch.randn(1, 1, 8))
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.norm = nn.LayerNorm(8)
        self.grow, self.shrink = nn.Linear(8, 16), nn.Linear(16, 8)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = torch.cat([self.token.expand(tokens.shape[0], -1, -1), self.words(tokens)], 1)
        y, _ = self.attention(x, x, x, need_weights=False)
        x = self.norm(x + y)
        return (x + self.shrink(nn.functional.gelu(self.grow(x))))[:, 0]


IMAGE = np.random.default_rng(0).standard_normal((3, 3, 8, 8)).astype(np.float32)
NETWORKS: dict[str, tuple[Callable[[], nn.Module], np.ndarray]] = {
    "block": (Block, IMAGE),
    "upsampling": (Upsampling, IMAGE),
    "recurrent": (Recurrent, np.random.default_rng(1).standard_normal((3, 7, 6)).astype(np.float32)),
    "transformer": (Transformer, np.random.default_rng(2).integers(0, 20, (3, 6))),
}


def exported(folder: Path, network: nn.Module, example: np.ndarray, *, dynamo: bool, open_batch: bool) -> Path:
    """The file of a network, in evaluation mode; with a fixed batch it has that of a single sample."""
    path = folder / "network.onnx"
    tensor = torch.from_numpy(example[: 2 if open_batch else 1])
    options: dict[str, Any] = {"input_names": ["x"], "output_names": ["y"], "dynamo": dynamo}
    if open_batch and dynamo:
        options["dynamic_shapes"] = ({0: torch.export.Dim("batch")},)
    elif open_batch:
        options["dynamic_axes"] = {"x": {0: "batch"}, "y": {0: "batch"}}
    if dynamo:
        options["verbose"] = False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # both exporters warn of themselves
        torch.onnx.export(network.eval(), (tensor,), str(path), **options)
    return path


def seeded(make: Callable[[], nn.Module]) -> nn.Module:
    """A network with the same numbers every time, its batch norms having seen something."""
    torch.manual_seed(0)
    network = make()
    for part in network.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.uniform_(part.running_mean)
            nn.init.uniform_(part.running_var, 0.5, 2)
    return network


def reference(path: Path) -> Callable[..., Any]:
    """onnxruntime on the file, its optimizations off."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [given.name for given in session.get_inputs()]

    def run(*inputs: np.ndarray) -> Any:
        results = session.run(None, dict(zip(names, inputs, strict=True)))
        return results[0] if len(results) == 1 else tuple(results)

    return run
