"""Every target in the table keeps the contract."""

from __future__ import annotations

import importlib.util

import pytest

from tersenet.targets import table
from tersenet.testing.target import check_target


@pytest.mark.parametrize("name", sorted(table.TARGETS))
def test_target(name, tmp_path):
    target = table.find(name)
    missing = [module for module in target.requires if importlib.util.find_spec(module.partition(".")[0]) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} not installed")
    check_target(target, tmp_path)
