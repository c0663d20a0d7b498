"""Digests of capability tables: equal in every process, for steps are resumed by them."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace

import pytest

from tersenet.capabilities import Capabilities, Kernel
from tersenet.targets.litert.capabilities import LITERT

PRINT = "from tersenet.targets.litert.capabilities import LITERT; print(LITERT.digest)"


def test_equal_in_processes_that_hash_otherwise() -> None:
    found = set()
    for seed in ("1", "2"):
        done = subprocess.run([sys.executable, "-c", PRINT], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True)
        found.add(done.stdout.strip())
    assert found == {LITERT.digest}


@pytest.mark.parametrize(
    "other",
    [
        Capabilities("fake", {"add": Kernel(shares="all")}),
        Capabilities("other", {"add": Kernel()}),
        Capabilities("fake", {"add": Kernel()}, absent=frozenset({"mul"})),
        Capabilities("fake", {"add": Kernel()}, floats=frozenset()),
    ],
)
def test_another_table_has_another(other: Capabilities) -> None:
    table = Capabilities("fake", {"add": Kernel()})
    assert other.digest != table.digest == replace(table).digest
