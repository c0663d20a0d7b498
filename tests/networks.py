"""Small networks, one for each operator that exporters must carry."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

IMAGE = (2, 8, 8, 10)
SEQUENCE = (2, 6, 8)


class Function(nn.Module):
    """A function of tensors as a module."""

    def __init__(self, function: Callable[..., Any], *parts: nn.Module) -> None:
        super().__init__()
        self.function = function
        self.parts = nn.ModuleList(parts)

    def forward(self, *inputs: torch.Tensor) -> Any:
        return self.function(*self.parts, *inputs)


@dataclass(frozen=True)
class Case:
    name: str
    make: Callable[[], nn.Module]
    shapes: tuple[tuple[int, ...], ...] = (IMAGE,)
    tokens: int = 0  # the first input holds integers below this


def f(name: str, function: Callable[..., Any], *shapes: tuple[int, ...]) -> Case:
    return Case(name, lambda: Function(function), shapes or (IMAGE,))


def m(name: str, make: Callable[[], nn.Module], *shapes: tuple[int, ...]) -> Case:
    return Case(name, make, shapes or (IMAGE,))


LINE = (2, 8, 20)
MATRIX = (3, 8)
CASES = [
    # with weights
    m("conv2d", lambda: nn.Conv2d(8, 6, 3, stride=2, padding=1)),
    m("conv2d no bias", lambda: nn.Conv2d(8, 6, (3, 2), padding=(1, 0), bias=False)),
    m("conv2d of colours", lambda: nn.Conv2d(3, 16, 3, padding=1), (2, 3, 8, 10)),
    m("conv2d dilated", lambda: nn.Conv2d(8, 6, 3, dilation=2, padding=2)),
    m("conv2d grouped", lambda: nn.Conv2d(8, 12, 3, groups=4)),
    m("conv2d same", lambda: nn.Conv2d(8, 6, 4, padding="same")),
    m("conv2d reflect", lambda: nn.Conv2d(8, 6, 3, padding=1, padding_mode="reflect")),
    m("depthwise", lambda: nn.Conv2d(8, 16, 3, groups=8, padding=1)),
    m("conv1d", lambda: nn.Conv1d(8, 6, 3, padding=1), LINE),
    m("depthwise 1d", lambda: nn.Conv1d(8, 8, 3, groups=8), LINE),
    m("conv3d", lambda: nn.Conv3d(2, 3, 3), (2, 2, 5, 6, 7)),
    m("transposed", lambda: nn.ConvTranspose2d(8, 6, 3, stride=2, padding=1, output_padding=1)),
    m("transposed grouped", lambda: nn.ConvTranspose2d(8, 6, 2, stride=2, groups=2)),
    m("transposed 1d", lambda: nn.ConvTranspose1d(8, 6, 3, stride=2), LINE),
    m("linear", lambda: nn.Linear(8, 5), MATRIX),
    m("linear sequence", lambda: nn.Linear(8, 5), SEQUENCE),
    m("linear no bias", lambda: nn.Linear(8, 5, bias=False), SEQUENCE),
    m("batch norm", lambda: nn.Sequential(nn.Conv2d(8, 6, 3), nn.BatchNorm2d(6), nn.ReLU())),
    m("batch norm alone", lambda: nn.BatchNorm2d(8)),
    Case("embedding", lambda: nn.Sequential(nn.Embedding(11, 8), nn.Linear(8, 3)), ((2, 6),), tokens=11),
    # sums and products
    f("add", lambda x, y: x + y, IMAGE, IMAGE),
    f("add broadcast", lambda x, y: x + y, IMAGE, (2, 8, 1, 1)),
    f("add number", lambda x: x + 1.5),
    f("sub", lambda x, y: x - 2 * y, IMAGE, IMAGE),
    f("sub number", lambda x: x - 1.5),
    f("rsub", lambda x: 1 - x),
    f("mul", lambda x, y: x * y, IMAGE, IMAGE),
    f("div", lambda x, y: x / (y.abs() + 1), IMAGE, IMAGE),
    f("matmul", lambda x, y: x @ y, (2, 5, 8), (2, 8, 4)),
    f("bmm", torch.bmm, (2, 5, 8), (2, 8, 4)),
    f("einsum", lambda x, y: torch.einsum("bij,bjk->bik", x, y), (2, 5, 8), (2, 8, 4)),
    f("maximum", torch.maximum, IMAGE, IMAGE),
    f("minimum", torch.minimum, IMAGE, IMAGE),
    f("square", lambda x: x**2 + x.square()),
    f("power", lambda x: x.abs() ** 1.5),
    f("attention", lambda x: F.scaled_dot_product_attention(x, x, x), (2, 2, 6, 8)),
    f("causal attention", lambda x: F.scaled_dot_product_attention(x, x, x, is_causal=True), (2, 2, 6, 8)),
    # activations
    *(
        m(kind.__name__, kind)
        for kind in (nn.ReLU, nn.ReLU6, nn.Sigmoid, nn.Tanh, nn.Hardsigmoid, nn.Hardswish, nn.SiLU, nn.GELU, nn.ELU, nn.SELU, nn.CELU, nn.Softplus)
    ),
    m("mish", nn.Mish),
    m("gelu tanh", lambda: nn.GELU("tanh")),
    m("clamp", lambda: nn.Hardtanh(-0.5, 0.7)),
    f("clamp low", lambda x: x.clamp(min=-0.3)),
    m("leaky relu", lambda: nn.LeakyReLU(0.1)),
    m("prelu", lambda: nn.PReLU(8)),
    m("prelu one", nn.PReLU),
    f("softmax", lambda x: x.softmax(-1)),
    f("softmax channels", lambda x: x.softmax(1)),
    f("log softmax", lambda x: x.log_softmax(1)),
    # normalizations
    m("layer norm", lambda: nn.LayerNorm(10)),
    m("layer norm two axes", lambda: nn.LayerNorm((8, 10), elementwise_affine=False)),
    m("group norm", lambda: nn.GroupNorm(4, 8)),
    m("instance norm", lambda: nn.InstanceNorm2d(8, affine=True)),
    m("rms norm", lambda: nn.RMSNorm(10)),
    # pooling and reductions
    m("max pool", lambda: nn.MaxPool2d(3, 2, 1)),
    m("max pool ceil", lambda: nn.MaxPool2d(3, 2, ceil_mode=True)),
    m("max pool 1d", lambda: nn.MaxPool1d(2), LINE),
    m("avg pool", lambda: nn.AvgPool2d(2)),
    m("avg pool padded", lambda: nn.AvgPool2d(3, 2, 1)),
    m("avg pool padded, not counted", lambda: nn.AvgPool2d(3, 2, 1, count_include_pad=False)),
    m("avg pool 1d", lambda: nn.AvgPool1d(2), LINE),
    m("global pool", lambda: nn.AdaptiveAvgPool2d(1)),
    m("adaptive pool", lambda: nn.AdaptiveAvgPool2d((3, 4))),
    m("adaptive pool even", lambda: nn.AdaptiveAvgPool2d((4, 5))),
    m("adaptive max", lambda: nn.AdaptiveMaxPool2d(1)),
    f("mean", lambda x: x.mean((2, 3))),
    f("mean axis", lambda x: x.mean(1, keepdim=True)),
    f("sum", lambda x: x.sum(1)),
    f("amax", lambda x: x.amax((1, 2)) - x.amin((1, 2))),
    f("max", lambda x: x.max(1)[0]),
    f("argmax", lambda x: x.argmax(1)),
    f("prod", lambda x: x.prod(1)),
    f("var", lambda x: x.var(1)),
    f("std", lambda x: x.var((2, 3), correction=0, keepdim=True).sqrt()),
    f("cumsum", lambda x: x.cumsum(1)),
    f("norm", lambda x: torch.linalg.vector_norm(x, dim=1)),
    # movement
    f("concat", lambda x, y: torch.cat([x, y], 1), IMAGE, (2, 3, 8, 10)),
    f("stack", lambda x, y: torch.stack([x, y], 2), IMAGE, IMAGE),
    f("split", lambda x: torch.cat(x.split([3, 5], 1)[::-1], 1)),
    f("chunk", lambda x: x.chunk(2, 1)[0] * x.chunk(2, 1)[1]),
    f("unbind", lambda x: x.unbind(1)[0] + x.unbind(1)[3]),
    f("slice", lambda x: x[:, 1:7:2, :-1, 3:]),
    f("select", lambda x: x[:, 2] + x[:, -1]),
    f("reshape", lambda x: x.reshape(x.shape[0], 4, -1)),
    f("flatten", lambda x: x.flatten(1)),
    f("unsqueeze", lambda x: x.unsqueeze(1).squeeze(1)),
    f("permute", lambda x: x.permute(0, 2, 3, 1)),
    f("transpose", lambda x: x.transpose(1, -1)),
    f("expand", lambda x, y: x.expand(-1, 8, -1, -1) + y, (2, 1, 8, 10), IMAGE),
    f("expand batch", lambda x: torch.cat([torch.arange(8.0).expand(x.shape[0], 1, 8), x], 1), SEQUENCE),
    f("repeat", lambda x: x.repeat(1, 2, 1, 3)),
    f("flip", lambda x: x.flip(2, 3)),
    f("roll", lambda x: x.roll((2, -1), (2, 3))),
    f("pad", lambda x: F.pad(x, (1, 2, 0, 1), value=0.5)),
    f("pad zero", lambda x: F.pad(x, (1, 2, 0, 1))),
    f("pad channels", lambda x: F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 2, 2))),
    f("pad reflect", lambda x: F.pad(x, (1, 2, 1, 1), mode="reflect")),
    f("pad replicate", lambda x: F.pad(x, (1, 2, 1, 1), mode="replicate")),
    f("pad circular", lambda x: F.pad(x, (1, 2, 1, 1), mode="circular")),
    f("nearest", lambda x: F.interpolate(x, scale_factor=2)),
    f("nearest size", lambda x: F.interpolate(x, size=(11, 7))),
    f("bilinear", lambda x: F.interpolate(x, scale_factor=2, mode="bilinear")),
    f("bilinear corners", lambda x: F.interpolate(x, size=(13, 17), mode="bilinear", align_corners=True)),
    m("pixel shuffle", lambda: nn.PixelShuffle(2)),
    m("pixel unshuffle", lambda: nn.PixelUnshuffle(2)),
    m("channel shuffle", lambda: nn.ChannelShuffle(4)),
    f("gather", lambda x: x.gather(1, (x > 0).long())),
    f("index select", lambda x: x.index_select(1, torch.tensor([0, 3, 3]))),
    f("index", lambda x: x[:, torch.tensor([[0, 3], [5, 1]])]),
    # elementwise
    f("elementwise", lambda x: x.abs().sqrt() + x.neg().exp() - x.sin() * x.cos() + x.erf() + (x.abs() + 1).log()),
    f("rounding", lambda x: (x * 3).floor() + (x * 3).ceil() - (x * 3).round() + x.sign()),
    f("reciprocal", lambda x: (x.abs() + 1).rsqrt() + (x.abs() + 1).reciprocal()),
    # comparisons, logic, types
    f("where", lambda x, y: torch.where(x > y, x, -y), IMAGE, IMAGE),
    f("comparisons", lambda x: ((x > 0.5) | ~(x >= -0.5)).float() + ((x <= 1) & (x != 0)).float() + (x < 0).float() + (x == 0).float()),
    f("masked fill", lambda x: x.masked_fill(x > 0, -1.0)),
    f("cast", lambda x: (x * 5).to(torch.int64).to(torch.float32)),
    f("triangles", lambda x: x.tril() - x.triu(1)),
    f("fill", lambda x: torch.cat([torch.zeros(x.shape[0], 1, 8), x, torch.ones_like(x)], 1), SEQUENCE),
    f("positions", lambda x: x + torch.arange(x.shape[1]).float()[None, :, None], SEQUENCE),
    # whole layers
    m("lstm", lambda: Function(lambda layer, x: layer(x)[0], nn.LSTM(8, 5, batch_first=True)), SEQUENCE),
    m("lstm deep", lambda: Function(lambda layer, x: layer(x)[0], nn.LSTM(8, 5, 2, bidirectional=True)), SEQUENCE),
    m("lstm state", lambda: Function(lambda layer, x: layer(x)[1][0][-1], nn.LSTM(8, 5, batch_first=True, bias=False)), SEQUENCE),
    m("gru", lambda: Function(lambda layer, x: layer(x)[0], nn.GRU(8, 5, 2, batch_first=True)), SEQUENCE),
    m("transformer", lambda: nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), SEQUENCE),
]


def made(case: Case, batch: int) -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    """A case's module, seeded and in evaluation mode, with inputs to trace it."""
    torch.manual_seed(0)
    module = case.make().eval()
    return module, tuple(torch.from_numpy(array) for array in samples(case, batch))


def samples(case: Case, batch: int, seed: int = 1) -> tuple[np.ndarray, ...]:
    """Inputs of a case: normal numbers, or tokens."""
    random = np.random.default_rng(seed)
    arrays = [random.standard_normal((batch, *shape[1:])).astype(np.float32) for shape in case.shapes]
    if case.tokens:
        arrays[0] = random.integers(0, case.tokens, (batch, *case.shapes[0][1:]))
    return tuple(arrays)


class Together(nn.Module):
    """Several networks side by side, an output each: as one file they cost one export."""

    def __init__(self, parts: Sequence[nn.Module], takes: Sequence[int]) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)
        self.takes = takes

    def forward(self, *inputs: torch.Tensor) -> tuple[Any, ...]:
        left = iter(inputs)
        return tuple(part(*(next(left) for _ in range(count))) for part, count in zip(self.parts, self.takes, strict=True))


def together(cases: Sequence[Case], batch: int) -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    """The modules of several cases as one, with the inputs of all."""
    parts = [made(case, batch) for case in cases]
    return Together([module for module, _ in parts], [len(case.shapes) for case in cases]), tuple(each for _, inputs in parts for each in inputs)
