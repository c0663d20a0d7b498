"""Progress on stderr: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Any

# A line for a wait shorter than this says nothing; one more often than this floods a log.
QUIET_SECONDS = 1.0
LINE_SECONDS = 5.0


class Bars:
    """A callable of (done, total, what), for the length of a ``with``.

    What stands before a colon names the wait; the rest says where it is, and may change from call to call (``training: loss 0.31``).
    """

    def __init__(self) -> None:
        self._bar: Any = None
        self._tasks: dict[str, Any] = {}
        self._started: dict[str, float] = {}
        self._said: dict[str, float] = {}

    def __enter__(self) -> Bars:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
            from rich.progress import Progress as Columns

            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
            self._bar = Columns(*columns, console=Console(stderr=True), transient=True)
            self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, done: int, total: int, what: str) -> None:
        name = what.partition(":")[0]
        if self._bar is not None:
            task = self._tasks.get(name)
            if task is None:
                task = self._tasks[name] = self._bar.add_task(what, total=total)
            self._bar.update(task, completed=done, total=total, description=what)
        else:
            self._say(done, total, name, what)

    def _say(self, done: int, total: int, name: str, what: str) -> None:
        now = time.monotonic()
        started = self._started.setdefault(name, now)
        last = self._said.get(name, started)
        if done >= total:
            if now - started >= QUIET_SECONDS:
                print(f"{what}: done in {now - started:.1f} s", file=sys.stderr, flush=True)
            self._started.pop(name, None)
            self._said.pop(name, None)
        elif now - last >= LINE_SECONDS:
            self._said[name] = now
            print(f"{what}: {done} of {total}", file=sys.stderr, flush=True)
