"""Channels drawn to zero: one step by hand, and that what is drawn is what may leave and costs less to take out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from tersenet import Data, Prune, Recipe, Train
from tersenet.errors import RecipeError
from tersenet.graph.dependencies import dependencies
from tersenet.graph.trace import trace
from tersenet.graph.training import learned, trainable
from tersenet.model import Model
from tersenet.step import Context
from tersenet.training.inducing import factors, inducing
from tersenet.training.loop import Lesson, train
from tersenet.training.objective import objective_for
from tersenet.training.options import Training

X = np.random.default_rng(0).standard_normal((96, 3, 6, 6)).astype(np.float32)
LABELS = np.arange(96) % 4
X += LABELS[:, None, None, None] * 0.7
DATA = Data.from_arrays(train=(X[:64], LABELS[:64]), calibration=X[:64], selection=(X[64:], LABELS[64:]))


def network(norm: bool = True) -> Model:
    torch.manual_seed(1)
    middle = nn.BatchNorm2d(16) if norm else nn.Identity()
    layers = nn.Sequential(nn.Conv2d(3, 16, 3), middle, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 4))
    return trace(layers.eval(), (torch.randn(2, 3, 6, 6),))


def one_step(how: Training) -> dict[str, torch.Tensor]:
    model = network()
    module = trainable(model)
    train(Lesson(module, objective_for(DATA.task), DATA.train, how, model.inputs, hooks=inducing(model, how)))
    return learned(model, module).graph.state_dict()


PLAIN = Training(epochs=1, batch_size=64, optimizer="sgd", learning_rate=0.1, schedule="constant")


def test_slimming_is_the_proximal_step_of_l1() -> None:
    before, after = one_step(PLAIN), one_step(Training(**{**vars(PLAIN), "slimming": 9.5}))
    gamma = before["1.weight"]
    assert torch.allclose(after["1.weight"], gamma.sign() * (gamma.abs() - 0.95).clamp_min(0), atol=1e-6)
    assert torch.equal(after["0.weight"], before["0.weight"])


def test_group_lasso_is_the_proximal_step_of_what_leaves_together() -> None:
    before, after = one_step(PLAIN), one_step(Training(**{**vars(PLAIN), "group_lasso": 1.0}))
    rows, columns = before["0.weight"].flatten(1), before["5.weight"].t()
    norms = torch.cat([rows, columns], 1).norm(dim=1)
    wanted = (1 - 0.1 * (27 + 4) ** 0.5 / norms).clamp_min(0)
    assert 0 < (wanted == 0).sum() < 16, "some are gone and some are not"
    assert torch.allclose(after["0.weight"], before["0.weight"] * wanted[:, None, None, None], atol=1e-6)
    assert torch.allclose(after["5.weight"], before["5.weight"] * wanted[None], atol=1e-6)
    assert torch.equal(after["1.weight"], before["1.weight"])


@pytest.mark.parametrize("option, criterion, share", [({"slimming": 1.0}, "scale", 0.6), ({"group_lasso": 0.4}, "l2", 0.01)])
def test_channels_that_were_drawn_to_zero_leave_at_less_harm(option: dict[str, float], criterion: str, share: float) -> None:
    how = {"epochs": 40, "batch_size": 16, "learning_rate": 0.02, "keep": "last"}

    def moved(extra: dict[str, float]) -> float:
        recipe = Recipe([Train(training={**how, **extra}), Prune(ratio=0.5, criterion=criterion, multiple=1)])
        trained, pruned = (result.model for result in recipe.apply(network(), Context(data=DATA)))
        return float(((pruned(X) - trained(X)) ** 2).sum() / (trained(X) ** 2).sum())

    assert moved(option) < share * moved({})


def test_what_there_is_none_of_is_refused() -> None:
    with pytest.raises(RecipeError, match="this network has no batch norm; take group_lasso"):
        Train(training={"slimming": 0.1}).apply(network(norm=False), Context(data=DATA))
    alone = trace(nn.Sequential(nn.Flatten(), nn.Linear(108, 4)).eval(), (torch.randn(2, 3, 6, 6),))
    with pytest.raises(RecipeError, match="none can leave this network"):
        Train(training={"group_lasso": 0.1}).apply(alone, Context(data=DATA))
    with pytest.raises(RecipeError, match="slimming must not be negative"):
        Training(slimming=-1.0)


def test_factors_and_groups_are_found() -> None:
    assert factors(network().graph) == ["1.weight"]
    assert [group.width for group in dependencies(network()).groups if not group.why] == [16]
