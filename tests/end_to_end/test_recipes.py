"""Named recipes from outside: on real digits every runtime's file agrees with the network that was trained, and is smaller."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import tersenet
from hurry import hurry
from tersenet import Model, Training
from tersenet.cli import main
from tersenet.data.digits import read_digits
from tersenet.expectation import expectations
from tersenet.graph.cost import cost
from tersenet.measure.agreement import agreement
from tersenet.measure.quality import evaluate
from tersenet.progress import silent
from tersenet.recipe import find_recipe
from tersenet.step import Context
from tersenet.target import Artifact, ExportOptions
from tersenet.targets import table

TARGETS = ("onnxruntime", "litert", "executorch")
NET = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
        self.inner = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16))
        self.wide = nn.Sequential(nn.MaxPool2d(2), nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
        self.head = nn.Linear(32, 10)

    def forward(self, x):
        x = self.stem(x)
        return self.head(self.wide(torch.relu(x + self.inner(x))).flatten(1))


def net():
    torch.manual_seed(0)
    return Net().eval(), (torch.zeros(2, 1, 8, 8),)
"""
pytestmark = pytest.mark.end_to_end


@pytest.fixture(autouse=True)
def in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    hurry(monkeypatch)


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recipes")
    (folder / "net.py").write_text(NET)
    fitted = tersenet.fit(f"{folder}/net.py:net", "digits", Training(epochs=10, learning_rate=0.01), out=folder / "float")
    assert fitted.record["after"]["value"] > 0.95
    return folder / "float/model.pt2"


@pytest.mark.slow
@pytest.mark.parametrize(("recipe", "macs", "parameters"), [("int8", 1, 1), ("small", 0.5, 1), ("smallest", 1, 0.65)])
def test_files_of_a_named_recipe_agree_with_what_was_trained(recipe: str, macs: float, parameters: float, network: Path, tmp_path: Path) -> None:
    model, data = tersenet.load(network), read_digits()
    tables = [table.capabilities(table.find(name)) for name in TARGETS]
    chosen = find_recipe(recipe)
    chosen = chosen.retrained(epochs=12, learning_rate=0.004, batch_size=16) if chosen.trainings else chosen
    learned = chosen.apply(model, Context(tuple(tables), data.without_evaluation(), original=model))[-1].model
    left, whole_cost = cost(learned), cost(model)
    assert left.macs <= macs * whole_cost.macs and left.parameters <= parameters * whole_cost.parameters
    whole = evaluate(model, data.evaluation, data.task)
    for name in TARGETS:
        target = table.find(name)
        plan = learned.plan_for(name)
        assert plan is not None
        path = tmp_path / f"model{target.extension}"
        written = table.exporter(target).export(learned, path, ExportOptions())
        artifact = Artifact(path, name, table.runner(target).load(path), written.inputs, written.outputs)
        found = expectations(learned, plan, [one for one in tables if one.name == name], data, 0, silent)[name]
        scores = evaluate(artifact, data.evaluation, data.task)
        agreed = agreement(found.simulated(found.rows), scores.outputs[found.rows], found.step, classes=True)
        assert agreed.top1 >= 0.999, name
        assert scores.value >= whole.value - 0.05, name
        assert path.stat().st_size < table.exporter(target).export(model, tmp_path / f"float{target.extension}", ExportOptions()).path.stat().st_size


def test_the_command_runs_a_named_recipe(network: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trains = ["--epochs", "4", "--learning-rate", "0.004", "--batch-size", "32", "--augmentation", "noise"]
    command = [
        "compress",
        str(network),
        "--data",
        "digits",
        "--to",
        "litert",
        "--recipe",
        "smallest",
        *trains,
        "--out",
        str(tmp_path / "run"),
        "--json",
    ]
    assert main([*command, "--max-drop", "5"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert [entry["step"] for entry in record["trail"]] == ["prune", "distill", "quantize"]
    trained = [step["training"] for step in record["recipe"][1:]]
    assert [(one["epochs"], one["learning_rate"], one["batch_size"], one["augmentation"]) for one in trained] == [
        (3, 0.004, 32, ["noise"]),
        (1, 0.0012, 32, ["noise"]),
    ]
    assert record["artifacts"][0]["bytes"] < 0.3 * record["artifacts"][0]["float"]["bytes"]


def test_epochs_of_a_recipe_that_trains_nothing_are_refused(network: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compress", str(network), "--data", "digits", "--epochs", "3"]) == 2
    assert "no step of this one does" in capsys.readouterr().err


@pytest.mark.slow
def test_a_run_writes_down_what_it_decided_by_time_and_makes_the_same_bytes_from_it(network: Path, tmp_path: Path) -> None:
    first = tersenet.compress(
        str(network), "digits", to=["litert"], recipe=tersenet.Recipe([tersenet.Rebuild(energy=0.8), tersenet.Quantize()]), out=tmp_path / "first"
    )
    assert "bytes, " in next(change.why for change in first.trail[0].changed), "files were measured"
    decided = tersenet.Recipe.from_json(json.loads((tmp_path / "first/recipe.json").read_text()))
    assert isinstance(decided.steps[0], tersenet.Rebuild)
    assert decided.steps[0].ranks
    again = tersenet.compress(str(network), "digits", to=["litert"], recipe=decided, out=tmp_path / "again")
    assert again.records[0].sha256 == first.records[0].sha256


@pytest.mark.slow
def test_weights_that_share_values_pack_better(network: Path, tmp_path: Path) -> None:
    model: Model = tersenet.load(network)
    plain, shared = (
        tersenet.compress(model, "digits", to=["onnxruntime", "litert"], recipe=tersenet.Recipe([*steps, tersenet.Quantize()]), out=tmp_path / name)
        for name, steps in (("plain", []), ("shared", [tersenet.Share(values=16, training={"epochs": 2})]))
    )
    for one, other in zip(plain.records, shared.records, strict=True):
        assert other.agreement is not None
        assert other.agreement.top1 >= 0.999
        assert other.packed_bytes < one.packed_bytes - 2000, "about 7,500 weights, each less by some bits"
