"""A user's own metric is known by what it answers."""

import sys
import warnings
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tersenet import Data, Task
from tersenet.data.answers import answers_of
from tersenet.tensors import TensorSpec

LABELS = np.arange(60) % 5
SPECS = (TensorSpec("y", (None, 5), "float32"),)
KEPT = SimpleNamespace(share=0.5)


def accuracy(outputs: Any, labels: Any) -> float:
    return float((outputs.argmax(1) == labels).mean())


def top_two(outputs: Any, labels: Any) -> float:
    return float((np.argsort(outputs, 1)[:, -2:] == labels[:, None]).any(1).mean())


def sure(share: float) -> Callable[..., float]:
    return lambda outputs, labels: float((outputs.max(1) > share).mean())


class Chosen:
    """Both functions are reached, whichever is taken."""

    def __init__(self, name: str) -> None:
        self.kinds = {"accuracy": accuracy, "top two": top_two}
        self.how = self.kinds[name]

    def __call__(self, outputs: Any, labels: Any) -> float:
        return self.how(outputs, labels)


def told(function: Callable[..., float], labels: np.ndarray = LABELS, specs: tuple[TensorSpec, ...] = SPECS) -> tuple[str, ...]:
    return answers_of(Task.own(function, "own", "higher"), labels, specs)


def test_metrics_that_answer_otherwise_are_others() -> None:
    kinds = [accuracy, top_two, sure(0.3), sure(0.31), Chosen("top two")]
    answers = [told(kind) for kind in kinds]
    assert len(set(answers[:4])) == 4 and answers[4] == answers[1]
    assert answers == [told(kind) for kind in kinds], "the same each time"


def test_what_its_code_does_not_show_changes_the_fingerprint(monkeypatch: pytest.MonkeyPatch) -> None:
    def metric(outputs: Any, labels: Any) -> float:
        import sys  # what is imported inside is not looked into

        return float((outputs.max(1) > sys.modules[__name__].KEPT.share).mean())

    def fingerprint(function: Callable[..., float]) -> str:
        x = np.random.default_rng(0).standard_normal((60, 4)).astype(np.float32)
        data = Data.from_arrays(evaluation=(x, LABELS), task=(function, "own", "higher"))
        return data.bind([TensorSpec("x", (None, 4), "float32")], SPECS).fingerprint

    before = fingerprint(metric)
    assert fingerprint(metric) == before
    monkeypatch.setattr(KEPT, "share", 0.4)
    assert fingerprint(metric) != before
    assert fingerprint(Chosen("accuracy")) != fingerprint(Chosen("top two"))


def test_a_metric_that_knows_how_many_samples_there_are() -> None:
    labels = np.random.default_rng(2).integers(0, 4, 2000)
    weights = np.random.default_rng(3).random(2000), np.random.default_rng(4).random(2000)
    answers = [told(lambda outputs, labels, own=own: float((own * (outputs.argmax(1) == labels)).sum()), labels) for own in weights]
    assert answers[0] != answers[1] and "ValueError" not in answers[0]


def test_large_logits_are_asked_about() -> None:
    answers = [told(lambda outputs, labels, limit=limit: float((outputs.max(1) > limit).mean())) for limit in (20.0, 25.0)]
    assert answers[0] != answers[1]


def test_what_cannot_be_asked() -> None:
    assert set(told(lambda outputs, labels: sys.exit(1))) == {"SystemExit"}
    assert told(lambda outputs, labels: float(np.random.default_rng().random())) == (), "another answer each time"
    assert set(told(lambda outputs, labels: {}["missing"])) == {"KeyError"}
    assert answers_of(Task.own(accuracy, "own", "higher"), None, SPECS) == ()
    several = (*SPECS, TensorSpec("z", (None, None, 3), "float32"))
    assert told(lambda outputs, labels: float(outputs[1].shape[1]), np.zeros((60, 7)), several)[0] == "7"


def talks(outputs: Any, labels: Any) -> float:
    print("judging")
    print("still judging", file=sys.stderr)
    warnings.warn("a class has no samples", stacklevel=1)
    return accuracy(outputs, labels)


def test_what_a_metric_says_of_made_up_outputs_is_for_nobody(capfd: pytest.CaptureFixture[str]) -> None:
    assert answers_of(Task.own(talks, "m", "higher"), LABELS, SPECS) == answers_of(Task.own(accuracy, "m", "higher"), LABELS, SPECS)
    assert capfd.readouterr() == ("", "")


def test_what_a_metric_prints_does_not_mix_with_a_record(capsys: pytest.CaptureFixture[str]) -> None:
    said = {"function": lambda outputs, labels: print("judging") or 1.0, "per_sample": lambda outputs, labels: print("judging") or np.ones(3)}
    for name, function in said.items():
        Task("own", "own", "m", "higher", True, **{name: function}).value(np.eye(3), np.arange(3))
        assert capsys.readouterr() == ("", "judging\n")
