"""Every step keeps the contract, and the contract catches steps that do not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import pytest

from tersenet import Distill, Override, Quantize, Rebuild, Share, Train, Training
from tersenet.errors import TersenetError
from tersenet.model import Model
from tersenet.step import Change, Context, Step, StepResult
from tersenet.testing.networks import small_convolutional
from tersenet.testing.step import FAKE_TABLE, BrokenPromise, _data, check_step

QUANTIZED = [
    Quantize(),
    Quantize(ranges="percentile", range_numbers=(("percent", 99.9),), granularity="per-tensor"),
    Quantize(power_of_two=True, symmetric=True, weight_ranges="mse", full_range=True),
    Quantize(keep_float=("head",), overrides=(Override("stem*", ranges="mse"),)),
    Quantize(training={"epochs": 1, "batch_size": 16}),
    Quantize(weights="int4", training={"epochs": 2, "batch_size": 16, "learn": "moving", "average": "ema", "optimizer": "sgd", "momentum": 0.9}),
]


@pytest.mark.parametrize("step", QUANTIZED, ids=range(len(QUANTIZED)))
def test_quantize(step):
    check_step(step)


TRAINED = [
    Train(Training(epochs=2, batch_size=16)),
    Train(Training(epochs=1, optimizer="sgd", momentum=0.9, augmentation=("flip", "crop:1"), average="ema", patience=1), exchange=("relu:relu6",)),
    Train(Training(epochs=2, schedule="plateau", decay_epochs=1, l1=1e-4, l2=1e-3, average="swa", dropout=0.1), from_scratch=True),
]


@pytest.mark.parametrize("step", TRAINED, ids=range(len(TRAINED)))
def test_train(step):
    check_step(step)


TAUGHT = [
    Distill(training=Training(epochs=2, batch_size=16)),
    Distill(("decoupled", "features:0.5"), 2.0, alpha=0.5, others=2.0, training=Training(epochs=1, augmentation=("flip",), average="ema")),
    Distill(("attention", "relations"), layers=("stem:stem", "pool"), alpha=0.0, training=Training(epochs=1, optimizer="sgd")),
]


@pytest.mark.parametrize("step", TAUGHT, ids=range(len(TAUGHT)))
def test_distill(step):
    check_step(step, context=Context((FAKE_TABLE,), _data(), original=small_convolutional(seed=4)))


THINNED = [
    Rebuild(energy=0.6),
    Rebuild(macs=0.15, method="spatial", wins="smaller", training={"epochs": 1}),
    Rebuild(ranks=(("head", 2, 0), ("stem.0", 3, 2))),
    Share(values=8),
    Share(values=4, initialization="density", layers=(("stem*", 16),), keep=("head",), training={"epochs": 1}),
]


@pytest.mark.parametrize("step", THINNED, ids=range(len(THINNED)))
def test_rebuild_and_share(step):
    check_step(step)


@dataclass(frozen=True)
class Same(Step):
    kind: ClassVar[str] = "same"

    def run(self, model: Model, context: Context) -> StepResult:
        return StepResult(model, (Change("nothing", "on purpose"),))


@dataclass(frozen=True)
class Meddling(Step):
    kind: ClassVar[str] = "meddling"

    def run(self, model: Model, context: Context) -> StepResult:
        next(iter(model.graph.parameters())).data.add_(1)
        return StepResult(model.without_plans(), (Change("weights", "meddled"),))


def test_a_step_that_returns_its_input_is_caught():
    with pytest.raises(BrokenPromise, match="not a new one"):
        check_step(Same())


def test_a_step_that_changes_its_input_is_caught():
    with pytest.raises(TersenetError, match="changed the model"):
        check_step(Meddling())
