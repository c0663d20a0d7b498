"""What of a Keras network that only training feels is kept, what is named, and weights that are of no layer."""

from __future__ import annotations

import io
import json
import tracemalloc
import zipfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import tersenet
from tersenet.annotations import Constraint, Noise, Penalty
from tersenet.errors import ModelError
from tersenet.frontends.keras.hdf5 import Group
from tersenet.frontends.keras.penalties import notes
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
    assert list(model.annotations.noises.values()) == [Noise("factor", 0.5)]
    assert model.provenance["notes"] == []


def with_settings(**settings: Any) -> dict[str, Any]:
    return {**DENSE, "config": {**DENSE["config"], **settings}}


@pytest.mark.parametrize(
    ("held", "entry"),
    [
        ({"class_name": "L1L2", "config": {"l1": 0.0, "l2": 0.02}}, Penalty(l2=0.02)),
        ({"class_name": "L1L2", "config": {"l1": 0.01, "l2": None}}, Penalty(l1=0.01)),
        ({"class_name": "L2", "config": {"l2": 0.5}, "module": "keras.regularizers", "registered_name": None}, Penalty(l2=0.5)),
        ({"class_name": "L1", "config": {}}, Penalty(l1=0.01)),
        ("l2", Penalty(l2=0.01)),
        ("l1_l2", Penalty(0.01, 0.01)),
        ({"class_name": "OrthogonalRegularizer", "config": {"factor": 0.1, "mode": "rows"}}, Penalty(orthogonal=0.1, axes=(0,))),
        ({"class_name": "OrthogonalRegularizer", "config": {"factor": 0.1, "mode": "columns"}}, Penalty(orthogonal=0.1, axes=(1,))),
    ],
)
def test_regularizers_are_kept_however_they_are_spelled(held: Any, entry: Penalty, tmp_path: Path) -> None:
    model = tersenet.load(archive(tmp_path / "net.keras", [with_settings(kernel_regularizer=held, bias_regularizer=None)], HELD))
    assert model.annotations.penalties == {"dense.weight": entry}
    assert model.provenance["notes"] == []


@pytest.mark.parametrize(
    ("held", "entry"),
    [
        ({"class_name": "NonNeg", "config": {}}, Constraint("non-negative")),
        ("non_neg", Constraint("non-negative")),
        ({"class_name": "MaxNorm", "config": {"max_value": 3, "axis": 0}}, Constraint("norm", 0, 3, 1, (1,))),
        ({"class_name": "max_norm", "config": {"max_value": 3, "axis": [-1]}}, Constraint("norm", 0, 3, 1, (0,))),
        ({"class_name": "UnitNorm", "config": {"axis": [0, 1]}}, Constraint("norm", 1, 1, 1, (0, 1))),
        ({"class_name": "MinMaxNorm", "config": {"min_value": 0.1, "max_value": 2, "rate": 0.5, "axis": 1}}, Constraint("norm", 0.1, 2, 0.5, (0,))),
    ],
)
def test_constraints_are_kept_along_our_axes(held: Any, entry: Constraint, tmp_path: Path) -> None:
    model = tersenet.load(archive(tmp_path / "net.keras", [with_settings(kernel_constraint=held)], HELD))
    assert model.annotations.constraints == {"dense.weight": entry}


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"kernel_regularizer": {"class_name": "Mine", "config": {"l1": 0.5}}}, "dense (kernel: Mine l1=0.5): it is none of Keras's own"),
        ({"kernel_regularizer": {"class_name": "L1", "config": {}, "module": "mine", "registered_name": "mine>L1"}}, "it is none of Keras's own"),
        ({"kernel_regularizer": {"class_name": "L1", "config": {"l1": "x"}}}, "its l1 must be a number of 0 or more, got x"),
        ({"kernel_regularizer": {"class_name": "L1", "config": {"l1": -1}}}, "its l1 must be a number of 0 or more, got -1"),
        ({"bias_regularizer": {"class_name": "OrthogonalRegularizer", "config": {}}}, "it is of a matrix"),
        ({"kernel_constraint": {"class_name": "RadialConstraint", "config": {}}}, "it is none of Keras's own that are kept"),
        ({"kernel_constraint": {"class_name": "MaxNorm", "config": {"axis": 2}}}, "its axes [2] are not those of a variable of shape (4, 3)"),
        ({"kernel_constraint": {"class_name": "MaxNorm", "config": {"axis": "x"}}}, "its axis must be whole numbers"),
        ({"activity_regularizer": {"class_name": "OrthogonalRegularizer", "config": {}}}, "the orthogonal one of values is not kept"),
        ({"factor_regularizer": "l2"}, "dense (factor: l2): no variable is known by this name"),
    ],
)
def test_what_is_not_kept_is_named_with_the_reason(settings: dict[str, Any], why: str, tmp_path: Path) -> None:
    model = tersenet.load(archive(tmp_path / "net.keras", [with_settings(**settings)], HELD))
    assert not model.annotations
    (note,) = model.provenance["notes"]
    assert note.startswith(("regularizers that later training goes without: dense", "constraints that later training goes without: dense"))
    assert why in note


def test_a_layer_of_the_users_own_is_not_tried(tmp_path: Path) -> None:
    def linear(layer: Any) -> torch.nn.Module:
        made = torch.nn.Linear(4, 3)
        made.weight = torch.nn.Parameter(torch.from_numpy(layer.weights.own[0].T.copy()))
        return made

    path = archive(tmp_path / "net.keras", [with_settings(kernel_regularizer="l2")], HELD)
    model = tersenet.load_keras(path, layers={"Dense": linear})
    assert not model.annotations
    assert "the layer is converted by a function of your own" in model.provenance["notes"][0]


