"""Keeping back what executorch, torchao and cpuinfo say at every import and load. Errors always pass."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from tersenet.targets.silence import lines_kept_back

# What cpuinfo prints on machines whose kernel hides the processor's registers, and the pool of threads when it is replaced.
NATIVE_NOISE = (b"[cpuinfo_utils.cpp:", b"[threadpool.cpp:")


@contextmanager
def quiet() -> Iterator[None]:
    """Within the block, warnings of deprecated and experimental interfaces and log lines below errors are kept back.

    Importing the partitioner also configures the root logger, as a library should not: that is undone.
    """
    handlers, level, disabled = list(logging.root.handlers), logging.root.level, logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            warnings.simplefilter("ignore", FutureWarning)
            yield
    finally:
        logging.disable(disabled)
        logging.root.handlers[:] = handlers
        logging.root.setLevel(level)


def native_quiet() -> AbstractContextManager[None]:
    """The same for the known lines that native code writes to stderr; every other line comes out when the block ends."""
    return lines_kept_back(NATIVE_NOISE)
