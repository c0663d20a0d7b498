"""The list of what can be read, and `load`, which reads it."""

from __future__ import annotations

import difflib
import importlib
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from tersenet.errors import ModelError, check_readable, shortened
from tersenet.frontend import Frontend, Reading
from tersenet.frontends.python import is_reference, resolve
from tersenet.frontends.roads import road
from tersenet.model import Model
from tersenet.plain import check_text

# What it reads -> where its class is. Each is imported when a source is not of the rows before it.
FRONTENDS: Mapping[str, tuple[str, str]] = {
    ".keras, .h5": ("tersenet.frontends.keras.read", "KerasFrontend"),  # first: with its torch backend a Keras network is a torch module too
    "a torch module": ("tersenet.frontends.torch", "TorchFrontend"),
    ".pt2": ("tersenet.frontends.pt2", "Pt2Frontend"),
    ".onnx": ("tersenet.frontends.onnx.frontend", "OnnxFrontend"),
    ".tflite": ("tersenet.frontends.tflite.frontend", "TfliteFrontend"),
    "a folder in Transformers layout, hf:ID": ("tersenet.frontends.transformers.frontend", "TransformersFrontend"),
}
KNOWN = (
    "a torch module with example inputs, a keras.Model, a tersenet.Model, file.py:name, package.module:name, a folder in Transformers layout, "
    "hf:ID, or a .keras, .h5, .onnx, .tflite or .pt2 file"
)
WITHOUT_LENGTH = "a length is chosen for a Transformers checkpoint only; this network's is in its file, or in its example inputs."
SIZED = (".pt2", ".tflite", ".lite")  # files in which every size is written


def load(
    source: Any,
    example_inputs: Any = None,
    *,
    weights: str | Path | None = None,
    trust: bool = False,
    name: str | None = None,
    dynamic: Mapping[str, Mapping[int, str]] | None = None,
    length: int = 0,
) -> Model:
    """Read a network.

    Args:
        source: a torch module or a keras.Model; a file (``.keras``, ``.h5``, ``.json`` with `weights`, ``.onnx``, ``.tflite``, ``.pt2``); a folder in
            Transformers layout, or ``hf:ID`` from the hub; ``file.py:name`` or ``package.module:name``, where the name is a module, a Model, or a
            function of no arguments that returns one of these or a pair (module, example inputs); or a Model, which is returned as it is.
        example_inputs: a tuple of what the network takes, or a dict by name. A torch module has none of its own: its attribute
            ``example_inputs`` is taken where none are given. For a file they fix the sizes that it leaves open.
        weights: a ``.safetensors`` file (or a ``.pt`` of nothing but tensors) to load into a module; for a file of Keras, ``.weights.h5`` or
            ``.weights.json``, as `save_weights` writes them.
        trust: code that comes with a file may run. Not needed for the user's own ``file.py``.
        name: what reports call the network; by default made from the source.
        dynamic: input name -> axis -> what it counts, for axes beside the batch that take any size.
        length: for a Transformers checkpoint: tokens of its texts (128 unless given), or samples of its sounds (one second).

    Raises:
        ModelError: the source cannot be read, or the network cannot be traced.
        UntrustedError: reading the file would run code that came with it.
    """
    _check_given(weights, trust, name, dynamic, length)
    reading = Reading(example_inputs, str(weights or ""), trust, name or "", dynamic or {}, length)
    from_hub = isinstance(source, str) and source.startswith("hf:")
    if isinstance(source, str | Path) and not from_hub:
        check_readable(Path(str(source).rpartition(":")[0] if is_reference(source) else source), ModelError)
    if weights:
        check_readable(Path(weights), ModelError)
    if is_reference(source) and not from_hub and not os.path.exists(source):
        if length:
            raise ModelError(WITHOUT_LENGTH)
        return _from_python(source, reading)
    if isinstance(source, Model):
        return _as_given(source, reading)
    if isinstance(source, str | Path) and not from_hub:
        source = Path(source)
        _check_file(source, reading)
    for module, attribute in FRONTENDS.values():
        frontend: Frontend = getattr(importlib.import_module(module), attribute)()
        if frontend.accepts(source):
            model = frontend.read(source, reading)
            if length and model.format != "transformers":
                raise ModelError(WITHOUT_LENGTH)
            return model
    if isinstance(source, Path):
        raise ModelError(f"{source} is of no format that is known by its ending; a network is {KNOWN}.")
    raise ModelError(f"a network is {KNOWN}; got {type(source).__name__}.")


