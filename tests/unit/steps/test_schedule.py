"""Pruning over epochs of training: how much is gone when, that it stays gone, and that an interruption changes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tersenet import Data, Prune, Sparsify
from tersenet.errors import DataError, RecipeError
from tersenet.graph.cost import cost
from tersenet.graph.training import trainable
from tersenet.numerics import sparsity
from tersenet.step import Context
from tersenet.steps.schedule import Round, check, reached, rounds
from tersenet.store import Store
from tersenet.testing.networks import samples, small_convolutional
from tersenet.testing.step import FAKE_TABLE, check_step
from tersenet.training import loop
from tersenet.training.hooks import Hook, Moment, Rising
from tersenet.training.loop import Judge, Lesson, train
from tersenet.training.objective import objective_for
from tersenet.training.options import Training

LABELS = np.arange(96) % 5
DATA = Data.from_arrays(train=(samples(64, 1), LABELS[:64]), calibration=samples(32, 2), selection=(samples(32, 3), LABELS[:32]))
CONTEXT = Context((FAKE_TABLE,), DATA)
SIX = Training(epochs=6, batch_size=16)


def test_the_polynomial_is_that_of_the_paper() -> None:
    """Zhu and Gupta's equation 1: s = s_f + (s_i - s_f) (1 - (t - t0) / (n dt))^3, with s_i = 0, over a goal s_f."""
    for t in (0.0, 1.0, 2.5, 4.9, 5.0, 7.0):
        wanted = 1 - (1 - min(max(t - 1, 0), 4) / 4) ** 3
        assert reached("polynomial:1:5", 8, t) == pytest.approx(wanted)
    assert reached("polynomial", 8, 6) == 1 > reached("polynomial", 8, 5.9)


def test_pairs_are_steps() -> None:
    pairs = ((1.0, 0.3), (2.5, 0.6))
    assert [reached(pairs, 6, passed) for passed in (0, 0.9, 1, 2.4, 2.5, 5)] == [0, 0, 0.5, 0.5, 1, 1]


@pytest.mark.parametrize(
    "schedule, wanted",
    [
        ("one-shot", [(6, 1.0)]),
        ("iterative:2", [(3, 0.5), (3, 1.0)]),
        ("iterative:4", [(1, 0.25), (2, 0.5), (1, 0.75), (2, 1.0)]),
        ("polynomial:0:2", [(1, 0.875), (5, 1.0)]),
        ("polynomial:1:3", [(1, 0.0), (1, 0.875), (4, 1.0)]),
        (((0, 0.25), (2, 0.5)), [(2, 0.5), (4, 1.0)]),
        (((2, 0.25), (5, 0.5)), [(2, 0.0), (3, 0.5), (1, 1.0)]),
    ],
)
def test_rounds_of_whole_epochs(schedule: Any, wanted: list[tuple[int, float]]) -> None:
    found = rounds(schedule, SIX)
    assert [(part.epochs, part.reached) for part in found] == wanted
    assert [part.number for part in found] == list(range(1, len(wanted) + 1))
    assert rounds("one-shot", None) == [Round(1, 1, 0, 1.0)]