def test_noise_and_penalties_of_values_lie_beside_the_graph(tmp_path: Path) -> None:
    layers = [
        layer("GaussianNoise", "noise", stddev=0.3),
        with_settings(activity_regularizer="l1"),
        layer("Dropout", "drop", rate=0.4, noise_shape=[None, 1]),
        layer("ActivityRegularization", "small", l1=0.0, l2=0.1),
        layer("GaussianNoise", "none", stddev=0.0),
    ]
    model = tersenet.load(archive(tmp_path / "net.keras", layers, HELD))
    held = model.annotations
    assert held.noises == {"dropout": Noise("add", 0.3), "dropout_2": Noise("dropout", 0.4, (1,))}
    assert held.activities == {"dropout_1": Penalty(l1=0.01), "dropout_3": Penalty(l2=0.1)}
    assert model.provenance["notes"] == []
    plain = tersenet.load(archive(tmp_path / "plain.keras", [DENSE], HELD))
    np.testing.assert_array_equal(model(np.ones((3, 4), np.float32)), plain(np.ones((3, 4), np.float32)))


def test_a_note_names_a_few_of_many() -> None:
    (said,) = notes([("_regularizer", f"d{place} (kernel: Mine): it is none of Keras's own") for place in range(9)])
    assert said.endswith("d5 (kernel: Mine): it is none of Keras's own and 3 more")


def test_inspect_counts_what_is_kept(tmp_path: Path) -> None:
    penalty = {"class_name": "L2", "config": {"l2": 0.1}}
    held = {"class_name": "NonNeg", "config": {}}
    dense = layer("Dense", "dense", units=3, activation="linear", use_bias=True, kernel_regularizer=penalty, bias_constraint=held)
    found = tersenet.inspect_model(archive(tmp_path / "net.keras", [dense, layer("GaussianNoise", "noise", stddev=0.1)], HELD), ["onnxruntime"])
    assert found["from_source"] == {"penalties": 1, "constraints": 1, "noises": 1}


def test_frozen_layers_are_named_and_bring_nothing(tmp_path: Path) -> None:
    penalty = {"class_name": "L2", "config": {"l2": 0.1}}
    dense = layer("Dense", "dense", units=3, activation="linear", use_bias=True, kernel_regularizer=penalty)
    frozen = {**dense, "config": {**dense["config"], "trainable": False}}
    model = tersenet.load(archive(tmp_path / "net.keras", [frozen], HELD))
    assert not model.annotations.penalties
    assert model.provenance["notes"] == ["layers that the source does not train (trainable=False) learn here with the others: dense"]


@pytest.mark.parametrize("kept", [False, True])
def test_each_array_is_read_a_few_times_however_much_is_asked_of_it(kept: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cell = [np.ones((4, 8), np.float32), np.ones((2, 8), np.float32), np.ones(8, np.float32)]
    inner = {f"{role}_regularizer": {"class_name": "L2", "config": {"l2": 0.01}} for role in ("kernel", "recurrent", "bias")} if kept else {}
    layers = [layer("Reshape", "reshape", target_shape=[1, 4]), layer("LSTM", "lstm", units=2, **inner)]
    path = archive(tmp_path / "net.keras", layers, {"layers/lstm/cell": cell})
    read: Counter[str] = Counter()
    array = Group.array
    monkeypatch.setattr(Group, "array", lambda group, name: read.update([name]) or array(group, name))
    assert len(tersenet.load(path).annotations.penalties) == (2 if kept else 0)  # torch has two biases where Keras has one
    assert set(read) == {"0", "1", "2"} and max(read.values()) <= 1 + kept  # a file of which more than four times its size is read is refused


def recurrent(folder: Path, kind: str, gates: int, units: int) -> Path:
    """A recurrent layer that reads a sequence of one step in both directions."""
    cell = [np.ones((size, gates * units), np.float32) for size in (4, units)] + [np.ones((2, gates * units)[gates == 4 :], np.float32)]
    inner = layer(kind, "inner", units=units, activation="tanh", recurrent_activation="sigmoid")
    layers = [layer("Reshape", "reshape", target_shape=[1, 4]), layer("Bidirectional", "both", layer=inner)]
    return archive(folder / "net.keras", layers, {f"layers/bidirectional/{way}_layer/cell": cell for way in ("forward", "backward")})


@pytest.mark.parametrize(("kind", "gates"), [("LSTM", 4), ("GRU", 3)])
def test_loading_draws_no_number_and_moves_nobodys_random_state(kind: str, gates: int, tmp_path: Path) -> None:
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    model = tersenet.load(recurrent(tmp_path, kind, gates, 2))
    assert torch.equal(before, torch.random.get_rng_state())
    assert {tuple(value.unique().tolist()) for value in model.graph.parameters()} <= {(0.0,), (1.0,)}


def test_gates_are_put_in_torchs_order_without_the_memory_of_the_layer_again(tmp_path: Path) -> None:
    path = recurrent(tmp_path, "GRU", 3, 400)
    tersenet.load(path)
    tracemalloc.start()  # counts what numpy holds, not torch's tensors
    tersenet.load(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1.2 * path.stat().st_size
