"""Damaged copies of a file, opened in forks of a warm parent with limits of time and memory.

A damaged file may be loaded (damage to a weight is no damage to a format) or refused by an error of ours in one line. Anything else is a
finding: another exception, a crash, more than `SECONDS`, more than `MEMORY`, or a payload that ran.
"""

from __future__ import annotations

import os
import resource
import shutil
import signal
import sys
import warnings
import zipfile
from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from tersenet.errors import TersenetError
from tersenet.frontends.table import load

_TOGETHER = 100  # files that one fork opens in turn: a fork of torch costs as much as most files do
SECONDS, MEMORY = 30, 1 << 30  # of one file; the memory is what it may add to the fork's
LOADED, REFUSED, RAISED, CRASHED, SLOW, LARGE, RAN = (
    "loaded", "refused", "another exception", "crashed", "too slow", "too large", "ran a payload"
)  # fmt: skip
_PAYLOADS = ("os.system", "os.exec", "os.posix_spawn", "os.fork", "subprocess.Popen", "socket.connect", "shutil.rmtree", "os.remove")


class Damage:
    """A whole model, and its damaged copies by number, the same for a number every time.

    Of an archive or a folder every second five are damaged inside one member, its checksum made anew.

    Args:
        whole: a file or a folder; its copies take its place.
    """

    def __init__(self, whole: Path) -> None:
        self.path = whole
        self.content = b"" if whole.is_dir() else whole.read_bytes()
        self.members = dict(self._inside())

    def _inside(self) -> Iterator[tuple[str, bytes]]:
        if self.path.is_dir():
            yield from ((file.name, file.read_bytes()) for file in sorted(self.path.iterdir()))
        elif zipfile.is_zipfile(self.path):
            with zipfile.ZipFile(self.path) as archive:
                yield from ((name, content) for name in archive.namelist() if (content := archive.read(name)))

    def write(self, number: int) -> None:
        """Put the copy of this number where the whole model was."""
        generator = np.random.default_rng(number)
        inside = self.members and (self.path.is_dir() or number // 5 % 2)
        if not inside:
            self.path.write_bytes(_damaged(self.content, number % 5, generator))
            return
        chosen = sorted(self.members)[int(generator.integers(0, len(self.members)))]
        members = {**self.members, chosen: _damaged(self.members[chosen], number % 5, generator)}
        if self.path.is_dir():
            for name, content in members.items():
                (self.path / name).write_bytes(content)
        else:
            packed = BytesIO()
            with zipfile.ZipFile(packed, "w") as archive:
                for name, content in members.items():
                    archive.writestr(name, content)
            self.path.write_bytes(packed.getvalue())

    def keep(self, number: int, where: Path) -> None:
        """Leave the copy of this number elsewhere, for whoever mends what it does."""
        self.write(number)
        where.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(where, ignore_errors=True)
        copy = shutil.copytree if self.path.is_dir() else shutil.copy
        copy(self.path, where.with_suffix(self.path.suffix))


def _damaged(content: bytes, kind: int, generator: np.random.Generator) -> bytes:
    """Cut short, some bytes changed, a stretch of zeros or of another place, or a length made huge."""
    changed = bytearray(content)
    filled = np.flatnonzero(np.frombuffer(content, np.uint8))  # some formats are half empty, and nobody reads that
    place = int(generator.choice(filled)) if len(filled) else 0
    if kind == 0:
        return content[:place]
    if kind == 1:
        for spot in generator.choice(filled, int(generator.integers(1, 9))) if len(filled) else ():
            changed[spot] = int(generator.integers(0, 256))
    elif kind == 2:
        changed[place : place + 16] = bytes(16)
    elif kind == 3:
        other, length = int(generator.integers(0, len(content))), int(generator.integers(1, 64))
        changed[place : place + length] = content[other : other + length]
    else:
        changed[place : place + 4] = b"\xff\xff\xff\x7f"
    return bytes(changed)


def tried(damage: Damage, numbers: Sequence[int]) -> Iterator[tuple[int, tuple[str, str]]]:
    """Load damaged copies, some in turn in one fork of this process, and the rest of them in another where one brings the fork down.

    Load the whole model once before, so that no fork has to import anything.

    Args:
        damage: the copies.
        numbers: which of them.

    Yields:
        The number, the outcome (`LOADED`, `REFUSED`, or a finding), and a word on what was found.
    """
    waiting = list(numbers)
    while waiting:
        together = waiting[:_TOGETHER]
        told, status = _forked(damage, together)
        yield from zip(together, told, strict=False)
        done = len(told)
        if done < len(together):
            yield together[done], _ended(status)
            done += 1
        waiting = waiting[done:]


def _forked(damage: Damage, numbers: list[int]) -> tuple[list[tuple[str, str]], int]:
    """What a fork tells of these files, until it ends, and how it ended."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reader)
            _child(damage, numbers, writer)
        finally:
            os._exit(1)  # whatever goes wrong in it, a fork never goes on as this process
    os.close(writer)
    with os.fdopen(reader, encoding="utf-8", errors="replace") as lines:
        told = [tuple(line.rstrip("\n").split("\t", 1)) for line in lines]
    _, status = os.waitpid(child, 0)
    return told, status  # type: ignore[return-value]


def _ended(status: int) -> tuple[str, str]:
    """The outcome of a file that brought its fork down."""
    if not os.WIFSIGNALED(status):
        return CRASHED, f"exit code {os.waitstatus_to_exitcode(status)}"
    stopped = os.WTERMSIG(status)
    return (SLOW if stopped in (signal.SIGALRM, signal.SIGXCPU) else CRASHED), signal.Signals(stopped).name


def _child(damage: Damage, numbers: list[int], writer: int) -> None:
    """Open the files in turn and say of each what came of it."""
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    warnings.simplefilter("ignore")  # a runner of tests may make errors of them
    inside = [False]

    def watch(event: str, _: Any) -> None:
        if inside[0] and event in _PAYLOADS:
            _say(writer, RAN, event)
            os._exit(0)

    sys.addaudithook(watch)
    for number in numbers:
        damage.write(number)
        _limit()
        held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        inside[0] = True
        outcome, why = _opened(damage.path)
        inside[0] = False
        more = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - held) << 10
        _say(writer, *((LARGE, f"{more:,} bytes") if more > MEMORY // 2 else (outcome, why)))


def _limit() -> None:
    """Of the next file: time by both clocks, and address space."""
    signal.alarm(20 * SECONDS)  # the machine may be busy; this is for what sleeps
    used = resource.getrusage(resource.RUSAGE_SELF)
    resource.setrlimit(resource.RLIMIT_CPU, (int(used.ru_utime + used.ru_stime) + 1 + SECONDS, resource.RLIM_INFINITY))
    held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (held + MEMORY, resource.RLIM_INFINITY))


def _opened(path: Path) -> tuple[str, str]:
    try:
        load(path)
    except TersenetError as error:
        return (REFUSED, "") if "\n" not in str(error) else (RAISED, f"several lines: {error}")
    except BaseException as error:  # noqa: BLE001 - this is what is looked for
        return RAISED, f"{type(error).__name__}: {error}"
    return LOADED, ""


def _say(writer: int, outcome: str, why: str) -> None:
    os.write(writer, f"{outcome}\t{' '.join(why.split())[:200]}\n".encode())
