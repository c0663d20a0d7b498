"""Files in ExecuTorch's own runtime: float against the network, int8 against the simulation, and what XNNPACK took."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import networks
from tersenet.data.parts import Data
from tersenet.errors import DataError, ModelError, RecipeError, UnsupportedError
from tersenet.graph.deploy import deployable
from tersenet.graph.simulate import simulate
from tersenet.graph.trace import trace
from tersenet.graph.walk import outputs
from tersenet.layers import file_agreement, simulated_values
from tersenet.model import Model
from tersenet.step import Context
from tersenet.steps.quantize import Quantize
from tersenet.target import Artifact, ExportOptions, read

pytest.importorskip("executorch")

from tersenet.targets.executorch.capabilities import capabilities
from tersenet.targets.executorch.export import ExecuTorchExporter
from tersenet.targets.executorch.run import ExecuTorchRunner

CASES = {case.name: case for case in networks.CASES}
# One of every family, in one file, runs always.
QUICK = {"conv2d", "depthwise 1d", "linear sequence", "attention", "Hardsigmoid", "pad channels", "bilinear", "split"}
TOGETHER = 8
# One ReLU or one max of a residual may round the other way than floats do, and the next layer multiplies it.
STEPS_APART = 2.01
# Rounding and poles: half a step of a value may become any number of steps of the next.
STEEP = {"rounding", "reciprocal", "comparisons", "where", "gather", "power", "div"}
# What the runtime has no kernel for, or one that refuses what it is given.
REFUSED = {"conv3d"}


def files(without: set[str]) -> list[Any]:
    """The cases in files of several: lowering takes nearly as long for one as for eight."""
    names = [name for name in CASES if name not in QUICK | without]
    parts = [names[start : start + TOGETHER] for start in range(0, len(names), TOGETHER)]
    quick = pytest.param(sorted(QUICK), id="one of every family")
    return [quick, *(pytest.param(part, id=f"{part[0]} to {part[-1]}", marks=pytest.mark.slow) for part in parts)]


def quantized(model: Model, arrays: tuple[np.ndarray, ...]) -> Model:
    data = Data.from_arrays(calibration=arrays if len(arrays) > 1 else arrays[0]).bind(model.inputs, model.outputs)
    return Quantize().run(model, Context((capabilities(),), data)).model


def exported(model: Model, path: Path, **options) -> Artifact:
    export = ExecuTorchExporter().export(model, path, ExportOptions(**options))
    return Artifact(path, "executorch", ExecuTorchRunner().load(path), export.inputs, export.outputs)


def steps_apart(artifact: Artifact, model: Model, arrays: tuple[np.ndarray, ...]) -> float:
    plan = model.plan_for("executorch")
    step = plan.values[next(reversed(plan.units.values())).result].scale[0]
    expected = simulate(model, plan, capabilities().arithmetic)(*arrays)
    return float(np.abs(artifact(*arrays) - expected).max() / step)


@pytest.mark.parametrize("names", files(REFUSED))
def test_float(names, tmp_path):
    module, inputs = networks.together([CASES[name] for name in names], batch=2)
    arrays = tuple(tensor.numpy() for tensor in inputs)
    model = trace(module, inputs)
    results = exported(model, tmp_path / "float.pte", batch=2)(*arrays)
    for name, result, expected in zip(names, results, model(*arrays), strict=True):
        np.testing.assert_allclose(result, expected, atol=1e-4, rtol=1e-4, err_msg=name)


@pytest.mark.parametrize("names", files(REFUSED | STEEP))
def test_integers(names, tmp_path):
    cases = [CASES[name] for name in names]
    module, inputs = networks.together(cases, batch=2)
    arrays = tuple(tensor.numpy() for tensor in inputs)
    model = quantized(trace(module, inputs), tuple(array for case in cases for array in networks.samples(case, 64)))
    results = exported(model, tmp_path / "integers.pte", batch=2)(*arrays)
    expected = simulate(model, model.plans[0], capabilities().arithmetic)(*arrays)
    for name, result, wanted, step in zip(names, results, expected, last_steps(model), strict=True):
        if step is None:  # no operator of this network has an integer kernel
            np.testing.assert_allclose(result, wanted, atol=1e-4, rtol=1e-4, err_msg=name)
        else:
            assert np.abs(result - wanted).max() < STEPS_APART * step, name


def last_steps(model: Model) -> list[float | None]:
    """For each output the scale of the last unit that it is computed from."""
    plan = model.plans[0]
    results = [unit.result for unit in plan.units.values()]
    found: list[float | None] = []
    for output in outputs(deployable(model)):
        before, waiting = set(), [output]
        while waiting:
            node = waiting.pop()
            if node not in before:
                before.add(node)
                waiting += node.all_input_nodes
        own = [result for result in results if result in {node.name for node in before}]
        found.append(plan.values[own[-1]].scale[0] if own else None)
    return found


class Residual(nn.Module):
    """A ResNet's beginning, its parameter-free shortcut and its end."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU())
        self.first = nn.Sequential(
            nn.Conv2d(8, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 16, 3, 1, 1), nn.BatchNorm2d(16)
        )
        self.head = nn.Linear(16, 10)

    def forward(self, x):
        x = self.stem(x)
        short = nn.functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 4, 4))
        x = nn.functional.relu(self.first(x) + short)
        return self.head(nn.functional.adaptive_avg_pool2d(x, 1).flatten(1))


