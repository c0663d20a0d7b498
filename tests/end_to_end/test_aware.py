"""Quantization-aware training from outside: files that do what the network that learned did, and the command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import tersenet
from tersenet import Quantize, Recipe, Train, Training
from tersenet.cli import main
from tersenet.data.digits import read_digits
from tersenet.model import Model
from tersenet.step import Context
from unit.steps.test_aware import Digits

pytestmark = pytest.mark.end_to_end
TARGETS = ["onnxruntime", "litert", "litert-micro", "executorch"]


@pytest.fixture(scope="module")
def network() -> Model:
    torch.manual_seed(0)
    model = tersenet.load(Digits().eval(), (torch.zeros(2, 1, 8, 8),))
    return Train(Training(epochs=4, learning_rate=3e-3)).apply(model, Context((), read_digits())).model


@pytest.mark.slow
@pytest.mark.parametrize(("learn", "dtype", "most"), [("steps", "int8", 1.0), ("moving", "int8", 1.0), ("steps", "int4", 3.0)])
def test_files_agree_with_the_network_that_learned(network: Model, tmp_path: Path, learn: str, dtype: str, most: float) -> None:
    training = {"epochs": 2 if dtype == "int8" else 4, "learning_rate": 1e-3, "learn": learn}
    recipe = Recipe([Quantize(weights=dtype, activations=dtype, training=training)])
    report = tersenet.compress(network, "digits", to=TARGETS, recipe=recipe, out=tmp_path / "run")
    record = json.loads((tmp_path / "run" / "report.json").read_text())
    assert [artifact["target"] for artifact in record["artifacts"]] == list(report.artifacts) == TARGETS
    for artifact in record["artifacts"]:
        assert artifact["agreement"]["top1"] >= 0.999, artifact["target"]
        assert artifact["quality"]["drop_points"] <= most, artifact["target"]
    (step,) = record["trail"]
    assert "of adam with simulated integers" in step["changed"][0]["why"]


def test_the_command_reads_it_from_a_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    Path("small.py").write_text(MAKER)
    Path("aware.json").write_text(json.dumps([{"step": "quantize", "weights": "int4", "training": {"epochs": 1, "learning_rate": 2e-3}}]))
    command = ["compress", "small.py:small", "--data", "digits", "--to", "litert", "--recipe", "aware.json", "--out", "run"]
    assert main(command) == 0
    record = json.loads(Path("run/report.json").read_text())
    assert record["recipe"] == json.loads(Path("aware.json").read_text())
    assert record["trail"][0]["changed"][0]["what"] == "weights"
    Path("aware.json").write_text(json.dumps([{"step": "quantize", "training": {"epoch": 1}}]))
    assert main([*command[:-1], "other"]) == 2
    assert "did you mean 'epochs'" in capsys.readouterr().err


MAKER = """
import torch
from tersenet.demo import DigitsNetwork


def small():
    torch.manual_seed(0)
    return DigitsNetwork(), (torch.zeros(2, 1, 8, 8),)
"""
