"""Training from outside: the command, what it leaves, being killed in the middle, and a recipe that trains before it quantizes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

import tersenet
from command_line import NETWORKS
from tersenet import Data, Quantize, Recipe, Train, Training, journey
from tersenet.cli import main

SMALL = """
import torch
from net import Small


def small():
    torch.manual_seed(0)
    return Small(), (torch.zeros(2, 1, 8, 8),)
"""
pytestmark = pytest.mark.end_to_end


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A network and data: the mean of an image tells its class."""
    (tmp_path / "net.py").write_text(NETWORKS)
    random = np.random.default_rng(0)
    labels = np.arange(480) % 3
    images = (random.standard_normal((480, 1, 8, 8)) * 0.3 + labels[:, None, None, None]).astype(np.float32)
    np.savez(tmp_path / "data.npz", x=images, y=labels)
    (tmp_path / "small.py").write_text(
        "import torch\nfrom net import Small\n\ndef small():\n    torch.manual_seed(0)\n    return Small(), (torch.zeros(2, 1, 8, 8),)\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    for name in ("net", "small"):
        sys.modules.pop(name, None)


def test_the_command_trains_and_says_what_came_of_it(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["train", "small.py:small", "--data", "data.npz", "--epochs", "30", "--learning-rate", "0.03", "--l2", "1e-5", "--out", "out", "--json"]
    assert main(command) == 0
    record = json.loads(capsys.readouterr().out)
    assert sorted(path.name for path in (folder / "out").iterdir()) == ["history.json", "model.pt2", "recipe.json", "report.json", "signature.json"]
    assert record == json.loads((folder / "out/report.json").read_text())
    assert record["after"]["value"] > 0.9 > record["before"]
    assert record["after"]["drop_points_ci95"][1] < 0
    assert [entry["epoch"] for entry in record["history"]] == list(range(1, 31))
    assert json.loads((folder / "out/recipe.json").read_text()) == [{"step": "train", "training": {"epochs": 30, "learning_rate": 0.03, "l2": 1e-5}}]
    model = tersenet.load("out/model.pt2")
    program = torch.export.load("out/model.pt2").module()
    images = np.random.default_rng(1).standard_normal((5, 1, 8, 8)).astype(np.float32)
    assert np.allclose(program(torch.from_numpy(images)).detach(), model(images), atol=1e-6)
    assert main(command) == 0, "the same command is answered from what is there"
    assert json.loads(capsys.readouterr().out) == record
    assert main([*command, "--momentum", "0.9", "--optimizer", "sgd"]) == 2
    assert "out holds another run" in capsys.readouterr().err


def test_bad_options_end_with_one_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    start = ["train", "small.py:small", "--data", "data.npz", "--out", "out"]
    for options, message in (
        (["--schedule", "step"], "needs decay_epochs"),
        (["--exchange", "silu:hardswish"], "there is no silu to exchange"),
        (["--augmentation", "spin"], "unknown augmentation 'spin'"),
        (["--epochs", "1", "--optimizer", "sgd", "--learning-rate", "1e30", "--batch-size", "16"], "the loss became"),
    ):
        assert main([*start, *options]) == 2
        lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("tersenet: ")]
        assert len(lines) == 1
        assert message in lines[0]
        assert not (folder / "out").exists()


def test_the_last_good_network_is_kept(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from tersenet.training import loop

    checked = loop.Loop._checked
    monkeypatch.setattr(loop.Loop, "_checked", lambda self, loss: checked(self, loss / (0.0 if self.moment.epoch == 1 else 1.0)))
    assert main(["train", "small.py:small", "--data", "data.npz", "--epochs", "3", "--out", "runs/a"]) == 2
    assert "It is in runs/a-last-good.pt2." in capsys.readouterr().err
    assert not Path("runs/a").exists()
    assert tersenet.load("runs/a-last-good.pt2").fingerprint != tersenet.load("small.py:small").fingerprint


@pytest.mark.slow
def test_killed_in_the_middle_the_same_command_ends_with_the_same_file(folder: Path) -> None:
    script = "import sys; from tersenet.training import loop; loop.SAVED_SECONDS = 0.05; from tersenet.cli import main; sys.exit(main(sys.argv[1:]))"
    options = [
        "train",
        "small.py:small",
        "--data",
        "data.npz",
        "--epochs",
        "60",
        "--batch-size",
        "8",
        "--augmentation",
        "noise:0.1",
        "--average",
        "ema",
    ]
    command = [sys.executable, "-c", script, *options]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(folder)}
    killed = subprocess.Popen([*command, "--out", "killed"], env=environment, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 240
    while not list(folder.glob("killed/.unfinished/steps/.draft-*/training.pt")):
        assert killed.poll() is None, "it ended before it kept anything"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert not (folder / "killed/model.pt2").exists()
    for out in ("killed", "whole"):
        subprocess.run([*command, "--out", out], env=environment, check=True, capture_output=True)
    assert (folder / "killed/model.pt2").read_bytes() == (folder / "whole/model.pt2").read_bytes()
    assert (folder / "killed/history.json").read_bytes() == (folder / "whole/history.json").read_bytes()


def test_a_resumed_run_takes_the_trained_network_from_its_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxruntime")
    recipe = Recipe([Train(Training(epochs=3, learning_rate=0.03), exchange=("relu:relu6",)), Quantize()])

    def run(out: str) -> tersenet.Report:
        return tersenet.compress("small.py:small", "data.npz", recipe=recipe, out=out)

    whole = run("whole")
    assert [entry.step for entry in whole.trail] == ["train", "quantize"]

    def interrupted(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(journey, "prove", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run("resumed")
    with monkeypatch.context() as patched:
        patched.setattr("tersenet.steps.train.tuned", interrupted)  # training must not run again
        resumed = run("resumed")
    files = [Path(out) / "artifacts/onnxruntime/model.onnx" for out in ("whole", "resumed")]
    assert files[0].read_bytes() == files[1].read_bytes()
    assert [entry.changed for entry in resumed.trail] == [entry.changed for entry in whole.trail]


def test_a_loss_of_ones_own(folder: Path) -> None:
    arrays = np.load("data.npz")
    half = len(arrays["x"]) // 2
    task = tersenet.Task.own(lambda outputs, labels: float((outputs.argmax(1) == labels).mean()), "hits", "higher", bounded=True)
    data = Data.from_arrays(train=(arrays["x"][:half], arrays["y"][:half]), evaluation=(arrays["x"][half:], arrays["y"][half:]), task=task)

    def loss(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.multi_margin_loss(outputs, labels.long())

    fitted = tersenet.fit("small.py:small", data, Training(epochs=30, learning_rate=0.03), loss=loss)
    assert fitted.record["after"]["value"] > 0.8
    assert fitted.folder.parent == Path("runs")


def test_what_judges_and_teaches_may_keep_its_history(folder: Path) -> None:
    arrays = np.load("data.npz")
    seen: list[float] = []
    losses: list[float] = []

    def hits(outputs: np.ndarray, labels: np.ndarray) -> float:
        seen.append(float((outputs.argmax(1) == labels).mean()))
        return seen[-1]

    def loss(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        value = torch.nn.functional.cross_entropy(outputs, labels.long())
        losses.append(float(value.detach()))
        return value

    parts = {part: (arrays["x"][place], arrays["y"][place]) for part, place in (("train", slice(240)), ("evaluation", slice(240, 480)))}
    data = Data.from_arrays(**parts, task=tersenet.Task.own(hits, "hits", "higher", bounded=True))
    first, again = (tersenet.fit("small.py:small", data, Training(epochs=1), loss=loss, out="fitted") for _ in range(2))
    assert again.record == first.record
    before = tersenet.compress(first.model, data, out="compressed")
    judged = tersenet.evaluate("compressed/artifacts/onnxruntime/model.onnx", data)
    assert judged["quality"]["value"] == before.records[0].quality.value
    assert tersenet.compress(first.model, data, out="compressed").to_json() == before.to_json()
