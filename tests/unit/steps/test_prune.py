"""Pruning as a step: how much leaves, which channels, what is refused."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from tersenet import Data, Prune
from tersenet.capabilities import Capabilities
from tersenet.errors import DataError, RecipeError
from tersenet.graph.cost import cost
from tersenet.graph.dependencies import Group, dependencies
from tersenet.graph.trace import trace
from tersenet.model import Model
from tersenet.step import Context
from tersenet.steps.choice import Limits
from tersenet.steps.scores import CRITERIA, scores
from tersenet.targets import table


def network(seed: int = 0) -> Model:
    torch.manual_seed(seed)
    layers = nn.Sequential(
        nn.Conv2d(3, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.Conv2d(32, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 4),
    )  # fmt: skip
    for layer in layers:
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 0.2, 2)
    return trace(layers.eval(), (torch.randn(2, 3, 8, 8),))


def data() -> Data:
    random = np.random.default_rng(0)
    x, y = random.standard_normal((96, 3, 8, 8)).astype(np.float32), random.integers(0, 4, 96)
    return Data.from_arrays(train=(x[:48], y[:48]), calibration=x[48:80], selection=(x[80:], y[80:]))


def width(model: Model, layer: str) -> int:
    return len(model.graph.state_dict()[f"{layer}.weight"])


@pytest.mark.parametrize("criterion", CRITERIA)
def test_every_criterion_halves_each_layer(criterion):
    result = Prune(ratio=0.5, criterion=criterion).apply(network(), Context(data=data()))
    assert (width(result.model, "0"), width(result.model, "3"), width(result.model, "8")) == (16, 8, 4)
    assert [change.what for change in result.changed] == ["0", "3", "multiply-accumulates", "parameters"]
    assert [(entry.what, entry.why) for entry in result.skipped] == [("8", "it is what the network returns (linear)")]


def test_a_ratio_that_rounding_undoes_is_told():
    model = network()
    result = Prune(ratio=0.1, multiple=16).apply(model, Context())
    assert result.model.fingerprint == model.fingerprint
    told = {entry.what: entry.why for entry in result.skipped}
    assert "no channel leaves any layer" in told["pruning"] and "multiple 1" in told["pruning"]
    assert "its 32 channels, rounded to a multiple of 16, are all that it has" in told["0"] and "a multiple of 8" in told["3"]
    part = Prune(layers=(("0", 0.5), ("3", 0.1)), multiple=16).apply(model, Context())
    assert width(part.model, "0") == 16
    assert [entry.what for entry in part.skipped] == ["3", "8"]


def test_the_weakest_channels_leave():
    model = network()
    weights = model.graph.state_dict()["0.weight"]
    with torch.no_grad():
        weights[[3, 7, 20]] = 0.0
    result = Prune(layers=(("0", 3 / 32),), multiple=1).apply(model, Context())
    kept = [index for index in range(32) if index not in (3, 7, 20)]
    assert torch.equal(result.model.graph.state_dict()["0.weight"], weights[kept])
    assert width(result.model, "3") == 16


def test_scores_follow_their_definition():
    model = network()
    found = dependencies(model)
    group = next(group for group in found.groups if group.name == "0")
    state = model.graph.state_dict()
    wanted = state["1.weight"].abs().numpy()
    got = scores(found, "scale", Context())[found.units(found.propagation.constants["0.weight"][0])]
    assert np.allclose(got, wanted / wanted.mean(), rtol=1e-5)
    rows, columns = state["0.weight"].abs().sum((1, 2, 3)).numpy(), state["3.weight"].abs().sum((0, 2, 3)).numpy()
    both = (rows + columns) / 2
    got = scores(found, "l1", Context())[found.units(found.propagation.constants["0.weight"][0])]
    assert np.allclose(got, both / both.mean(), rtol=1e-5)
    assert len(group.units) == 32


@pytest.mark.parametrize("scope", ["layer", "global"])
@pytest.mark.parametrize("what", ["macs", "parameters"])
def test_a_share_of_the_cost_leaves(scope, what):
    model = network()
    result = Prune(**{what: 0.6}, scope=scope, multiple=1).apply(model, Context())
    before, after = getattr(cost(model), what), getattr(cost(result.model), what)
    assert 0.33 < after / before <= 0.4


@pytest.mark.parametrize("scope", ["layer", "global"])
def test_layers_that_rounding_makes_jump_together_do_so_one_by_one(scope):
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 16, 3, padding=1), *(nn.Conv2d(16, 16, 3, padding=1) for _ in range(6)), nn.Flatten(), nn.Linear(1024, 4)]
    model = trace(nn.Sequential(*layers).eval(), (torch.randn(2, 3, 8, 8),))
    result = Prune(macs=0.5, multiple=8, scope=scope).apply(model, Context())
    assert {width(result.model, str(place)) for place in range(7)} == {8, 16}
    assert 0.35 < cost(result.model).macs / cost(model).macs <= 0.5


def test_counts_are_what_kernels_like():
    table = Capabilities("fake", {}, channel_multiple=8)
    result = Prune(ratio=0.4).apply(network(), Context((table,)))
    assert (width(result.model, "0"), width(result.model, "3")) == (16, 8)
    result = Prune(ratio=0.4, multiple=1).apply(network(), Context((table,)))
    assert (width(result.model, "0"), width(result.model, "3")) == (19, 10)
    heads = Group("a", ("a",), tuple(range(12)), 64, "", 0, 0)
    assert Limits(multiple=8).keep(heads, 7.2) == 7
    narrow = [Group("a", ("a",), tuple(range(width)), 1, "", 0, 0) for width in (64, 31, 16, 9, 4, 3)]
    assert [Limits(multiple=16).keep(group, 0.6 * group.width) for group in narrow] == [32, 16, 8, 4, 2, 2]


def test_several_runtimes_and_what_is_asked_for():
    tables = tuple(Capabilities(f"fake{multiple}", {}, channel_multiple=multiple) for multiple in (4, 16))
    assert width(Prune(ratio=0.3).apply(network(), Context(tables)).model, "0") == 16
    assert width(Prune(ratio=0.3, multiple=4).apply(network(), Context(tables)).model, "0") == 24
    found = {name: table.capabilities(target, "x86-avx2").channel_multiple for name, target in table.TARGETS.items()}
    assert found == {"onnxruntime": 8, "litert": 16, "litert-micro": 4, "executorch": 16}
    assert table.capabilities(table.find("onnxruntime"), "x86-avx512-vnni").channel_multiple == 16


def test_some_layers_have_their_own_ratio_or_keep_all():
    result = Prune(ratio=0.5, layers={"3": 0.25}, keep="0", multiple=1).apply(network(), Context())
    assert (width(result.model, "0"), width(result.model, "3")) == (32, 12)
    assert ("0", "it was asked to keep them") in [(entry.what, entry.why) for entry in result.skipped]
    others = Prune(layers={"3": 0.25}, multiple=1).apply(network(), Context()).skipped
    assert ("0", "no ratio was given for it") in [(entry.what, entry.why) for entry in others]


class Residual(nn.Module):
    """A branch that is added to its own input: a squeeze inside it, a constant that is added too, and a layer before and behind."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.inner, self.depthwise, self.outer = (
            nn.Conv2d(3, 16, 3, padding=1),
            nn.Conv2d(16, 32, 1),
            nn.Conv2d(32, 32, 3, padding=1, groups=32),
            nn.Conv2d(32, 16, 1),
        )
        self.shift, self.tail, self.head = nn.Parameter(torch.ones(1, 32, 1, 1)), nn.Conv2d(16, 24, 1), nn.Linear(24, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x).relu()
        x = x + self.outer(self.depthwise(self.inner(x).relu()) + self.shift)
        return self.head(self.tail(x).relu().mean((2, 3)))


