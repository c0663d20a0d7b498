"""The objective of distillation: of every kind of output what the formula says, the same batch for both, and nothing of it left in the network."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import tersenet
from tersenet import Data, Training
from tersenet.data.tasks import ACCURACY, TASKS, Task
from tersenet.errors import ModelError, RecipeError
from tersenet.graph.training import trainable
from tersenet.model import Model
from tersenet.numerics.distillation import decoupled, soft_labels
from tersenet.step import Context
from tersenet.steps.distill import Distill
from tersenet.testing.networks import samples, small_convolutional
from tersenet.testing.step import _data
from tersenet.training.distillation import distilled
from tersenet.training.features import PROJECTIONS
from tersenet.training.methods import METHODS, Distillation
from tersenet.training.teacher import Teacher
from tersenet.training.tuning import tuned

MODEL, TEACHER = small_convolutional(), small_convolutional(seed=4)
X, Y = torch.from_numpy(samples(16, 1)), torch.arange(16) % 5


def loss_of(how: Distillation, networks: tuple[Model, Model], inputs: tuple[Tensor, ...], labels: Tensor | None, task: Task = ACCURACY) -> float:
    """What the student loses, in evaluation mode."""
    student, teacher = networks
    module = trainable(student)
    objective = distilled(how, teacher, student, task, module=module)
    return float(objective(module.eval(), inputs, labels).detach())


def answers(model: Model, *inputs: Tensor) -> list[Tensor]:
    found = model(*(one.numpy() for one in inputs))
    return [torch.from_numpy(one) for one in (found if isinstance(found, tuple) else (found,))]


def linear(network: nn.Module, shape: tuple[int, ...] = (2, 4), seed: int = 0) -> Model:
    torch.manual_seed(seed)
    for parameter in network.parameters():
        nn.init.normal_(parameter)
    return tersenet.load(network.eval(), (torch.zeros(shape),))


def both(maker: Any, shape: tuple[int, ...] = (2, 4)) -> tuple[Model, Model]:
    return linear(maker(), shape, 0), linear(maker(), shape, 1)


def test_the_loss_is_labels_and_teacher_by_their_weights() -> None:
    (own,), (wanted,) = answers(MODEL, X), answers(TEACHER, X)
    soft, hard = soft_labels(own, wanted, 2.0), functional.cross_entropy(own, Y)
    how = Distillation(method="soft:3", temperature=2.0, alpha=0.5)
    assert loss_of(how, (MODEL, TEACHER), (X,), Y) == pytest.approx(float(0.5 * hard + 3 * soft), rel=1e-5)
    assert loss_of(how, (MODEL, TEACHER), (X,), None) == pytest.approx(float(3 * soft), rel=1e-5)
    parts = decoupled(own, wanted, Y, 4.0, 8.0)
    assert loss_of(Distillation("decoupled", alpha=0.0), (MODEL, TEACHER), (X,), Y) == pytest.approx(float(parts), rel=1e-5)
    votes = decoupled(own, wanted, wanted.argmax(1), 4.0, 8.0)
    assert loss_of(Distillation("decoupled"), (MODEL, TEACHER), (X,), None) == pytest.approx(float(votes), rel=1e-5), "the teacher's vote for a label"


@pytest.mark.parametrize("method", METHODS)
def test_who_is_as_the_teacher_loses_nothing(method: str) -> None:
    """Its features are projected nowhere, for they have the teacher's widths."""
    assert loss_of(Distillation(method), (MODEL, MODEL), (X,), None) == pytest.approx(0, abs=1e-5)


def test_probabilities_and_scores_are_compared_as_what_they_are() -> None:
    scores, teacher = both(lambda: nn.Linear(4, 3))
    x = torch.randn(8, 4, generator=torch.Generator().manual_seed(0))
    module = nn.Sequential(nn.Linear(4, 3), nn.Softmax(-1))
    torch.manual_seed(0)
    probable = linear(module)
    wanted = loss_of(Distillation(), (scores, teacher), (x,), None)
    assert loss_of(Distillation(), (probable, teacher), (x,), None) == pytest.approx(wanted, rel=1e-4)


