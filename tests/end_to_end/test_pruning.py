"""Pruning from outside: recipes in files that train between cuts, killed and gone on with; what is refused."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import zlib
from pathlib import Path

import numpy as np
import pytest

import hurry
from command_line import NETWORKS
from tersenet.cli import main

pytestmark = pytest.mark.end_to_end
RECIPE = """
recipe:
  - step: prune
    ratio: 0.5
    multiple: 1
    schedule: iterative:2
    training: {epochs: 12, batch_size: 8, learning_rate: 0.01}
  - step: sparsify
    ratio: 0.5
    schedule: [[0, 0.25], [6.5, 0.5]]
    training: {epochs: 12, batch_size: 8, learning_rate: 0.01}
"""
SCRIPT = "import sys; from tersenet.training import loop; loop.SAVED_SECONDS = 0.05; import hurry; from pytest import MonkeyPatch"
SCRIPT += "; hurry.hurry(MonkeyPatch()); from tersenet.cli import main; sys.exit(main(sys.argv[1:]))"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A network, data whose mean tells the class, and a recipe."""
    (tmp_path / "net.py").write_text(NETWORKS + "\n\ndef small():\n    torch.manual_seed(0)\n    return Small(), (torch.zeros(2, 1, 8, 8),)\n")
    labels = np.arange(480) % 3
    images = (np.random.default_rng(0).standard_normal((480, 1, 8, 8)) * 0.3 + labels[:, None, None, None]).astype(np.float32)
    np.savez(tmp_path / "data.npz", x=images, y=labels)
    np.savez(tmp_path / "unlabelled.npz", x=images)
    (tmp_path / "prune.yaml").write_text(RECIPE)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    sys.modules.pop("net", None)


@pytest.mark.slow
def test_killed_while_it_prunes_and_learns_the_same_command_ends_with_the_same_file(folder: Path) -> None:
    pytest.importorskip("onnxruntime")
    command = [sys.executable, "-c", SCRIPT, "compress", "net.py:small", "--data", "data.npz", "--recipe", "prune.yaml"]
    paths = os.pathsep.join([str(folder), str(Path(__file__).parents[1])])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": paths}

    def begun(drafts: int, finished: int) -> bool:
        """Some training has kept something: the second round of the step that prunes, or the step behind it."""
        steps = folder / "killed/.unfinished/steps"
        return len(list(steps.glob(".draft-*/training.pt"))) >= drafts and len(list(steps.glob("*/result.json"))) >= finished

    for wanted in ((2, 0), (1, 1)):
        killed = subprocess.Popen([*command, "--out", "killed"], env=environment, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 120
        while not begun(*wanted):
            assert killed.poll() is None, "it ended before it kept anything"
            assert time.monotonic() < deadline
            time.sleep(0.01)
        killed.send_signal(signal.SIGKILL)
        killed.wait()
        assert not (folder / "killed/report.json").exists()
    for out in ("killed", "whole"):
        subprocess.run([*command, "--out", out], env=environment, check=True, capture_output=True)
    files = [folder / out / "artifacts/onnxruntime/model.onnx" for out in ("killed", "whole")]
    assert files[0].read_bytes() == files[1].read_bytes()
    trail = json.loads((folder / "whole/report.json").read_text())["trail"]
    assert {"what": "conv", "why": "4 of 8 channels leave"} in trail[0]["changed"]
    assert [change["what"] for change in trail[0]["changed"]][-2:] == ["weights, round 1 of 2", "weights, round 2 of 2"]
    assert {"what": "conv", "why": "50.0 % of 36 weights are zero"} in trail[1]["changed"]


def test_zeros_pack(folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """`packed_bytes` is what zlib makes of the very file, and the page and the table say it where zeros made it small."""
    pytest.importorskip("onnxruntime")
    hurry.hurry(monkeypatch)
    (folder / "wide.py").write_text(
        "import torch\nfrom torch import nn\n\n\ndef wide():\n    torch.manual_seed(0)\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 3)), (torch.zeros(2, 1, 8, 8),)\n"
    )
    Path("sparse.yaml").write_text("recipe:\n  - {step: sparsify, ratio: 0.9}\n  - {step: quantize}\n")
    assert main(["compress", "wide.py:wide", "--data", "data.npz", "--recipe", "sparse.yaml", "--out", "out"]) == 0
    assert "packed for delivery (zlib, level 9)" in capsys.readouterr().out
    record = json.loads(Path("out/report.json").read_text())["artifacts"][0]
    for file, packed in (("model", record["packed_bytes"]), ("model-float", record["float"]["packed_bytes"])):
        assert packed == len(zlib.compress(Path(f"out/artifacts/onnxruntime/{file}.onnx").read_bytes(), 9))
    assert record["packed_bytes"] < 0.5 * record["bytes"]
    assert f"{record['packed_bytes']:,}" in Path("out/report.html").read_text()
    sys.modules.pop("wide", None)


@pytest.mark.parametrize(
    "recipe, data, message",
    [
        ("{step: prune, ratio: 0.5, schedule: iterative}", "data.npz", "spreads over epochs of training; give training too"),
        ("{step: sparsify, ratio: 0.5, schedule: [[0, 0.2], [4, 0.5]], training: {epochs: 4}}", "data.npz", "below epochs (4)"),
        ("{step: sparsify, ratio: 0.5, training: {epochs: 4}}", "unlabelled.npz", "sparsify needs labels in the train part"),
        ("{step: prune, ratio: 0.5, training: {epoch: 4}}", "data.npz", "unknown option of training 'epoch'; did you mean 'epochs'"),
    ],
)
def test_what_cannot_be_is_one_line(folder: Path, capsys: pytest.CaptureFixture[str], recipe: str, data: str, message: str) -> None:
    pytest.importorskip("onnxruntime")
    Path("bad.yaml").write_text(f"recipe:\n  - {recipe}\n")
    assert main(["compress", "net.py:small", "--data", data, "--recipe", "bad.yaml", "--out", "bad"]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("tersenet: ")]
    assert len(lines) == 1
    assert message in lines[0]
    assert not Path("bad").exists()
