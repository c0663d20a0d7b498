"""What outputs are judged by."""

import importlib
import logging
import pickle
import re
import sys
from collections import deque
from dataclasses import replace
from fractions import Fraction
from functools import partial
from math import inf
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.random import permutation
from scipy.stats import norm

from tersenet.data.identity import called
from tersenet.data.parts import Data
from tersenet.data.tasks import ACCURACY, AGREEMENT, FIDELITY, TASKS, Task, task_of, unlabelled
from tersenet.errors import DataError
from tersenet.tensors import TensorSpec

MSE = TASKS["regression"]


def test_accuracy_of_classes() -> None:
    outputs = np.array([[1, 2, 3], [3, 2, 1], [0, 9, 1], [5, 0, 0]], np.float32)
    labels = np.array([2, 0, 1, 1])
    assert ACCURACY.value(outputs, labels) == 0.75
    assert ACCURACY.scores(outputs, labels).tolist() == [1, 1, 1, 0]
    assert ACCURACY.value(outputs[:, :, None, None], labels) == 0.75
    assert ACCURACY.value((outputs,), labels) == 0.75


def test_accuracy_of_two_classes_from_one_number() -> None:
    labels = np.array([0, 1, 1, 0])
    assert ACCURACY.value(np.array([0.1, 0.9, 0.4, 0.6]), labels) == 0.5  # probabilities
    assert ACCURACY.value(np.array([[-3.0], [0.4], [2.0], [-1.0]]), labels) == 1.0  # logits
    with pytest.raises(DataError, match=r"0\.\.1"):
        ACCURACY.value(np.array([0.1, 0.9]), np.array([0, 2]))


def test_accuracy_of_many_labels_a_sample() -> None:
    labels = np.random.default_rng(0).integers(0, 5, (3, 4, 6))
    first = np.moveaxis(np.eye(5)[labels], -1, 1)
    assert ACCURACY.value(first, labels) == 1.0  # (n, classes, h, w)
    assert ACCURACY.value(np.eye(5)[labels], labels) == 1.0  # (n, h, w, classes)
    wrong = labels.copy()
    wrong[0, :2] = (wrong[0, :2] + 1) % 5
    assert ACCURACY.scores(first, wrong).tolist() == [0.5, 1, 1]


def test_what_accuracy_refuses() -> None:
    with pytest.raises(DataError, match=r"0\.\.2 for a network of 3 classes, got 0\.\.3"):
        ACCURACY.value(np.zeros((4, 3)), np.arange(4))
    with pytest.raises(DataError, match="do not fit labels of shape"):
        ACCURACY.value(np.zeros((4, 3)), np.zeros((5,), int))
    with pytest.raises(DataError, match="2 outputs"):
        ACCURACY.value((np.zeros((4, 3)), np.zeros((4, 3))), np.zeros(4, int))


def test_regression() -> None:
    outputs, labels = np.array([[1.0, 2.0], [3.0, 4.0]], np.float32), np.array([[1.0, 1.0], [3.0, 2.0]], np.float32)
    assert MSE.value(outputs, labels) == pytest.approx(1.25)
    assert MSE.scores(outputs, labels).tolist() == [0.5, 2.0]
    assert MSE.value(np.array([[1.0], [2.0]]), np.array([1.0, 3.0])) == 0.5
    with pytest.raises(DataError, match="do not fit labels"):
        MSE.value(outputs, labels[:1])
    with pytest.raises(DataError, match="finite"):
        MSE.value(outputs * np.nan, labels)


def test_built_in_tasks_can_be_sent_to_another_process() -> None:
    assert all(pickle.loads(pickle.dumps(task)) == task for task in TASKS.values())


def test_drop_points() -> None:
    assert ACCURACY.drop_points(0.91, 0.905) == pytest.approx(0.5)
    assert ACCURACY.drop_points(0.90, 0.91) == pytest.approx(-1.0)
    error = Task.own(lambda outputs, labels: 0.0, "error rate", "lower", bounded=True)
    assert error.drop_points(0.090, 0.095) == pytest.approx(0.5)
    assert MSE.drop_points(2.0, 2.1) == pytest.approx(5.0)  # percent of float's
    gain = Task.own(lambda outputs, labels: 0.0, "gain", "higher")
    assert gain.drop_points(-2.0, -2.1) == pytest.approx(5.0)
    assert (MSE.drop_points(0.0, 0.0), MSE.drop_points(0.0, 0.1), gain.drop_points(0.0, 0.1)) == (0.0, inf, -inf)


