"""Measuring and reporting a file, and asking the command line for help, import no framework and no runtime."""

import json
import subprocess
import sys

import pytest

from source import PACKAGE

HEAVY = [
    *("ai_edge_litert", "executorch", "flatbuffers", "keras", "lightning_fabric", "onnx", "onnxruntime", "onnxscript", "pandas", "PIL", "pyarrow"),
    *("scipy", "sklearn", "tensorflow", "tflite_micro", "torch", "torchao", "transformers"),
]
ROOMS = ("measure", "report", "data")
SINGLE = [
    *(
        "__init__",
        "cli",
        "bars",
        "progress",
        "target",
        "tensors",
        "schemes",
        "plan",
        "capabilities",
        "errors",
        "step",
        "frontend",
        "record",
        "budget",
    ),
    *("store", "plain", "manifest", "evaluation"),
]
TARGETS = ("targets/table.py", "targets/*/capabilities.py", "targets/*/*run.py")
# Each is imported in turn, in one process; the first one that brings a heavy package is named.
PROBE = """
import importlib, json, sys
modules, heavy = json.loads(sys.argv[1])
for module in modules:
    importlib.import_module(module)
    found = [name for name in heavy if name in sys.modules]
    if found:
        sys.exit(f"{module} imports {', '.join(found)}")
"""
SECONDS = 1.0  # of processor time; numpy alone takes 0.1 to 0.2 of it


def test_the_command_line_is_a_module_too() -> None:
    for arguments, code, says in ((["--version"], 0, "tersenet, version"), (["inspect"], 2, "tersenet inspect")):
        done = subprocess.run([sys.executable, "-m", "tersenet", *arguments], capture_output=True, text=True, check=False)
        assert (done.returncode, says in done.stdout + done.stderr) == (code, True), done


def light_modules() -> list[str]:
    files = [PACKAGE / f"{name}.py" for name in SINGLE]
    files += [path for room in ROOMS for path in (PACKAGE / room).rglob("*.py")]
    files += [path for pattern in TARGETS for path in PACKAGE.glob(pattern)]
    names = [".".join(("tersenet", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__") for path in files if path.exists()]
    return sorted(names)


def test_the_list_has_every_room() -> None:
    wanted = ("tersenet.cli", "tersenet.target", "tersenet.measure.", "tersenet.report.", "tersenet.data.", "tersenet.targets.onnxruntime.run")
    assert [name for name in wanted if not any(module.startswith(name) for module in light_modules())] == []


def test_they_import_no_framework_and_no_runtime() -> None:
    arguments = json.dumps([light_modules(), HEAVY])
    done = subprocess.run([sys.executable, "-c", PROBE, arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("module", ["tersenet", "tersenet.cli", "tersenet.target", "tersenet.targets.table", "tersenet.measure.latency"])
def test_they_are_quick(module: str) -> None:
    code = f"import time; import {module}; print(time.process_time())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(done.stdout) < SECONDS
