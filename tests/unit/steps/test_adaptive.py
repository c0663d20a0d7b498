"""Ratios by measured sensitivity: where it costs least, as far as a goal or a permitted drop goes."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from tersenet import Data, Prune
from tersenet.errors import DataError, RecipeError
from tersenet.graph.cost import cost
from tersenet.graph.dependencies import Group
from tersenet.graph.trace import trace
from tersenet.model import Model
from tersenet.step import Context
from tersenet.steps.adaptive import Choice, _steps
from tersenet.testing.step import check_step

X = np.random.default_rng(0).standard_normal((160, 3, 8, 8)).astype(np.float32)


def network() -> Model:
    """Half of the channels of its first layer are read by nobody."""
    torch.manual_seed(0)
    layers = nn.Sequential(
        nn.Conv2d(3, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 32, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 4)
    )  # fmt: skip
    with torch.no_grad():
        layers[2].weight[:, ::2] = 0
        layers[0].weight[::2] *= 0.1
        layers[-1].bias -= layers(torch.from_numpy(X)).mean(0)  # so that all classes win
    return trace(layers.eval(), (torch.randn(2, 3, 8, 8),))


MODEL = network()
LABELS = MODEL(X).argmax(1)
LABELLED = Context(data=Data.from_arrays(train=(X[:32], LABELS[:32]), calibration=X[:32], selection=(X[32:], LABELS[32:])))
UNLABELLED = Context(data=Data.from_arrays(calibration=X))


def width(model: Model, layer: str) -> int:
    return len(model.graph.state_dict()[f"{layer}.weight"])


def distance(model: Model) -> float:
    return float(((model(X) - MODEL(X)) ** 2).sum() / (MODEL(X) ** 2).sum())


@pytest.mark.parametrize("context", [LABELLED, UNLABELLED], ids=["labelled", "unlabelled"])
def test_what_nobody_reads_leaves_first(context: Context) -> None:
    result = Prune(ratios="adaptive", macs=0.4, multiple=1).apply(MODEL, context)
    assert width(result.model, "0") == 16
    assert width(result.model, "2") == 32
    assert distance(result.model) < 1e-10
    assert cost(result.model).macs <= 0.6 * cost(MODEL).macs
    assert ("2", "to lose some would cost more than elsewhere, or it has a ratio of 0") in [(entry.what, entry.why) for entry in result.skipped]


@pytest.mark.parametrize("goal", ["macs", "parameters"])
def test_it_costs_less_than_equal_ratios(goal: str) -> None:
    equal = Prune(**{goal: 0.45}, multiple=1).apply(MODEL, LABELLED).model
    adaptive = Prune(**{goal: 0.45}, ratios="adaptive", multiple=1).apply(MODEL, LABELLED).model
    assert getattr(cost(adaptive), goal) <= 0.55 * getattr(cost(MODEL), goal)
    assert distance(adaptive) < distance(equal)


@pytest.mark.parametrize("points", [0.5, 10.0, 40.0])
def test_the_drop_is_within_what_is_permitted(points: float) -> None:
    result = Prune(ratios="adaptive", max_drop=points, multiple=1).apply(MODEL, LABELLED)
    drop = 100 * (1 - (result.model(X[32:]).argmax(1) == LABELS[32:]).mean())
    assert drop <= points
    said = next(change.why for change in result.changed if change.what == "sensitivity")
    assert f"on 128 samples of the selection part; those chosen cost {drop:.2f} points of accuracy before training" in said
    assert width(result.model, "0") <= 16


def test_more_leaves_where_more_is_permitted() -> None:
    sizes = [cost(Prune(ratios="adaptive", max_drop=points, multiple=1).apply(MODEL, LABELLED).model).macs for points in (0.5, 30.0, 60.0)]
    assert sizes[0] > sizes[1] > sizes[2]


def test_layers_with_a_ratio_of_their_own_and_rounds() -> None:
    training = {"epochs": 2, "batch_size": 32}
    step = Prune(ratios="adaptive", macs=0.6, multiple=1, layers={"2": 0.5}, schedule="iterative:2", training=training)
    result = step.apply(MODEL, LABELLED)
    assert width(result.model, "2") == 16
    assert width(result.model, "0") in (16, 20), "20 are few enough; 16 where a processor's last bits make that cut the one that harms less"
    assert cost(result.model).macs <= 0.4 * cost(MODEL).macs
    assert [change.what for change in result.changed][-3:] == ["sensitivity", "weights, round 1 of 2", "weights, round 2 of 2"]


@given(st.data())
def test_cuts_are_taken_in_the_order_that_is_best(data: Any) -> None:
    """At each step no other combination of cuts saves as much for less harm: all of them are tried."""
    amounts = st.floats(0.0, 10.0, allow_subnormal=False)
    groups = [Group(name, (name,), tuple(range(9)), 1, "", 0, 0) for name in "abc"]
    choices = [
        Choice(group, tuple(range(count)), float(saved), data.draw(amounts))
        for group in groups
        for count, saved in enumerate(sorted(data.draw(st.sets(st.integers(1, 20), max_size=3))), 1)
    ]
    order = [choice for _, choice in sorted(_steps(choices), key=lambda pair: pair[0])]
    options = [[None, *(choice for choice in choices if choice.group == group)] for group in groups]
    every = [[choice for choice in row if choice is not None] for row in itertools.product(*options)]
    for count in range(len(order) + 1):
        taken = {choice.group: choice for choice in order[:count]}.values()
        saved, harm = (sum(getattr(choice, name) for choice in taken) for name in ("saved", "harm"))
        for row in every:
            assert sum(choice.saved for choice in row) < saved or sum(choice.harm for choice in row) >= harm - 1e-9


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(ratios="adaptive"), "adaptive ratios need one of macs, parameters and max_drop"),
        (dict(ratios="adaptive", ratio=0.5), "adaptive ratios need one of"),
        (dict(ratios="adaptive", macs=0.5, scope="global"), "and no scope"),
        (dict(max_drop=1.0), "max_drop is at least 0 and goes with ratios adaptive, got 1 with given"),
        (dict(ratios="adaptive", max_drop=1.0, macs=0.5), "got macs and max_drop"),
        (dict(ratios="adaptable", macs=0.5), "unknown ratios 'adaptable'; did you mean 'adaptive'"),
    ],
)
def test_options_are_checked(options: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        Prune(**options)


def test_what_is_out_of_reach_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"at most 0\.9\d\d of the macs can leave this network, and 0.999 was asked for"):
        Prune(ratios="adaptive", macs=0.999, multiple=1).apply(MODEL, LABELLED)
    with pytest.raises(DataError, match="needs a calibration part"):
        Prune(ratios="adaptive", macs=0.5).apply(MODEL, Context())


@pytest.mark.parametrize("step", [Prune(ratios="adaptive", macs=0.3), Prune(ratios="adaptive", max_drop=20.0, criterion="activation")])
def test_the_contract(step: Prune) -> None:
    check_step(step)
