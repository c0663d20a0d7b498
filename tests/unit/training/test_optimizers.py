"""Optimizers and schedules do, step by step, what torch's own do; regularization leaves biases and norms alone."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler

from tersenet.training.optimizers import Schedule, optimizer_for
from tersenet.training.options import Training

STEPS, EPOCHS, RATE = 5, 6, 0.05
OPTIMIZERS: dict[str, tuple[dict[str, Any], Callable[[Any], torch.optim.Optimizer]]] = {
    "sgd": ({}, lambda parameters: torch.optim.SGD(parameters, RATE)),
    "momentum": ({"momentum": 0.9}, lambda parameters: torch.optim.SGD(parameters, RATE, momentum=0.9)),
    "nesterov": ({"momentum": 0.9, "nesterov": True}, lambda parameters: torch.optim.SGD(parameters, RATE, momentum=0.9, nesterov=True)),
    "adam": ({"optimizer": "adam"}, lambda parameters: torch.optim.Adam(parameters, RATE)),
    "adamw": ({"optimizer": "adamw", "l2": 0.02}, lambda parameters: torch.optim.AdamW(parameters, RATE, weight_decay=0.02)),
    "adagrad": ({"optimizer": "adagrad"}, lambda parameters: torch.optim.Adagrad(parameters, RATE)),
    "rmsprop": ({"optimizer": "rmsprop", "momentum": 0.5}, lambda parameters: torch.optim.RMSprop(parameters, RATE, momentum=0.5)),
}


def small() -> tuple[nn.Linear, torch.Tensor, torch.Tensor]:
    torch.manual_seed(1)
    return nn.Linear(4, 3, bias=False), torch.randn(8, 4), torch.arange(8) % 3


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizer_takes_the_steps_of_torchs_own(name: str) -> None:
    options, make = OPTIMIZERS[name]
    ours, x, y = small()
    theirs, _, _ = small()
    how = Training(**{"optimizer": "sgd", "learning_rate": RATE, **options})
    pairs = [(ours, optimizer_for(ours, how)), (theirs, make(theirs.parameters()))]
    for _ in range(7):
        for network, optimizer in pairs:
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(x), y).backward()
            optimizer.step()
    assert torch.equal(ours.weight, theirs.weight)


SCHEDULES: dict[str, tuple[dict[str, Any], int, Callable[[torch.optim.Optimizer], Any]]] = {
    "constant": ({"schedule": "constant"}, 1, lambda one: lr_scheduler.ConstantLR(one, 1.0)),
    "step": ({"schedule": "step", "decay": 0.5, "decay_epochs": 2}, STEPS, lambda one: lr_scheduler.StepLR(one, 2, 0.5)),
    "exponential": ({"schedule": "exponential", "decay": 0.7}, STEPS, lambda one: lr_scheduler.ExponentialLR(one, 0.7)),
    "cosine": ({"schedule": "cosine"}, 1, lambda one: lr_scheduler.CosineAnnealingLR(one, STEPS * EPOCHS)),
    "warmup": (
        {"schedule": "constant", "warmup_epochs": 1.6},
        1,
        lambda one: lr_scheduler.LinearLR(one, start_factor=1 / 8, end_factor=1.0, total_iters=7),
    ),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_schedule_is_that_of_torch(name: str) -> None:
    options, every, make = SCHEDULES[name]
    network, _, _ = small()
    optimizer = torch.optim.SGD(network.parameters(), RATE)
    theirs = make(optimizer)
    ours = Schedule(Training(epochs=EPOCHS, learning_rate=RATE, **options), STEPS)
    for step in range(STEPS * EPOCHS):
        assert math.isclose(RATE * ours.factor(step), optimizer.param_groups[0]["lr"], rel_tol=1e-6, abs_tol=1e-12), step
        optimizer.step()
        if (step + 1) % every == 0:
            theirs.step()


def test_plateau_is_that_of_torch() -> None:
    network, _, _ = small()
    optimizer = torch.optim.SGD(network.parameters(), RATE)
    theirs = lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=1, threshold=0.0)  # torch drops after patience is passed
    ours = Schedule(Training(epochs=9, schedule="plateau", decay=0.5, decay_epochs=2, learning_rate=RATE), STEPS)
    for epoch, loss in enumerate([1.0, 0.8, 0.9, 0.85, 0.7, 0.7, 0.71, 0.72, 0.73]):
        ours.judge(loss)
        theirs.step(loss)
        assert RATE * ours.factor((epoch + 1) * STEPS) == pytest.approx(optimizer.param_groups[0]["lr"])


def test_decay_leaves_biases_and_norms_alone() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Linear(2, 2))
    groups = optimizer_for(network, Training(l2=0.1)).param_groups
    assert [(group["weight_decay"], [tuple(one.shape) for one in group["params"]]) for group in groups] == [
        (0.1, [(2, 1, 3, 3), (2, 2)]),
        (0.0, [(2,), (2,), (2,), (2,)]),
    ]
