"""Two hundred damaged files of every format: each is loaded, or refused by an error of ours, and nothing worse."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
import torch

import tersenet

pytest.importorskip("resource")
from tersenet.testing.damage import LOADED, REFUSED, Damage, tried
from whole_files import FORMATS, NEEDS

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="forks and their limits are tried on Linux"),
    pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning"),  # the runner of the tests has threads, none of which a child needs
]
FILES = 200


@pytest.mark.parametrize("name", FORMATS)
def test_damaged_files_are_loaded_or_refused(name: str, tmp_path: Path) -> None:
    os.environ.setdefault("KERAS_BACKEND", "torch")
    for module in NEEDS.get(name, ()):
        pytest.importorskip(module)
    torch.set_num_threads(1)
    whole = FORMATS[name](tmp_path)
    tersenet.load(whole)  # what a first file imports
    outcomes = dict(tried(Damage(whole), range(FILES)))
    assert len(outcomes) == FILES
    assert {LOADED, REFUSED} <= {outcome for outcome, _ in outcomes.values()}, "damage of both kinds is tried"
    assert {seed: found for seed, found in outcomes.items() if found[0] not in (LOADED, REFUSED)} == {}
