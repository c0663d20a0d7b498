"""Data of which neither they nor the user say how they are prepared: as the network's own source says."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tersenet.data.parts import Data
from tersenet.data.picture import Picture
from tersenet.data.preparation import Preparation
from tersenet.data.processing import Processing
from tersenet.data.sources import load
from tersenet.data.text import Text, encoded
from tersenet.errors import DataError
from tersenet.manifest import Manifest
from tersenet.tensors import TensorSpec

tokenizers = pytest.importorskip("tokenizers")
WORDS = {"[PAD]": 0, "[UNK]": 1, "good": 2, "bad": 3, "film": 4}
TOKENS = [TensorSpec("input_ids", (None, 6), "int64"), TensorSpec("attention_mask", (None, 6), "int64")]
IMAGE = [TensorSpec("pixel_values", (None, 3, 8, 8), "float32", "NCHW")]


def tokenizer() -> str:
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel(WORDS, unk_token="[UNK]"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    return made.to_str()


def of_texts(**options) -> Processing:
    gives = zip(TOKENS, ("ids", "mask"), strict=True)
    inputs = {spec.name: Preparation(decoded=Text(what, 6, content=tokenizer()), dtype="int64") for spec, what in gives}
    return Processing(inputs, **options)


def of_pictures(**options) -> Processing:
    way = Preparation(1 / 255, (0.5,) * 3, (0.25,) * 3, stored="NHWC", layout="NCHW", dtype="float32", decoded=Picture((8, 8)))
    return Processing({"pixel_values": way}, **options)


def table(folder: Path, labels: list[str], count: int = 40) -> str:
    lines = [f"{'good' if index % 2 else 'bad'} film {index},{labels[index % 2]}" for index in range(count)]
    (folder / "films.csv").write_text("\n".join(["text,label", *lines]))
    return str(folder / "films.csv")


def test_texts_become_tokens(tmp_path: Path) -> None:
    data = load(table(tmp_path, ["no", "yes"]), TOKENS, processing=of_texts(class_names=("yes", "no"), task="text-classification"))
    (ids, mask), labels = data.evaluation.batch(slice(0, 4))
    assert ids.dtype == np.int64 and ids.shape == (4, 6) and mask.sum(1).tolist() == [3] * 4
    assert ids[:, 0].tolist() == [WORDS[("good", "bad")[label]] for label in labels]
    assert data.class_names == ("yes", "no")
    again = load(data, TOKENS, processing=of_texts(class_names=("yes", "no")))
    assert again.fingerprint == data.fingerprint


def test_texts_given_from_python_become_tokens() -> None:
    texts = np.array(["good film", "bad film"] * 10, dtype=object)
    data = load(Data.from_arrays(evaluation=(texts, np.arange(20) % 2)), TOKENS, processing=of_texts())
    assert data.evaluation.names == ("input_ids", "attention_mask") and data.evaluation.arrays()[0][0].tolist() == [2, 4, 0, 0, 0, 0]


def test_labels_of_a_regression_are_numbers(tmp_path: Path) -> None:
    data = load(table(tmp_path, ["1", "2"]), TOKENS, processing=of_texts(task="regression"))
    assert data.task.kind == "regression" and data.evaluation.labels.dtype == np.float32
    with pytest.raises(DataError, match="predicts a number"):
        load(table(tmp_path, ["no", "yes"]), TOKENS, processing=of_texts(task="regression"))


@pytest.mark.parametrize(
    ("names", "classes", "order"),
    [
        (("b", "a"), ("a", "b"), [1, 0]),
        (("Tabby_Cat", "dog"), ("dog", "tabby cat"), [1, 0]),
        (("0", "2"), ("cat", "dog", "cow"), [0, 2]),
        (("a", "b"), ("LABEL_0", "LABEL_1"), [0, 1]),
    ],
)
def test_labels_are_put_in_the_order_of_the_outputs(names: tuple, classes: tuple, order: list[int]) -> None:
    x = np.random.default_rng(0).random((4, 3, 8, 8)).astype(np.float32)
    data = Data.from_arrays(evaluation=(x, [0, 1, 0, 1]), task="image-classification", class_names=names)
    got = of_pictures(class_names=classes).applied(data, IMAGE)
    assert got.evaluation.labels.tolist() == [order[label] for label in (0, 1, 0, 1)]
    assert got.class_names == (names if classes[0] == "LABEL_0" else classes) and bool(got.notes) == (classes[0] == "LABEL_0")


def test_classes_that_the_network_does_not_know() -> None:
    data = Data.from_arrays(evaluation=(np.zeros((2, 3, 8, 8)), [0, 1]), task="image-classification", class_names=("chat", "dog"))
    with pytest.raises(DataError, match="have the classes chat, and the network's are cat, dog; name them"):
        of_pictures(class_names=("cat", "dog")).applied(data, IMAGE)


def test_pictures_that_nobody_prepared_are_resized_and_normalized(tmp_path: Path) -> None:
    from PIL import Image

    pixels = np.random.default_rng(1).integers(0, 256, (12, 9, 11, 3), dtype=np.uint8)
    for index, picture in enumerate(pixels):
        folder = tmp_path / "set" / ("cat", "dog")[index % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(folder / f"{index}.png")
    processing = of_pictures(class_names=("dog", "cat"))
    of_files = load(tmp_path / "set", IMAGE, processing=processing)
    way = processing.inputs["pixel_values"]
    wanted = {way.apply(way.decoded.taken_of_array(picture)[None]).tobytes() for picture in pixels}
    got = {sample.tobytes() for _, part in of_files.parts() for sample in part.arrays()[0][:, None]}
    assert got == wanted and of_files.preparation[0].decoded == Picture((8, 8)) and of_files.class_names == ("dog", "cat")
    of_arrays = load(Data.from_arrays(evaluation=(pixels, np.arange(12) % 2)), IMAGE, processing=processing)
    assert {sample.tobytes() for sample in of_arrays.evaluation.arrays()[0][:, None]} == wanted
    grey = load(Data.from_arrays(evaluation=(pixels[..., 0], np.arange(12) % 2)), IMAGE, processing=processing)
    assert grey.evaluation.arrays()[0].shape == (12, 3, 8, 8)


def test_what_somebody_prepared_is_left_as_it_is() -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (12, 8, 8, 3), dtype=np.uint8)
    data = load(Data.from_arrays(evaluation=(pixels, np.arange(12) % 2), preparation=Preparation(scale=1.0)), IMAGE, processing=of_pictures())
    assert data.evaluation.arrays()[0].max() > 200
    floats = np.zeros((12, 3, 8, 8), np.float32)
    assert load(Data.from_arrays(evaluation=(floats, np.arange(12) % 2)), IMAGE, processing=of_pictures()).evaluation.arrays()[0].max() == 0


def test_a_processor_that_is_not_known_refuses_raw_samples_only(tmp_path: Path) -> None:
    refusing = Processing(refused="pictures are prepared by X; give arrays.")
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "x.txt").write_text("")
    for source in (tmp_path / "set", Data.from_arrays(evaluation=(np.zeros((9, 8, 8, 3), np.uint8), np.arange(9) % 2))):
        with pytest.raises(DataError, match="prepared by X"):
            load(source, IMAGE, processing=refusing)
    floats = Data.from_arrays(evaluation=(np.zeros((9, 3, 8, 8), np.float32), np.arange(9) % 2))
    assert len(load(floats, IMAGE, processing=refusing).evaluation) == 9


def test_the_record_round_trips_and_the_manifest_keeps_the_tokenizer_beside_it(tmp_path: Path) -> None:
    processing = of_texts(class_names=("a", "b"), task="text-classification")
    again = Processing.from_json(json.loads(json.dumps(processing.to_json())))
    assert again == processing and again.decoder.content == tokenizer()
    Manifest("0", "net", preparation=tuple(processing.inputs.values())).write(tmp_path)
    assert (tmp_path / "tokenizer.json").read_text() == tokenizer() and "vocab" not in (tmp_path / "manifest.json").read_text()
    read = Manifest.read(tmp_path / "manifest.json").preparation
    ids, mask = encoded(np.array(["bad film"], dtype=object), [way.decoded for way in read])
    assert ids.tolist() == [[3, 4, 0, 0, 0, 0]] and mask.tolist() == [[1, 1, 0, 0, 0, 0]]
    (tmp_path / "tokenizer.json").write_text(tokenizer().replace("good", "mean"))
    with pytest.raises(DataError, match=r"tokenizer.json is missing"):
        encoded(np.array(["x"], dtype=object), [way.decoded for way in Manifest.read(tmp_path / "manifest.json").preparation])


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"kind": "smell"}, "unknown kind of sample"),
        ({"kind": "text", "gives": "ids", "length": 0}, "length must be from 1"),
        ({"kind": "text", "gives": "sense", "length": 4}, "unknown result of a tokenizer"),
        ({"kind": "text", "gives": "ids", "length": 4, "tokenizer": "../../secrets"}, "is called tokenizer.json"),
        ({"kind": "picture", "resample": "best"}, "unknown resample"),
        ({"kind": "picture", "size": [8, -1]}, "whole numbers from 1"),
        ({"kind": "sound", "rate": 0}, "rate must be from 1"),
        ({"kind": "sound", "rate": 8000, "level": "loud"}, "unknown level"),
        ({"kind": "sound", "rate": 8000, "spectrogram": {"window": 9, "hop": 0, "fft": 16, "mels": 4, "low": 0.0, "high": 9.0}}, "whole numbers"),
    ],
)
def test_records_that_make_no_sense(record: dict, message: str) -> None:
    with pytest.raises(DataError, match=message):
        Preparation.from_json({"decoded": record})


def test_a_tokenizer_that_is_none() -> None:
    with pytest.raises(DataError, match="is not a tokenizer"):
        encoded(np.array(["x"], dtype=object), [Text("ids", 4, content="{}")])
