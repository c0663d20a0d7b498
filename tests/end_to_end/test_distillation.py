"""Distillation from outside: the command, a student that reaches what its teacher knows, being killed in the middle, and recipes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import tersenet
from tersenet import Data, Distill, Prune, Quantize, Recipe, Training
from tersenet.cli import main
from tersenet.data.sources import load as load_data

NET = """
import torch
from torch import nn


def made(width):
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(width * 16, 10)]
    return nn.Sequential(*layers).eval(), (torch.zeros(2, 1, 8, 8),)


def large():
    return made(24)


def small():
    return made(3)


def other():
    return nn.Linear(64, 7), (torch.zeros(2, 64),)
"""
pytestmark = pytest.mark.end_to_end


@pytest.fixture(scope="module")
def taught_network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with networks in code, and a large one that knows digits."""
    folder = tmp_path_factory.mktemp("distillation")
    (folder / "nets.py").write_text(NET)
    fitted = tersenet.fit(f"{folder}/nets.py:large", "digits", Training(epochs=10, learning_rate=0.01), out=folder / "large")
    assert fitted.record["after"]["value"] > 0.93
    return folder


@pytest.fixture
def folder(taught_network: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "nets.py").write_text(NET)
    (tmp_path / "large.pt2").write_bytes((taught_network / "large/model.pt2").read_bytes())
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_command_teaches_and_says_what_came_of_it(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--data", "digits", "--epochs", "8", "--learning-rate", "0.02", "--method", "soft", "--method", "attention:5", "--temperature", "3"]
    command = ["distill", "nets.py:small", "--teacher", "large.pt2", *options, "--out", "out", "--json"]
    assert main(command) == 0
    record = json.loads(capsys.readouterr().out)
    assert sorted(path.name for path in Path("out").iterdir()) == ["history.json", "model.pt2", "recipe.json", "report.json", "signature.json"]
    assert record["after"]["value"] > 0.83 > record["before"]
    assert record["teacher"]["name"] == tersenet.load("large.pt2").name
    assert record["teacher"]["value"] > 0.93
    (step,) = json.loads(Path("out/recipe.json").read_text())
    assert step == {
        "step": "distill",
        "teacher": "large.pt2",
        "method": ["soft", "attention:5"],
        "temperature": 3.0,
        "training": {"epochs": 8, "learning_rate": 0.02},
    }
    assert main(command) == 0, "the same command is answered from what is there"
    assert json.loads(capsys.readouterr().out) == record
    assert main(["distill", "large.pt2", "--student", "nets.py:small", *options, "--out", "student"]) == 0
    assert Path("student/model.pt2").read_bytes() == Path("out/model.pt2").read_bytes(), "the same seen from the other side"
    assert "teacher" in capsys.readouterr().out


def test_bad_options_end_with_one_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    start = ["distill", "nets.py:small", "--data", "digits", "--out", "out"]
    for options, message in (
        ([], "give --teacher, a network that MODEL learns from, or --student"),
        (["--teacher", "large.pt2", "--student", "large.pt2"], "give --teacher"),
        (["--teacher", "large.pt2", "--method", "atention"], "did you mean 'attention'"),
        (["--teacher", "large.pt2", "--temperature", "0"], "temperature must be above 0"),
        (["--teacher", "nets.py:other"], "must have the inputs of the network that learns from it: those are"),
        (["--teacher", "nets.py:small"], "both are the same"),
        (["--teacher", "larg.pt2"], "the file larg.pt2 does not exist; beside it: large.pt2"),
    ):
        assert main([*start, *options]) == 2
        assert message in capsys.readouterr().err
        assert not Path("out").exists()


def test_a_student_learns_of_the_teacher_what_unlabelled_data_do_not_say(folder: Path) -> None:
    """A tenth of the labels' information costs nothing: without any label the student is nearly as good as its teacher."""
    whole = load_data("digits")
    arrays = {name: part.inputs[0] for name, part in whole.parts()}
    data = Data.from_arrays(train=arrays["train"], calibration=arrays["calibration"], evaluation=arrays["evaluation"], selection=arrays["selection"])
    fitted = tersenet.distill("nets.py:small", data, Training(epochs=8, learning_rate=0.03), teacher="large.pt2", out="out")
    assert fitted.record["after"]["metric"] == "agreement with the teacher"
    assert fitted.record["before"] < 0.3
    assert fitted.record["after"]["value"] > 0.88
    assert fitted.record["teacher"]["value"] == 1.0
    assert fitted.record["history"][-1]["metric"] > 0.88


def test_a_recipe_prunes_teaches_and_quantizes(folder: Path) -> None:
    pytest.importorskip("onnxruntime")
    steps = [{"step": "prune", "ratio": 0.5}, {"step": "distill", "training": {"epochs": 3, "learning_rate": 0.005}}, {"step": "quantize"}]
    Path("recipe.yaml").write_text(json.dumps(steps))
    report = tersenet.compress("large.pt2", "digits", recipe="recipe.yaml", out="out")
    assert [entry.step for entry in report.trail] == ["prune", "distill", "quantize"]
    assert report.recipe == tuple(Recipe([Prune(ratio=0.5), Distill(training=Training(epochs=3, learning_rate=0.005)), Quantize()]).to_json())
    assert report.records[0].quality.value > 0.93
    (change,) = report.trail[1].changed
    assert "learning soft of" in change.why


def test_a_recipe_names_a_teacher_and_what_it_is_counts(folder: Path) -> None:
    pytest.importorskip("onnxruntime")
    recipe = Recipe([Distill(teacher="large.pt2", training=Training(epochs=1)), Quantize()])
    first = tersenet.compress("nets.py:small", "digits", recipe=recipe, out="out")
    assert first.records[0].quality.value > tersenet.compress("nets.py:small", "digits", out="plain").records[0].quality.value
    tersenet.save(tersenet.fit("large.pt2", "digits", Training(epochs=1)).model, "large.pt2")
    with pytest.raises(tersenet.TersenetError, match="out holds another run"):
        tersenet.compress("nets.py:small", "digits", recipe=recipe, out="out")


def test_a_recipe_puts_a_student_in_the_networks_place(folder: Path) -> None:
    pytest.importorskip("onnxruntime")
    recipe = Recipe([Distill(student="nets.py:small", training=Training(epochs=4, learning_rate=0.02)), Quantize()])
    report = tersenet.compress("large.pt2", "digits", recipe=recipe, out="out")
    assert report.records[0].quality.value > 0.8
    assert report.records[0].bytes < 0.4 * report.records[0].twin.bytes
    with pytest.raises(tersenet.TersenetError, match=r"a student must take what the network takes, float32 \(1, 8, 8\), and takes float32 \(64,\)"):
        tersenet.compress("large.pt2", "digits", recipe=Recipe([Distill(student="nets.py:other")]), out="other")


@pytest.mark.slow
def test_killed_in_the_middle_the_same_command_ends_with_the_same_file(folder: Path) -> None:
    script = "import sys; from tersenet.training import loop; loop.SAVED_SECONDS = 0.05; from tersenet.cli import main; sys.exit(main(sys.argv[1:]))"
    options = ["--data", "digits", "--epochs", "3", "--batch-size", "16", "--method", "soft", "--method", "features", "--augmentation", "noise:0.1"]
    command = [sys.executable, "-c", script, "distill", "nets.py:small", "--teacher", "large.pt2", *options]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    killed = subprocess.Popen([*command, "--out", "killed"], env=environment, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 240
    while not list(folder.glob("killed/.unfinished/steps/.draft-*/training.pt")):
        assert killed.poll() is None, "it ended before it kept anything"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert not Path("killed/model.pt2").exists()
    for out in ("killed", "whole"):
        subprocess.run([*command, "--out", out], env=environment, check=True, capture_output=True)
    assert Path("killed/model.pt2").read_bytes() == Path("whole/model.pt2").read_bytes()
    assert Path("killed/history.json").read_bytes() == Path("whole/history.json").read_bytes()
