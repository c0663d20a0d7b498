"""Files for microcontrollers: integers alone, their exact arena, their C source."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from tersenet.data.parts import Data
from tersenet.errors import ModelError, UnsupportedError
from tersenet.frontends.table import load
from tersenet.graph.simulate import simulate
from tersenet.manifest import entry
from tersenet.step import Context
from tersenet.steps.quantize import Quantize
from tersenet.target import Artifact, ExportOptions
from tersenet.testing.networks import samples, small_convolutional

pytest.importorskip("ai_edge_litert")
pytest.importorskip("tflite_micro")
from tersenet.formats.tflite import Graph, Operator, Tensor, read
from tersenet.targets.litert.capabilities import LITERT, LITERT_MICRO, MICRO_OPERATORS
from tersenet.targets.litert.micro import MicroExporter, refuse_missing
from tersenet.targets.litert.micro_run import MicroRunner
from tersenet.targets.table import TARGETS


@pytest.fixture(scope="module")
def quantized():
    return Quantize().apply(small_convolutional(), Context((LITERT_MICRO,), Data.from_arrays(calibration=samples(32, 1)))).model


@pytest.fixture(scope="module")
def export(quantized, tmp_path_factory):
    return MicroExporter().export(quantized, tmp_path_factory.mktemp("micro") / "model.tflite", ExportOptions())


class Deep(nn.Module):
    """Eight residual blocks: a step that one kernel rounds otherwise than the simulation is many steps behind them."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.ReLU6(), nn.Conv2d(8, 8, 1), nn.Hardswish()) for _ in range(8)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.stem(x))
        for block in self.blocks:
            x = x + block(x)
        return x


def integers_equal(model, plan, arrays: np.ndarray, file: Artifact) -> float:
    """The share of results that are the simulation's own."""
    return float((np.abs(file(arrays) - simulate(model, plan)(arrays)) < 1e-6).mean())


def test_deep_networks_compute_what_was_simulated(tmp_path):
    torch.manual_seed(0)
    model = load(Deep().eval(), (torch.randn(2, 3, 12, 12),))
    arrays = torch.randn(8, 3, 12, 12, generator=torch.Generator().manual_seed(1)).numpy()
    quantized = Quantize().apply(model, Context((LITERT_MICRO,), Data.from_arrays(calibration=arrays))).model
    export = MicroExporter().export(quantized, tmp_path / "model.tflite", ExportOptions())
    file = Artifact(export.path, "litert-micro", MicroRunner().load(export.path), export.inputs, export.outputs)
    (plan,) = quantized.plans
    once = replace(plan, units={name: replace(unit, rounding="nearest") for name, unit in plan.units.items()})
    assert integers_equal(quantized, plan, arrays, file) >= 0.995
    assert integers_equal(quantized, once, arrays, file) < 0.99


def test_runtimes_that_round_otherwise_have_plans_of_equal_numbers():
    both = (LITERT_MICRO, LITERT)
    micro, plain = Quantize().apply(small_convolutional(), Context(both, Data.from_arrays(calibration=samples(32, 1)))).model.plans
    assert micro.values == plain.values
    assert {unit.rounding for unit in micro.units.values() if unit.weights} == {"twice"}
    assert micro.units == {
        name: replace(unit, rounding=micro.units[name].rounding, halves=micro.units[name].halves) for name, unit in plain.units.items()
    }
    assert type(micro).from_json(micro.to_json()) == micro


def runs_in(path, arena: int) -> bool:
    from tflite_micro.python.tflite_micro import runtime

    try:
        interpreter = runtime.Interpreter.from_file(str(path), arena_size=arena)
        details = interpreter.get_input_details(0)
        interpreter.set_input(np.zeros(details["shape"], details["dtype"]), 0)
        interpreter.invoke()
    except RuntimeError:
        return False
    return True


def test_the_arena_is_exact(export):
    arena, word = MicroRunner().load(export.path).memory()
    assert word == "arena"
    assert runs_in(export.path, arena)
    assert not runs_in(export.path, arena - 1)


def test_the_file_holds_integers_alone(export):
    graph = read(export.path.read_bytes())
    assert {tensor.dtype for tensor in graph.tensors} == {"int8", "int32"}
    assert all(port.dtype == "int8" and port.scale for port in (*export.inputs, *export.outputs))


def test_the_header_lists_what_to_register_and_how_much_memory_to_give(export):
    source, header = export.extra
    text = header.read_text()
    graph = read(export.path.read_bytes())
    wanted = {MICRO_OPERATORS[operator.code] for operator in graph.operators}
    assert set(re.findall(r"resolver\.(\w+)\(\);", text)) == wanted
    assert f"MicroMutableOpResolver<{len(wanted)}>" in text
    arena = int(re.search(r"model_arena_size = (\d+),", text).group(1))
    assert runs_in(export.path, arena) and arena % 16 == 0
    numbers = [int(byte, 16) for byte in re.findall(r"0x([0-9a-f]{2})", source.read_text())]
    assert bytes(numbers) == export.path.read_bytes()


