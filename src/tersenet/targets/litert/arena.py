"""The smallest arena that a file runs in, in a process of its own: ``python -m tersenet.targets.litert.arena FILE``.

A native interpreter that is given too little memory says so on the process's own streams and may end it; nobody else should
suffer from that. Prints one JSON object.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from tersenet.errors import MissingDependencyError, ModelError

# More than any microcontroller has, and enough to count what is needed.
ROOMY = 256 << 20
# The interpreter aligns what it places, so that its own sum is off by some bytes either way.
SLACK = 512


def smallest_arena(path: Path) -> dict[str, int]:
    """Bytes of the smallest arena in which the file runs, and its two parts.

    Returns:
        ``bytes``, exact on this machine; ``head`` (activations, scratch) and ``tail`` (tensors, operators), as the interpreter counts.

    Raises:
        ModelError: the file does not run, with what the interpreter said.
        MissingDependencyError: the interpreter is not installed.
    """
    try:
        return dict(_searched(str(path), path.stat().st_mtime_ns))
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror or error}.") from error


@lru_cache(maxsize=32)
def _searched(path: str, _changed: int) -> dict[str, int]:
    done = subprocess.run([sys.executable, "-m", __name__, path], capture_output=True, text=True, check=False)
    said = [line for line in done.stderr.splitlines() if line.strip()]
    if done.returncode == 3:
        raise MissingDependencyError("the arena of a file is found with tflite-micro: pip install 'tersenet[litert-micro]'")
    if done.returncode != 0:
        raise ModelError(f"{path} does not run in the interpreter for microcontrollers: {said[-1] if said else f'it ended with {done.returncode}'}")
    found: dict[str, int] = json.loads(done.stdout)
    return found


def _runs(runtime: Any, path: str, arena: int) -> Any:
    """The interpreter after one run, or None where the arena is too small."""
    try:
        interpreter = runtime.Interpreter.from_file(path, arena_size=arena)
        details = interpreter.get_input_details(0)
        interpreter.set_input(np.zeros(details["shape"], details["dtype"]), 0)
        interpreter.invoke()
    except RuntimeError:
        return None
    return interpreter


def _survives(runtime: Any, path: str, arena: int) -> bool:
    """Whether the file runs in an arena; tried in a copy of this process, which too small a one may end."""
    child = os.fork()
    if child == 0:
        os._exit(0 if _runs(runtime, path, arena) is not None else 1)
    return os.waitpid(child, 0)[1] == 0


def _counted(interpreter: Any) -> dict[str, int]:
    """What the interpreter says that it has placed; it says so on the process's own stream alone."""
    with tempfile.TemporaryFile() as file:
        kept = os.dup(2)
        os.dup2(file.fileno(), 2)
        interpreter.print_allocations()
        os.dup2(kept, 2)
        file.seek(0)
        lines = file.read().decode().splitlines()
    return {word: int(line.split()[-2]) for line in lines for word in ("head", "tail", "total") if f"allocation {word} " in line}


def _search(path: str) -> int:
    try:
        from tflite_micro.python.tflite_micro import runtime
    except ImportError:
        return 3
    interpreter = _runs(runtime, path, ROOMY)
    if interpreter is None:
        return 1
    counted = _counted(interpreter)
    enough, too_small = counted["total"] + SLACK, max(counted["total"] - SLACK, 0)
    if not _survives(runtime, path, enough):
        enough = ROOMY
    while enough - too_small > 1:
        middle = (enough + too_small) // 2
        if _survives(runtime, path, middle):
            enough = middle
        else:
            too_small = middle
    print(json.dumps({"bytes": enough, "head": counted["head"], "tail": counted["tail"]}))
    return 0


if __name__ == "__main__":
    sys.exit(_search(sys.argv[1]))
