import sys
from pathlib import Path

import numpy as np
import pytest

from tersenet.errors import TersenetError
from tersenet.measure.memory import GROWTH, Memory, growth, peak_memory

RUNNER = """
import numpy as np

class Session:
    def __init__(self, size):
        self.held = np.ones(size, np.uint8)

    def run(self, arrays):
        assert arrays[0].shape == (1, 3) and arrays[0].dtype == np.int8
        return [np.ones(8_000_000, np.uint8)[:1]]

class Runner:
    def load(self, path, threads=1):
        assert threads == 2
        return Session(int(path.read_text()))

class Broken:
    def load(self, path, threads=1):
        raise ValueError("no such operator")
"""


@pytest.fixture
def runner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "fake_runner_of_a_test.py").write_text(RUNNER)
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    return "fake_runner_of_a_test"


def test_growth_is_what_the_file_holds_and_its_runs_take(tmp_path: Path, runner: str) -> None:
    arrays = [np.zeros((1, 3), np.int8)]
    (tmp_path / "model").write_text("32000000")
    (tmp_path / "small").write_text("1000")
    large = growth(tmp_path / "model", arrays, f"{runner}:Runner", requires=["numpy"], threads=2)
    small = growth(tmp_path / "small", arrays, f"{runner}:Runner", threads=2)
    assert 38_000_000 < large < 48_000_000
    assert 6_000_000 < small < 16_000_000
    assert runner not in sys.modules


def test_a_runtime_s_own_figure_goes_first(tmp_path: Path, runner: str) -> None:
    class Own:
        def memory(self) -> tuple[int, str]:
            return 55_984, "arena"

    class Without:
        def memory(self) -> None:
            return None

    (tmp_path / "model").write_text("1000")
    arrays = [np.zeros((1, 3), np.int8)]
    assert peak_memory(Own(), tmp_path / "model", arrays, "nowhere:Runner") == Memory(55_984, "arena")  # type: ignore[arg-type]
    assert peak_memory(Without(), tmp_path / "model", arrays, f"{runner}:Runner", threads=2).what == GROWTH  # type: ignore[arg-type]


def test_a_child_that_fails_is_one_clear_error(tmp_path: Path, runner: str) -> None:
    with pytest.raises(TersenetError, match="no such operator"):
        growth(tmp_path / "model", [np.zeros(1)], f"{runner}:Broken")


@pytest.mark.parametrize(("broken", "limit", "why"), [("Broken", 60.0, "no such operator"), ("Runner", 0.01, "took over 0.01 s")])
def test_what_cannot_be_measured_is_told_and_not_fatal(tmp_path: Path, runner: str, broken: str, limit: float, why: str) -> None:
    class Without:
        def memory(self) -> None:
            return None

    (tmp_path / "model").write_text("1000")
    found = peak_memory(Without(), tmp_path / "model", [np.zeros(1)], f"{runner}:{broken}", limit_seconds=limit)  # type: ignore[arg-type]
    assert found.bytes is None and found.what is None and why in found.notes[0]
