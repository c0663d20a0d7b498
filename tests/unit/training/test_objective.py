"""Losses: the same of scores and of the probabilities that they make, whatever the form of outputs and labels."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from tersenet.data.tasks import AGREEMENT, TASKS, Task
from tersenet.errors import RecipeError
from tersenet.training.objective import Loss, held_loss, objective_for

SCORES = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 1, 2, 3, 0, 1])


class Gives(nn.Module):
    """A network that returns what it is given, as graphs do: in a tuple."""

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return inputs


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_of_scores_probabilities_and_their_logarithms(smoothing: float) -> None:
    wanted = functional.cross_entropy(SCORES, LABELS, label_smoothing=smoothing)
    task = TASKS["image-classification"]
    assert objective_for(task, "scores", smoothing)(Gives(), (SCORES,), LABELS) == wanted
    assert objective_for(task, "probabilities", smoothing)(Gives(), (SCORES.softmax(1),), LABELS) == pytest.approx(float(wanted), rel=1e-5)
    assert objective_for(task, "scores", smoothing)(Gives(), (SCORES.log_softmax(1),), LABELS) == pytest.approx(float(wanted), rel=1e-5)


def test_classes_on_either_side_of_further_axes() -> None:
    scores, labels = SCORES.reshape(2, 3, 4), LABELS.reshape(2, 3)
    wanted = float(functional.cross_entropy(SCORES, LABELS))
    objective = objective_for(TASKS["classification"])
    assert float(objective(Gives(), (scores,), labels)) == pytest.approx(wanted)
    assert float(objective(Gives(), (scores.transpose(1, 2),), labels)) == pytest.approx(wanted)
    assert float(objective(Gives(), (SCORES.reshape(6, 4, 1, 1),), LABELS)) == pytest.approx(wanted)


def test_two_classes_in_one_output() -> None:
    scores, labels = SCORES[:, :1], LABELS % 2
    wanted = float(functional.binary_cross_entropy_with_logits(scores[:, 0], labels.float()))
    assert float(objective_for(TASKS["classification"])(Gives(), (scores,), labels)) == pytest.approx(wanted)
    assert float(objective_for(TASKS["classification"], "probability")(Gives(), (scores.sigmoid(),), labels)) == pytest.approx(wanted, rel=1e-5)


def test_regression_and_a_loss_of_ones_own() -> None:
    numbers = torch.arange(6, dtype=torch.float64)
    assert float(objective_for(TASKS["regression"])(Gives(), (SCORES[:, :1],), numbers)) == pytest.approx(
        float(functional.mse_loss(SCORES[:, 0], numbers.float()))
    )
    own = objective_for(Task.own(lambda outputs, labels: 0.0, "nothing", "lower"), loss=lambda outputs, labels: (outputs[0] - outputs[1]).abs().sum())
    assert float(own(Gives(), (SCORES, SCORES + 1), None)) == pytest.approx(SCORES.numel())


def test_what_has_no_loss_is_refused() -> None:
    with pytest.raises(RecipeError, match="the task agreement has no loss to train with; give one"):
        objective_for(AGREEMENT)
    with pytest.raises(RecipeError, match="label_smoothing is for classification"):
        objective_for(TASKS["regression"], label_smoothing=0.1)
    with pytest.raises(RecipeError, match="this network has 2 outputs; say what it learns"):
        objective_for(TASKS["regression"])(Gives(), (SCORES, SCORES), LABELS)


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (lambda outputs, labels: 1, "it returned int"),
        (lambda outputs, labels: outputs, r"it returned a tensor of shape \(6, 4\)"),
        (lambda outputs, labels: torch.zeros(()), "nothing can be learned from it"),
        (lambda outputs, labels: outputs.nope, "it failed: AttributeError"),
        (lambda outputs: outputs, "it failed: TypeError"),
    ],
)
def test_a_loss_that_training_cannot_take_is_named(loss: Loss, message: str) -> None:
    held = held_loss(loss)
    assert held is not None and held_loss(None) is None
    with pytest.raises(RecipeError, match=message):
        held(SCORES.clone().requires_grad_(), LABELS)


def test_a_loss_of_one_number_in_any_shape_is_taken() -> None:
    held = held_loss(lambda outputs, labels: outputs.mean().reshape(1, 1))
    assert held is not None and held(SCORES.clone().requires_grad_(), LABELS).shape == ()
