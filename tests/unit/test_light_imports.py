"""Measuring and reporting a file, and asking the command line for help, import no framework and no runtime."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[2] / "src"
HEAVY = {
    "ai_edge_litert", "executorch", "keras", "onnx", "onnxruntime", "onnxscript", "pandas", "PIL", "pyarrow", "scipy", "sklearn", "tensorflow",
    "tflite_micro", "torch", "torchao", "transformers",
}  # fmt: skip
SECONDS = 1.0  # of processor time; numpy takes 0.1 of it, click and rich as much
ROOMS = ("measure", "report", "data")
SINGLE = (
    "__init__",
    "cli",
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
    "store",
    "plain",
)
PROBE = """
import json, sys, time, importlib
importlib.import_module(sys.argv[1])
print(json.dumps({"seconds": time.process_time(), "modules": sorted({name.partition(".")[0] for name in sys.modules})}))
"""


def light_modules() -> list[str]:
    package = SOURCE / "tersenet"
    files = [package / f"{name}.py" for name in SINGLE if (package / f"{name}.py").exists()]
    files += [path for room in ROOMS for path in (package / room).rglob("*.py")]
    files += [package / "targets" / "table.py", *package.glob("targets/*/run.py"), *package.glob("targets/*/capabilities.py")]
    names = [".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__") for path in files if path.exists()]
    return sorted(names)


@pytest.mark.parametrize("module", light_modules())
def test_it_imports_no_framework_and_no_runtime(module: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROBE, module], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(SOURCE)}, check=False
    )
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert HEAVY.isdisjoint(seen["modules"]), f"{module} imports {sorted(HEAVY & set(seen['modules']))}"
    assert seen["seconds"] < SECONDS


def test_the_list_is_not_empty() -> None:
    assert {"tersenet", "tersenet.target", "tersenet.errors"} <= set(light_modules())
