"""Files as Keras 2 writes them, put together by hand: its calls of layers, its .h5 and its .keras.

The forms are those of tf-keras: engine/node.py (calls), layers/core/tf_op_layer.py (operators), saving/saving_lib.py (.keras).
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

Arrays = Mapping[str, Mapping[str, np.ndarray]]


def entry(kind: str, name: str, calls: Sequence[Any] = (), **config: Any) -> dict[str, Any]:
    """One layer of a configuration."""
    held = {"name": name, "trainable": True, "dtype": "float32", **config}
    return {"class_name": kind, "config": held, "name": name, "inbound_nodes": list(calls)}


def given(name: str, *shape: int | None, dtype: str = "float32") -> dict[str, Any]:
    config = {"batch_input_shape": [None, *shape], "dtype": dtype, "sparse": False, "ragged": False, "name": name}
    return {"class_name": "InputLayer", "config": config, "name": name, "inbound_nodes": []}


def on(*names: str, call: int = 0) -> list[Any]:
    """A call of an ordinary layer on outputs of others."""
    return [[name, call, 0, {}] for name in names]


def operator(function: str, name: str, first: Any, **rest: Any) -> dict[str, Any]:
    """A TFOpLambda: its first argument is the name of a layer, a constant or a list of these, the others are written beside each."""
    return entry("TFOpLambda", name, [_first(first, {**rest, "name": None})], function=function)


def _first(first: Any, rest: Mapping[str, Any]) -> Any:
    if isinstance(first, list):
        return [_first(part, rest) for part in first]
    return [first, 0, 0, rest] if isinstance(first, str) else ["_CONSTANT_VALUE", -1, first, rest]


def sliced(name: str, first: str, spec: Any) -> dict[str, Any]:
    return entry("SlicingOpLambda", name, [[first, 0, 0, {"slice_spec": spec}]], function="__operators__.getitem")


def cut(start: int | None = None, stop: int | None = None, step: int | None = None) -> dict[str, Any]:
    return {"start": start, "stop": stop, "step": step}


def functional(layers: Sequence[Mapping[str, Any]], inputs: Any, outputs: Any, name: str = "model") -> dict[str, Any]:
    """A functional network; inputs and outputs are names, or the lists and dicts that Keras would write."""
    ends = [[[each, 0, 0] for each in part] if isinstance(part, tuple) else part for part in (inputs, outputs)]
    config = {"name": name, "trainable": True, "layers": list(layers), "input_layers": ends[0], "output_layers": ends[1]}
    return {"class_name": "Functional", "config": config}


def saved_h5(path: Path, config: Mapping[str, Any], weights: Arrays, version: str = "2.10.0") -> Path:
    """An .h5: the variables of each outermost layer under their names, `dense/kernel:0`."""
    import h5py

    with h5py.File(path, "w") as file:
        file.attrs["keras_version"] = version
        file.attrs["model_config"] = json.dumps(config)
        held = file.create_group("model_weights")
        names = [layer["config"]["name"] for layer in config["config"]["layers"]]
        held.attrs["layer_names"] = [name.encode() for name in names]
        for name in names:
            group = held.create_group(name)
            group.attrs["weight_names"] = [variable.encode() for variable in weights.get(name, {})]
            for variable, array in weights.get(name, {}).items():
                group.create_dataset(variable, data=array)
    return path


def saved_archive(path: Path, config: Mapping[str, Any], weights: Mapping[str, Sequence[np.ndarray]], version: str = "2.15.0") -> Path:
    """A .keras of Keras 2: the variables of each layer by the path to it."""
    import h5py

    stored = io.BytesIO()
    with h5py.File(stored, "w") as file:
        for path_of, arrays in weights.items():
            group = file.create_group(f"{path_of}/vars")
            for place, array in enumerate(arrays):
                group[str(place)] = array
    with zipfile.ZipFile(path, "w") as made:
        made.writestr("metadata.json", json.dumps({"keras_version": version}))
        made.writestr("config.json", json.dumps(config))
        made.writestr("model.weights.h5", stored.getvalue())
    return path
