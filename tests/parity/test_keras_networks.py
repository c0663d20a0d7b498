"""Random Keras networks, saved and read: they compute what Keras computes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from keras_networks import inputs_of, network
from tersenet.frontends.table import load
from tersenet.graph.deploy import deployable

keras = pytest.importorskip("keras")
pytest.importorskip("pyfive")
# Keras 3.15 reads its own parameters in a way that numpy 2 has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning")
THE_SAME = {"deadline": None, "derandomize": True, "suppress_health_check": list(HealthCheck)}


def compared(model: Any, path: Path) -> None:
    """The network as a file against the network in Keras: as it is read, and in the form that is deployed."""
    inputs = inputs_of(model)
    with torch.no_grad():
        given_to_keras = [torch.from_numpy(array) for array in inputs]
        theirs = model(given_to_keras if len(given_to_keras) > 1 else given_to_keras[0], training=False)
    theirs = [result.detach().numpy() for result in (theirs if isinstance(theirs, list | tuple) else [theirs])]
    model.save(path)
    read = load(path)
    assert read.fixed_batch == ""
    ours = read(*inputs)
    small = deployable(read)(*(torch.from_numpy(array) for array in inputs))
    for mine, deployed, wanted in zip(ours if isinstance(ours, tuple) else [ours], small, theirs, strict=True):
        allowed = 1e-4 * max(1.0, float(np.abs(wanted).max(initial=0)))
        assert mine.shape == wanted.shape
        assert float(np.abs(mine - wanted).max(initial=0)) <= allowed
        assert float(np.abs(deployed.detach().numpy() - wanted).max(initial=0)) <= 2 * allowed


def few(examples: int) -> Any:
    return settings(max_examples=examples, **THE_SAME)  # type: ignore[arg-type]


@few(15)
@given(st.data())
def test_chains(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    model = network(data.draw, chain=True)
    for ending in (".keras", ".h5"):
        compared(model, tmp_path_factory.mktemp("chain") / f"network{ending}")


@few(15)
@given(st.data())
def test_graphs(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    compared(network(data.draw, chain=False), tmp_path_factory.mktemp("graph") / "network.keras")


@pytest.mark.slow
@few(100)
@given(st.data())
def test_many_chains(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    model = network(data.draw, chain=True)
    for ending in (".keras", ".h5"):
        compared(model, tmp_path_factory.mktemp("chain") / f"network{ending}")


@pytest.mark.slow
@few(150)
@given(st.data())
def test_many_graphs(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    compared(network(data.draw, chain=False), tmp_path_factory.mktemp("graph") / "network.keras")
