"""The networks that are timed and weighed: plain torch, so that every peer's environment can build the very same ones.

Weights are seeded (batch norm's statistics taken again on random images, so that activations stay sane), or the trained ones of
TERSENET_DATA where that folder is there. They are written once under .bench/networks and read from there by all.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

BENCH = Path(__file__).resolve().parents[2] / ".bench"
DATA = Path(os.environ.get("TERSENET_DATA", BENCH.parents[1] / "shared" / "data"))
ESTIMATION_BATCHES, ESTIMATION_SIZE = 4, 8


def convolution(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    """A convolution that keeps the size (but for its stride), and batch norm."""
    return [nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False), nn.BatchNorm2d(outputs)]


class InvertedResidual(nn.Module):
    """Expand, filter by depth, project (Sandler et al. 2018, figure 4)."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = inputs * expansion
        expand = [*convolution(inputs, inner, 1), nn.ReLU6()] if expansion > 1 else []
        self.body = nn.Sequential(*expand, *convolution(inner, inner, 3, stride, inner), nn.ReLU6(), *convolution(inner, outputs, 1))
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x) if self.residual else self.body(x)


def mobilenet_v2() -> nn.Module:
    """MobileNetV2-1.0 for 1,000 classes (Sandler et al. 2018, table 2)."""
    layers: list[nn.Module] = [*convolution(3, 32, 3, 2), nn.ReLU6()]
    inputs = 32
    for expansion, outputs, count, stride in [
        (1, 16, 1, 1),
        (6, 24, 2, 2),
        (6, 32, 3, 2),
        (6, 64, 4, 2),
        (6, 96, 3, 1),
        (6, 160, 3, 2),
        (6, 320, 1, 1),
    ]:
        for number in range(count):
            layers.append(InvertedResidual(inputs, outputs, stride if number == 0 else 1, expansion))
            inputs = outputs
    layers += [*convolution(inputs, 1280, 1), nn.ReLU6(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2), nn.Linear(1280, 1000)]
    return nn.Sequential(*layers)


class Block(nn.Module):
    """Two convolutions and a shortcut without parameters (He et al. 2016, section 4.2, option A)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = convolution(inputs, outputs, 3, stride)
        self.conv2, self.bn2 = convolution(outputs, outputs, 3)
        self.widen = outputs // 4 if inputs != outputs else 0

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(x)))))
        if self.widen:
            x = functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.widen, self.widen))
        return functional.relu(y + x)


class CifarResNet(nn.Module):
    """The ResNets of He et al. 2016 for CIFAR-10: 6 n + 2 layers."""

    def __init__(self, blocks: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = convolution(3, 16, 3)
        self.layer1, self.layer2, self.layer3 = (
            nn.Sequential(Block(inputs, outputs, stride), *(Block(outputs, outputs, 1) for _ in range(blocks - 1)))
            for inputs, outputs, stride in [(16, 16, 1), (16, 32, 2), (32, 64, 2)]
        )
        self.linear = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer3(self.layer2(self.layer1(functional.relu(self.bn1(self.conv1(x))))))
        return self.linear(functional.adaptive_avg_pool2d(x, 1).flatten(1))


class ShortBlock(nn.Module):
    """Two convolutions and a shortcut, a 1x1 convolution where the size changes."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(*convolution(inputs, outputs, 3, stride), nn.ReLU(), *convolution(outputs, outputs, 3))
        self.shortcut = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.body(x) + self.shortcut(x))


def resnet8() -> nn.Module:
    """The image classifier of MLPerf Tiny (Banbury et al. 2021)."""
    blocks = [ShortBlock(16, 16, 1), ShortBlock(16, 32, 2), ShortBlock(32, 64, 2)]
    return nn.Sequential(*convolution(3, 16, 3), nn.ReLU(), *blocks, nn.AvgPool2d(8), nn.Flatten(), nn.Linear(64, 10))


BUILDERS: dict[str, Callable[[], nn.Module]] = {
    "mobilenet_v2": mobilenet_v2,
    "resnet32": lambda: CifarResNet(5),
    "resnet44": lambda: CifarResNet(7),
    "resnet8": resnet8,
}
SIZES = {"mobilenet_v2": 224, "resnet32": 32, "resnet44": 32, "resnet8": 32}


def example(name: str) -> Tensor:
    """One input of zeros."""
    return torch.zeros(1, 3, SIZES[name], SIZES[name])


def trained(name: str) -> Path:
    """Where the trained weights of a network would lie."""
    return DATA / "cifar_resnet" / f"{name}.safetensors"


def load(name: str) -> nn.Module:
    """A network with its weights, in evaluation mode."""
    torch.manual_seed(0)
    network = BUILDERS[name]()
    kept = BENCH / "networks" / f"{name}.pt"
    if not kept.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        torch.save(_weights(name, network), kept)
    network.load_state_dict(torch.load(kept, weights_only=True))
    return network.eval()


def _weights(name: str, network: nn.Module) -> dict[str, Tensor]:
    if trained(name).exists():
        from safetensors.torch import load_file

        return load_file(trained(name))
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # plain averages over the batches
    network.train()
    with torch.no_grad():
        for _ in range(ESTIMATION_BATCHES):
            network(torch.randn(ESTIMATION_SIZE, 3, SIZES[name], SIZES[name]))
    return network.state_dict()
