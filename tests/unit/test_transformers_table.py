"""The table of Transformers' classifiers is that of the installed package."""

from __future__ import annotations

import re

import pytest

pytest.importorskip("transformers")
import transformers

import transformers_table as table
import transformers_walk as walk


def test_every_classifier_that_the_package_lists_has_its_row() -> None:
    listed = {name: kind for name, kind, _ in walk.listed()}
    tried = {name: row["kind"] for name, row in walk.known()["classes"].items()}
    assert tried == listed, "scripts/transformers_walk.py tries what is new"
    assert walk.known()["transformers"] == transformers.__version__


def test_every_sentence_is_used_and_has_its_chinese() -> None:
    said = {table.reason(row, "en") for row in walk.known()["classes"].values() if row["outcome"] != walk.CONVERTED}
    assert said == {english for _, english, _ in table.REASONS}
    assert all(re.search(r"[\u4e00-\u9fff]", chinese) for _, _, chinese in table.REASONS)


def test_nothing_that_was_read_computes_something_else() -> None:
    assert not [name for name, row in walk.known()["classes"].items() if row["outcome"] == walk.DIFFERS]
