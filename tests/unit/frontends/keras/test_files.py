"""Files of Keras that are damaged, hostile, or hold no network that can be read."""

from __future__ import annotations

import io
import json
import time
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tersenet
from tersenet.errors import InputError, ModelError

h5py = pytest.importorskip("h5py")
pytest.importorskip("pyfive")

DAMAGED = 200  # files of each format
LEGACY = {"dense": {"kernel": (4, 3), "bias": (3,)}, "norm": {"gamma": (3,), "beta": (3,), "moving_mean": (3,), "moving_variance": (3,)}}


def layer(kind: str, name: str, **config: Any) -> dict[str, Any]:
    return {"class_name": kind, "config": {"name": name, "trainable": True, "dtype": "float32", **config}}


def dense(name: str = "dense", units: int = 3) -> dict[str, Any]:
    return layer("Dense", name, units=units, activation="relu", use_bias=True)


def sequential(*layers: dict[str, Any], shape: tuple[int | None, ...] = (None, 4)) -> dict[str, Any]:
    first = {"class_name": "InputLayer", "config": {"name": "in", "batch_input_shape": list(shape), "dtype": "float32"}}
    return {"class_name": "Sequential", "config": {"name": "net", "layers": [first, *layers]}}


NETWORK = sequential(dense(), layer("BatchNormalization", "norm", axis=[1], epsilon=1e-3, center=True, scale=True, momentum=0.9))


def legacy(path: Path, config: Any = NETWORK, weights: dict[str, dict[str, tuple[int, ...]]] = LEGACY) -> Path:
    """An .h5 file as Keras 2 wrote it."""
    with h5py.File(path, "w") as file:
        file.attrs["keras_version"] = b"2.4.0"
        file.attrs["model_config"] = json.dumps(config).encode() if not isinstance(config, bytes) else config
        held = file.create_group("model_weights")
        held.attrs["layer_names"] = [name.encode() for name in weights]
        for name, variables in weights.items():
            group = held.create_group(name)
            group.attrs["weight_names"] = [f"{name}/{variable}:0".encode() for variable in variables]
            for variable, shape in variables.items():
                group.create_dataset(f"{name}/{variable}:0", data=np.ones(shape, np.float32))
    return path


def archive(path: Path, config: Any = NETWORK, extra: dict[str, bytes] | None = None, compress: int = zipfile.ZIP_STORED) -> Path:
    """A .keras file as Keras 3 writes it."""
    stored = io.BytesIO()
    with h5py.File(stored, "w") as file:
        for name, variables in (("dense", LEGACY["dense"]), ("batch_normalization", LEGACY["norm"])):
            for place, shape in enumerate(variables.values()):
                file[f"layers/{name}/vars/{place}"] = np.ones(shape, np.float32)
    with zipfile.ZipFile(path, "w", compress) as made:
        made.writestr("metadata.json", json.dumps({"keras_version": "3.15.1"}))
        made.writestr("config.json", json.dumps(config))
        made.writestr("model.weights.h5", stored.getvalue())
        for name, content in (extra or {}).items():
            made.writestr(name, content)
    return path


@pytest.mark.parametrize("make", [legacy, archive])
def test_the_files_that_these_tests_damage_are_sound(make: Callable[[Path], Path], tmp_path: Path) -> None:
    model = tersenet.load(make(tmp_path / f"net{'.h5' if make is legacy else '.keras'}"))
    assert [spec.name for spec in model.outputs] == ["norm"]
    np.testing.assert_allclose(model(np.ones((2, 4), np.float32)), np.full((2, 3), 1 + 4 / np.sqrt(1 + 1e-3)), rtol=1e-6)


def test_an_archive_that_is_compressed(tmp_path: Path) -> None:
    plain, packed = archive(tmp_path / "a.keras"), archive(tmp_path / "b.keras", compress=zipfile.ZIP_DEFLATED)
    assert tersenet.load(plain).fingerprint == tersenet.load(packed).fingerprint


def test_hdf5_by_its_other_ending(tmp_path: Path) -> None:
    assert tersenet.load(legacy(tmp_path / "net.hdf5")).format == "keras"


@pytest.mark.parametrize("cut", [1, 50, 800])
def test_a_file_that_lacks_its_last_bytes(cut: int, tmp_path: Path) -> None:
    whole = legacy(tmp_path / "net.h5").read_bytes()
    (tmp_path / "cut.h5").write_bytes(whole[:-cut])
    with pytest.raises(ModelError, match=rf"cut\.h5.* is truncated: .* {len(whole)} bytes, and {len(whole) - cut} are there\.$"):
        tersenet.load(tmp_path / "cut.h5")


