"""How work tells how far it is: one function type, from the bottom of the house to the command line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tersenet.errors import InputError

# Called with (done, total, what); `done` equal to `total` ends the wait.
Progress = Callable[[int, int, str], None]


def silent(done: int, total: int, what: str) -> None:
    """Progress that nobody looks at."""


def check_progress(progress: Any) -> None:
    """Raise InputError where progress is told to what is no function."""
    if not callable(progress):
        raise InputError(f"progress must be a function of (done, total, what), got {type(progress).__name__}; leave it out to hear nothing.")
