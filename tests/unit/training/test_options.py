"""Options of training are plain values that check themselves."""

from __future__ import annotations

import json
from typing import Any

import pytest

import tersenet
from tersenet import Train, Training
from tersenet.errors import RecipeError
from tersenet.steps.table import step_from_json

REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"epoch": 3}, "did you mean 'epochs'"),
    ({"epochs": 0}, "epochs must be at least 1, got 0"),
    ({"epochs": "3"}, "training.epochs must be int"),
    ({"optimizer": "adamm"}, "did you mean 'adam'"),
    ({"optimizer": "adam", "momentum": 0.9}, "momentum goes with sgd or rmsprop"),
    ({"optimizer": "sgd", "nesterov": True}, "nesterov goes with sgd and a momentum"),
    ({"learning_rate": 0.0}, "learning_rate must be positive"),
    ({"schedule": "step"}, "needs decay_epochs of at least 1 and below epochs"),
    ({"schedule": "step", "decay_epochs": 10}, "below epochs \\(10\\), got 10"),
    ({"decay_epochs": 2}, "goes with the schedules step and plateau"),
    ({"epochs": 2, "warmup_epochs": 2.0}, "warmup_epochs must be below epochs \\(2\\), got 2.0"),
    ({"l2": -1.0}, "l2 must not be negative"),
    ({"dropout": 1.0}, "dropout must be at least 0 and below 1"),
    ({"augmentation": ("flop",)}, "did you mean 'flip'"),
    ({"augmentation": ("crop:x",)}, "name:number"),
    ({"augmentation": ("crop:1.5",)}, "must be a whole number"),
    ({"augmentation": ("flip:2",)}, "must be a share"),
    ({"precision": "fp8"}, "unknown precision"),
]


@pytest.mark.parametrize(("options", "message"), REFUSED, ids=[message for _, message in REFUSED])
def test_what_makes_no_sense_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        Training(**options)
    with pytest.raises(RecipeError, match=message):
        step_from_json({"step": "train", "training": options})


def test_a_step_round_trips_with_what_is_not_usual_alone() -> None:
    step = Train(Training(epochs=3, augmentation=("flip", "crop:2"), dropout=0.1), exchange=("silu:hardswish",))
    written = json.loads(json.dumps(step.to_json()))
    assert written == {
        "step": "train",
        "training": {"epochs": 3, "augmentation": ["flip", "crop:2"], "dropout": 0.1},
        "exchange": ["silu:hardswish"],
    }
    assert step_from_json(written) == step
    assert Train(training={"epochs": 3}).training == Training(epochs=3)
    assert tersenet.Recipe.from_json([written]).steps == (step,)
