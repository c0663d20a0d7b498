"""Which channels leave together, and which must stay and why."""

import time

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from networks import Function
from tersenet.graph.dependencies import Dependencies, dependencies
from tersenet.graph.shrink import shrink
from tersenet.graph.trace import trace


def found(module: nn.Module, *shapes: tuple[int, ...], heads: bool = True) -> Dependencies:
    torch.manual_seed(0)
    return dependencies(trace(module.eval(), tuple(torch.randn(shape) for shape in shapes)), heads=heads)


def widths(analysis: Dependencies) -> dict[tuple[str, ...], int]:
    return {group.layers: group.width for group in analysis.groups if not group.why}


def test_a_residual_sum_ties_what_it_adds():
    class Residual(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c, self.head = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 6, 1), nn.Conv2d(6, 8, 1), nn.Conv2d(8, 4, 1)

        def forward(self, x):
            x = self.a(x)
            return self.head(x + self.c(self.b(x).relu()))

    analysis = found(Residual(), (2, 3, 4, 4))
    assert widths(analysis) == {("a", "c"): 8, ("b",): 6}
    assert "it is what the network returns" in next(group for group in analysis.groups if group.layers == ("head",)).why


def test_channels_padded_into_a_shortcut_are_groups_of_their_own():
    class Option(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.head = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 8, 3, 2, 1), nn.Linear(8, 2)

        def forward(self, x):
            x = self.a(x)
            return self.head((nn.functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 2, 2)) + self.b(x)).mean((2, 3)))

    assert widths(found(Option(), (2, 3, 8, 8))) == {("a", "b"): 4, ("b",): 4}


def test_groups_of_a_convolution_lose_the_same_channels():
    analysis = found(nn.Sequential(nn.Conv2d(3, 12, 1), nn.Conv2d(12, 8, 3, groups=4), nn.Conv2d(8, 2, 1)), (2, 3, 6, 6))
    assert widths(analysis) in ({("0",): 3, ("1",): 2}, {("0", "1"): 4})


@pytest.mark.parametrize("heads, wanted", [(True, 3), (False, 4)])
def test_attention_loses_heads_or_the_same_channels_of_each(heads, wanted):
    module = nn.TransformerEncoderLayer(12, 3, 20, batch_first=True)
    analysis = found(nn.Sequential(nn.Linear(5, 12), module, nn.Linear(12, 2)), (2, 6, 5), heads=heads)
    assert ("1.self_attn",) in widths(analysis)
    assert widths(analysis)[("1.self_attn",)] in (wanted, 2 * wanted)  # widths of query and key, and of value, are two


def test_reasons_name_the_operator():
    cases = {
        "softmax": lambda a, x: a(x).softmax(1).sum((2, 3)),
        "no rule": lambda a, x: torch.fft.rfft(a(x), dim=1).abs().sum((2, 3)),
        "the input inputs_0 meets it in add": lambda a, x: (a(x) + x).sum((2, 3)),
    }
    for why, function in cases.items():
        analysis = found(Function(function, nn.Conv2d(3, 3, 1)), (2, 3, 4, 4))
        assert len(analysis.groups) == 1 and why in analysis.groups[0].why, (why, analysis.groups)


# What can be written in two ways: (what the convolution makes, one spelling, the other, the channels that the last convolution reads).
SPELLINGS = {
    "glu": (16, lambda x: F.glu(x, 1), lambda x: x[:, :8] * x[:, 8:].sigmoid(), 8),
    "repeat_interleave": (8, lambda x: x.repeat_interleave(2, 1), lambda x: torch.stack([x, x], 2).flatten(1, 2), 16),
    "repeat_interleave of one": (8, lambda x: x + x.mean(1, keepdim=True).repeat_interleave(8, 1), lambda x: x + x.mean(1, keepdim=True), 8),
    "view_as": (8, lambda x: x.flatten(2).softmax(-1).view_as(x), lambda x: x.flatten(2).softmax(-1).reshape(2, -1, 4, 4), 8),
    "swapaxes": (8, lambda x: x.swapaxes(1, 3).relu().swapaxes(3, 1), lambda x: x.relu(), 8),
    "swapdims": (8, lambda x: x.swapdims(1, -1).relu().swapdims(1, -1), lambda x: x.relu(), 8),
    "movedim": (8, lambda x: x.movedim(1, -1).relu().movedim((1, -1), (2, 1)).mT, lambda x: x.relu().transpose(2, 3), 8),
    "moveaxis": (8, lambda x: x.moveaxis(-1, 0).moveaxis(0, 3), lambda x: x, 8),
    "tensor_split": (16, lambda x: torch.maximum(*x.tensor_split(2, 1)), lambda x: torch.maximum(*x.chunk(2, 1)), 8),
    "broadcast_to": (8, lambda x: x + x.mean(1, keepdim=True).broadcast_to((2, 8, 4, 4)), lambda x: x + x.mean(1, keepdim=True), 8),
    "hstack": (8, lambda x: torch.hstack([x, -x]), lambda x: torch.cat([x, -x], 1), 16),
    "concatenate": (8, lambda x: torch.concatenate([x, -x], 1), lambda x: torch.cat([x, -x], 1), 16),
    "two names": (8, lambda x: torch.multiply(torch.clip(x, 0, 6), torch.subtract(x, 1)), lambda x: F.relu6(x) * (x - 1), 8),
    "two results": (8, lambda x: x - torch.var_mean(x, (2, 3), keepdim=True)[1], lambda x: x - x.mean((2, 3), keepdim=True), 8),
}


