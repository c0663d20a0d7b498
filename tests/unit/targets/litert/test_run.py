"""The runner: what it reports of a file is what the runtime does."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import fx, nn

from tersenet.data.parts import Data
from tersenet.errors import ModelError
from tersenet.frontends.table import load
from tersenet.graph.simulate import simulate
from tersenet.manifest import entry
from tersenet.step import Context
from tersenet.steps.quantize import Quantize
from tersenet.target import Artifact, ExportOptions, feed
from tersenet.targets.table import TARGETS
from tersenet.testing.networks import samples, small_convolutional

pytest.importorskip("ai_edge_litert")
from tersenet.targets.litert.capabilities import LITERT
from tersenet.targets.litert.export import LiteRTExporter
from tersenet.targets.litert.run import LiteRTRunner


@pytest.fixture(scope="module")
def quantized():
    return Quantize().apply(small_convolutional(), Context((LITERT,), Data.from_arrays(calibration=samples(32, 1)))).model


@pytest.fixture(scope="module")
def export(quantized, tmp_path_factory):
    return LiteRTExporter().export(quantized, tmp_path_factory.mktemp("run") / "model.tflite", ExportOptions())


def test_the_delegate_takes_a_plain_network_whole(export):
    placement = LiteRTRunner().load(export.path).operators()
    assert placement.delegated == 1 and placement.declined == ()
    assert placement.operators["CONV_2D"] == 2


def test_what_the_delegate_declines_is_named(tmp_path):
    class Sorted(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.relu(x.cumsum(1)) + 1

    export = LiteRTExporter().export(load(Sorted(), (torch.randn(2, 4),)), tmp_path / "model.tflite", ExportOptions())
    placement = LiteRTRunner().load(export.path).operators()
    assert [entry["op"] for entry in placement.declined] == ["CUMSUM"]
    assert placement.delegated == pytest.approx(2 / 3)


def test_ports_say_what_the_file_takes(export):
    session = LiteRTRunner().load(export.path)
    assert (session.inputs[0].shape, session.inputs[0].dtype) == ((1, 8, 8, 3), "float32")
    assert session.memory() is None


def test_inner_tensors_agree_with_the_simulation(quantized, export):
    x = samples(1, 3)
    plan = quantized.plan_for("litert")
    values = {}

    class Recorder(fx.Interpreter):
        def run_node(self, n):
            values[n.name] = super().run_node(n)
            return values[n.name]

    Recorder(simulate(quantized, plan).graph).run(torch.from_numpy(x))
    inner = LiteRTRunner().inner(export.path, [feed(x, export.inputs[0])])
    seen = 0
    for node, tensor in export.names.items():
        if node not in plan.values or f"{node}_quantized" not in values:
            continue
        array = inner[tensor]
        if node in export.axes:
            array = array.transpose(np.argsort(export.axes[node]))
        assert np.abs(array - values[f"{node}_quantized"].numpy()).max() <= 1.01 * plan.values[node].scale[0]
        seen += 1
    assert seen >= 6


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
def test_inner_tensors_are_those_of_the_kernels_that_run_the_file(kind, quantized, export, tmp_path):
    x = samples(1, 3)
    fed = [feed(x, export.inputs[0])]
    inner = LiteRTRunner().inner(export.path, fed)
    for port, array in zip(export.outputs, LiteRTRunner().load(export.path).run(fed), strict=True):
        np.testing.assert_array_equal(inner[port.name], array)
    np.testing.assert_array_equal(inner[export.inputs[0].name], fed[0])

    class First(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = kind(4, 5, batch_first=True)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.layer(torch.relu(x))[0]

    recurrent = LiteRTExporter().export(load(First().eval(), (torch.randn(2, 6, 4),)), tmp_path / "recurrent.tflite", ExportOptions())
    rows = [np.random.default_rng(0).standard_normal((1, 6, 4)).astype(np.float32)]
    expected = LiteRTRunner().load(recurrent.path).run(rows)[0]
    np.testing.assert_array_equal(LiteRTRunner().inner(recurrent.path, rows)[recurrent.outputs[0].name], expected)


class States(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.LSTM(4, 5, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x)[0]


def test_recurrent_layers_start_afresh_at_every_run(tmp_path):
    torch.manual_seed(0)
    model = load(States().eval(), (torch.randn(2, 6, 4),))
    export = LiteRTExporter().export(model, tmp_path / "model.tflite", ExportOptions())
    assert "reset_all_variables" in export.notes[0]
    assert export.stateful
    artifact = Artifact(export.path, "litert", LiteRTRunner().load(export.path), export.inputs, export.outputs)
    x = np.random.default_rng(0).standard_normal((1, 6, 4)).astype(np.float32)
    for _ in range(2):
        np.testing.assert_allclose(artifact(x), model(x), atol=1e-6)


def test_the_manifests_example_starts_afresh_too(tmp_path, monkeypatch):
    torch.manual_seed(0)
    model = load(States().eval(), (torch.randn(2, 6, 4),))
    export = LiteRTExporter().export(model, tmp_path / "model.tflite", ExportOptions())
    found = entry(TARGETS["litert"], tmp_path, export, export, tmp_path / "names.json")
    assert found.stateful
    built, fed, run = found.example.partition("for detail in interpreter.get_input")
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(built, names)
    for seed in range(3):  # built once, run in a loop
        x = np.random.default_rng(seed).standard_normal((1, 6, 4)).astype(np.float32)
        names["inputs"] = {export.inputs[0].name: x}
        exec(fed + run, names)
        np.testing.assert_allclose(names["outputs"][0], model(x), atol=1e-6)


def test_a_file_without_a_state_is_not_reset(export, tmp_path):
    found = entry(TARGETS["litert"], export.path.parent, export, export, export.path.parent / "names.json")
    assert not export.stateful and not found.stateful and "reset" not in found.example


@pytest.mark.parametrize("content", [b"", b"not a model", b"\x1c\x00\x00\x00TFL3" + bytes(64)])
def test_what_is_no_model_is_refused(content, tmp_path):
    path = tmp_path / "model.tflite"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"model\.tflite"):
        LiteRTRunner().load(path)


def test_a_missing_file_and_wrong_arrays_are_refused(export, tmp_path):
    with pytest.raises(ModelError, match="cannot read"):
        LiteRTRunner().load(tmp_path / "none.tflite")
    session = LiteRTRunner().load(export.path)
    with pytest.raises(ModelError, match="could not run"):
        session.run([np.zeros((1, 3, 3, 3), np.float32)])


def test_a_file_is_called_by_the_networks_own_names(tmp_path):
    from ai_edge_litert.interpreter import Interpreter

    class Named(nn.Module):
        def forward(self, image, scale):
            return {"scaled": image * scale, "again": image * scale, "summed": image + scale}

    model = load(Named(), (torch.randn(2, 3), torch.randn(2, 3)))
    export = LiteRTExporter().export(model, tmp_path / "named.tflite", ExportOptions())
    interpreter = Interpreter(str(export.path))
    assert interpreter.get_signature_list() == {"serving_default": {"inputs": ["image", "scale"], "outputs": ["again", "scaled", "summed"]}}
    image, scale = np.float32([[1, 2, 3]]), np.float32([[2, 3, 4]])
    found = interpreter.get_signature_runner()(scale=scale, image=image)
    np.testing.assert_allclose(found["scaled"], image * scale)
    np.testing.assert_allclose(found["again"], image * scale)
    np.testing.assert_allclose(found["summed"], image + scale)


def test_running_needs_no_torch(export):
    code = (
        "import sys; from pathlib import Path; from tersenet.targets.litert.run import LiteRTRunner; "
        "from tersenet.targets.litert.micro_run import MicroRunner; "
        f"session = LiteRTRunner().load(Path({str(export.path)!r})); session.operators(); assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_stderr_stays_quiet_but_for_errors(export):
    """LiteRT tells of its first delegate at every start; anything else still comes through."""
    code = (
        "import os, sys; from pathlib import Path; from tersenet.targets.litert import run\n"
        "run.LiteRTRunner().load(Path(sys.argv[1]))\n"
        "with run.lines_kept_back(run.NATIVE_NOISE):\n    os.write(2, b'INFO: Created TensorFlow Lite XNNPACK delegate\\nERROR: no room')\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(export.path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and done.stderr == "ERROR: no room"
