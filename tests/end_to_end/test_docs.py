"""What the pages and the examples show, run as a user would: commands in a shell, Python in order, in one folder."""

import os
import runpy
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from hurry import hurry, program
from pages import DOCS, ENGLISH, RUN, blocks
from source import CHECKOUT

pytestmark = [
    pytest.mark.slow,
    pytest.mark.end_to_end,
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"),  # Keras on torch
]

EXAMPLES = CHECKOUT / "examples"
FIRST = DOCS / "getting-started.md"
OTHERS = [page for page in ENGLISH if page.parent == DOCS and page != FIRST and any(block.language in RUN for block in blocks(page))]


def run(page: Path, folder: Path) -> None:
    """Run all blocks of a page in order; Python's share their names."""
    names: dict[str, Any] = {"__name__": "__main__"}
    before = Path.cwd()
    os.chdir(folder)
    sys.path.insert(0, str(folder))
    try:
        for block in blocks(page):
            if block.language == "bash":
                shell(block.text, f"{page.name}, line {block.line}")
            elif block.language == "python":
                code = compile("\n" * block.line + block.text, str(page), "exec")  # a traceback has the page's own lines
                exec(code, names)
    finally:
        os.chdir(before)
        sys.path.remove(str(folder))


def shell(text: str, where: str) -> None:
    programs = str(Path(sys.executable).parent)
    with tempfile.TemporaryDirectory() as hurried:
        program(Path(hurried))
        environment = {**os.environ, "PATH": os.pathsep.join([hurried, programs, os.environ["PATH"]])}
        done = subprocess.run(["bash", "-euo", "pipefail", "-c", text], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{where}: exit code {done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"


@pytest.fixture(scope="module", autouse=True)
def hurried() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        hurry(patch)
        yield


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of someone who has worked through the first page."""
    folder = tmp_path_factory.mktemp("docs")
    (folder / "net.py").write_text((EXAMPLES / "net.py").read_text(encoding="utf-8"), encoding="utf-8")
    run(FIRST, folder)
    return folder


@pytest.fixture(autouse=True)
def own_modules() -> Iterator[None]:
    """A page's own modules are gone after it: another folder has others of the same name."""
    yield
    for name in ("net", "small"):
        sys.modules.pop(name, None)


def test_the_readme(tmp_path: Path) -> None:
    run(CHECKOUT / "README.md", tmp_path)


def test_the_first_page_leaves_what_it_promises(started: Path) -> None:
    for name in ("report.html", "report.json", "manifest.json", "artifacts/litert/model.tflite", "artifacts/onnxruntime/model.onnx"):
        assert (started / "runs/first" / name).stat().st_size > 0


@pytest.mark.parametrize("page", OTHERS, ids=lambda page: page.stem)
def test_a_page(page: Path, started: Path) -> None:
    skip_without_keras(page)
    run(page, started)


def skip_without_keras(file: Path) -> None:
    if "import keras" in file.read_text(encoding="utf-8") and find_spec("keras") is None:
        pytest.skip(f"{file.name} makes its network with Keras: pip install keras")


@pytest.mark.parametrize("example", sorted(path.stem for path in EXAMPLES.glob("*.py") if path.stem != "net"))
def test_an_example_prints_the_table_of_its_report(
    example: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest
) -> None:
    skip_without_keras(EXAMPLES / f"{example}.py")
    if 'os.environ["TERSENET_DATA"]' in (EXAMPLES / f"{example}.py").read_text(encoding="utf-8"):  # else something stands in for what is not there
        monkeypatch.setenv("TERSENET_DATA", str(request.getfixturevalue("tersenet_data")))
    monkeypatch.syspath_prepend(str(EXAMPLES))
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(EXAMPLES / f"{example}.py"))["main"](str(tmp_path / "run"))
    printed = capsys.readouterr().out
    assert "MACs" in printed
    assert "The whole report" in printed
    assert list((tmp_path / "run").rglob("report.html"))
