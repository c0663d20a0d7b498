"""Keeping back known lines that a runtime's native code writes to stderr."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def lines_kept_back(beginnings: tuple[bytes, ...]) -> Iterator[None]:
    """Within the block, native lines that begin so do not reach stderr; every other line comes out when the block ends.

    Args:
        beginnings: of lines that say nothing about what the user did.
    """
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as said:
        os.dup2(said.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            said.seek(0)
            for line in said:
                if not line.startswith(beginnings):
                    os.write(2, line)