def _check_given(weights: Any, trust: Any, name: Any, dynamic: Any, length: Any) -> None:
    """Refuse arguments of another type than `load` takes."""
    if not isinstance(trust, bool) or not isinstance(length, int):
        raise ModelError(f"trust must be True or False, and length a whole number, got {shortened(trust)} and {shortened(length)}.")
    if not isinstance(weights, str | Path | None):
        raise ModelError(f"weights must be the path of a file, got {type(weights).__name__}.")
    if not isinstance(name, str | None):
        raise ModelError(f"the name of a network must be text, got {type(name).__name__}.")
    check_text(name or "", "the name of a network", ModelError)
    axes = dynamic.values() if isinstance(dynamic, Mapping) else [] if dynamic is None else [dynamic]
    if not all(isinstance(found, Mapping) and all(isinstance(axis, int) for axis in found) for found in axes):
        raise ModelError(f"dynamic must name the open axes of inputs, as {{'input': {{1: 'words'}}}}, got {shortened(dynamic)}.")


def _as_given(model: Model, reading: Reading) -> Model:
    if reading.example_inputs is not None:
        raise ModelError("a tersenet.Model is traced already; example inputs go with the module that it is made of.")
    if reading.weights:
        raise ModelError(
            "weights can be loaded into a torch module only; this network is traced already. Return the module and its example inputs instead."
        )
    return replace(model, name=reading.name) if reading.name else model


def _from_python(reference: str, reading: Reading) -> Model:
    import torch

    value: Any = resolve(reference, final=lambda found: isinstance(found, torch.nn.Module | Model))
    inputs = reading.example_inputs
    if isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], torch.nn.Module):
        value, example = value
        inputs = example if inputs is None else inputs
    if not isinstance(value, torch.nn.Module | Model):
        raise ModelError(
            f"{reference} must be a torch module, a tersenet.Model or a pair (module, example inputs), or a function that returns one; "
            f"got {type(value).__name__}."
        )
    unnamed = not isinstance(value, Model) or value.name == value.provenance.get("class")  # a name that the user chose stays
    name = reading.name or (reference.rsplit(":", 1)[1] if unnamed else None)
    try:
        return load(value, inputs, weights=reading.weights or None, trust=reading.trust, name=name, dynamic=reading.dynamic)
    except ModelError as error:
        if reference.rsplit(":", 1)[0] in str(error):
            raise
        raise ModelError(f"{reference}: {error}") from error


def _check_file(path: Path, reading: Reading) -> None:
    """A clear error for a file that is missing, for one that another tool converts, and for a folder that is no network."""
    if not path.exists():
        beside = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
        close = difflib.get_close_matches(path.name, beside, n=3)
        raise ModelError(f"the file {path} does not exist" + (f"; beside it: {', '.join(close)}." if close else "."))
    if elsewhere := road(path):
        raise ModelError(f"{path} is {elsewhere}.")
    if path.is_dir() and not (path / "config.json").is_file():
        raise ModelError(f"{path} is a folder without config.json; a network is {KNOWN}.")
    if reading.example_inputs is not None and path.suffix.lower() in SIZED:
        raise ModelError(
            f"{path} has its sizes in it; example inputs are for torch modules, and for files that leave sizes open (.keras, .h5, .onnx)."
        )