def test_a_users_own_metric() -> None:
    task = task_of((lambda outputs, labels: np.abs(outputs - labels).mean(), "mean error", "lower"), None)
    assert task.value(np.array([1.0, 3.0]), np.array([1.0, 1.0])) == 1.0
    assert task.scores(np.zeros(2), np.zeros(2)) is None and (task.kind, task.bounded) == ("own", False)
    with pytest.raises(DataError, match="must return one number"):
        Task.own(lambda outputs, labels: outputs, "m", "higher").value(np.zeros(3), None)
    with pytest.raises(DataError, match="ZeroDivisionError"):
        Task.own(lambda outputs, labels: 1 / 0, "m", "higher").value(np.zeros(3), None)
    one, other = (Task.own(function, "m", "higher") for function in (lambda outputs, labels: 1.0, lambda outputs, labels: 2.0))
    assert one.identity() != other.identity()
    with pytest.raises(DataError, match="needs a metric"):
        Task("t", "own", "m", "higher", True)
    with pytest.raises(DataError, match="is nan"):
        Task.own(lambda outputs, labels: np.nan, "m", "higher").value(np.zeros(3), None)
    with pytest.raises(DataError, match="unknown direction of a metric 'up'"):
        Task.own(max, "m", "up")
    with pytest.raises(DataError, match="must be a function"):
        Task.own("accuracy", "m", "higher")  # type: ignore[arg-type]


def test_tasks_told_by_the_labels() -> None:
    assert task_of(None, None) is AGREEMENT
    assert task_of(None, np.array([0, 1])) is ACCURACY
    assert task_of(None, np.array([0.0, 1.0])) is ACCURACY
    assert task_of(None, np.array([0.5, 1.0])) is MSE
    assert task_of(MSE, None) is MSE and task_of("regression", None) is MSE


def test_agreement_with_float() -> None:
    outputs = np.random.default_rng(0).normal(size=(50, 4))
    assert AGREEMENT.value(outputs, outputs) == 1.0
    other = outputs.copy()
    other[:5] *= -1
    assert AGREEMENT.value(other, outputs) == 0.9
    assert AGREEMENT.value((other, outputs), (outputs, outputs)) == 0.9
    one = np.array([[0.2], [0.8]])
    assert AGREEMENT.scores(np.array([[0.6], [0.9]]), one).tolist() == [0.0, 1.0]
    assert AGREEMENT.value(np.moveaxis(outputs.reshape(5, 10, 4), 1, 1), outputs.reshape(5, 10, 4)) == 1.0


def test_fidelity_is_one_minus_noise_over_signal() -> None:
    generator = np.random.default_rng(0)
    reference = generator.normal(size=(100, 7))
    noisy = reference + 0.01 * generator.normal(size=reference.shape)
    noise, signal = ((noisy - reference) ** 2).sum(), (reference**2).sum()
    assert FIDELITY.value(noisy, reference) == pytest.approx(1 - noise / signal)
    assert FIDELITY.value(reference, reference) == 1.0
    assert FIDELITY.scores(np.ones((2, 3)), np.zeros((2, 3))).tolist() == [0.0, 0.0]
    assert FIDELITY.value((noisy, reference), (reference, reference)) == pytest.approx(1 - noise / (2 * signal))
    with pytest.raises(DataError, match="cannot be compared"):
        FIDELITY.value(noisy, reference[:, :3])


