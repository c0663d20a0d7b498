"""The command line in a hurry: timing takes no time, for tests that look at what is there and not at how fast.

``python tests/hurry.py compress ...`` is ``tersenet compress ...``.
"""

from __future__ import annotations

import functools
import sys
from pathlib import Path

import pytest

from tersenet import cli, journey, proof
from tersenet.measure.latency import in_turn

SECONDS = 0.05


def hurry(patch: pytest.MonkeyPatch) -> None:
    """Spend `SECONDS` instead of two or three on each pair of files that is timed."""
    patch.setattr(journey, "Conditions", functools.partial(proof.Conditions, latency_seconds=SECONDS))
    patch.setattr("tersenet.on_target.SECONDS", SECONDS)
    patch.setattr("tersenet.evaluation.in_turn", functools.partial(in_turn, seconds=SECONDS))


def program(folder: Path) -> Path:
    """A program ``tersenet`` in a folder, for shells that look there first."""
    path = folder / "tersenet"
    path.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{__file__}" "$@"\n')
    path.chmod(0o755)
    return path


if __name__ == "__main__":
    del sys.path[0]  # this folder, that `tersenet` does not look into
    hurry(pytest.MonkeyPatch())
    sys.exit(cli.main(sys.argv[1:]))