INPUT = {"class_name": "InputLayer", "name": "in", "config": {"name": "in", "batch_input_shape": [None, 3]}, "inbound_nodes": []}
LOOP = {
    "class_name": "Functional",
    "config": {
        "name": "net",
        "layers": [INPUT, *(layer("Add", name) | {"inbound_nodes": [[["in", 0, 0], [other, 0, 0]]]} for name, other in (("a", "b"), ("b", "a")))],
        "input_layers": [["in", 0, 0]],
        "output_layers": [["b", 0, 0]],
    },
}
REFUSED: dict[str, tuple[Any, str]] = {
    "lambda": (sequential(layer("Lambda", "code", function=["4wEAAA==", None, None])), "'code' is a Lambda"),
    "unknown": (sequential(layer("Whirl", "mine")), "is a Whirl, which is none of Keras's own; .*load_keras"),
    "subclass": ({"class_name": "MyNetwork", "config": {}}, "a subclass of Model"),
    "quantized": (sequential(layer("Dense", "dense", units=3) | {"config": {"units": 3, "dtype": "int8_from_float32"}}), "quantized by Keras itself"),
    "more units": (sequential(dense(units=5)), "must have the shape"),
    "other layer": (sequential(dense("other")), "its weights do not fit its configuration: .* dense"),
    "no shape": (sequential(dense(), shape=()), "shape"),
    "loop": (LOOP, "loops or loose ends"),
    "activation": (sequential(layer("Activation", "act", activation="os.system")), "unknown activation"),
    "no JSON": (b"{", "not JSON"),
    "a list": (b"[]", "must be a JSON object"),
    "no layers": ({"class_name": "Sequential", "config": {"name": "n", "layers": []}}, "no layers"),
    "huge": (sequential(layer("ZeroPadding1D", "pad", padding=[1 << 62, 1 << 62]), shape=(None, 4, 4)), "'pad'"),
    "huge input": (sequential(layer("Flatten", "flat"), shape=(None, 1 << 20, 1 << 20)), "at most"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_networks_that_are_refused(name: str, tmp_path: Path) -> None:
    config, message = REFUSED[name]
    weights = LEGACY if name in {"more units", "other layer"} else {}
    if name == "more units":
        weights = {"dense": LEGACY["dense"]}
    path = legacy(tmp_path / "net.h5", config, weights)
    with pytest.raises(ModelError, match=message) as caught:
        tersenet.load(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_weights_alone(tmp_path: Path) -> None:
    path = tmp_path / "net.h5"
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [b"dense"]
    with pytest.raises(ModelError, match="holds weights only"):
        tersenet.load(path)
    with h5py.File(path, "w") as file:
        file["layers/dense/vars/0"] = np.ones(3)
    with pytest.raises(ModelError, match="holds weights only"):
        tersenet.load(path)


def test_an_archive_that_climbs_out(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"points outside of the archive"):
        tersenet.load(archive(tmp_path / "net.keras", extra={"../../evil": b"x"}))


def test_an_archive_that_is_a_bomb(tmp_path: Path) -> None:
    path = archive(tmp_path / "net.keras", extra={"assets/zeros": bytes(1 << 26)}, compress=zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 1 << 17
    with pytest.raises(ModelError, match="far more than its size"):
        tersenet.load(path)


def test_arrays_that_are_bombs(tmp_path: Path) -> None:
    path = legacy(tmp_path / "net.h5", sequential(dense(units=1 << 25)), {})
    with h5py.File(path, "r+") as file:
        file["model_weights"].attrs["layer_names"] = [b"dense"]
        group = file["model_weights"].create_group("dense")
        group.attrs["weight_names"] = [b"kernel", b"bias"]
        group.create_dataset("kernel", (4, 1 << 25), np.float32, chunks=(4, 1 << 20), compression="gzip")
        group.create_dataset("bias", (1 << 25,), np.float32, chunks=(1 << 20,), compression="gzip")
    tracemalloc.start()
    with pytest.raises(ModelError, match="far more than its size"):
        tersenet.load(path)
    assert tracemalloc.get_traced_memory()[1] < 1 << 27
    tracemalloc.stop()


@pytest.mark.parametrize("make", [legacy, archive])
def test_damaged_files_give_an_error_of_ours(make: Callable[[Path], Path], tmp_path: Path) -> None:
    """Two hundred files of each format, with bytes changed or cut off, all in the time of one breath each."""
    sound = make(tmp_path / "sound").read_bytes()
    generator = np.random.default_rng(0)
    path = tmp_path / f"net{'.h5' if make is legacy else '.keras'}"
    read = 0
    for trial in range(DAMAGED):
        broken = bytearray(sound)
        if trial % 4 == 0:
            del broken[int(generator.integers(0, len(sound))) :]
        else:
            for place in generator.integers(0, len(sound), int(generator.integers(1, 30))):
                broken[place] = int(generator.integers(0, 256))
        path.write_bytes(broken)
        begun = time.process_time()
        try:
            tersenet.load(path)
            read += 1
        except InputError as error:
            assert "\n" not in str(error)
        assert time.process_time() - begun < 10
    assert read < DAMAGED
