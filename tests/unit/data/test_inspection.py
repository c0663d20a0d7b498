"""What is wrong with data is said, and nothing is said of data that are right."""

import json
import re

import numpy as np
import pytest

from tersenet.data.inspection import describe
from tersenet.data.parts import Data
from tersenet.data.preparation import Preparation
from tersenet.data.samples import Part

RANDOM = np.random.default_rng(0)


def x(count: int) -> np.ndarray:
    return RANDOM.random((count, 4))


def y(count: int) -> np.ndarray:
    return np.arange(count) % 3


def test_what_data_hold() -> None:
    data = Data.from_arrays(train=(x(3000), y(3000)), class_names=["a", "b", "c"], name="fine")
    told = describe(data)
    assert json.loads(json.dumps(told)) == told
    assert told["problems"] == [] and told["name"] == "fine" and told["metric"] == "accuracy" and told["fingerprint"] == data.fingerprint
    evaluation = told["parts"]["evaluation"]
    assert evaluation["n"] == 600 and evaluation["classes"] == {"a": 200, "b": 200, "c": 200}
    (only,) = evaluation["inputs"]
    assert only["shape"] == [4] and only["dtype"] == "float64" and 0 <= only["range"][0] < 0.01 < 0.99 < only["range"][1] <= 1


def test_texts_are_told_by_their_lengths() -> None:
    texts = np.array(["good", "bad", "so so"] * 10)
    (only,) = describe(Data.from_arrays(evaluation=(texts, y(30))))["parts"]["evaluation"]["inputs"]
    assert only == {"name": "input", "shape": [], "dtype": "text", "characters": [3, 5]}


def shared() -> Data:
    part = Part((x(600),), y(600), (), (Preparation(),))
    return Data(train=part, calibration=Part((x(100),), None, (), (Preparation(),)), evaluation=part[:590])


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (lambda: Data.from_arrays(evaluation=(x(600), y(600))), "no calibration part"),
        (lambda: Data.from_arrays(calibration=x(100)), "no evaluation part"),
        (lambda: Data.from_arrays(calibration=x(100), evaluation=x(600)), "the evaluation part has no labels"),
        (lambda: Data.from_arrays(calibration=x(10), evaluation=(x(600), y(600))), "10 calibration samples are few"),
        (lambda: Data.from_arrays(calibration=x(100), evaluation=(x(36), y(36))), r"36 evaluation samples are few.*\+-9\.8 points"),
        (lambda: Data.from_arrays(evaluation=(x(600), np.repeat([0, 1], [570, 30]))), "class 0 has 570 samples, class 1 30; .* right on 95 %"),
        (lambda: Data.from_arrays(selection=(x(600), y(600)), evaluation=(x(600), y(600) % 2)), "evaluation part lacks classes .*: 2"),
        (lambda: Data.from_arrays(evaluation=(x(600), y(600) * 2)), "no sample has label 1, 3"),
        (lambda: Data.from_arrays(calibration=np.full((100, 4), 2.0), evaluation=(x(600), y(600))), r"same number \(2\) everywhere"),
        (lambda: Data.from_arrays(evaluation=(np.vstack([x(598), np.zeros((2, 4))]), y(600))), "2 of 600 samples .* blank"),
        (lambda: Data.from_arrays(evaluation=(np.vstack([x(598), np.ones((2, 4))]), y(600))), "1 of 600 evaluation samples repeat another"),
        (shared, "590 of 600 train samples also occur in the evaluation part"),
    ],
)
def test_problems_are_named(data, words: str) -> None:  # type: ignore[no-untyped-def]
    problems = describe(data())["problems"]
    assert any(re.search(words, problem) for problem in problems), problems


def test_several_inputs_are_named() -> None:
    told = describe(Data.from_arrays(calibration={"ids": x(100), "mask": np.ones((100, 4))}))
    assert [entry["name"] for entry in told["parts"]["calibration"]["inputs"]] == ["ids", "mask"]
    assert any("input mask of the calibration part is the same number (1)" in problem for problem in told["problems"])
