"""A file's bytes where they lie: a large file need not be in memory beside the network that it becomes."""

from __future__ import annotations

import mmap
from pathlib import Path


def mapped(path: Path) -> memoryview:
    """A file's bytes, read as they are touched; what is written to them stays in memory."""
    with path.open("rb") as file:
        if not path.stat().st_size:  # nothing to map
            return memoryview(b"")
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY))


def release(data: memoryview) -> None:
    """Let the system take back the memory of a file's bytes; they are read again where they are needed."""
    if isinstance(data.obj, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        data.obj.madvise(mmap.MADV_DONTNEED)
