"""A file's first run in another process: crashes, hangs, refusals."""

from pathlib import Path

import pytest

from tersenet.errors import ModelError
from tersenet.measure.trial import try_out

RUNNER = """
import os, time
from tersenet.errors import ModelError

class Runner:
    def load(self, path, threads):
        what = path.read_text()
        if what == "crash":
            os.abort()
        if what == "hang":
            time.sleep(60)
        if what == "refuse":
            raise ModelError("not mine")
        self.inputs = ()
        return self

    def run(self, arrays):
        return []
"""


@pytest.fixture
def runner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "strange_runner.py").write_text(RUNNER)
    monkeypatch.syspath_prepend(tmp_path)
    return "strange_runner:Runner"


@pytest.mark.parametrize("what", ["fine", "refuse"])
def test_what_loads_or_is_refused_is_left_to_whoever_loads_it(tmp_path: Path, runner: str, what: str) -> None:
    (tmp_path / "file").write_text(what)
    try_out(tmp_path / "file", runner)


@pytest.mark.parametrize(("what", "says"), [("crash", "crashed"), ("hang", "did not come to an end")])
def test_what_takes_its_runtime_down(tmp_path: Path, runner: str, what: str, says: str) -> None:
    (tmp_path / "file").write_text(what)
    with pytest.raises(ModelError, match=says):
        try_out(tmp_path / "file", runner, limit_seconds=3.0)
