"""Which channels leave together, and which must stay and why."""

import time

import numpy as np
import pytest
import torch
from torch import nn

from networks import Function
from tersenet.graph.dependencies import Dependencies, dependencies
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
