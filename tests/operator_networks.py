"""Small networks, one or a few operators each, that every exporter is held against torch with."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn


class Formula(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[..., torch.Tensor], *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.function = function

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        return self.function(*inputs, *self.layers)


Networks = dict[str, tuple[Callable[[], nn.Module], tuple[tuple[int, ...], ...]]]
IMAGE, SEQUENCE, ROWS, TOKENS = (2, 6, 9, 11), (2, 6, 17), (2, 10), (2, 5, 12)


def _conv(*arguments: int, **options: object) -> nn.Module:
    return nn.Conv2d(*arguments, **options)  # type: ignore[arg-type]


def _attention(x: torch.Tensor, inside: nn.Module, outside: nn.Module) -> torch.Tensor:
    """Self-attention of three heads, written with views."""
    query, key, value = (part.reshape(-1, 5, 3, 4).transpose(1, 2) for part in inside(x).chunk(3, -1))
    return outside(F.scaled_dot_product_attention(query, key, value).transpose(1, 2).reshape(-1, 5, 12))


# name -> (module, shapes of its inputs); what computes with weights, and the layouts around it
WEIGHTED: Networks = {
    "conv": (lambda: _conv(6, 8, 3), (IMAGE,)),
    "conv padded": (lambda: _conv(6, 8, 3, padding=1), (IMAGE,)),
    "conv strided": (lambda: _conv(6, 8, 3, stride=2, padding=1), ((2, 6, 10, 12),)),
    "conv strided odd": (lambda: _conv(6, 8, 3, stride=2, padding=1), (IMAGE,)),
    "conv without bias": (lambda: _conv(6, 8, (1, 3), padding=(0, 1), bias=False), (IMAGE,)),
    "conv dilated": (lambda: _conv(6, 8, 3, dilation=2, padding=2), (IMAGE,)),
    "conv grouped": (lambda: _conv(6, 8, 3, groups=2, padding=1), (IMAGE,)),
    "conv same": (lambda: _conv(6, 8, (4, 2), padding="same"), (IMAGE,)),
    "conv wide padding": (lambda: _conv(6, 8, 3, padding=3), (IMAGE,)),
    "depthwise": (lambda: _conv(6, 6, 3, groups=6, padding=1), (IMAGE,)),
    "depthwise strided": (lambda: _conv(6, 6, 5, groups=6, stride=2, padding=2), (IMAGE,)),
    "depthwise multiplied": (lambda: _conv(6, 12, 3, groups=6, padding=1), (IMAGE,)),
    "depthwise dilated": (lambda: _conv(6, 6, 3, groups=6, padding=2, dilation=2), (IMAGE,)),
    "conv relu": (lambda: nn.Sequential(_conv(6, 8, 3), nn.ReLU()), (IMAGE,)),
    "conv relu6": (lambda: nn.Sequential(_conv(6, 8, 3), nn.ReLU6()), (IMAGE,)),
    "conv hardtanh": (lambda: nn.Sequential(_conv(6, 8, 3), nn.Hardtanh()), (IMAGE,)),
    "conv pad conv": (lambda: nn.Sequential(_conv(6, 8, 3), nn.ZeroPad2d((0, 1, 0, 1)), _conv(8, 4, 3, stride=2)), (IMAGE,)),
    "pad conv without bias": (lambda: nn.Sequential(nn.ZeroPad2d((0, 1, 0, 1)), _conv(6, 4, 3, stride=2, bias=False)), ((2, 6, 10, 12),)),
    "conv3d": (lambda: nn.Conv3d(3, 4, 3, stride=(1, 2, 1), padding=1), ((2, 3, 5, 6, 7),)),
    "conv1d": (lambda: nn.Conv1d(6, 8, 3, padding=1), (SEQUENCE,)),
    "conv1d chain": (
        lambda: nn.Sequential(nn.Conv1d(6, 8, 3, padding=1), nn.ReLU(), nn.Conv1d(8, 8, 3, stride=2, groups=8), nn.MaxPool1d(2), nn.Conv1d(8, 4, 1)),
        (SEQUENCE,),
    ),
    "conv1d dilated": (lambda: nn.Conv1d(6, 8, 3, padding=2, dilation=2), (SEQUENCE,)),
    "transposed": (lambda: nn.ConvTranspose2d(6, 8, 3), (IMAGE,)),
    "transposed strided": (lambda: nn.ConvTranspose2d(6, 8, 2, stride=2), (IMAGE,)),
    "transposed padded": (lambda: nn.ConvTranspose2d(6, 8, 4, stride=2, padding=1), (IMAGE,)),
    "transposed output padding": (lambda: nn.ConvTranspose2d(6, 8, 3, stride=2, padding=1, output_padding=1), (IMAGE,)),
    "transposed no bias": (lambda: nn.ConvTranspose2d(6, 8, 3, padding=1, bias=False), (IMAGE,)),
    "transposed relu": (lambda: nn.Sequential(nn.ConvTranspose2d(6, 8, 2, stride=2), nn.ReLU()), (IMAGE,)),
    "transposed padded relu6": (lambda: nn.Sequential(nn.ConvTranspose2d(6, 8, 3, stride=2, padding=1), nn.ReLU6()), (IMAGE,)),
    "transposed1d": (lambda: nn.ConvTranspose1d(6, 8, 4, stride=2, padding=1), (SEQUENCE,)),
    "linear": (lambda: nn.Linear(10, 7), (ROWS,)),
    "linear relu": (lambda: nn.Sequential(nn.Linear(10, 7), nn.ReLU(), nn.Linear(7, 3)), (ROWS,)),
    "linear without bias": (lambda: nn.Linear(10, 7, bias=False), (ROWS,)),
    "linear of tokens": (lambda: nn.Linear(12, 7), (TOKENS,)),
    "flatten": (lambda: nn.Sequential(_conv(6, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 7 * 9, 5)), (IMAGE,)),
    "flatten relu": (lambda: nn.Sequential(_conv(6, 8, 3), nn.Flatten(), nn.ReLU(), nn.Linear(8 * 7 * 9, 5)), (IMAGE,)),
    "flatten tanh twice": (
        lambda: Formula(
            lambda x, conv, one, two: one(conv(x).flatten(1)) + two(torch.tanh(conv(x).flatten(1))),
            _conv(6, 2, 3),
            nn.Linear(126, 5),
            nn.Linear(126, 5),
        ),
        (IMAGE,),
    ),
    "residual": (
        lambda: Formula(lambda x, one, two: F.relu(two(F.relu(one(x))) + x), _conv(6, 6, 3, padding=1), _conv(6, 6, 3, padding=1)),
        (IMAGE,),
    ),
    "squeeze and excite": (
        lambda: Formula(lambda x, down, up: x * torch.sigmoid(up(F.relu(down(F.adaptive_avg_pool2d(x, 1))))), _conv(6, 4, 1), _conv(4, 6, 1)),
        (IMAGE,),
    ),
    "squeeze and excite linear": (
        lambda: Formula(lambda x, down, up: x * torch.sigmoid(up(F.relu(down(x.mean((2, 3))))))[:, :, None, None], nn.Linear(6, 4), nn.Linear(4, 6)),
        (IMAGE,),
    ),
    "global pool": (lambda: nn.Sequential(_conv(6, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5)), (IMAGE,)),
    "concat of convs": (lambda: Formula(lambda x, one, two: torch.cat([one(x), two(x), x], 1), _conv(6, 8, 1), _conv(6, 4, 3, padding=1)), (IMAGE,)),
    "channel shuffle": (lambda: nn.Sequential(_conv(6, 8, 1), nn.ChannelShuffle(2), _conv(8, 4, 1)), (IMAGE,)),
    "channel shuffle by hand": (
        lambda: Formula(
            lambda x, one, two: two(one(x).reshape(-1, 2, 4, 9, 11).transpose(1, 2).reshape(-1, 8, 9, 11)), _conv(6, 8, 1), _conv(8, 4, 1)
        ),
        (IMAGE,),
    ),
    "patches": (lambda: Formula(lambda x, conv, head: head(conv(x).flatten(2).transpose(1, 2)), _conv(6, 8, 3, stride=3), nn.Linear(8, 5)), (IMAGE,)),
    "channels last inside": (
        lambda: Formula(
            lambda x, conv, up, down: conv(x) + down(F.relu(up(conv(x).permute(0, 2, 3, 1)))).permute(0, 3, 1, 2),
            _conv(6, 8, 3),
            nn.Linear(8, 16),
            nn.Linear(16, 8),
        ),
        (IMAGE,),
    ),
    "nhwc input": (lambda: Formula(lambda x, conv: conv(x.permute(0, 3, 1, 2)), _conv(6, 8, 3)), ((2, 9, 11, 6),)),
    "upsampled": (lambda: nn.Sequential(_conv(6, 8, 1), nn.Upsample(scale_factor=2), _conv(8, 4, 3)), (IMAGE,)),
    "pixel shuffle": (lambda: nn.Sequential(_conv(6, 8, 3), nn.PixelShuffle(2), _conv(2, 4, 1)), (IMAGE,)),
    "batch norm alone": (lambda: nn.Sequential(nn.ReLU(), nn.BatchNorm2d(6), _conv(6, 4, 1)), (IMAGE,)),
    "matmul": (lambda: Formula(lambda x, y, one: one(x) @ y, nn.Linear(12, 7)), ((2, 5, 12), (2, 7, 5))),
    "attention": (lambda: Formula(_attention, nn.Linear(12, 36), nn.Linear(12, 12)), (TOKENS,)),
    "multihead": (
        lambda: Formula(lambda x, attention: attention(x, x, x, need_weights=False)[0], nn.MultiheadAttention(12, 3, batch_first=True)),
        (TOKENS,),
    ),
    "einsum": (lambda: Formula(lambda x, inside: torch.einsum("bqd,bkd->bqk", inside(x), x), nn.Linear(12, 12)), (TOKENS,)),
    "causal attention": (
        lambda: Formula(lambda x, inside: F.scaled_dot_product_attention(inside(x), x, x, is_causal=True), nn.Linear(12, 12)),
        (TOKENS,),
    ),
    "transformer": (lambda: nn.TransformerEncoderLayer(12, 3, 24, batch_first=True, activation="gelu"), (TOKENS,)),
}


def _after_conv(function: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[], nn.Module]:
    """A function of an image that a convolution made (so that it lies channels last), in front of a convolution."""
    return lambda: Formula(lambda x, conv: function(conv(x)), _conv(6, 8, 3, padding=1))


# name -> a function of an image
OF_IMAGES: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "relu": F.relu,
    "relu6": F.relu6,
    "relu of sums": lambda x: F.relu(x - 1) + F.relu6(x * 5) - F.relu6(x),
    "relu beside others": lambda x: torch.cat([F.relu(-x), x], 1),
    "relu6 beside others": lambda x: torch.cat([F.relu6(x - 0.5), 5 * x], 1),
    "prelu": lambda x: F.prelu(x, torch.linspace(-0.5, 0.5, 8)),
    "prelu of one": lambda x: F.prelu(x, torch.tensor([0.2])),
    "leaky relu": lambda x: F.leaky_relu(x, 0.1),
    "elu": F.elu,
    "elu of 0.5": lambda x: F.elu(x, 0.5),
    "selu": F.selu,
    "celu": lambda x: F.celu(x, 0.7),
    "gelu": F.gelu,
    "gelu tanh": lambda x: F.gelu(x, approximate="tanh"),
    "silu": F.silu,
    "mish": F.mish,
    "softplus": F.softplus,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "hardsigmoid": F.hardsigmoid,
    "hardswish": F.hardswish,
    "clamp": lambda x: x.clamp(-0.3, 0.4),
    "clamp positive": lambda x: x.clamp(0.1, 0.4),
    "clamp wide": lambda x: x.clamp(-20, 30),
    "clamp to one": lambda x: (x * 2).clamp(0, 1) + x.clamp(-1, 1),
    "clamp above": lambda x: x.clamp(max=0.4),
    "softmax of channels": lambda x: x.softmax(1),
    "softmax of width": lambda x: x.softmax(-1),
    "log softmax": lambda x: x.log_softmax(1),
    "abs": torch.abs,
    "neg": torch.neg,
    "square": torch.square,
    "max pool": lambda x: F.max_pool2d(x, 2),
    "max pool padded": lambda x: F.max_pool2d(x, 3, 2, 1),
    "max pool of relu": lambda x: F.max_pool2d(F.relu(x), 3, 2, 1),
    "max pool ceil": lambda x: F.max_pool2d(x, 2, ceil_mode=True),
    "average pool": lambda x: F.avg_pool2d(x, 2),
    "average pool padded": lambda x: F.avg_pool2d(x, 3, 1, 1),
    "average pool padded uncounted": lambda x: F.avg_pool2d(x, 3, 1, 1, count_include_pad=False),
    "average pool ceil": lambda x: F.avg_pool2d(x, 2, ceil_mode=True),
    "mean of width": lambda x: x.mean(3),
    "mean of all": lambda x: x.mean((1, 2, 3), keepdim=True),
    "mean of channels": lambda x: x.mean(1, keepdim=True),
    "amax": lambda x: x.amax((2, 3)),
    "amin": lambda x: x.amin(1),
    "sum": lambda x: x.sum(2),
    "pad zeros": lambda x: F.pad(x, (1, 2, 0, 1)),
    "pad channels": lambda x: F.pad(x, (0, 0, 0, 0, 1, 2)),
    "pad ones": lambda x: F.pad(x, (1, 2), value=0.5),
    "pad reflected": lambda x: F.pad(x, (1, 2, 1, 1), mode="reflect"),
    "pad replicated": lambda x: F.pad(x, (1, 2, 1, 1), mode="replicate"),
    "pad circular": lambda x: F.pad(x, (1, 2, 1, 1), mode="circular"),
    "pad negative": lambda x: F.pad(x, (-1, 2)),
    "slice": lambda x: x[:, 1:5, :, 2:-1],
    "slice strided": lambda x: x[:, :, ::2, 1::3],
    "select": lambda x: x[:, 2],
    "split": lambda x: torch.cat(x.split([3, 5], 1)[::-1], 1),
    "chunk": lambda x: torch.cat(x.chunk(2, 1)[::-1], 1),
    "unbind": lambda x: sum(x[:, :3].unbind(1)),
    "stack": lambda x: torch.stack([x, -x], 1),
    "stack last": lambda x: torch.stack([x, -x], -1),
    "concat rows": lambda x: torch.cat([x, x], 2),
    "permute": lambda x: x.permute(0, 2, 3, 1),
    "transpose": lambda x: x.transpose(2, 3),
    "reshape": lambda x: x.reshape(-1, 4, 2 * 9, 11),
    "flatten": lambda x: x.flatten(1),
    "flatten image": lambda x: x.flatten(2),
    "unsqueeze": lambda x: x.unsqueeze(2),
    "flip": lambda x: x.flip(3),
    "roll": lambda x: x.roll((1, -2), (2, 3)),
    "repeat": lambda x: x.repeat(1, 1, 2, 1),
    "expand": lambda x: x.mean(1, keepdim=True).expand(-1, 4, -1, -1),
    "expand rank": lambda x: x[:, None].expand(-1, 3, -1, -1, -1),
    "pixel shuffle": lambda x: F.pixel_shuffle(x, 2),
    "pixel unshuffle": lambda x: F.pixel_unshuffle(x[:, :, :8, :10], 2),
    "channel shuffle": lambda x: F.channel_shuffle(x, 4),
    "nearest": lambda x: F.interpolate(x, scale_factor=2),
    "nearest to size": lambda x: F.interpolate(x, (13, 7)),
    "bilinear": lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"),
    "bilinear corners": lambda x: F.interpolate(x, (17, 21), mode="bilinear", align_corners=True),
    "maximum": lambda x: torch.maximum(x, -x),
    "minimum of constant": lambda x: torch.minimum(x, torch.tensor(0.25)),
    "add scalar": lambda x: x + 1.5,
    "mul channel": lambda x: x * torch.linspace(0.5, 2, 8).reshape(1, 8, 1, 1),
    "mul row": lambda x: x * torch.linspace(0.5, 2, 11),
    "sub": lambda x: 2 - x,
    "div": lambda x: x / (x.abs() + 1),
    "add pooled": lambda x: x + x.mean((2, 3), keepdim=True),
    "add vector": lambda x: x.permute(0, 2, 3, 1) + torch.linspace(-1, 1, 8),
    "layer norm": lambda x: F.layer_norm(x, (9, 11)),
    "layer norm of channels": lambda x: F.layer_norm(x.permute(0, 2, 3, 1), (8,), torch.linspace(0.5, 2, 8), torch.linspace(-1, 1, 8)),
    "group norm": lambda x: F.group_norm(x, 4, torch.linspace(0.5, 2, 8), torch.linspace(-1, 1, 8)),
    "instance norm": F.instance_norm,
    "rms norm": lambda x: F.rms_norm(x, (11,)),
    "where": lambda x: torch.where(x > 0.1, x, x * 0.5),
    "masked fill": lambda x: x.masked_fill(x < 0, -1.0),
    "index select": lambda x: x.index_select(1, torch.tensor([3, 1, 1])),
    "index": lambda x: x[:, :, torch.tensor([3, 1, 1])],
    "norm": lambda x: x / x.norm(dim=1, keepdim=True),
}
# only in floats: results of other types, or formulas that no integer kernel has
FLOATS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "exp": torch.exp,
    "log": lambda x: torch.log(x.abs() + 1),
    "sqrt": lambda x: torch.sqrt(x.abs()),
    "rsqrt": lambda x: torch.rsqrt(x.abs() + 1),
    "reciprocal": lambda x: torch.reciprocal(x.abs() + 1),
    "sin": torch.sin,
    "cos": torch.cos,
    "erf": torch.erf,
    "floor": torch.floor,
    "ceil": torch.ceil,
    "round": torch.round,
    "sign": torch.sign,
    "pow": lambda x: (x.abs() + 0.1) ** 1.7,
    "pow of two": lambda x: x**2,
    "cumsum": lambda x: x.cumsum(2),
    "prod": lambda x: x.prod(3),
    "variance": lambda x: x.var(1),
    "variance without correction": lambda x: x.var((2, 3), correction=0, keepdim=True),
    "argmax": lambda x: x.argmax(1),
    "argmax kept": lambda x: x.argmax(1, keepdim=True),
    "max with indices": lambda x: x.max(1)[0],
    "max's indices": lambda x: x.max(1)[1],
    "compare": lambda x: x > 0,
    "compare values": lambda x: (x >= -x) & (x != 0.5),
    "logic": lambda x: ~(x > 0) | (x > 1),
    "cast": lambda x: (x * 4).to(torch.int32),
    "cast bool": lambda x: (x > 0).float() + x,
    "gather": lambda x: x.gather(1, x.argmax(1, keepdim=True)),
    "tril": lambda x: x.tril(),
    "arange": lambda x: x * torch.arange(11),
    "zeros like": lambda x: torch.zeros_like(x) + x,
    "max pool large": lambda x: F.adaptive_max_pool2d(x, 1),
}


def image_networks(functions: dict[str, Callable[[torch.Tensor], torch.Tensor]]) -> Networks:
    """Networks of the functions behind a convolution."""
    return {name: (_after_conv(function), (IMAGE,)) for name, function in functions.items()}


# recurrent layers, in floats
RECURRENT: Networks = {
    "lstm": (lambda: Formula(lambda x, layer: layer(x)[0], nn.LSTM(12, 7, batch_first=True)), (TOKENS,)),
    "lstm of time first": (lambda: Formula(lambda x, layer: layer(x.transpose(0, 1))[0].transpose(0, 1), nn.LSTM(12, 7)), (TOKENS,)),
    "lstm of two layers": (lambda: Formula(lambda x, layer: layer(x)[0], nn.LSTM(12, 7, num_layers=2, batch_first=True)), (TOKENS,)),
    "lstm both ways": (lambda: Formula(lambda x, layer: layer(x)[0], nn.LSTM(12, 7, bidirectional=True, batch_first=True)), (TOKENS,)),
    "lstm projected": (lambda: Formula(lambda x, layer: layer(x)[0], nn.LSTM(12, 7, proj_size=3, batch_first=True)), (TOKENS,)),
    "lstm without biases": (lambda: Formula(lambda x, layer: layer(x)[0], nn.LSTM(12, 7, bias=False, batch_first=True)), (TOKENS,)),
    "gru": (lambda: Formula(lambda x, layer: layer(x)[0], nn.GRU(12, 7, batch_first=True)), (TOKENS,)),
    "gru both ways": (lambda: Formula(lambda x, layer: layer(x)[0], nn.GRU(12, 7, num_layers=2, bidirectional=True, batch_first=True)), (TOKENS,)),
    "lstm's last state": (
        lambda: Formula(lambda x, layer, head: head(layer(x)[1][0][-1]), nn.LSTM(12, 7, bidirectional=True, batch_first=True), nn.Linear(7, 3)),
        (TOKENS,),
    ),
}