@pytest.mark.parametrize("shape", [(1,), ()], ids=["column", "row"])
def test_one_score_for_two_classes(shape: tuple[int, ...]) -> None:
    class One(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(x).reshape(-1, *shape)

    networks = both(One)
    x = torch.randn(8, 4, generator=torch.Generator().manual_seed(0))
    rows = [torch.stack([torch.zeros(8), answers(model, x)[0].reshape(8)], 1) for model in networks]
    labels = torch.arange(8) % 2
    hard = functional.binary_cross_entropy_with_logits(rows[0][:, 1], labels.float())
    wanted = 0.1 * hard + soft_labels(*rows, 4.0)
    assert loss_of(Distillation(), networks, (x,), labels) == pytest.approx(float(wanted), rel=1e-5)


def test_every_step_of_a_sequence_and_every_pixel_is_a_sample() -> None:
    sequences = both(lambda: nn.Linear(4, 3), (2, 6, 4))
    x = torch.randn(5, 6, 4, generator=torch.Generator().manual_seed(0))
    rows = [answers(model, x)[0].reshape(-1, 3) for model in sequences]
    assert loss_of(Distillation(), sequences, (x,), None) == pytest.approx(float(soft_labels(*rows, 4.0)), rel=1e-5)
    pictures = both(lambda: nn.Conv2d(3, 7, 1), (2, 3, 5, 5))
    x, labels = torch.randn(4, 3, 5, 5, generator=torch.Generator().manual_seed(0)), torch.arange(100).reshape(4, 5, 5) % 7
    rows = [answers(model, x)[0].movedim(1, -1).reshape(-1, 7) for model in pictures]
    parts = decoupled(*rows, labels.reshape(-1), 4.0, 8.0)
    assert loss_of(Distillation("decoupled", alpha=0.0), pictures, (x,), labels) == pytest.approx(float(parts), rel=1e-5)


class Several(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.boxes, self.classes = nn.Linear(4, 2), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"boxes": self.boxes(x), "classes": self.classes(x).softmax(-1)}


def test_values_and_several_outputs() -> None:
    x = torch.randn(8, 4, generator=torch.Generator().manual_seed(0))
    networks = both(lambda: nn.Linear(4, 2))
    (own,), (wanted,) = (answers(model, x) for model in networks)
    labels = torch.zeros(8, 2)
    expected = functional.mse_loss(own, wanted) + 0.1 * functional.mse_loss(own, labels)
    assert loss_of(Distillation(), networks, (x,), labels, TASKS["regression"]) == pytest.approx(float(expected), rel=1e-5)
    several = both(Several)
    one, other = (answers(model, x) for model in several)
    task = Task.own(lambda outputs, labels: 1.0, "mine", "higher")
    expected = (functional.mse_loss(one[0], other[0]) + soft_labels(one[1].log(), other[1].log(), 4.0)) / 2
    assert loss_of(Distillation(), several, (x,), None, task) == pytest.approx(float(expected), rel=1e-4)
    with pytest.raises(RecipeError, match="decoupled is about classes, and the task is regression"):
        loss_of(Distillation("decoupled"), networks, (x,), labels, TASKS["regression"])


def test_what_others_lay_out_otherwise_is_turned() -> None:
    """A teacher with channels last answers a student with channels first."""

    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3, 5)

        def forward(self, image: Tensor) -> Tensor:
            return self.layer(image).mean((1, 2))

    teacher, student = with_layout(linear(Last(), (2, 8, 8, 3)), "NHWC"), with_layout(MODEL, "NCHW")
    found = Teacher(teacher, student)((X,))[0]
    assert torch.allclose(found, answers(teacher, X.permute(0, 2, 3, 1).contiguous())[0], atol=1e-6)


def with_layout(model: Model, layout: str) -> Model:
    return replace(model, inputs=(replace(model.inputs[0], layout=layout),))


def test_inputs_go_by_name() -> None:
    class Two(nn.Module):
        def forward(self, first: Tensor, second: Tensor) -> Tensor:
            return first - second

    class Turned(nn.Module):
        def forward(self, second: Tensor, first: Tensor) -> Tensor:
            return first - second

    one, other = (tersenet.load(module, (torch.zeros(2, 3), torch.zeros(2, 3))) for module in (Two(), Turned()))
    given = torch.ones(4, 3), torch.zeros(4, 3)
    assert Teacher(other, one)(given)[0].tolist() == torch.ones(4, 3).tolist()


def test_a_teacher_of_tokens_of_another_width_of_integers_is_asked_and_one_of_numbers_is_not() -> None:
    student, teacher = (tersenet.load(nn.Embedding(9, 3), (torch.zeros(2, 5, dtype=kind),)) for kind in (torch.int64, torch.int32))
    assert Teacher(teacher, student)((torch.ones(4, 5, dtype=torch.int64),))[0].shape == (4, 5, 3)
    numbers = linear(nn.Linear(5, 3), (2, 5))
    with pytest.raises(ModelError, match=r"must have the inputs of the network that learns from it: those are .* int64 .* float32"):
        Teacher(numbers, student)


def test_both_see_the_same_batch_augmented(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Tensor] = []
    asked = Teacher.__call__

    def noted(self: Teacher, inputs: Any) -> Any:
        seen.append(inputs[0].clone())
        return asked(self, inputs)

    monkeypatch.setattr(Teacher, "__call__", noted)
    module = trainable(MODEL)
    objective = distilled(Distillation(), TEACHER, MODEL, ACCURACY, module=module)
    pairs: list[bool] = []

    def watching(network: nn.Module, inputs: tuple[Tensor, ...], labels: Tensor | None) -> Tensor:
        loss = objective(network, inputs, labels)
        pairs.append(torch.equal(seen[-1], inputs[0]))
        return loss

    how = Training(epochs=1, batch_size=32, augmentation=("flip", "noise:0.5"))
    tuned(MODEL, Context((), _data()), how, objective=watching, module=module)
    assert pairs == [True, True]
    stored = torch.from_numpy(samples(64, 1))
    assert not any(torch.equal(row, other) for row in seen[0] for other in stored), "they are augmented"


