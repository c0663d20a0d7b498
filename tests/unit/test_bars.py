"""Waits on stderr: one line or bar for each, whatever is said about where it is."""

from __future__ import annotations

import sys

import pytest

from tersenet import bars
from tersenet.bars import Bars


def test_what_changes_behind_the_colon_is_one_wait(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(bars, "QUIET_SECONDS", 0.0)
    monkeypatch.setattr(bars, "LINE_SECONDS", 0.0)
    with Bars() as progress:
        for done in (1, 2, 3):
            progress(done, 3, f"training: loss {1 / done:.2f}")
    lines = capsys.readouterr().err.splitlines()
    assert lines[:2] == ["training: loss 1.00: 1 of 3", "training: loss 0.50: 2 of 3"]
    assert lines[2].startswith("training: loss 0.33: done in ")


def test_a_terminal_has_one_bar_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with Bars() as progress:
        for done in (1, 2, 3):
            progress(done, 3, f"training: loss {1 / done:.2f}")
        progress(1, 2, "calibrating")
        assert [task.description for task in progress._bar.tasks] == ["training: loss 0.33", "calibrating"]