@given(st.integers(1, 30), st.integers(2, 6), st.integers(0, 99))
def test_scores_average_to_the_metric(count: int, number: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    outputs, labels = generator.normal(size=(count, number)), generator.integers(0, number, count)
    other = generator.normal(size=(count, number))
    for task, judged in ((ACCURACY, labels), (MSE, other), (AGREEMENT, other), (FIDELITY, other)):
        scores = task.scores(outputs, judged)
        assert scores is not None and scores.shape == (count,)
        assert task.value(outputs, judged) == pytest.approx(float(scores.mean()))


SHIFT = 0.0
TABLE = np.zeros(3)


def helped(outputs, labels):
    return SHIFT


class Weighed:
    def __init__(self, weight: float) -> None:
        self.weight = weight

    def __call__(self, outputs, labels) -> float:
        return self.weight


class Refuses:
    """An object that answers no question."""

    def __getattr__(self, name: str) -> object:
        raise RuntimeError(name)


def _closed(weight):
    return lambda outputs, labels: weight


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (_closed(0.1), _closed(0.2)),
        (Weighed(0.1), Weighed(0.2)),
        (Weighed(0.1).__call__, Weighed(0.2).__call__),
        (partial(helped, labels=1), partial(helped, labels=2)),
        (lambda outputs, labels, weight=1: weight, lambda outputs, labels, weight=2: weight),
        (_closed(range(3)), _closed(range(4))),
        (_closed(Fraction(1, 3)), _closed(Fraction(2, 3))),
        (_closed(np.float32(0.5)), _closed(np.float32(0.6))),
        (_closed(re.compile("a")), _closed(re.compile("b"))),
        (_closed(deque([1])), _closed(deque([2]))),
        (_closed((Refuses(), 1)), _closed((Refuses(), 2))),
        (partial(helped, labels=min), partial(helped, labels=max)),
    ],
    ids=["closure", "object", "method", "partial", "default", "range", "fraction", "number", "pattern", "deque", "beside what refuses", "in C"],
)
def test_metrics_over_other_values_are_others(one, other) -> None:
    identities = [Task.own(function, "shift", "higher").identity() for function in (one, other)]
    assert identities[0] != identities[1] and identities[0] == Task.own(one, "shift", "higher").identity()


def test_both_functions_of_a_task_count() -> None:
    tasks = [Task("t", "own", "m", "higher", True, helped, per_sample=_closed(weight)) for weight in (1, 2)]
    assert tasks[0].identity() != tasks[1].identity()


def test_a_global_that_is_called_as_an_attribute_is_none_of_the_metrics(monkeypatch: pytest.MonkeyPatch) -> None:
    task = Task.own(lambda outputs, labels: float((outputs.argmax(1) == labels).mean()), "hits", "higher")
    before = task.identity()
    monkeypatch.setitem(globals(), "mean", task.value(np.eye(3), np.arange(3)))
    assert task.identity() == before


def test_numpys_own_generator_is_the_same_in_every_process() -> None:
    tasks = [Task.own(_closed(held), "m", "higher") for held in (permutation, norm, norm(0, 1))]
    before = [task.identity() for task in tasks]
    permutation(9)
    assert [task.identity() for task in tasks] == before


def test_a_logger_hides_nothing() -> None:
    logger = logging.getLogger("a metric")
    logger.addHandler(logging.StreamHandler(sys.stderr))
    assert Task.own(_closed((logger, 1)), "m", "higher").identity() != Task.own(_closed((logger, 2)), "m", "higher").identity()