def test_the_teacher_stays_as_it_is_and_projections_are_thrown_away() -> None:
    before = TEACHER.fingerprint
    wide = tersenet.load(Wide().eval(), (torch.zeros(2, 3, 8, 8),))
    context = Context((), _data(), original=wide)
    result = Distill(method="features", training=Training(epochs=3, learning_rate=0.01, keep="last")).apply(MODEL, context).model
    assert result.graph.state_dict().keys() == MODEL.graph.state_dict().keys()
    assert len(result.outputs) == 1
    assert result(samples(2)).shape == (2, 5)
    assert TEACHER.fingerprint == before
    module = trainable(MODEL)
    distilled(Distillation("features"), wide, MODEL, ACCURACY, module=module)
    shapes = [tuple(layer.weight.shape) for layer in module.get_submodule(PROJECTIONS) if isinstance(layer, nn.Conv1d)]
    assert shapes == [(16, 8, 1), (16, 8, 1)]


class Wide(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.pool, self.two, self.head = nn.Conv2d(3, 16, 3, padding=1), nn.MaxPool2d(2), nn.Conv2d(16, 16, 3, padding=1), nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.two(self.pool(torch.relu(self.one(x))))).mean((2, 3)))


@pytest.mark.parametrize("method", ["features", "attention", "relations"])
def test_what_is_learned_inside_comes_closer(method: str) -> None:
    wide = tersenet.load(Wide().eval(), (torch.zeros(2, 3, 8, 8),))
    module = trainable(MODEL)
    objective = distilled(Distillation(method), wide, MODEL, ACCURACY, module=module)
    data = Data.from_arrays(train=samples(64, 1), calibration=samples(4, 2)).bind(MODEL.inputs)
    _, outcome = tuned(MODEL, Context((), data), Training(epochs=12, learning_rate=0.02), objective=objective, module=module)
    assert outcome.history[-1].loss < 0.7 * outcome.history[0].loss


def test_methods_that_look_inside_need_something_to_look_at() -> None:
    with pytest.raises(RecipeError, match="features looks inside the network that learns, and this step lets nothing do so"):
        distilled(Distillation("features"), TEACHER, MODEL, ACCURACY)
    flat = both(lambda: nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)))
    with pytest.raises(RecipeError, match="attention looks at positions, and the layers that match have none"):
        loss_of(Distillation("attention"), flat, (torch.zeros(2, 4),), None)
    single = both(lambda: nn.Linear(4, 3))
    with pytest.raises(RecipeError, match="features needs layers of both networks that are alike, and there are none: nothing inside the student"):
        loss_of(Distillation("features"), single, (torch.zeros(2, 4),), None)
    with pytest.raises(RecipeError, match="layers go with features, attention, relations, got soft"):
        Distillation(layers="stem:stem")
    with pytest.raises(RecipeError, match="unknown layer of the student 'steem'; did you mean 'stem"):
        loss_of(Distillation("features", layers="steem:stem"), (MODEL, TEACHER), (X,), None)


def test_a_step_that_trains_in_a_way_of_its_own_learns_from_a_teacher_by_one_line() -> None:
    """As quantization-aware training does: another module in the model's stead, outputs alone."""
    module = trainable(MODEL)
    module.register_parameter("scale", nn.Parameter(torch.tensor(1.0)))
    data = Data.from_arrays(train=samples(64, 1), selection=samples(32, 3), calibration=samples(4, 2)).bind(MODEL.inputs)
    objective = distilled(Distillation(), TEACHER, MODEL, data.task)
    model, outcome = tuned(MODEL, Context((), data), Training(epochs=2), objective=objective, module=module)
    assert outcome.history[-1].loss < outcome.history[0].loss
    assert outcome.history[-1].metric is not None, "agreement with the teacher judges"
    assert np.isfinite(model(samples(2))).all()


def test_the_teacher_answers_in_the_precision_of_the_training() -> None:
    """With as few bits, so that mixed precision halves its time too; all that is compared is float32."""
    losses = [
        distilled(Distillation(), TEACHER, MODEL, ACCURACY, training=Training(precision=one))(MODEL.graph, (X,), None).detach()
        for one in ("float32", "bf16")
    ]
    assert losses[0].dtype == losses[1].dtype == torch.float32
    assert 0 < abs(losses[1] / losses[0] - 1) < 0.05


def test_classes_of_dense_outputs_lie_along_the_axis_of_channels() -> None:
    networks = both(lambda: nn.Conv2d(2, 3, 1), (1, 2, 8, 4))
    x = torch.randn(5, 2, 8, 4, generator=torch.Generator().manual_seed(0))
    (own,), (wanted,) = (answers(one, x) for one in networks)
    rows = [one.movedim(1, -1).reshape(-1, 3) for one in (own, wanted)]
    how = Distillation(method="soft", temperature=2.0)
    for labels in (None, wanted.argmax(1)):
        hard = 0.0 if labels is None else how.alpha * functional.cross_entropy(own, labels)
        assert loss_of(how, networks, (x,), labels) == pytest.approx(float(hard + soft_labels(*rows, 2.0)), rel=1e-4)
