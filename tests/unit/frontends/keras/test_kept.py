"""What of a Keras network that only training feels is kept, what is named, and weights that are of no layer."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import tersenet
from tersenet.errors import ModelError
from tersenet.frontends.keras.penalties import notes, penalties
from tersenet.graph.training import trainable

h5py = pytest.importorskip("h5py")
pytest.importorskip("pyfive")


def layer(kind: str, name: str, **config: Any) -> dict[str, Any]:
    return {"class_name": kind, "config": {"name": name, "trainable": True, "dtype": "float32", **config}}


def archive(path: Path, layers: Sequence[Mapping[str, Any]], arrays: Mapping[str, Sequence[np.ndarray]]) -> Path:
    """A .keras file of a chain that takes 4 numbers; `arrays` by their groups."""
    stored = io.BytesIO()
    with h5py.File(stored, "w") as file:
        for group, variables in arrays.items():
            for place, array in enumerate(variables):
                file[f"{group}/vars/{place}"] = array
    first = {"class_name": "InputLayer", "config": {"name": "in", "batch_shape": [None, 4], "dtype": "float32"}}
    with zipfile.ZipFile(path, "w") as made:
        made.writestr("metadata.json", json.dumps({"keras_version": "3.15.1"}))
        made.writestr("config.json", json.dumps({"class_name": "Sequential", "config": {"name": "net", "layers": [first, *layers]}}))
        made.writestr("model.weights.h5", stored.getvalue())
    return path


DENSE = layer("Dense", "dense", units=3, activation="linear", use_bias=True)
HELD = {"layers/dense": [np.ones((4, 3), np.float32), np.ones(3, np.float32)]}
SEED = [np.zeros(2, np.uint32)]


def test_weights_of_a_layer_that_the_network_does_not_have(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"do not fit its configuration: it has weights of dense_1, which is no layer of the network"):
        tersenet.load(archive(tmp_path / "net.keras", [DENSE], {**HELD, "layers/dense_1": HELD["layers/dense"]}))


def test_what_training_leaves_in_an_archive_is_no_weight(tmp_path: Path) -> None:
    left = {
        "optimizer": [np.zeros(1)],
        "metrics/mean": [np.zeros(1)],
        "layers/dropout/seed_generator": SEED,
        "layers/random_flip/seed_generator": SEED,
    }
    assert tersenet.load(archive(tmp_path / "net.keras", [DENSE, layer("Dropout", "drop", rate=0.5)], {**HELD, **left})).name == "net"


def test_dropout_by_a_gaussian_factor_is_kept_and_can_be_switched_off(tmp_path: Path) -> None:
    model = tersenet.load(archive(tmp_path / "net.keras", [layer("GaussianDropout", "noise", rate=0.2), DENSE], HELD))
    images = torch.ones(64, 4)
    assert not torch.equal(trainable(model)(images)[0], trainable(model)(images)[0])
    np.testing.assert_array_equal(trainable(model, dropout=0.0)(images)[0].detach().numpy(), model(images.numpy()))
    assert model.provenance["notes"] == ["noise: its Gaussian factor is a dropout of the same rate, mean and variance in later training"]


def test_regularizers_and_constraints_are_named(tmp_path: Path) -> None:
    config = {**DENSE["config"], "kernel_regularizer": {"class_name": "L1L2", "config": {"l1": 0.0, "l2": 0.01}}}
    config |= {"bias_regularizer": None, "kernel_constraint": {"class_name": "NonNeg", "config": {}}}
    model = tersenet.load(archive(tmp_path / "net.keras", [{**DENSE, "config": config}, layer("ActivityRegularization", "small", l1=0.1)], HELD))
    assert model.provenance["notes"] == [
        "regularizers are not kept: training adds what its options l1 and l2 say; there are dense (kernel: L1L2 l2=0.01), small (activity: l1=0.1)",
        "constraints are not kept: training does not hold weights to them; there are dense (kernel: NonNeg)",
    ]


def test_a_note_names_a_few_of_many() -> None:
    (said,) = notes([found for place in range(9) for found in penalties("Dense", f"d{place}", {"kernel_regularizer": "l2"})])
    assert said.endswith("d5 (kernel: l2) and 3 more")