def test_modules_that_are_imported_when_it_runs(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    def metric(outputs, labels) -> float:
        from groups_of_a_metric import groups

        return groups

    monkeypatch.syspath_prepend(tmp_path)
    found = []
    for number in (1, 1, 2):
        (tmp_path / "groups_of_a_metric.py").write_text(f"groups = {number}")
        found.append(Task.own(metric, "m", "higher").identity())
    assert found[0] == found[1] != found[2]


def test_modules_within_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    inner = ModuleType("package_of_a_metric.inner")
    outer = ModuleType("package_of_a_metric")
    outer.inner, inner.weight = inner, 1  # type: ignore[attr-defined]
    monkeypatch.setitem(globals(), "package_of_a_metric", outer)
    task = Task.own(lambda outputs, labels: package_of_a_metric.inner.weight, "m", "higher")  # type: ignore[name-defined]  # noqa: F821
    before = task.identity()
    inner.weight = 2  # type: ignore[attr-defined]
    assert task.identity() != before


def test_what_a_metric_keeps_of_its_own_calls_makes_it_no_other() -> None:
    history: list[float] = []

    def metric(outputs, labels) -> float:
        history.append(1.0)
        return len(history)

    task = Task.own(metric, "m", "higher")
    before = task.identity()
    with called(metric):
        metric(None, None)
    assert task.identity() == before and history
    history.append(2.0)
    assert task.identity() != before, "this was not its own doing"


class Held:
    weight = 0.1
    __slots__ = ("own",)

    def __init__(self, own: float = 1.0) -> None:
        self.own = own

    def helped(self) -> float:
        return self.weight * self.own

    def __call__(self, outputs, labels) -> float:
        return self.helped()


def test_a_metric_that_is_an_object_is_known_by_its_class_and_its_slots(monkeypatch: pytest.MonkeyPatch) -> None:
    def identity(own: float = 1.0) -> list[str]:
        return Task.own(Held(own), "held", "higher").identity()

    first = identity()
    assert identity() == first and identity(2.0) != first
    monkeypatch.setattr(Held, "weight", 0.2)
    second = identity()
    assert second != first
    monkeypatch.setattr(Held, "helped", lambda self: 0.0)
    assert identity() not in (first, second)


class Inherits(Held):
    @staticmethod
    def at_rest() -> float:
        return 0.1

    @property
    def moved(self) -> float:
        return 0.1


class Named(dict[str, float]):
    def __call__(self, outputs, labels) -> float:
        return self["weight"]


@pytest.mark.parametrize(("kind", "member"), [(Held, "weight"), (Held, "helped"), (Inherits, "at_rest"), (Inherits, "moved")])
def test_a_metric_is_known_by_what_its_class_inherits_and_by_members_of_every_kind(monkeypatch: pytest.MonkeyPatch, kind: type, member: str) -> None:
    before = Task.own(Inherits(), "held", "higher").identity()
    assert Task.own(Inherits(), "held", "higher").identity() == before
    others = {"weight": 0.2, "helped": lambda self: 0.0, "at_rest": staticmethod(lambda: 0.2), "moved": property(lambda self: 0.2)}
    monkeypatch.setattr(kind, member, others[member])
    assert Task.own(Inherits(), "held", "higher").identity() != before


def test_a_metric_that_is_a_dict_is_known_by_its_class_too(monkeypatch: pytest.MonkeyPatch) -> None:
    before = Task.own(Named(weight=1.0), "named", "higher").identity()
    assert Task.own(Named(weight=1.0), "named", "higher").identity() == before != Task.own(Named(weight=2.0), "named", "higher").identity()
    monkeypatch.setattr(Named, "__call__", lambda self, outputs, labels: 0.0)
    assert Task.own(Named(weight=1.0), "named", "higher").identity() != before


def test_a_metric_in_a_module_of_the_users_own(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    (tmp_path / "users_helper.py").write_text("K = 1.0\ndef h(x):\n    return x * K\n")
    monkeypatch.syspath_prepend(tmp_path)
    helper = importlib.import_module("users_helper")
    task = Task.own(lambda outputs, labels: helper.h(1.0), "helped", "higher")
    before = task.identity()
    assert task.identity() == before
    monkeypatch.setattr(helper, "K", 2.0)
    assert task.identity() != before


@pytest.mark.parametrize(("name", "value"), [("SHIFT", 5.0), ("TABLE", np.ones(3)), ("helped", lambda outputs, labels: 1.0)])
def test_a_metric_is_another_when_what_it_reaches_changes(monkeypatch: pytest.MonkeyPatch, name: str, value) -> None:
    def metric(outputs, labels):
        return max(helped(each, labels) + TABLE.sum() for each in outputs)

    before = Task.own(metric, "shift", "higher").identity()
    monkeypatch.setitem(globals(), name, value)
    assert Task.own(metric, "shift", "higher").identity() != before


def test_agreement_of_dense_outputs_is_of_their_classes() -> None:
    generator = np.random.default_rng(0)
    outputs = generator.normal(size=(6, 3, 16, 16))
    other = outputs + 0.2 * generator.normal(size=outputs.shape)
    wanted = (outputs.argmax(1) == other.argmax(1)).mean()
    assert AGREEMENT.value(other, outputs) == pytest.approx(wanted)
    last = [np.moveaxis(array, 1, -1) for array in (other, outputs)]
    assert AGREEMENT.value(*last) == pytest.approx(wanted)
    masks = outputs[:, :1], other[:, :1]
    assert AGREEMENT.value(*masks) == pytest.approx(((masks[0] > 0) == (masks[1] > 0)).mean())


def test_the_layout_of_a_network_tells_where_the_classes_of_its_outputs_are() -> None:
    generator = np.random.default_rng(0)
    outputs, other = generator.normal(size=(2, 4, 40, 32, 20))
    inputs = np.zeros((4, 3, 64, 40), np.float32)
    for layout, axis in (("NCHW", 1), ("NHWC", 3)):
        bound = Data.from_arrays(evaluation=inputs).bind([TensorSpec("x", (None, 3, 64, 40), "float32", layout)])
        assert bound.task.value(other, outputs) == (outputs.argmax(axis) == other.argmax(axis)).mean()
        assert unlabelled(replace(ACCURACY, layout=layout)) == bound.task
