"""Data from arrays: four disjoint parts, checked where they enter, bound to a network's inputs."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tersenet.data import cuts, sources
from tersenet.data.parts import Data, Part
from tersenet.data.preparation import Preparation
from tersenet.data.tasks import TASKS
from tersenet.errors import DataError
from tersenet.tensors import TensorSpec

IMAGE = TensorSpec("x", (None, 1, 4, 4), "float32")


def samples(count: int, *shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, *(shape or (3,)))).astype(np.float32)


def classes(count: int, number: int = 3) -> np.ndarray:
    return np.arange(count) % number


def rows(part: Part) -> set[bytes]:
    return {row.tobytes() for row in part.inputs[0]}


def test_parts_are_kept_as_they_are_given() -> None:
    x = samples(100)
    y = classes(100)
    data = Data.from_arrays(
        train=(x[:40], y[:40]), calibration=x[40:60], selection=(x[60:80], y[60:80]), evaluation=(x[80:], y[80:]), task="classification", name="mine"
    )
    assert [len(part) for _, part in data.parts()] == [40, 20, 20, 20]
    assert data.calibration.labels is None
    assert np.array_equal(data.evaluation.inputs[0], x[80:])
    assert data.to_json() | {"fingerprint": ""} == {
        "name": "mine",
        "task": "classification",
        "metric": "accuracy",
        "n_train": 40,
        "n_calibration": 20,
        "n_selection": 20,
        "n_evaluation": 20,
        "fingerprint": "",
        "notes": [],
    }


def test_left_out_parts_are_empty_and_falsy() -> None:
    data = Data.from_arrays(evaluation=(samples(10), classes(10)))
    assert not data.train and not data.calibration and not data.selection
    assert len(data.evaluation) == 10 and not data.without_evaluation().evaluation


def test_train_alone_is_cut_into_four_disjoint_parts() -> None:
    data = Data.from_arrays(train=(samples(1000), classes(1000)))
    assert {name: len(part) for name, part in data.parts()} == {"train": 350, "calibration": 350, "selection": 100, "evaluation": 200}
    sets = [rows(part) for _, part in data.parts()]
    assert sum(map(len, sets)) == len(set.union(*sets)) == 1000
    assert np.bincount(data.evaluation.labels).tolist() in ([67, 67, 66], [67, 66, 67], [66, 67, 67])
    assert "none in two parts" in data.notes[0]


def test_missing_calibration_is_cut_off_train() -> None:
    x, y = samples(1300), classes(1300)
    data = Data.from_arrays(train=(x[:1200], y[:1200]), evaluation=(x[1200:], y[1200:]))
    assert (len(data.train), len(data.calibration), len(data.selection)) == (688, 512, 0)
    assert not rows(data.train) & rows(data.calibration)


def test_cutting_is_seeded_and_the_fingerprint_follows_the_content() -> None:
    x, y = samples(100), classes(100)
    one, same = Data.from_arrays(train=(x, y)), Data.from_arrays(train=(x.copy(), y))
    assert one.fingerprint == same.fingerprint
    changed = x.copy()
    changed[17, 0] += 1
    others = [
        Data.from_arrays(train=(changed, y)),
        Data.from_arrays(train=(x, y[::-1])),
        Data.from_arrays(train=(x, y), task="image-classification"),
        Data.from_arrays(train=(x, y), preparation=Preparation(scale=0.5)),
        one.without_evaluation(),
    ]
    assert len({one.fingerprint, *(other.fingerprint for other in others)}) == 6


def test_tensors_and_lists_become_arrays() -> None:
    x, y = samples(12), classes(12)
    parameter = torch.nn.Parameter(torch.from_numpy(x))
    data = Data.from_arrays(evaluation=(parameter, torch.from_numpy(y)))
    assert np.array_equal(data.evaluation.inputs[0], x) and data.evaluation.labels.dtype == np.int64
    assert np.array_equal(Data.from_arrays(evaluation=(x.tolist(), y.tolist())).evaluation.labels, y)


def test_stored_arrays_cannot_be_written_and_batches_can() -> None:
    x = samples(5)
    data = Data.from_arrays(evaluation=(x, classes(5)))
    with pytest.raises(ValueError, match="read-only"):
        data.evaluation.inputs[0][0] = 0
    (batch,), labels = next(data.evaluation.batches(2))
    batch[:] = 0
    labels[:] = 0
    assert x[0].any() and x.flags.writeable and data.evaluation.labels[1] == 1
    torch.from_numpy(batch)  # would warn of an array that cannot be written


def test_batches_come_in_order_and_the_last_is_short() -> None:
    data = Data.from_arrays(evaluation=(np.arange(7.0)[:, None], classes(7)))
    batches = list(data.evaluation.batches(3))
    assert [len(labels) for _, labels in batches] == [3, 3, 1]
    assert np.concatenate([inputs[0] for inputs, _ in batches]).ravel().tolist() == list(range(7))
    with pytest.raises(DataError, match="at least 1, got 0"):
        next(data.evaluation.batches(0))


def test_uint8_images_stay_uint8_and_are_prepared_batch_by_batch() -> None:
    images = np.random.default_rng(0).integers(0, 256, (20, 4, 4), dtype=np.uint8)
    data = Data.from_arrays(evaluation=(images, classes(20)), task="image-classification").bind([IMAGE])
    assert data.evaluation.inputs[0].dtype == np.uint8
    (batch,), _ = next(data.evaluation.batches(20))
    assert batch.dtype == np.float32 and np.array_equal(batch, images[:, None] / np.float32(255))
    assert data.preparation[0].to_json() == Preparation(scale=1 / 255, stored="NHW", layout="NCHW", dtype="float32").to_json()


def test_a_preparation_overrules_the_scale() -> None:
    images = np.full((20, 4, 4), 200, np.uint8)
    data = Data.from_arrays(evaluation=(images, classes(20)), preparation=Preparation(scale=1.0)).bind([IMAGE])
    assert data.evaluation.arrays()[0].max() == 200


@pytest.mark.parametrize(
    ("stored", "wanted", "layout"),
    [
        ((4, 4), (1, 4, 4), "NCHW"),
        ((4, 4), (4, 4, 1), "NHWC"),
        ((6, 5, 3), (3, 6, 5), "NCHW"),
        ((3, 6, 5), (6, 5, 3), "NHWC"),
        ((3, 6, 5), (3, None, None), ""),
        ((6, 5, 3), (3, None, None), "NCHW"),
        ((1, 4, 4), (4, 4), "NHW"),
        ((1, 4, 4), (16,), ""),
        ((4, 4), (16,), ""),
        ((16,), (1, 4, 4), ""),
        ((16,), (16,), ""),
        ((9,), (1, 9), "NCW"),
        ((7, 5), (None, 5), ""),
    ],
)
def test_layouts_that_fit(stored: tuple[int, ...], wanted: tuple[int | None, ...], layout: str) -> None:
    x = samples(6, *stored)
    data = Data.from_arrays(evaluation=(x, classes(6))).bind([TensorSpec("x", (None, *wanted), "float32")])
    (batch,) = data.evaluation.arrays()
    assert all(want is None or got == want for got, want in zip(batch.shape[1:], wanted, strict=True))
    assert data.preparation[0].layout == layout
    if sorted(stored) == [3, 5, 6] and layout:
        axes = (0, 3, 1, 2) if layout == "NCHW" else (0, 2, 3, 1)
        assert np.array_equal(batch, x.transpose(axes))
    else:
        assert np.array_equal(batch.ravel(), x.ravel())


def test_a_declared_layout_decides_where_shapes_do_not() -> None:
    x = samples(6, 3, 3, 3)
    spec = TensorSpec("x", (None, 3, 3, 3), "float32", "NCHW")
    kept = Data.from_arrays(evaluation=(x, classes(6))).bind([spec])
    turned = Data.from_arrays(evaluation=(x, classes(6)), preparation=Preparation(stored="NHWC")).bind([spec])
    assert np.array_equal(kept.evaluation.arrays()[0], x)
    assert np.array_equal(turned.evaluation.arrays()[0], x.transpose(0, 3, 1, 2))


def test_binding_twice_is_binding_once() -> None:
    data = Data.from_arrays(evaluation=(np.full((20, 4, 4), 255, np.uint8), classes(20))).bind([IMAGE])
    again = data.bind([IMAGE])
    assert again.preparation == data.preparation and again.fingerprint == data.fingerprint


def test_shapes_that_do_not_fit_are_both_named() -> None:
    data = Data.from_arrays(evaluation=(samples(10, 1, 8, 8), classes(10)))
    with pytest.raises(DataError, match=r"shape \(1, 8, 8\).*'x' takes shape \(3, 32, 32\)"):
        data.bind([TensorSpec("x", (None, 3, 32, 32), "float32")])


def test_every_part_must_fit() -> None:
    data = Data.from_arrays(calibration=samples(8, 4, 4), evaluation=(samples(8, 5, 4, seed=1), classes(8)))
    with pytest.raises(DataError, match=r"evaluation part.*shape \(1, 5, 4\).*\(1, 4, 4\)"):
        data.bind([IMAGE])


def test_several_inputs_come_in_the_networks_order() -> None:
    tokens, mask = np.arange(40).reshape(10, 4), np.ones((10, 4), bool)
    specs = [TensorSpec("tokens", (None, None), "int64"), TensorSpec("mask", (None, None), "float32")]
    data = Data.from_arrays(calibration={"tokens": tokens[:5], "mask": mask[:5]}, evaluation=({"mask": mask[5:], "tokens": tokens[5:]}, classes(5)))
    (first, second), _ = next(data.bind(specs).evaluation.batches(5))
    assert (first.dtype, second.dtype) == (np.int64, np.float32) and np.array_equal(first, tokens[5:])
    plain = Data.from_arrays(calibration=(tokens, mask)).bind(specs)
    assert [array.dtype for array in plain.calibration.arrays()] == [np.int64, np.float32]
    with pytest.raises(DataError, match="lack token_ids"):
        data.bind([TensorSpec("token_ids", (None, None), "int64"), specs[1]])
    with pytest.raises(DataError, match="takes 1 inputs"):
        data.bind(specs[:1])


def test_dtypes_that_the_network_cannot_take() -> None:
    spec = TensorSpec("ids", (None, 3), "int32")
    assert Data.from_arrays(calibration=np.ones((5, 3))).bind([spec]).calibration.arrays()[0].dtype == np.int32
    with pytest.raises(DataError, match="fractions"):
        Data.from_arrays(calibration=samples(5)).bind([spec])
    with pytest.raises(DataError, match="reach from"):
        Data.from_arrays(calibration=np.full((5, 3), 2**40)).bind([spec])
    with pytest.raises(DataError, match="reach from"):
        Data.from_arrays(calibration=np.full((5, 3), 1e300)).bind([TensorSpec("x", (None, 3), "float32")])
    with pytest.raises(DataError, match="texts"):
        Data.from_arrays(calibration=np.array(["a", "b"])).bind([spec])


def test_labels_are_held_against_the_networks_classes() -> None:
    data = Data.from_arrays(evaluation=(samples(9), classes(9)))
    spec = [TensorSpec("x", (None, 3), "float32")]
    data.bind(spec, [TensorSpec("y", (None, 3), "float32")])
    with pytest.raises(DataError, match="out of range: the highest is 2, and the network has 2 classes"):
        data.bind(spec, [TensorSpec("y", (None, 2), "float32")])


def test_whole_targets_that_were_taken_for_classes_are_told_what_to_say() -> None:
    spec = [TensorSpec("x", (None, 3), "float32")]
    several = Data.from_arrays(evaluation=(samples(9), np.arange(18.0).reshape(9, 2)))
    with pytest.raises(DataError, match=r"have shape \(2,\) a sample.*task='regression'"):
        several.bind(spec, [TensorSpec("y", (None, 2), "float32")])
    with pytest.raises(DataError, match="the highest is 8.*0..1.*task='regression'"):
        Data.from_arrays(evaluation=(samples(9), np.arange(9.0))).bind(spec, [TensorSpec("y", (None, 1), "float32")])
    with pytest.raises(DataError, match="the lowest is -4.*task='regression'"):
        Data.from_arrays(evaluation=(samples(9), np.arange(9.0) - 4))
    with pytest.raises(DataError, match=r"must lie in 0..1.*got 0\.\.8; .*task='regression'"):
        TASKS["classification"].value(np.zeros(9), np.arange(9))


def nan(x: np.ndarray) -> np.ndarray:
    x[3, 1] = np.nan
    return x


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({}, "no data were given"),
        ({"evaluation": (samples(0), classes(0))}, "empty"),
        ({"evaluation": (nan(samples(9)), classes(9))}, "NaN in 1 places"),
        ({"evaluation": (samples(9) * np.float32(np.inf), classes(9))}, "infinite"),
        ({"calibration": np.array([object(), object()])}, "dtype object"),
        ({"calibration": np.array([1 + 1j])}, "dtype complex128"),
        ({"calibration": [[1.0], [1.0, 2.0]]}, "pad"),
        ({"calibration": 3.0}, "a single float64"),
        ({"evaluation": (samples(9), classes(8))}, "equal lengths, got 9 and 8"),
        ({"evaluation": (samples(9), 1)}, "equal lengths, got 9 and a single number"),
        ({"evaluation": (samples(9), classes(9), 1)}, r"a pair \(x, y\)"),
        ({"calibration": (samples(9), samples(9)), "evaluation": (samples(9), classes(9))}, "same inputs.*last array of a tuple is its labels"),
        ({"evaluation": (samples(9), np.zeros(9, int))}, "one class only"),
        ({"evaluation": (samples(9), classes(9) - 1)}, "out of range: the lowest is -1"),
        ({"evaluation": (samples(9), classes(9)), "class_names": ["a", "b"]}, "out of range: the highest is 2"),
        ({"evaluation": (samples(9), classes(9) + 0.5), "task": "classification"}, "fractions"),
        ({"evaluation": (samples(9), np.full(9, np.nan)), "task": "classification"}, "NaN"),
        ({"evaluation": (samples(9), np.full(9, np.nan)), "task": "regression"}, "NaN"),
        ({"evaluation": (samples(9), np.full(9, 1j)), "task": "classification"}, "dtype complex128"),
        ({"evaluation": (samples(9), np.array(["a", "b", "c"] * 3)), "class_names": ["a", "b"]}, "c not among"),
        ({"evaluation": (samples(9), classes(9)), "task": "clasification"}, "did you mean 'classification'"),
        ({"evaluation": (samples(9), classes(9)), "task": 3}, "a task is a name"),
        ({"evaluation": (samples(9), classes(9)), "preparation": (Preparation(), Preparation())}, "1 preparation .*must be given, got 2"),
        ({"evaluation": (samples(9), classes(9)), "preparation": {"x": Preparation()}}, "preparations are given for x"),
        ({"train": (samples(4), classes(4))}, "too few to cut"),
        ({"calibration": np.zeros((9, 3), np.uint8), "evaluation": (samples(9), classes(9))}, "uint8 in every part or in none"),
    ],
)
def test_bad_input(parts: dict, message: str) -> None:
    with pytest.raises(DataError, match=message):
        Data.from_arrays(**parts)


@pytest.mark.parametrize("part", ["calibration", "train", "selection"])
def test_parts_that_share_samples_with_evaluation_are_refused(part: str) -> None:
    x, y = samples(100), classes(100)
    value = x[:50] if part == "calibration" else (x[:50], y[:50])
    with pytest.raises(DataError, match=f"1 of 50 {part} samples overlap the evaluation part"):
        Data.from_arrays(**{part: value}, evaluation=(x[49:], y[49:]))
    fine = np.random.default_rng(0).random(x.shape)  # numbers that float32 rounds
    rounded = fine[:50].astype(np.float32) if part == "calibration" else (fine[:50].astype(np.float32), y[:50])
    with pytest.raises(DataError, match="overlap"):
        Data.from_arrays(**{part: rounded}, evaluation=(fine[49:], y[49:]))


def test_train_and_selection_share_nothing_but_calibration_may_be_of_train() -> None:
    x, y = samples(100), classes(100)
    with pytest.raises(DataError, match="1 of 50 train samples overlap the selection part"):
        Data.from_arrays(train=(x[:50], y[:50]), selection=(x[49:60], y[49:60]))
    assert len(Data.from_arrays(train=(x[:50], y[:50]), calibration=x[:20]).calibration) == 20


def test_what_is_cut_to_select_by_is_not_what_calibrates(tmp_path: Path) -> None:
    """A published archive whose calibration part is some of its train part."""
    x, y = np.random.default_rng(0).standard_normal((400, 8)).astype(np.float32), np.arange(400) % 4
    np.savez(tmp_path / "a.npz", x_train=x[:300], y_train=y[:300], x_test=x[300:], y_test=y[300:], x_calibration=x[:100])
    data = sources.load(tmp_path / "a.npz")
    assert len(data.selection) and len(data.train) + len(data.selection) == 300
    assert not cuts.also_in(data.calibration.inputs, data.selection.inputs).any()
    assert cuts.also_in(data.calibration.inputs, data.train.inputs).all()


def test_copies_within_a_part_hide_no_leak() -> None:
    x = samples(100)
    calibration = np.concatenate([np.repeat(x[:1], 60, axis=0), x[50:]])
    with pytest.raises(DataError, match="50 of 110 calibration samples overlap"):
        Data.from_arrays(calibration=calibration, evaluation=(x[50:], classes(50)))
    with pytest.raises(DataError, match="200 of 200 calibration samples overlap"):
        Data.from_arrays(calibration=np.concatenate([x, x]), evaluation=(x, classes(100)))


def test_data_that_repeat_themselves_are_not_called_overlapping() -> None:
    x = np.random.default_rng(0).integers(0, 2, (200, 2)).astype(np.float32)  # four different samples in all
    data = Data.from_arrays(calibration=x[:50], evaluation=(x[50:], classes(150)))
    assert len(data.calibration) == 50
    assert data.notes[0] == "50 of 50 calibration samples overlap the evaluation part, which has less than 5 different samples"


def test_parts_that_somebody_puts_together_are_held_apart_too() -> None:
    data = Data.from_arrays(evaluation=(samples(20, 1, 4, 4), classes(20)))
    for together in (Data(calibration=data.evaluation, evaluation=data.evaluation), replace(data, calibration=data.evaluation).renamed("again")):
        with pytest.raises(DataError, match="20 of 20 calibration samples overlap the evaluation part"):
            together.bind([IMAGE])
    assert Data(calibration=data.evaluation[:5], evaluation=data.evaluation[5:]).bind([IMAGE]).apart


def test_labels_in_the_forms_that_people_have() -> None:
    y = classes(9)
    for form in (np.eye(3)[y], np.eye(3, dtype=np.uint8)[y], y[:, None], y.astype(np.float32), y.astype(np.uint8), list(y)):
        assert np.array_equal(Data.from_arrays(evaluation=(samples(9), form), task="classification").evaluation.labels, y)
    named = Data.from_arrays(evaluation=(samples(9), np.array(["cat", "ant", "bee"])[y]))
    numbers = Data.from_arrays(evaluation=(samples(12), np.arange(12).astype(str)))
    assert numbers.class_names == () and numbers.evaluation.labels.tolist() == list(range(12))
    objects = Data.from_arrays(evaluation=(samples(12), np.arange(12).astype(object)))
    assert objects.class_names == () and objects.evaluation.labels.tolist() == list(range(12))
    assert named.class_names == ("ant", "bee", "cat") and named.evaluation.labels[:3].tolist() == [2, 0, 1]


def test_without_labels_the_float_network_is_the_judge() -> None:
    data = Data.from_arrays(calibration=samples(9), evaluation=samples(9, seed=1), task="image-classification")
    assert data.task.kind == "agreement" and "no labels" in data.notes[0]
    assert Data.from_arrays(evaluation=samples(9), task="regression").task.name == "fidelity"
    assert not Data.from_arrays(evaluation=({"a": samples(9), "b": samples(9)}, None)).task.labelled


def test_data_are_shown_in_a_line() -> None:
    data = Data.from_arrays(calibration=np.zeros((5, 2)), evaluation=(samples(9), classes(9)), name="mine")
    assert repr(data) == "Data('mine', classification: 0 train, 5 calibration, 0 selection, 9 evaluation)"
    assert repr(data.evaluation) == "Part(9 samples of float32 (3,), labelled)" and repr(data.train) == "Part(empty)"
    assert repr(data.calibration) == "Part(5 samples of float64 (2,), not labelled)"


def test_limits_keep_each_class_its_share() -> None:
    y = np.repeat([0, 1], [900, 100])
    data = Data.from_arrays(evaluation=(samples(1000), y)).limited("evaluation", 100)
    assert np.bincount(data.evaluation.labels).tolist() == [90, 10]
    with pytest.raises(DataError, match="did you mean 'evaluation'"):
        data.limited("evaluate", 3)
    with pytest.raises(DataError, match="at least 0, got -1"):
        data.evaluation.take(-1)
    assert data.evaluation.take(1000) is data.evaluation and len(data.evaluation.take(3)) == 3
