"""Peak memory of one file: the runtime's own figure where it has one, else how much a process of its own grows.

Run as ``python -m tersenet.measure.memory SPEC.json``, this module is that process.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import json
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tersenet.errors import TersenetError
from tersenet.target import Runner, Session

GROWTH = "process growth"
RUNS = 3
LIMIT_SECONDS = 300.0


@dataclass(frozen=True)
class Memory:
    """Peak memory of a file.

    Args:
        bytes: of one run; None where it could not be measured.
        what: the bytes are: ``arena``, ``planner`` or ``process growth``; None where there are none.
        notes: why there are none.
    """

    bytes: int | None
    what: str | None
    notes: tuple[str, ...] = ()


def peak_memory(
    session: Session,
    path: Path,
    arrays: Sequence[np.ndarray],
    runner: str,
    requires: Sequence[str] = (),
    threads: int = 1,
    limit_seconds: float = LIMIT_SECONDS,
) -> Memory:
    """What running a file takes at its peak; nothing is known where the runtime has no figure of its own and the child process fails or is too slow.

    Args:
        session: the file, loaded.
        path: the file.
        arrays: one batch, as the file takes it (see `tersenet.target.feed`).
        runner: ``"module:class"`` of the runner, as the table of targets has it; it is imported in the child process alone.
        requires: modules of the runtime, imported before the first look so that their own size is not counted.
        threads: that the runtime is given.
        limit_seconds: that the child process may take.
    """
    own = session.memory()
    if own is not None:
        return Memory(*own)
    try:
        return Memory(growth(path, arrays, runner, requires, threads, limit_seconds), GROWTH)
    except (TersenetError, OSError) as error:  # the file is well, and all else that is known of it is worth keeping
        why = str(error) if isinstance(error, TersenetError) else f"the memory of {path.name} could not be measured: {error.strerror}"
        return Memory(None, None, (why,))


def growth(
    path: Path, arrays: Sequence[np.ndarray], runner: str, requires: Sequence[str] = (), threads: int = 1, limit_seconds: float = LIMIT_SECONDS
) -> int:
    """Bytes by which a process that has the runtime loaded grows, at its peak, while it loads a file and runs it. Arguments as `peak_memory`.

    Raises:
        TersenetError: the process failed, or took too long.
    """
    with tempfile.TemporaryDirectory(prefix="tersenet-memory-") as name:
        folder = Path(name)
        for index, array in enumerate(arrays):
            np.save(folder / f"{index}.npy", array, allow_pickle=False)
        spec = {"path": str(Path(path).absolute()), "arrays": len(arrays), "runner": runner, "requires": list(requires), "threads": threads}
        (folder / "spec.json").write_text(json.dumps(spec), encoding="utf-8")
        _run_child(folder / "spec.json", path, limit_seconds)
        return int(json.loads((folder / "answer.json").read_text(encoding="utf-8"))["bytes"])


def _run_child(spec: Path, path: Path, limit_seconds: float) -> None:
    command = [sys.executable, "-m", "tersenet.measure.memory", str(spec)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)}
    try:
        done = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=limit_seconds, check=False)
    except subprocess.TimeoutExpired as error:
        raise TersenetError(f"the memory of {path.name} could not be measured: loading and running it took over {limit_seconds:g} s.") from error
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise TersenetError(f"the memory of {path.name} could not be measured: its process ended with code {done.returncode} ({last}).")


def measure(spec_path: Path) -> None:
    """The child's work: bring the runtime in, look, load and run the file, look again."""
    spec = json.loads(spec_path.read_text(encoding="utf-8"))
    arrays = [np.load(spec_path.parent / f"{index}.npy", allow_pickle=False) for index in range(spec["arrays"])]
    for name in spec["requires"]:
        importlib.import_module(name)
    module, _, name = spec["runner"].partition(":")
    runner = getattr(importlib.import_module(module), name)()
    _run(runner, spec, arrays)  # the first time loads the runtime's libraries, which are not this file's memory
    _give_back()
    before = _peak_bytes(reset=True)
    _run(runner, spec, arrays)
    grown = max(resource.getpagesize(), _peak_bytes() - before)  # less than a page is not seen
    (spec_path.parent / "answer.json").write_text(json.dumps({"bytes": grown}), encoding="utf-8")


def _run(runner: Runner, spec: Mapping[str, Any], arrays: Sequence[np.ndarray]) -> None:
    session = runner.load(Path(spec["path"]), threads=spec["threads"])
    for _ in range(RUNS):
        session.run(arrays)


def _give_back() -> None:
    """Hand freed memory back to the system, so that the second run's does not hide in it."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):  # glibc alone has it
        ctypes.CDLL(None).malloc_trim(0)


def _peak_bytes(reset: bool = False) -> int:
    """The process's largest resident set so far; with `reset`, so far is from now on, where the system can do that (Linux)."""
    if reset:
        with contextlib.suppress(OSError):  # then the peak of the imports is the start: growth is understated, never overstated
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024


if __name__ == "__main__":
    measure(Path(sys.argv[1]))
