"""The rules of the house that no linter knows: sizes, names, who imports which runtime, and what may not be named."""

import ast
import subprocess
from pathlib import Path

import pytest

from source import CHECKOUT, FILES, PACKAGE, imported, relative, tree

LINES_OF_A_FILE = 500
LINES_OF_A_FUNCTION = 60
SAYS_NOTHING = {"utils", "util", "common", "core", "helpers", "misc", "base", "manager", "impl"}

# package -> the only rooms that may import it
ROOMS = {
    "onnxruntime": ("targets/onnxruntime",),
    "onnx": ("targets/onnxruntime", "formats", "frontends/onnx"),
    "onnxscript": ("targets/onnxruntime",),
    "ai_edge_litert": ("targets/litert", "formats/tflite"),
    "flatbuffers": ("targets/litert", "formats/tflite"),
    "tflite_micro": ("targets/litert",),
    "executorch": ("targets/executorch",),
    "torchao": ("targets/executorch",),
    "keras": ("frontends/keras",),
    "tensorflow": (),
    "transformers": ("frontends/transformers",),
    "lightning_fabric": ("training",),
    "sklearn": ("data",),
    "PIL": ("data",),
    "pyarrow": ("data",),
    "pandas": (),
    "pickle": (),
    "rich": ("cli", "report", "bars"),
    "click": ("cli",),
}
# Each is written with a ~ in it, so that this file does not find itself.
FORBIDDEN = ["/wo~rk/", "/ro~ot/", "/ho~me/", ".libr~ary/", "farm~-", "pypi~.org", "python~hosted", "download.py~torch", "npm~js", "conda~.io"]


def tracked() -> list[Path]:
    done = subprocess.run(["git", "ls-files", "-z"], cwd=CHECKOUT, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip("not a checkout: no list of tracked files")
    return [CHECKOUT / name for name in done.stdout.split("\0") if name and (CHECKOUT / name).is_file()]


def test_there_is_a_house() -> None:
    assert PACKAGE / "errors.py" in FILES


def test_files_and_functions_are_small() -> None:
    long = [f"{relative(path)}: {lines} lines" for path in FILES if (lines := len(path.read_text(encoding="utf-8").splitlines())) > LINES_OF_A_FILE]
    for path in FILES:
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if lines > LINES_OF_A_FUNCTION:
                    long.append(f"{relative(path)}:{node.lineno} {node.name}: {lines} lines")
    assert long == []


def test_names_of_files_say_something() -> None:
    assert [relative(path) for path in FILES if SAYS_NOTHING & {path.stem, *path.relative_to(PACKAGE).parent.parts}] == []


def test_only_its_own_room_imports_a_runtime_or_a_framework() -> None:
    strangers = []
    for path in FILES:
        for name, line in imported(path):
            rooms = ROOMS.get(name.partition(".")[0])
            if rooms is not None and not relative(path).startswith(rooms):
                strangers.append(f"{relative(path)}:{line} imports {name}")
    assert strangers == []


def test_nobody_asks_which_target_it_is() -> None:
    names = {"onnxruntime", "litert", "litert-micro", "executorch"}
    asked = []
    for path in FILES:
        if relative(path).startswith("targets/"):
            continue
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Compare):
                constants = {item.value for item in ast.walk(node) if isinstance(item, ast.Constant) and isinstance(item.value, str)}
                asked += [f"{relative(path)}:{node.lineno} asks about {name}" for name in sorted(constants & names)]
    assert asked == []


def test_no_tracked_file_names_a_machine_or_a_registry() -> None:
    found = []
    for path in tracked():
        content = path.read_bytes()
        found += [f"{path.relative_to(CHECKOUT)}: {word}" for word in FORBIDDEN if word.replace("~", "").encode() in content]
    assert found == []


def test_every_make_target_and_script_that_the_pages_name_is_there() -> None:
    makefile = (CHECKOUT / "Makefile").read_text()
    pages = [CHECKOUT / name for name in ("README.md", "README.zh.md", "CONTRIBUTING.md") if (CHECKOUT / name).exists()]
    missing = []
    for page in pages:
        for word in page.read_text(encoding="utf-8").replace("`", "\n").splitlines():
            parts = word.split()
            if len(parts) == 2 and parts[0] == "make" and f"\n{parts[1]}:" not in makefile:
                missing.append(f"{page.name}: make {parts[1]}")
            missing += [f"{page.name}: {part}" for part in parts if part.startswith("scripts/") and not (CHECKOUT / part).exists()]
    assert missing == []


@pytest.mark.slow
def test_lint_types_and_the_stair() -> None:
    done = subprocess.run([CHECKOUT / "scripts" / "check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
