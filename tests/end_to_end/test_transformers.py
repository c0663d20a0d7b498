"""A folder of Transformers and a table of texts, from the command line to files that are measured again from their manifest alone."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

import transformers_networks as networks
from tersenet import cli

transformers = pytest.importorskip("transformers")
pytestmark = [pytest.mark.end_to_end, pytest.mark.slow]
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "film", "good", "bad", "fine"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint with its tokenizer, and a table of 120 texts of three classes, in another order than the network's."""
    folder = tmp_path_factory.mktemp("texts")
    networks.saved(networks.CASES[0], folder / "net")
    config = json.loads((folder / "net" / "config.json").read_text())
    config.update(id2label={"0": "good", "1": "fine", "2": "bad"}, label2id={"good": 0, "fine": 1, "bad": 2})
    (folder / "net" / "config.json").write_text(json.dumps(config))
    (folder / "net" / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    transformers.BertTokenizer.from_pretrained(folder / "net").save_pretrained(folder / "net")
    with (folder / "films.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["review", "verdict"])
        rows.writerows([f"a{' film' * (index // 3 % 8)} {word} {'film ' * (index // 24)}", word] for index in range(120) for word in WORDS[7:])
    return folder


def test_from_texts_to_a_file_and_back(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, out = f"{folder}/films.csv:review,verdict", folder / "run"
    assert cli.main(["compress", str(folder / "net"), "--data", data, "--length", "12", "--out", str(out), "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["model"]["format"] == "transformers" and record["data"]["task"] == "text-classification"
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["class_names"] == ["good", "fine", "bad"]
    assert [way["decoded"]["gives"] for way in manifest["preparation"]] == ["ids", "mask", "types"]
    assert (out / "tokenizer.json").is_file()
    assert cli.main(["measure", str(out / "artifacts/onnxruntime/model.onnx"), "--data", data, "--json"]) == 0
    measured = json.loads(capsys.readouterr().out)["quality"]
    quality = record["artifacts"][0]["quality"]
    assert (measured["value"], measured["n"]) == (quality["value"], quality["n"])


def test_a_length_beyond_the_network_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = f"{folder}/films.csv:review,verdict"
    assert cli.main(["compress", str(folder / "net"), "--data", data, "--length", "41", "--out", str(folder / "long")]) == 2
    assert "at most 40 tokens, and a length of 41 is asked for" in capsys.readouterr().err
    assert not (folder / "long").exists()