@pytest.mark.parametrize("name", SPELLINGS)
def test_what_can_leave_does_not_depend_on_the_spelling(name):
    made, rare, plain, read = SPELLINGS[name]
    first, last = nn.Conv2d(3, made, 1), nn.Conv2d(read, 2, 1)
    x, pruned = torch.randn(2, 3, 4, 4), []
    for function in (rare, plain):
        module = Function(lambda first, last, x, function=function: last(function(first(x))), first, last).eval()
        analysis = dependencies(trace(module, (torch.zeros(2, 3, 4, 4),)))
        group = next(group for group in analysis.groups if "parts.0" in group.layers)
        assert group.width == 8 and not group.why, group
        pruned.append(shrink(analysis, group.units[::3])(x.numpy()))
    np.testing.assert_allclose(pruned[0], pruned[1], atol=1e-6)


@pytest.mark.parametrize("written", [False, True])
def test_heads_that_share_keys_leave_together(written):
    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.q, self.k, self.v, self.o = nn.Linear(5, 24), nn.Linear(5, 12), nn.Linear(5, 12), nn.Linear(24, 3)

        def forward(self, x):
            q, k, v = (linear(x).unflatten(-1, (-1, 4)).transpose(1, 2) for linear in (self.q, self.k, self.v))
            k, v = (one.repeat_interleave(2, 1) for one in (k, v)) if written else (k, v)
            return self.o(F.scaled_dot_product_attention(q, k, v, enable_gqa=not written).transpose(1, 2).flatten(2))

    analysis = found(Shared(), (2, 6, 5))
    assert widths(analysis) == {("q", "k", "v"): 3}


def test_costs_are_those_of_the_network():
    analysis = found(nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 1)), (2, 3, 6, 6))
    assert analysis.macs(analysis.everything) == 16 * 8 * 27 + 16 * 4 * 8
    assert analysis.parameters(analysis.everything) == 8 * 27 + 8 + 4 * 8 + 32 + 4
    group = next(group for group in analysis.groups if not group.why)
    assert group.macs == 16 * 8 * 27 + 16 * 4 * 8
    alive = analysis.everything
    alive[list(group.units[:4])] = False
    assert analysis.macs(alive) == 16 * 4 * 27 + 16 * 4 * 4


def test_tied_weights_are_one():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(6, 6), nn.Linear(6, 6)
            self.b.weight = self.a.weight
            self.start, self.end = nn.Linear(3, 6), nn.Linear(6, 2)

        def forward(self, x):
            return self.end(self.b(self.a(self.start(x)).relu()))

    analysis = found(Tied(), (2, 3))
    assert [group.width for group in analysis.groups if not group.why] == [6]


def test_analysis_is_quick():
    transformers = pytest.importorskip("transformers")
    config = transformers.MobileNetV2Config(image_size=224, depth_multiplier=1.0)
    model = trace(transformers.MobileNetV2ForImageClassification(config).eval(), (torch.zeros(2, 3, 224, 224),))
    start = time.process_time()  # others may be at work on a machine that tests run on
    analysis = dependencies(model)
    seconds = time.process_time() - start
    assert seconds < 2, seconds
    assert sum(group.width for group in analysis.groups if not group.why) > 5000
    assert np.isclose(analysis.macs(analysis.everything), 300e6, rtol=0.05)
