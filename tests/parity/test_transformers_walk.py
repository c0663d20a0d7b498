"""Of the classifiers that the table calls converted a few, drawn at random, are tried again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("transformers")
import transformers_walk as walk

CONVERTED = [name for name, row in walk.known()["classes"].items() if row["outcome"] == walk.CONVERTED]
# Experts that the data choose; logits under another name; the size of images in a configuration within; and a few that are drawn.
NAMED = {"MixtralForSequenceClassification", "PPLCNetForImageClassification", "CLIPForImageClassification"}
DRAWN = sorted({*NAMED, *map(str, np.random.default_rng(0).choice(CONVERTED, 3, replace=False))})


@pytest.mark.slow
@pytest.mark.parametrize("name", DRAWN)
def test_it_is_converted_still(name: str, tmp_path: Path) -> None:
    kind, model_type = next((kind, model_type) for found, kind, model_type in walk.listed() if found == name)
    assert walk.tried(name, kind, model_type, tmp_path / "checkpoint")[0] == walk.CONVERTED
