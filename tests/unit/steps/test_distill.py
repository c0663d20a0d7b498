"""The step that learns from a teacher: which network teaches which, what it says, and what it refuses."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import tersenet
from tersenet import Data, Training
from tersenet.errors import DataError, ModelError, RecipeError
from tersenet.recipe import Recipe
from tersenet.step import Context
from tersenet.steps.distill import Distill
from tersenet.steps.prune import Prune
from tersenet.steps.quantize import Quantize
from tersenet.steps.sparsify import Sparsify
from tersenet.store import Store
from tersenet.testing.networks import samples, small_convolutional
from tersenet.testing.step import FAKE_TABLE, _data

MODEL, TEACHER = small_convolutional(), small_convolutional(seed=4)
ONCE = Distill(training=Training(epochs=1))
UNLABELLED = Data.from_arrays(train=samples(64, 1), selection=samples(32, 3), calibration=samples(8, 9)).bind(MODEL.inputs)


def context(data: Data | None = None, **more: object) -> Context:
    return Context((FAKE_TABLE,), data or _data(), original=TEACHER, **more)


def test_it_says_what_it_did() -> None:
    result = Distill(method=("soft:0.5", "decoupled"), training={"epochs": 2}).apply(MODEL, context())
    (change,) = result.changed
    assert change.what == "weights"
    assert change.why.startswith("2 epochs of adam learning soft:0.5, decoupled of small, loss ")
    assert "accuracy 0." in change.why
    assert result.skipped == ()


def test_without_labels_the_teacher_alone_is_learned_from_and_judges() -> None:
    result = Distill(training=Training(epochs=15, learning_rate=0.02)).apply(MODEL, context(UNLABELLED))
    assert "agreement with the teacher 0." in result.changed[0].why
    assert [change.what for change in result.skipped] == ["the loss of labels"]
    votes = [model(samples(32, 3)).argmax(1) for model in (MODEL, result.model, TEACHER)]
    assert (votes[1] == votes[2]).mean() > (votes[0] == votes[2]).mean()


def test_what_nothing_teaches_is_told() -> None:
    told = "layers behind those that were compared"
    alone, with_labels = Distill(method="features", alpha=0.0, training=Training(epochs=1)), Distill(method="features", training=Training(epochs=1))
    assert [change.what for change in alone.apply(MODEL, context()).skipped] == [told]
    assert with_labels.apply(MODEL, context()).skipped == ()
    assert [change.what for change in with_labels.apply(MODEL, context(UNLABELLED)).skipped] == ["the loss of labels", told]
    both = replace(alone, method=("features", "soft"))
    assert both.apply(MODEL, context()).skipped == ()


def test_a_network_that_was_pruned_learns_from_what_it_was() -> None:
    recipe = Recipe([Prune(ratio=0.5), Distill(training={"epochs": 1}), Quantize()])
    assert Recipe.from_json(recipe.to_json()) == recipe
    pruned, taught, quantized = recipe.apply(MODEL, replace(context(), original=MODEL))
    assert "learning soft of small" in taught.changed[0].why
    assert taught.model.fingerprint != pruned.model.fingerprint
    assert quantized.model.plans


def test_masks_stay() -> None:
    sparse = Sparsify(ratio=0.5).apply(MODEL, context()).model
    taught = ONCE.apply(sparse, context()).model
    for name, mask in sparse.annotations.masks.items():
        weight = taught.graph.state_dict()[name].numpy()
        assert np.array_equal(weight != 0, mask), name
    assert taught.fingerprint != sparse.fingerprint


class Tiny(nn.Module):
    def __init__(self, classes: int = 5) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, classes))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)


def tiny(classes: int = 5, size: int = 8) -> tersenet.Model:
    torch.manual_seed(0)
    return tersenet.load(Tiny(classes), (torch.zeros(2, 3, size, size),), name="tiny")


def test_a_student_takes_the_networks_place() -> None:
    step = Distill(student="tiny.pt2", training=Training(epochs=1))
    assert step.networks() == ("tiny.pt2",)
    result = step.apply(MODEL, context(networks={"tiny.pt2": tiny()}))
    assert [change.what for change in result.changed] == ["network", "weights"]
    assert "of small" in result.changed[1].why, "the network that comes in teaches, not the original"
    assert result.model.name == "tiny"
    assert result.model(samples(3)).shape == (3, 5)


def test_another_teacher() -> None:
    step = Distill(teacher="other.onnx", training=Training(epochs=1))
    with pytest.raises(RecipeError, match=r"distill needs the network 'other.onnx', and nobody has loaded it"):
        step.apply(MODEL, context())
    assert "learning soft of tiny" in step.apply(MODEL, context(networks={"other.onnx": tiny()})).changed[0].why


def test_training_with_simulated_integers_names_its_teacher_too() -> None:
    step = Quantize(training={"epochs": 1, "distill": {"method": "soft"}, "teacher": "other.onnx"})
    assert step.networks() == ("other.onnx",)
    assert step.apply(MODEL, context(networks={"other.onnx": tiny()})).model.plans
    assert Quantize().networks() == ()


def test_the_teacher_is_part_of_what_training_is_known_by(tmp_path) -> None:
    store = Store(tmp_path)
    for teacher in (TEACHER, tiny(), TEACHER):
        ONCE.apply(MODEL, replace(context(store=store), original=teacher))
    replace(ONCE, temperature=2.0).apply(MODEL, context(store=store))
    assert len(list(tmp_path.glob(".draft-*"))) == 3


def test_what_cannot_teach_is_refused() -> None:
    def apply(teacher: tersenet.Model) -> None:
        ONCE.apply(MODEL, replace(context(), original=teacher))

    with pytest.raises(RecipeError, match="no step before it has changed that.* ask it for more, or for multiple 1; or name a teacher"):
        apply(MODEL)
    with pytest.raises(RecipeError, match="another network than the one that learns, and both are the same"):
        ONCE.apply(MODEL, replace(context(), original=None))
    with pytest.raises(ModelError, match=r"must have the outputs of the network that learns .* \(any, 5\), and the teacher's .* \(any, 7\)"):
        apply(tiny(classes=7))
    with pytest.raises(ModelError, match=r"must have the inputs of .* \(any, 3, 8, 8\), and the teacher's .* \(any, 3, 16, 16\)"):
        apply(tiny(size=16))
    with pytest.raises(DataError, match="distill needs a train part"):
        ONCE.apply(MODEL, context(Data.from_arrays(calibration=samples(8)).bind(MODEL.inputs)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "sfot"}, "unknown method of distillation 'sfot'; did you mean 'soft'"),
        ({"method": "soft:much"}, "name:weight as in soft:0.5"),
        ({"method": "soft:-1"}, "weight of soft must be 0 or more"),
        ({"method": ()}, "at least one method"),
        ({"method": "soft:0"}, "at least one method"),
        ({"temperature": 0.0}, "temperature must be above 0, got 0.0"),
        ({"temperature": -1.0}, "temperature must be above 0"),
        ({"temperature": float("nan")}, "must be a finite number"),
        ({"alpha": -0.5}, "alpha must not be negative"),
        ({"outputs": "score"}, "did you mean 'scores'"),
        ({"outputs": "values", "method": "decoupled"}, "decoupled is about classes"),
        ({"temprature": 4.0}, "did you mean 'temperature'"),
        ({"training": {"epoch": 3}}, "did you mean 'epochs'"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        Distill(**options)