class Inverted(nn.Module):
    """MobileNetV2's block, its stem and its head."""

    def __init__(self):
        super().__init__()

        def unit(inputs, outputs, size, stride=1, groups=1):
            return [nn.Conv2d(inputs, outputs, size, stride, size // 2, groups=groups, bias=False), nn.BatchNorm2d(outputs), nn.ReLU6()]

        self.stem = nn.Sequential(*unit(3, 8, 3, 2))
        self.block = nn.Sequential(*unit(8, 48, 1), *unit(48, 48, 3, groups=48), nn.Conv2d(48, 8, 1, bias=False), nn.BatchNorm2d(8))
        self.head = nn.Sequential(nn.Dropout(), nn.Linear(8, 5))

    def forward(self, x):
        x = self.stem(x)
        return self.head((x + self.block(x)).mean((2, 3)))


def network(kind: type[nn.Module]) -> tuple[Model, np.ndarray]:
    torch.manual_seed(0)
    images = np.random.default_rng(3).standard_normal((32, 3, 16, 16)).astype(np.float32)
    module = kind()
    for _ in range(3):
        module(torch.from_numpy(images))  # batch norm sees what it will see
    return trace(module.eval(), (torch.from_numpy(images[:2]),)), images


@pytest.fixture(scope="module", params=[Residual, Inverted], ids=lambda kind: kind.__name__)
def pair(request, tmp_path_factory):
    """A network, its images, its quantized form, and the files of both."""
    model, images = network(request.param)
    folder = tmp_path_factory.mktemp("files")
    integers = quantized(model, (images,))
    return model, images, integers, exported(model, folder / "float.pte"), exported(integers, folder / "integers.pte")


def test_networks(pair):
    model, images, integers, float_file, integer_file = pair
    np.testing.assert_allclose(float_file(images), model(images), atol=1e-4)
    assert steps_apart(integer_file, integers, (images,)) < STEPS_APART


def test_all_is_delegated_in_one_piece(pair):
    for artifact in pair[3:]:
        placement = artifact.session.operators()
        assert placement.delegated == 1.0 and not placement.declined
        assert len(artifact.session.program.delegates) == 1
        assert "Clamp" not in placement.operators, "activations are fused"


def test_same_bytes_in_another_process(tmp_path):
    """Hash seeds and addresses differ there; and what executorch says at every import is kept back."""
    script = (
        "import sys, pathlib; sys.path[:0] = sys.argv[2:]\n"
        "import test_files\n"
        "model, images = test_files.network(test_files.Inverted)\n"
        "test_files.exported(test_files.quantized(model, (images,)), pathlib.Path(sys.argv[1]))\n"
    )
    here, there = tmp_path / "here.pte", tmp_path / "there.pte"
    folder = Path(__file__).parent
    command = [sys.executable, "-c", script, str(there), str(folder), str(folder.parents[2])]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONHASHSEED": "1", "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    model, images = network(Inverted)
    exported(quantized(model, (images,)), here)
    assert here.read_bytes() == there.read_bytes()


def test_integer_io(tmp_path):
    model, images = network(Inverted)
    model = quantized(model, (images,))
    artifact = exported(model, tmp_path / "io.pte", integer_io=True)
    for port, held in zip((*artifact.inputs, *artifact.outputs), (*artifact.session.inputs, *artifact.session.outputs), strict=True):
        assert port.dtype == held.dtype == "int8" and port.shape == held.shape and port.scale and port.zero_point is not None
    assert steps_apart(artifact, model, (images,)) < STEPS_APART


@pytest.mark.parametrize("kind", [Residual, Inverted])
@pytest.mark.parametrize("batch", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_a_debug_export_shows_what_xnnpack_hides(kind, batch, tmp_path):
    model, images = network(kind)
    model = quantized(model, (images,))
    plan = model.plan_for("executorch")
    export = ExecuTorchExporter().export(model, tmp_path / "model.pte", ExportOptions(batch=batch, inside=True))
    plain = ExecuTorchExporter().export(model, tmp_path / "plain.pte", ExportOptions(batch=batch))
    assert plain.debug is None and plain.path.read_bytes() == export.path.read_bytes()
    assert any("debug export" in note and export.debug.path.name in note for note in export.notes)
    expected = simulated_values(model, plan, (images[:1],))
    session = ExecuTorchRunner().load(export.debug.path)
    results = session.run([images[:1].repeat(batch, 0)])
    inner = {port.name: read(array, port) for array, port in zip(results, export.debug.outputs, strict=True)}
    agreements = file_agreement(expected, inner, export.debug)
    assert set(agreements) == set(expected) >= {unit.result for unit in plan.units.values()}
    assert min(agreements.values()) > 35
    shipped = ExecuTorchRunner().load(export.path).run([images[:1].repeat(batch, 0)])[0]
    np.testing.assert_array_equal(results[0], shipped)


def test_ports_have_the_sources_names(tmp_path):
    class Named(nn.Module):
        def forward(self, image, scale):
            return {"scaled": image * scale, "summed": image + scale}

    model = trace(Named(), (torch.randn(2, 3), torch.randn(2, 3)))
    artifact = exported(model, tmp_path / "named.pte")
    assert [port.name for port in artifact.inputs] == ["image", "scale"] and [port.name for port in artifact.outputs] == ["scaled", "summed"]
    image, scale = np.float32([[1, 2, 3]]), np.float32([[2, 3, 4]])
    np.testing.assert_allclose(artifact({"scale": scale, "image": image})[0], image * scale)


def test_batch_of_four(tmp_path):
    model, images = network(Inverted)
    artifact = exported(model, tmp_path / "four.pte", batch=4)
    assert artifact.inputs[0].shape[0] == 4
    np.testing.assert_allclose(artifact(images[:6]), model(images[:6]), atol=1e-4)


def test_float_weights_do_not_ship(tmp_path):
    model = trace(nn.Linear(256, 256), (torch.randn(2, 256),))
    integers = quantized(model, (np.random.default_rng(0).standard_normal((64, 256)).astype(np.float32),))
    sizes = [exported(each, tmp_path / "file.pte").path.stat().st_size for each in (model, integers)]
    assert sizes[0] > 4 * 256 * 256 and 256 * 256 < sizes[1] < 1.1 * 256 * 256


@pytest.mark.parametrize("kind", ["relu", pytest.param("silu", marks=pytest.mark.slow)])
def test_transformer(kind, tmp_path):
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, activation=nn.functional.relu if kind == "relu" else nn.functional.silu)
    tokens = torch.randn(2, 6, 16)
    model = trace(layer.eval(), (tokens,))
    float_file = exported(model, tmp_path / "float.pte", batch=2)
    np.testing.assert_allclose(float_file(tokens.numpy()), model(tokens.numpy()), atol=1e-4)
    samples = np.random.default_rng(0).standard_normal((64, 6, 16)).astype(np.float32)
    integers = quantized(model, (samples,))
    artifact = exported(integers, tmp_path / "integers.pte", batch=2)
    assert artifact.session.operators().operators["FullyConnected"] == 4
    expected = simulate(integers, integers.plan_for("executorch"))(tokens.numpy())
    np.testing.assert_allclose(artifact(tokens.numpy()), expected, atol=0.06)


def test_lstm_is_written_out_step_by_step(tmp_path):
    torch.manual_seed(0)
    module = networks.Function(lambda layer, x: layer(x)[0], nn.LSTM(8, 5, batch_first=True))
    x = torch.randn(1, 6, 8)
    model = trace(module.eval(), (x,))
    np.testing.assert_allclose(exported(model, tmp_path / "lstm.pte")(x.numpy()), model(x.numpy()), atol=1e-4)


def test_what_has_no_kernel_is_named(tmp_path):
    model = trace(networks.Function(lambda x: torch.linalg.det(x)), (torch.randn(2, 3, 3),))
    with pytest.raises(UnsupportedError, match="linalg_det"):
        exported(model, tmp_path / "no.pte")
    assert not (tmp_path / "no.pte").exists()


def test_unknown_option(tmp_path):
    with pytest.raises(RecipeError, match="qoperator"):
        exported(network(Inverted)[0], tmp_path / "no.pte", format={"qoperator": True})


def test_plans_for_others_are_refused(tmp_path):
    model, images = network(Inverted)
    model = quantized(model, (images,))
    model = replace(model, plans=(replace(model.plans[0], serves=("litert",)),))
    with pytest.raises(UnsupportedError, match="executorch"):
        exported(model, tmp_path / "no.pte")


def test_damaged_files(pair, tmp_path):
    whole = pair[4].path.read_bytes()
    random = np.random.default_rng(0)
    damaged = [b"", b"ET12", whole[:5000], whole[:-500], whole[:4] + b"XX12" + whole[8:], bytes(random.integers(0, 256, 9000, dtype=np.uint8))]
    for number, data in enumerate(damaged):
        path = tmp_path / f"{number}.pte"
        path.write_bytes(data)
        with pytest.raises(ModelError):
            ExecuTorchRunner().load(path)
    with pytest.raises(ModelError, match="cannot read"):
        ExecuTorchRunner().load(tmp_path / "absent.pte")


def test_wrong_arrays_are_refused(pair):
    with pytest.raises(DataError, match="float32"):
        pair[3].session.run([np.zeros((1, 3, 16, 16), np.int8)])
    with pytest.raises(DataError, match="input_0"):
        pair[3].session.run([np.zeros((1, 3, 15, 16), np.float32)])


def test_sessions_of_different_thread_counts_side_by_side(pair):
    model, images = pair[:2]
    path = pair[3].path
    one, two = ExecuTorchRunner().load(path, threads=1), ExecuTorchRunner().load(path, threads=2)
    for _ in range(2):
        first, second = one.run([images[:1]]), two.run([images[:1]])
        np.testing.assert_allclose(first[0], second[0], atol=1e-5)
        np.testing.assert_allclose(first[0], model(images[:1]), atol=1e-4)


def test_memory_is_left_to_the_process(pair):
    assert pair[3].session.memory() is None
    assert ExecuTorchRunner().inner(pair[3].path, []) is None


def test_biases_that_fall_between_two_integers_are_rounded_as_simulated(tmp_path):
    torch.manual_seed(0)
    random = np.random.default_rng(0)
    x = random.random((4, 3, 32, 32), np.float32)
    network = nn.Conv2d(3, 64, 1).eval()
    step = Quantize(correct_biases=False)
    context = Context((capabilities(),), Data.from_arrays(calibration=x))
    plan = step.apply(trace(network, (torch.from_numpy(x),)), context).model.plans[0]
    scale = next(iter(plan.values.values())).scale[0] * np.array(plan.units["conv2d"].weights["weight"].scale)
    with torch.no_grad():
        network.bias.copy_(torch.from_numpy((random.integers(1000, 20000, 64) + 0.49999) * scale))
    model = step.apply(trace(network, (torch.from_numpy(x),)), context).model
    found = exported(model, tmp_path / "model.pte")(x)
    np.testing.assert_allclose(found, simulate(model, model.plans[0])(x), atol=1e-3 * model.plans[0].values["conv2d"].scale[0])
