"""What a run ran on: versions, platform, processor, memory. Nothing is imported to find out."""

from __future__ import annotations

import importlib.metadata
import platform
import resource
import sys
from typing import Any

from tersenet.errors import InputError, shortened
from tersenet.measure.cpu import cores, cpu, instruction_sets

DISTRIBUTIONS = (
    "tersenet",
    "numpy",
    "torch",
    "onnx",
    "onnxruntime",
    "ai-edge-litert",
    "tflite-micro",
    "executorch",
    "torchao",
    "flatbuffers",
    "scikit-learn",
)

# More would only wait for one another, and a runtime that is asked for a million starts a million.
MOST_THREADS = 256


def versions(distributions: tuple[str, ...] = DISTRIBUTIONS) -> dict[str, str]:
    """Installed version by distribution, those that are absent left out."""
    found = {}
    for name in distributions:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def check_conditions(threads: int, seed: int) -> None:
    """Hold what a run or a measurement is given to what runtimes and generators take.

    Raises:
        InputError: threads beyond 1..`MOST_THREADS`, a seed beyond 32 bits, or no whole numbers.
    """
    for what, value, low, high in (("threads", threads, 1, MOST_THREADS), ("a seed", seed, 0, 2**32 - 1)):
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise InputError(f"{what} must be a whole number from {low} to {high}, got {shortened(value)}.")


def environment(threads: int = 1) -> dict[str, Any]:
    """The record's ``environment``.

    Args:
        threads: that every runtime is given.
    """
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": cpu(),
        "instruction_sets": list(instruction_sets()),
        "cores": cores(),
        "threads": threads,
        "versions": versions(),
    }


def peak_rss_bytes() -> int:
    """The largest resident set that this process has had."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
