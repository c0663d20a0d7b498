"""Keras networks that are in memory: layers that several networks share, and classes that compute what their layers do not say."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tersenet
from keras_models import floats, reference
from tersenet.errors import ModelError

keras = pytest.importorskip("keras")

pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file"),
]


def two_towers() -> Any:
    """Two networks that share a layer, as siamese ones do."""
    shared, left, right = keras.layers.Dense(5, activation="tanh", name="shared"), keras.Input((6,)), keras.Input((6,))
    towers = [keras.Model(x, keras.layers.Dense(4)(shared(x)), name=name) for x, name in ((left, "first"), (right, "second"))]
    inputs = [keras.Input((6,), name=name) for name in ("left", "right")]
    return keras.Model(inputs, keras.layers.Add()([tower(x) for tower, x in zip(towers, inputs, strict=True)]))


def features_beside_their_base() -> Any:
    x, given = keras.Input((6,)), keras.Input((6,))
    base = keras.Model(x, keras.layers.Dense(2)(keras.layers.Dense(5, activation="relu", name="features")(x)), name="base")
    inner = keras.Model(base.input, base.get_layer("features").output, name="inner")
    return keras.Model(given, [base(given), inner(given)])


def within_and_without() -> Any:
    shared, x, given = keras.layers.Dense(6, activation="tanh"), keras.Input((6,)), keras.Input((6,))
    return keras.Model(given, keras.layers.Add()([keras.Model(x, shared(shared(x)), name="inner")(given), shared(given)]))


def on_each_step_and_alone() -> Any:
    x, shared = keras.Input((3, 6)), keras.layers.Dense(5)
    return keras.Model(x, [keras.layers.TimeDistributed(shared)(x), shared(x[:, 0])])


@pytest.mark.parametrize("build", [two_towers, features_beside_their_base, within_and_without, on_each_step_and_alone])
def test_layers_that_networks_share(build: Callable[[], Any]) -> None:
    """An archive of these would hold the layer at its first place only."""
    model = build()
    inputs = [floats(*given.shape[1:], seed=seed) for seed, given in enumerate(model.inputs)]
    found, wanted = tersenet.load(model)(*inputs), reference(model)(*inputs)
    pairs = zip(found, wanted, strict=True) if isinstance(wanted, tuple) else [(found, wanted)]
    for ours, theirs in pairs:
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


class Scaled(keras.Model):
    """Computes more than its layers say."""

    def call(self, x: Any, training: Any = None, mask: Any = None) -> Any:
        return super().call(x) * 7.0


class Trained(keras.Model):
    """Learns in a way of its own, as Keras's guides show, and computes what its layers say."""

    def train_step(self, data: Any) -> Any:
        return super().train_step(data)


@keras.saving.register_keras_serializable("mine", name="Functional")
class Disguised(Scaled):
    """Is registered under a name of Keras's own."""


def of(kind: type) -> Any:
    x = keras.Input((6,))
    return kind(x, keras.layers.Dense(3)(x))


def around(inner: Any) -> Any:
    x = keras.Input((6,))
    return keras.Sequential([x, inner])


@pytest.mark.parametrize("within", [False, True])
@pytest.mark.parametrize("kind", [Scaled, Disguised])
def test_a_network_with_a_call_of_its_own_is_refused(kind: type, within: bool, tmp_path: Path) -> None:
    model = around(of(kind)) if within else of(kind)
    with pytest.raises(ModelError, match=rf"is a {kind.__name__}, whose call is written in Python"):
        tersenet.load(model)
    for ending in (".keras", ".h5"):
        model.save(tmp_path / f"net{ending}")
        with pytest.raises(ModelError, match=r"is a .*(Scaled|Functional|Disguised), a class of its author's own"):
            tersenet.load(tmp_path / f"net{ending}")


@pytest.mark.parametrize("within", [False, True])
def test_a_network_that_only_trains_in_its_own_way_is_read_in_memory(within: bool, tmp_path: Path) -> None:
    model = around(of(Trained)) if within else of(Trained)
    np.testing.assert_allclose(tersenet.load(model)(floats(6)), reference(model)(floats(6)), atol=1e-5)
    model.save(tmp_path / "net.keras")
    with pytest.raises(ModelError, match=r"Trained, a class of its author's own.*give tersenet\.load the network itself"):
        tersenet.load(tmp_path / "net.keras")


@keras.saving.register_keras_serializable("mine")
class ReLU(keras.layers.Layer):
    """Has the name of a layer of Keras, and computes something else."""

    def call(self, x: Any) -> Any:
        return keras.ops.maximum(x, -1.0)


@pytest.mark.parametrize("ending", [".keras", ".h5", ""])
def test_a_layer_within_another_with_a_name_of_keras(ending: str, tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((5, 4)), keras.layers.TimeDistributed(ReLU())])
    if ending:
        model.save(tmp_path / f"net{ending}")
    with pytest.raises(ModelError, match=r"is a mine>ReLU, which is none of Keras's own"):
        tersenet.load(tmp_path / f"net{ending}" if ending else model)


def test_variables_that_cannot_be_read() -> None:
    class Secret(keras.layers.Dense):
        def save_own_variables(self, store: Any) -> None:
            raise OSError("no")

    with pytest.raises(ModelError, match=r"the variables of the layer 'secret' cannot be read: OSError: no"):
        tersenet.load_keras(keras.Sequential([keras.Input((4,)), Secret(3, name="secret")]), layers={"Secret": lambda layer: layer.weights.own})
