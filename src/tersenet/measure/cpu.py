"""What processor this is, and which of its instructions matter to integer kernels."""

from __future__ import annotations

import os
import platform
from functools import cache
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")

# as /proc/cpuinfo names them -> as people do; weakest first
X86 = {
    "sse4_1": "sse4.1",
    "avx": "avx",
    "avx2": "avx2",
    "avx_vnni": "avx-vnni",
    "avx512f": "avx512",
    "avx512_vnni": "avx512-vnni",
    "amx_int8": "amx-int8",
}
ARM = {"asimd": "neon", "neon": "neon", "asimdhp": "fp16", "asimddp": "dotprod", "i8mm": "i8mm", "sve": "sve", "sve2": "sve2", "sme": "sme"}


@cache
def cpu() -> str:
    """The processor's name, with its architecture and how many of its cores this process may use."""
    name = _cpuinfo().get("model name") or platform.processor() or "unknown processor"
    return f"{' '.join(name.split())}, {platform.machine()}, {cores()} core{'s' if cores() != 1 else ''}"


def cores() -> int:
    """How many cores this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


@cache
def instruction_sets() -> tuple[str, ...]:
    """Vector instructions of this machine that integer kernels are chosen by, weakest first; empty where the system does not tell."""
    lines = _cpuinfo()
    flags = set((lines.get("flags") or lines.get("Features") or "").split())
    names = [name for flag, name in {**X86, **ARM}.items() if flag in flags]
    return tuple(dict.fromkeys(names))


def _cpuinfo() -> dict[str, str]:
    """The first processor's lines of /proc/cpuinfo; empty on systems without it."""
    try:
        text = CPUINFO.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}
    pairs = (line.partition(":") for line in text.split("\n\n")[0].splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}