def test_shortcuts_may_keep_their_channels():
    model = trace(Residual().eval(), (torch.randn(2, 3, 8, 8),))
    result = Prune(ratio=0.5, shortcuts=False).apply(model, Context(data=data()))
    assert [width(result.model, layer) for layer in ("stem", "inner", "depthwise", "outer", "tail")] == [16, 16, 16, 16, 12]
    assert {entry.what: entry.why for entry in result.skipped}["stem"] == "an addition ties it, and shortcuts were asked to stay"
    everywhere = Prune(ratio=0.5).apply(model, Context(data=data())).model
    assert [width(everywhere, layer) for layer in ("stem", "inner", "outer", "tail")] == [8, 16, 8, 12]
    named = Prune(ratio=0.5, shortcuts=False, layers=(("outer", 0.25),)).apply(model, Context(data=data())).model
    assert [width(named, layer) for layer in ("stem", "outer", "inner")] == [12, 12, 16]


def test_where_shortcuts_are_all_there_is():
    model = trace(nn.Sequential(nn.Conv2d(3, 4, 1)).eval(), (torch.randn(2, 3, 8, 8),))
    with pytest.raises(RecipeError, match="tied to others by an addition; let shortcuts lose channels, or name layers"):
        Prune(ratio=0.5, shortcuts=False).apply(model, Context(data=data()))


