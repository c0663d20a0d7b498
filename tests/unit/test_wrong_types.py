"""What Python gives to the face in another type than it must have is named, in an error of ours."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import tersenet
from tersenet import Data, ExportOptions, Model, Preparation, Recipe, Report, Settings, Task, TersenetError


def arrays(**options: Any) -> Data:
    return Data.from_arrays((np.zeros((40, 3), np.float32), [0, 1] * 20), **options)


def loaded(**options: Any) -> Model:
    return tersenet.load(torch.nn.Linear(3, 2), (torch.zeros(2, 3),), **options)


WRONG: dict[str, tuple[Callable[[], Any], str]] = {
    "settings' options": (lambda: Settings(options=3), "settings.options must be a JSON object, got int"),  # type: ignore[arg-type]
    "settings' threads": (lambda: Settings(threads="2"), "settings.threads must be int, got str"),  # type: ignore[arg-type]
    "a recipe": (lambda: Recipe(3), "a recipe is a list of steps"),  # type: ignore[arg-type]
    "a format's options": (lambda: ExportOptions(format=3), "options of a file.format must be a JSON object, got int"),  # type: ignore[arg-type]
    "a mean": (lambda: Preparation(mean="a"), "mean must be a number, or one for each channel, got 'a'"),  # type: ignore[arg-type]
    "a scale": (lambda: Preparation(scale="a"), "scale must be a number"),  # type: ignore[arg-type]
    "a size": (lambda: Preparation(size=3), "preparation.size must be a list, got int"),  # type: ignore[arg-type]
    "class names": (lambda: arrays(class_names=3), "class names must be a list of names, got 3"),
    "one text of class names": (lambda: arrays(class_names="ab"), "class names must be a list of names, got 'ab'"),
    "a preparation": (lambda: arrays(preparation=3), "a preparation must be a tersenet.Preparation, or a tuple or dict of them, got int"),
    "data's name": (lambda: arrays(name=3), "a name, got Task and int"),
    "a part": (lambda: Data(np.zeros(3)), "train must be a Part of samples, got ndarray; arrays go through Data.from_arrays"),  # type: ignore[arg-type]
    "weights": (lambda: loaded(weights=3), "weights must be the path of a file, got int"),
    "a network's name": (lambda: loaded(name=3), "the name of a network must be text, got int"),
    "open axes": (lambda: loaded(dynamic=3), "dynamic must name the open axes of inputs, as {'input': {1: 'words'}}, got 3"),
    "a dict for options": (lambda: Settings(options={}), "settings.options must be of the class ExportOptions, got dict"),  # type: ignore[arg-type]
    "progress": (lambda: Settings(progress=1), "settings.progress must be a function, got int"),  # type: ignore[arg-type]
    "a dict for a picture": (lambda: Preparation(decoded={}), "preparation"),  # type: ignore[arg-type]
    "a dtype": (lambda: Preparation(dtype="nonsense"), "unknown dtype of a preparation 'nonsense'"),
    "sizes": (lambda: Preparation(size=(-1, 2)), "shape and size must be positive"),
    "trust": (lambda: loaded(trust=3), "trust must be True or False"),
    "length": (lambda: loaded(length=np.zeros(3)), "length a whole number"),
    "a metric's name": (lambda: Task.own(len, 5, "higher"), "a metric has a name, a direction"),  # type: ignore[arg-type]
    "a metric's direction": (lambda: Task.own(len, "m", np.zeros(3)), "a metric has a name, a direction"),  # type: ignore[arg-type]
    "what is saved": (lambda: tersenet.save(1, "x.pt2"), "a tersenet.Model is saved to the path of a file, got int and str"),  # type: ignore[arg-type]
    "a file to measure": (lambda: tersenet.evaluate(1, "digits"), "a file must be given by its path, got int"),  # type: ignore[arg-type]
    "a run to read": (lambda: Report.read(1), "a run's folder must be a path, got int"),  # type: ignore[arg-type]
    "out": (lambda: tersenet.compress(torch.nn.Linear(3, 2), "digits", out="a\0b"), "out must be the path of a folder, got 'a\\x00b'"),
    "an open axis": (lambda: loaded(dynamic={"input": {"a": "b"}}), "dynamic must name the open axes"),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_type_is_named(what: str) -> None:
    make, message = WRONG[what]
    with pytest.raises(TersenetError) as caught:
        make()
    assert message in str(caught.value)


def test_numbers_of_numpy_and_paths_are_taken() -> None:
    found = Preparation(scale=np.float32(0.5), mean=np.ones(3), std=2)  # type: ignore[arg-type]
    assert (found.scale, found.mean, found.std) == (0.5, (1.0, 1.0, 1.0), (2.0,))
    assert Settings(weights=Path("a.safetensors")).weights == Path("a.safetensors")
