"""What Python gives to the face in another type than it must have is named, in an error of ours."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import tersenet
from tersenet import Data, ExportOptions, Model, Preparation, Recipe, Report, Settings, Task, TersenetError
from tersenet.data.samples import Part


def arrays(**options: Any) -> Data:
    return Data.from_arrays((np.zeros((40, 3), np.float32), [0, 1] * 20), **options)


def loaded(**options: Any) -> Model:
    return tersenet.load(torch.nn.Linear(3, 2), (torch.zeros(2, 3),), **options)


def arrays_and_texts() -> Data:
    return Data.from_arrays(calibration=np.zeros((4, 3), np.float32), evaluation=(np.array(["a", "b"] * 8), [0, 1] * 8))


def task(**options: Any) -> Task:
    return Task(**{"name": "own", "kind": "own", "metric": "m", "direction": "higher", "bounded": True, "function": len, **options})


class Unspeakable:
    """It says that it is an array, and does not say how it looks."""

    def __repr__(self) -> str:
        raise RuntimeError

    def __array__(self, *given: Any) -> np.ndarray:
        raise RuntimeError


NETWORK = torch.nn.Linear(3, 2)
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
    "runtimes to learn for": (lambda: tersenet.fit(NETWORK, "digits", to=None), "the runtimes must be the name of one, or a list of names"),  # type: ignore[arg-type]
    "out of fit": (lambda: tersenet.fit(NETWORK, "digits", out=5), "out must be the path of a folder, got 5"),  # type: ignore[arg-type]
    "out of distill": (lambda: tersenet.distill(NETWORK, "digits", out="a\0b"), "out must be the path of a folder, got 'a\\x00b'"),
    "progress of fit": (lambda: tersenet.fit(NETWORK, "digits", progress=1), "progress must be a function"),  # type: ignore[arg-type]
    "a loss": (lambda: tersenet.fit(NETWORK, arrays(), loss=5), "loss must be a function of (outputs, labels), got int"),  # type: ignore[arg-type]
    "an array for training": (lambda: tersenet.fit(NETWORK, "digits", np.ones(2)), "training must be a plain value, got an array"),  # type: ignore[arg-type]
    "a recipe's path": (lambda: tersenet.compress(NETWORK, "digits", recipe=Path("missing")), "unknown recipe 'missing'"),  # type: ignore[arg-type]
    "runtimes to look at": (lambda: tersenet.inspect_model(NETWORK, None), "the runtimes must be the name of one"),  # type: ignore[arg-type]
    "runtimes by number": (lambda: tersenet.inspect_model(NETWORK, [1]), "the runtimes must be the name of one"),  # type: ignore[list-item]
    "an instruction set": (lambda: tersenet.inspect_model(NETWORK, cpu=1), "unknown instruction set 1; known: arm64"),  # type: ignore[arg-type]
    "no file to measure": (lambda: tersenet.evaluate(None, "digits"), "a file must be given by its path, got NoneType"),  # type: ignore[arg-type]
    "progress of evaluate": (lambda: tersenet.evaluate("a", "digits", progress=None), "progress must be a function"),  # type: ignore[arg-type]
    "no class names": (lambda: Data(class_names=None), "data.class_names must be a list, got NoneType"),  # type: ignore[arg-type]
    "one number of class names": (lambda: arrays(class_names=np.array(3.0)), "class names must be a list of names, got array(3.)"),
    "half a character": (lambda: arrays(name="\udc80"), "data.name must be text that UTF-8 can hold, got '\\udc80'"),
    "half a character of a class": (lambda: arrays(class_names=["a", "\udc80"]), "data.class_names must be text that UTF-8 can hold"),
    "half a character of a task": (lambda: task(name="\udc80"), "task.name must be text that UTF-8 can hold"),
    "half a character of a network": (lambda: loaded(name="\udc80"), "the name of a network must be text that UTF-8 can hold"),
    "inputs by number": (lambda: arrays(preparation={1: 2}), "preparations are given for 1"),
    "a list of no preparations": (
        lambda: arrays(preparation=[3]),
        "1 preparation (tersenet.Preparation), one for each input, must be given, got [3]",
    ),
    "a record of a preparation": (lambda: Preparation.from_json(None), "a preparation's record must be a JSON object, got NoneType"),  # type: ignore[arg-type]
    "a key of a record": (lambda: Preparation.from_json({1: 2}), "unknown field of a preparation 1"),  # type: ignore[dict-item]
    "what is prepared": (lambda: Preparation(mean=1.0).apply("a"), "a preparation takes an array (n, ...) of numbers"),  # type: ignore[arg-type]
    "a count": (lambda: arrays().limited("train", "3"), "a number of samples must be a whole number of at least 0, got '3'"),  # type: ignore[arg-type]
    "a seed": (lambda: arrays().limited("train", 3, seed=-1), "a seed must be a whole number of at least 0, got -1"),
    "a part's name": (lambda: arrays().limited(["train"], 3), "unknown part ['train']; known: calibration"),  # type: ignore[arg-type]
    "samples to take": (lambda: arrays().train.take(None), "a number of samples must be a whole number"),  # type: ignore[arg-type]
    "a batch's size": (lambda: arrays().train.batches("3"), "a batch's size must be a whole number of at least 1, got '3'"),  # type: ignore[arg-type]
    "specs": (lambda: arrays().bind(5), "inputs must be those of a network (model.inputs), got 5"),  # type: ignore[arg-type]
    "labels of a part": (lambda: Part((np.zeros((2, 3)),), [0, 1]), "a part.labels must be ndarray, got list"),  # type: ignore[arg-type]
    "preparations of a part": (lambda: Part((np.zeros((2, 3)),), preparation=({},)), "must be of the class Preparation, got tuple"),  # type: ignore[arg-type]
    "a part without preparations": (lambda: Data(Part((np.zeros((2, 3)),))), "the train part has 1 input and 0 preparations"),
    "labels that no JSON has": (lambda: Data.from_arrays((np.zeros((2, 3)), [{1}, {2}]), task=(len, "m", "higher")), "labels must be numbers, words"),
    "a shape for texts": (lambda: arrays_and_texts().bind(loaded().inputs), "the data are texts and the network's input"),
    "a task's direction": (lambda: task(direction=np.ones(2)), "task.direction must be str, got ndarray"),
    "a task's name": (lambda: task(name=object()), "task.name must be str, got object"),
    "a task's scores": (lambda: task(per_sample=5), "task.per_sample must be a function, got int"),
    "a ratio": (lambda: tersenet.Prune(ratio=np.ones(2)), "Prune: ratio must be a plain value, got an array (ndarray)"),  # type: ignore[arg-type]
    "a tensor for a ratio": (lambda: tersenet.Sparsify(ratio=torch.ones(2)), "Sparsify: ratio must be a plain value, got an array (Tensor)"),  # type: ignore[arg-type]
    "epochs": (lambda: Recipe([]).retrained(np.ones(2)), "epochs must be a plain value, got an array"),  # type: ignore[arg-type]
    "no steps": (lambda: Recipe(np.array(3.0)), "a recipe is a list of steps"),  # type: ignore[arg-type]
    "what a network is given": (lambda: loaded()(""), "takes an array of float32, and str cannot be made one"),
    "objects for examples": (
        lambda: tersenet.load(torch.nn.Linear(3, 2), (np.array([None, 1], dtype=object),)),
        "a network takes arrays of numbers that torch knows",
    ),
    "a path of a page": (lambda: tersenet.load_keras("x" * 5000), "cannot be read: File name too long"),
    "half a character of a folder": (lambda: tersenet.compress(NETWORK, "digits", out="\ud800"), "out must be the path of a folder, got '\\ud800'"),
    "a step's record": (lambda: tersenet.Quantize.from_json("int8"), "the record of a step must be a mapping of options, got str"),  # type: ignore[arg-type]
    "what says that it is an array": (lambda: tersenet.Prune(ratio=Unspeakable()), "ratio must be a plain value, got an array (Unspeakable)"),  # type: ignore[arg-type]
    "what has no words": (lambda: tersenet.Budget(max_bytes=Unspeakable()), "64KiB or 4096, got Unspeakable"),  # type: ignore[arg-type]
    "what has no words for a scale": (lambda: Preparation(scale=[Unspeakable()]), "scale must be a number, or one for each channel, got tuple"),  # type: ignore[arg-type]
    "what has no words for a seed": (lambda: tersenet.fit(NETWORK, "digits", seed=Unspeakable()), "a seed must be a whole number"),  # type: ignore[arg-type]
    "an option of one format": (lambda: ExportOptions(format={"qoperator": np.ones(2)}), "options of a file.format.qoperator must be"),  # type: ignore[dict-item]
    "an endless crop": (lambda: tersenet.Training(augmentation=["crop:inf"]), "the number of crop must be a whole number, got inf"),  # type: ignore[arg-type]
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
    assert len(arrays().train.take(np.int64(3), np.int64(1))) == 3
    assert Preparation(mean=1.0).apply([[1, 2]]).tolist() == [[0.0, 1.0]]  # type: ignore[arg-type]


def test_a_page_that_is_given_for_a_name_is_not_repeated() -> None:
    with pytest.raises(TersenetError) as caught:
        task(direction="x" * 5000)
    assert len(str(caught.value)) < 400
    with pytest.raises(TersenetError) as caught:
        tersenet.load("x" * 50_000)
    assert len(str(caught.value)) < 5000 and str(caught.value).endswith("File name too long.")