@pytest.mark.parametrize(
    "schedule, training, message",
    [
        ("iterative", None, "spreads over epochs of training; give training too"),
        ("sometimes", SIX, "schedule must be one-shot, iterative"),
        ("iterative:7", SIX, r"as many as there are epochs \(6\); got iterative:7"),
        ("iterative:x", SIX, "takes numbers behind its name"),
        ("polynomial:2:6", SIX, r"BEGIN < END < epochs \(6\)"),
        (((0, 0.25), (6, 0.5)), SIX, r"below epochs \(6\)"),
        (((2, 0.25), (1, 0.5)), SIX, "must rise in both"),
        (((0, 0.25), (1, 0.4)), SIX, "must be what is asked for at the end, 0.5; got 0.4"),
        (((0.5, 0.5),), SIX, "channels leave between epochs"),
        ("iterative:3", Training(epochs=6, warmup_epochs=2), "round 1 of 3 trains 2 of the 6 epochs: warmup_epochs must be below epochs"),
    ],
)
def test_what_does_not_fit_is_refused(schedule: Any, training: Training | None, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        check(schedule, training, 0.5, whole_epochs=True)


def test_an_average_over_changing_masks_is_refused() -> None:
    with pytest.raises(RecipeError, match="has no zeros"):
        Sparsify(ratio=0.5, schedule="polynomial", training={"epochs": 4, "average": "ema"})
    Sparsify(ratio=0.5, schedule="polynomial:0:2", training={"epochs": 4, "average": "swa", "average_start": 0.5})


class Zeros(Hook):
    """Notes what is zero after each step."""

    def __init__(self, name: str) -> None:
        self.name, self.found = name, []

    def after_step(self, moment: Moment) -> None:
        self.found.append(dict(moment.module.named_parameters())[self.name].detach() == 0)


def test_sparsity_rises_as_the_schedule_says_and_nothing_comes_back() -> None:
    model, name, how = small_convolutional(), "pointwise.0.weight", Training(epochs=4, batch_size=8)

    def choose(held: Mapping[str, torch.Tensor], part: float) -> dict[str, torch.Tensor]:
        return {name: sparsity.smallest(held[name].abs(), part * 0.8)}

    rising = Rising([name], lambda passed: reached("polynomial:1:3", 4, passed), choose)
    zeros = Zeros(name)
    judged: list[float] = []

    def judge(module: torch.nn.Module) -> float:
        judged.append(1 - len(judged) / 10)  # worse every epoch
        return judged[-1]

    lesson = Lesson(trainable(model), objective_for(DATA.task), DATA.train, how, model.inputs, Judge("accuracy", "higher", judge), [rising, zeros])
    outcome = train(lesson)
    for step, found in enumerate(zeros.found):
        wanted = 0.8 * (1 - (1 - min(max(step / 8 - 1, 0), 2) / 2) ** 3)
        assert int(found.sum()) == round(wanted * found.numel())
    assert all(bool((later | ~earlier).all()) for earlier, later in zip(zeros.found, zeros.found[1:], strict=False))
    assert outcome.best_epoch == 4, "epochs before the goal is reached are better, and not what is wanted"


@pytest.mark.parametrize("schedule", ["one-shot", "iterative:2", "polynomial", ((0, 0.25), (1.5, 0.5)), "polynomial:0.5:2"])
@pytest.mark.parametrize("options", [{}, {"scope": "global"}, {"pattern": "2x2"}])
def test_masks_end_at_their_goal_and_weights_learn(schedule: Any, options: dict[str, Any]) -> None:
    model = small_convolutional()
    result = Sparsify(ratio=0.5, schedule=schedule, training={"epochs": 3, "batch_size": 32}, **options).apply(model, CONTEXT)
    gone, total = 0, 0
    for name, mask in result.model.annotations.masks.items():
        weight = result.model.graph.state_dict()[name].numpy()
        assert not weight[~mask].any()
        assert not np.array_equal(weight[mask], model.graph.state_dict()[name].numpy()[mask])
        gone, total = gone + (~mask).sum(), total + mask.size
    assert gone / total == pytest.approx(0.5, abs=0.02)
    assert next(change.why.split(",")[0] for change in result.changed if change.what.startswith("weights")).endswith("of adam")


def test_a_pattern_is_reached_step_by_step() -> None:
    result = Sparsify(pattern="1:4", schedule="iterative:3", training={"epochs": 3, "batch_size": 32}).apply(small_convolutional(), CONTEXT)
    mask = result.model.annotations.masks["pointwise.0.weight"]
    assert (mask.reshape(8, 2, 4).sum(2) == 1).all()
    assert [change.what for change in result.changed if "round" in change.what] == [f"weights, round {number} of 3" for number in (1, 2, 3)]


@pytest.mark.parametrize("schedule", ["iterative:3", "polynomial:0:2", ((0, 0.2), (2, 0.5))])
@pytest.mark.parametrize("goal", [{"ratio": 0.5}, {"ratio": 0.5, "scope": "global"}, {"macs": 0.5}, {"parameters": 0.5}, {"layers": {"stem*": 0.5}}])
def test_channels_leave_in_rounds_to_the_same_size(schedule: Any, goal: dict[str, Any]) -> None:
    model = small_convolutional()
    once = Prune(**goal, multiple=1, criterion="l2").apply(model, CONTEXT).model
    result = Prune(**goal, multiple=1, criterion="l2", schedule=schedule, training={"epochs": 3, "batch_size": 32}).apply(model, CONTEXT)
    wanted, got = cost(once), cost(result.model)
    assert got.macs == pytest.approx(wanted.macs, rel=0.15)
    assert result.changed[-1].what.startswith("weights, round")
    assert f"-> {got.macs:,}" in [change.why[change.why.index("->") :] for change in result.changed if change.what == "multiply-accumulates"]
    if "ratio" in goal and "scope" not in goal:
        assert got.macs == wanted.macs


STEPS = [
    Prune(macs=0.4, schedule="iterative:2", training=Training(epochs=4, batch_size=16)),
    Sparsify(ratio=0.6, schedule="iterative:2", training=Training(epochs=4, batch_size=16)),
    Sparsify(ratio=0.6, schedule="polynomial", training=Training(epochs=4, batch_size=16)),
]


@pytest.mark.parametrize("step", STEPS, ids=lambda step: f"{step.kind} {step.schedule}")
def test_an_interruption_changes_nothing(step: Prune | Sparsify, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "SAVED_SECONDS", 0.0)
    model = small_convolutional()
    whole = step.apply(model, CONTEXT).model
    for stop in (3, 11):
        calls = 0

        def interrupt(done: int, total: int, what: str, stop: int = stop) -> None:
            nonlocal calls
            calls += 1
            if calls == stop:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            step.apply(model, Context((FAKE_TABLE,), DATA, progress=interrupt, store=Store(tmp_path)))
    said: list[str] = []
    resumed = step.apply(model, Context((FAKE_TABLE,), DATA, progress=lambda done, total, what: said.append(what), store=Store(tmp_path))).model
    assert resumed.fingerprint == whole.fingerprint
    assert len(said) < 12, "it went on where it was"


@pytest.mark.parametrize("step", [STEPS[0], STEPS[2]])
def test_data_to_learn_from_are_asked_for(step: Prune | Sparsify) -> None:
    with pytest.raises(DataError, match=f"{step.kind} needs a train part"):
        step.apply(small_convolutional(), Context())
    with pytest.raises(DataError, match=f"{step.kind} needs labels in the train part"):
        step.apply(small_convolutional(), Context(data=Data.from_arrays(train=samples(32, 1))))


def test_the_last_pair_is_the_goal() -> None:
    assert Sparsify(schedule=[[0, 0.5], [1, 0.75]], training={"epochs": 2}).ratio == 0.75
    assert Prune(schedule=[[0, 0.2], [1, 0.4]], training={"epochs": 2}).ratio == 0.4


@pytest.mark.parametrize("step", [*STEPS, Sparsify(schedule=((0, 0.5), (1.5, 0.75)), training={"epochs": 2, "batch_size": 16})])
def test_the_contract(step: Prune | Sparsify) -> None:
    check_step(step)
