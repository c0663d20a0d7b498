"""What a run ran on: versions, platform, processor, memory. Nothing is imported to find out."""

from __future__ import annotations

import importlib.metadata
import platform
import resource
import sys
from typing import Any

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


def versions(distributions: tuple[str, ...] = DISTRIBUTIONS) -> dict[str, str]:
    """Installed version by distribution, those that are absent left out."""
    found = {}
    for name in distributions:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


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