def test_at_least_so_many_stay():
    result = Prune(ratio=0.9, least=6, multiple=1).apply(network(), Context())
    assert (width(result.model, "0"), width(result.model, "3")) == (6, 6)


def test_chance_follows_the_seed():
    first, again, other = (Prune(ratio=0.5, criterion="random").apply(network(), Context(seed=seed)).model for seed in (1, 1, 2))
    assert first.fingerprint == again.fingerprint != other.fingerprint


REFUSED = [
    (dict(layers={"8": 0.5}), r"the channels of 8 cannot leave \('8'\): it is what the network returns \(linear\)"),
    (dict(layers={"9*": 0.5}), r"unknown layer '9\*'"),
    (dict(ratio=0.5, keep="missing"), "unknown layer 'missing'"),
    (dict(ratio=0.99), "at least one channel of 0 must stay; a ratio of 0.99 would leave none of 32: ask for 0.98 or less"),
    (dict(macs=0.999), r"at most 0\.9\d+ of the multiply-accumulates can leave this network, and 0.999 was asked for"),
]


@pytest.mark.parametrize("options, message", REFUSED)
def test_what_makes_no_sense_on_this_network_is_refused(options, message):
    with pytest.raises(RecipeError, match=message):
        Prune(**options).apply(network(), Context())


@pytest.mark.parametrize(
    "options, message",
    [
        ({}, "prune needs to be told how much leaves"),
        (dict(ratio=1.0), r"a share of at least 0 and less than 1, got 1"),
        (dict(ratio=0.5, macs=0.5), "takes one of ratio, macs and parameters, got ratio and macs"),
        (dict(ratio=0.5, criterion="l3"), "unknown criterion 'l3'"),
        (dict(ratio=0.5, scope="all"), "unknown scope 'all'"),
        (dict(ratio=0.5, least=0), "least must be at least 1"),
    ],
)
def test_options_are_checked(options, message):
    with pytest.raises(RecipeError, match=message):
        Prune(**options)


def test_data_that_a_criterion_needs_are_asked_for():
    for criterion, part in (("taylor", "train"), ("activation", "calibration")):
        with pytest.raises(DataError, match=f"needs a {part} part"):
            Prune(ratio=0.5, criterion=criterion).apply(network(), Context())


def test_a_quantized_network_is_refused():
    model = replace(network(), plans=(None,))
    with pytest.raises(RecipeError, match="prune before you quantize"):
        Prune(ratio=0.5).run(model, Context())
