"""How large a file is while it is delivered: stores, updates and archives pack what they send."""

from __future__ import annotations

import zlib
from pathlib import Path

LEVEL = 9


def packed_bytes(path: Path) -> int:
    """Bytes of a file compressed by zlib at level 9 (DEFLATE, as in zip, gzip and PNG), without an archive's own names."""
    return len(zlib.compress(path.read_bytes(), LEVEL))
