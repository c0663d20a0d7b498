"""The table of targets."""

import json
import os
import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

from tersenet.capabilities import Capabilities
from tersenet.errors import MissingDependencyError, ModelError, RecipeError
from tersenet.target import INSTRUCTION_SETS, ExportOptions
from tersenet.targets import table

SOURCE = Path(__file__).resolve().parents[3] / "src"
EVERY = pytest.mark.parametrize("target", table.TARGETS.values(), ids=lambda target: target.name)


def test_a_target_is_found_by_name_and_close_names_are_named() -> None:
    assert table.find("litert-micro").extension == ".tflite"
    with pytest.raises(
        RecipeError, match=r"unknown target 'onnxruntim'; did you mean 'onnxruntime'\? Known: executorch, litert, litert-micro, onnxruntime"
    ):
        table.find("onnxruntim")


@EVERY
def test_rows_are_whole(target) -> None:
    assert table.TARGETS[target.name] is target
    assert target.extension.startswith(".")
    assert table.find(target.float_twin).extension == target.extension
    assert target.about
    assert target.runtime
    for reset in {"", target.reset}:
        text = target.example.format(file=f"model{target.extension}", inputs="inputs = {}\n", outputs=2, reset=reset)
        compile(text, target.name, "exec")
        assert f"model{target.extension}" in text and reset in text


@EVERY
def test_what_a_row_names_exists(target) -> None:
    for place, methods in ((target.exporter, ("capabilities", "export")), (target.runner, ("load", "inner"))):
        module, _, name = place.partition(":")
        assert find_spec(module) is not None, module
        made = getattr(import_module(module), name)
        assert all(callable(getattr(made, method)) for method in methods)


@EVERY
def test_its_capabilities_carry_its_name_and_are_the_exporters(target) -> None:
    found = table.capabilities(target)
    assert isinstance(found, Capabilities)
    assert found.name == target.name
    if not table.missing((*target.requires, *target.writes)):
        assert table.exporter(target).capabilities("") == found


def test_a_missing_package_names_the_line_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    target = table.find("executorch")
    monkeypatch.setattr(table, "find_spec", lambda name: None if name == "executorch" else object())
    for make in (table.exporter, table.runner):
        with pytest.raises(MissingDependencyError, match=r"executorch needs executorch, .*pip install 'tersenet\[executorch\]'"):
            make(target)
    row = next(row for row in table.describe() if row["target"] == "executorch")
    assert (row["installed"], row["version"], row["install"]) == (False, None, "pip install 'tersenet[executorch]'")


def test_what_is_described_is_plain_data() -> None:
    rows = json.loads(json.dumps(table.describe()))
    assert [row["target"] for row in rows] == list(table.TARGETS)
    assert all(row["integer_kernels"] for row in rows)
    assert {row["target"]: row["integer_io"] for row in rows} == {
        **dict.fromkeys(("onnxruntime", "litert", "executorch"), "on request"),
        "litert-micro": "by default",
    }


def test_instruction_sets_are_those_that_a_table_tells_apart() -> None:
    from tersenet.targets.onnxruntime.capabilities import SATURATES, this_cpu

    assert set(INSTRUCTION_SETS) == set(SATURATES)
    assert this_cpu() in INSTRUCTION_SETS
    for name in INSTRUCTION_SETS:
        assert ExportOptions(cpu=name).cpu == name
    with pytest.raises(RecipeError, match=r"unknown instruction set 'x86-avx3'; did you mean 'x86-avx2'.*Known: arm64"):
        ExportOptions(cpu="x86-avx3")


@pytest.mark.parametrize(("name", "target"), [("a.onnx", "onnxruntime"), ("a.tflite", "litert"), ("a.pte", "executorch")])
def test_a_file_is_known_by_its_extension(name: str, target: str) -> None:
    assert table.target_of(Path(name)).name == target


def test_another_extension_is_refused() -> None:
    with pytest.raises(ModelError, match=r"must end in one of \.onnx, \.pte, \.tflite"):
        table.target_of(Path("model.h5"))


def test_the_table_and_its_descriptions_import_no_framework() -> None:
    probe = "import json, sys; from tersenet.targets import table; table.describe(); print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(SOURCE)}, check=True)
    assert {"torch", "onnx", "onnxruntime", "executorch", "ai_edge_litert", "tflite_micro"}.isdisjoint(json.loads(done.stdout))


def test_running_an_onnx_file_imports_no_torch(tmp_path: Path) -> None:
    import torch

    from tersenet.graph.trace import trace
    from tersenet.target import ExportOptions

    path = tmp_path / "model.onnx"
    table.exporter(table.find("onnxruntime")).export(trace(torch.nn.ReLU(), (torch.zeros(2, 3),)), path, ExportOptions())
    probe = f"""
import sys, pathlib, numpy
from tersenet.targets import table
path = pathlib.Path({str(path)!r})
session = table.runner(table.target_of(path)).load(path)
print(session.run([numpy.array([[-1, 0, 2]], 'float32')])[0].tolist(), session.operators().delegated, 'torch' in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(SOURCE)}, check=True)
    assert done.stdout.split("\n")[0] == "[[0.0, 0.0, 2.0]] 1.0 False"