@pytest.mark.skipif(shutil.which("c++") is None, reason="no C++ compiler here")
def test_the_source_compiles_and_holds_the_file(export, tmp_path):
    program = tmp_path / "main.cc"
    program.write_text(
        '#include <cstdio>\n#include <cstdint>\n#include "model.h"\n'
        "int main() { if (reinterpret_cast<std::uintptr_t>(model) % 16) return 1; return fwrite(model, 1, model_size, stdout) != model_size; }\n"
    )
    binary = tmp_path / "main"
    include = f"-I{export.path.parent}"
    strict = ["-Wall", "-Wextra", "-Werror", "-pedantic", include]
    for compiler in (["cc", "-std=c99"], ["cc", "-std=c11"], ["c++", "-x", "c++", "-std=c++11"]):
        held = tmp_path / "model.o"
        subprocess.run([*compiler, *strict, "-c", str(export.extra[0]), "-o", str(held)], check=True)
        subprocess.run(["c++", "-std=c++17", *strict, str(program), str(held), "-o", str(binary)], check=True)
        assert subprocess.run([str(binary)], capture_output=True, check=True).stdout == export.path.read_bytes()


def test_it_computes_what_the_file_for_litert_computes(quantized, export):
    x = samples(8, 4)
    result = Artifact(export.path, "litert-micro", MicroRunner().load(export.path), export.inputs, export.outputs)(x)
    expected = quantized.without_plans()(x)
    assert np.abs(result - expected).max() < 0.1 * np.abs(expected).max()
    inner = MicroRunner().inner(export.path, [np.zeros(export.inputs[0].shape, np.int8)])
    assert set(export.names.values()) <= set(inner)


def test_a_float_network_is_refused(tmp_path):
    with pytest.raises(UnsupportedError, match="quantize it"):
        MicroExporter().export(small_convolutional(), tmp_path / "model.tflite", ExportOptions())
    assert not list(tmp_path.iterdir())


def test_all_that_the_interpreter_lacks_is_named_in_one_error():
    tensors = (Tensor("x", (1, 4), "int8"), Tensor("a", (1, 4), "int8"), Tensor("b", (1, 4), "float32"))
    graph = Graph(tensors, (Operator("GELU", (0,), (1,)), Operator("DEQUANTIZE", (1,), (2,)), Operator("EXP", (2,), (2,))), (0,), (2,))
    with pytest.raises(UnsupportedError, match=r"2 others.*GELU \(first\).*EXP \(second\).*floats"):
        refuse_missing(graph, {"a": "first", "b": "second"})


def test_floats_in_and_out_are_converted_by_the_file_where_asked(quantized, tmp_path):
    export = MicroExporter().export(quantized, tmp_path / "model.tflite", ExportOptions(integer_io=False))
    assert [port.dtype for port in (*export.inputs, *export.outputs)] == ["float32", "float32"]
    assert MicroRunner().load(export.path).operators().operators["QUANTIZE"] == 1


def test_tokens_are_taken_as_int32(tmp_path):
    torch.manual_seed(0)
    model = load(nn.Sequential(nn.Embedding(11, 6), nn.Linear(6, 3)).eval(), (torch.randint(0, 11, (2, 5)),))
    tokens = np.random.default_rng(0).integers(0, 11, (16, 5))
    quantized = Quantize().apply(model, Context((LITERT_MICRO,), Data.from_arrays(calibration=tokens))).model
    export = MicroExporter().export(quantized, tmp_path / "model.tflite", ExportOptions())
    assert export.inputs[0].dtype == "int32"
    result = Artifact(export.path, "litert-micro", MicroRunner().load(export.path), export.inputs, export.outputs)(tokens)
    assert np.abs(result - model(tokens)).max() < 0.05


class Two(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.other = nn.Linear(4, 3), nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.one(x), self.other(x)


def test_the_manifests_example_reads_every_output(tmp_path, monkeypatch):
    model = load(Two().eval(), (torch.zeros(2, 4),))
    calibration = np.random.default_rng(0).standard_normal((16, 4)).astype(np.float32)
    quantized = Quantize().apply(model, Context((LITERT_MICRO,), Data.from_arrays(calibration=calibration))).model
    export = MicroExporter().export(quantized, tmp_path / "model.tflite", ExportOptions())
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(entry(TARGETS["litert-micro"], tmp_path, export, export, tmp_path / "names.json").example, names)
    expected = MicroRunner().load(export.path).run([np.zeros(export.inputs[0].shape, np.int8)])
    assert [array.tolist() for array in names["outputs"]] == [array.tolist() for array in expected]
    assert [array.shape for array in expected] == [port.shape for port in export.outputs] == [(1, 3), (1, 2)]


def test_a_file_with_operators_that_it_lacks_is_refused(tmp_path):
    from tersenet.targets.litert.export import LiteRTExporter

    model = load(nn.Sequential(nn.GELU()), (torch.randn(2, 4),))
    LiteRTExporter().export(model, tmp_path / "model.tflite", ExportOptions())
    with pytest.raises(ModelError, match="GELU"):
        MicroRunner().load(tmp_path / "model.tflite")
