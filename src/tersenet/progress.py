"""How work tells how far it is: one function type, from the bottom of the house to the command line."""

from __future__ import annotations

from collections.abc import Callable

# Called with (done, total, what); `done` equal to `total` ends the wait.
Progress = Callable[[int, int, str], None]


def silent(done: int, total: int, what: str) -> None:
    """Progress that nobody looks at."""
