"""A file's first run, in a process of its own: a native runtime that a damaged file brings down must not take us with it.

Run as ``python -m tersenet.measure.trial PATH RUNNER THREADS``, this module is that process.
"""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from tersenet.errors import ModelError, TersenetError


def try_out(path: Path, runner: str, threads: int = 1, limit_seconds: float = 120.0) -> None:
    """Load a file and run it once on zeros, elsewhere. What it says of a file that it refuses is left to whoever loads it here.

    Args:
        path: the file.
        runner: ``"module:class"`` of the runner, as the table of targets has it.
        threads: that the runtime is given.
        limit_seconds: that it may take.

    Raises:
        ModelError: the runtime crashed, or did not come to an end.
    """
    command = [sys.executable, "-m", "tersenet.measure.trial", str(Path(path).absolute()), runner, str(threads)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)}
    try:
        done = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=limit_seconds, check=False)
    except subprocess.TimeoutExpired as error:
        raise ModelError(f"{path} is not a model that can be run: its runtime did not come to an end in {limit_seconds:g} s.") from error
    if done.returncode < 0:
        raise ModelError(f"{path} is not a model that can be run: its runtime crashed (signal {-done.returncode}); it is damaged, make it anew.")


def run_once(path: Path, runner: str, threads: int) -> None:
    """The child's work."""
    module, _, name = runner.partition(":")
    session = getattr(importlib.import_module(module), name)().load(path, threads)
    session.run([np.zeros([size or 1 for size in port.shape], port.dtype) for port in session.inputs])


if __name__ == "__main__":
    try:
        run_once(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
    except TersenetError:
        sys.exit(2)
