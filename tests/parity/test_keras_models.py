"""Whole networks of Keras, saved in each of its formats, against Keras itself."""

from __future__ import annotations

from pathlib import Path

import pytest

import tersenet
from keras_models import MODELS, learning, made, reference
from tersenet.testing.frontend import check_frontend

keras = pytest.importorskip("keras")

# Keras 3.15 on torch 2.13 and numpy 2, whenever it saves a network; and what it says of every .h5.
pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Layer '\\w+' \\(of type EinsumDense\\) was passed an input with a mask"),
    pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file"),
]
# Those whose graph is no other in the older format are compared in the new one alone.
OLDER = (
    "tutorial",
    "nested",
    "nested_at_the_end",
    "arithmetic",
    "cells",
    "both_directions",
    "attention",
    "masked_behind_attention",
    "frozen",
    "frames",
    "shared_layers",
    "chain_of_several",
)

EXCUSED = {
    "masked_behind_attention": {"executorch": "its lowering takes too long"},
    "preprocessing": {"training": "what it flips at random has no reference"},
    "any_length": dict.fromkeys(("litert", "executorch"), "its files have the length of the example"),
}
LONG = {
    "masked_reviews",
    "masked_states",
    "recurrent",
    "attention",
    "frames",
    "cells",
    "both_directions",
    "masked_attention",
    "volumes",
    "arithmetic",
}
CASES = [
    pytest.param(name, ending, marks=[pytest.mark.slow] * (name in LONG)) for ending, names in ((".keras", MODELS), (".h5", OLDER)) for name in names
]


@pytest.mark.parametrize(("name", "ending"), CASES)
def test_a_network_computes_what_keras_computes(name: str, ending: str, tmp_path: Path) -> None:
    model, inputs = made(name)
    path = tmp_path / f"{name}{ending}"
    model.save(path)
    quick = {} if ending == ".keras" and name not in LONG else {"executorch": "its lowering takes too long"}
    excused = {**quick, **EXCUSED.get(name, {})}
    training = None if "training" in excused else learning(model)
    found = check_frontend(tersenet.load, path, reference(model), [inputs], training=training, excused=excused)
    assert found.format == "keras"
    assert found.name == name
    assert not found.fixed_batch
