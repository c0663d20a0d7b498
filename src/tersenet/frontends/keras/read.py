"""Keras networks: ``.keras`` archives, ``.h5`` files of Keras 2 and 3, and networks that are in memory."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tersenet.annotations import Annotations
from tersenet.errors import ModelError, check_readable
from tersenet.frontend import Reading
from tersenet.frontends.keras.build import OPEN_SIZES, Builder, dtype_of
from tersenet.frontends.keras.config import Described, Network, described, leaves, network
from tersenet.frontends.keras.file import Saved, opened
from tersenet.frontends.keras.layer import Convert
from tersenet.frontends.keras.layers.activations import mark_keras_2
from tersenet.frontends.keras.memory import in_memory, is_a
from tersenet.frontends.keras.network import NamedNetwork
from tersenet.frontends.keras.penalties import kept_of, notes, thawed
from tersenet.frontends.keras.wrapped import masks_of
from tersenet.graph.grids import with_grids
from tersenet.graph.marks import with_marks
from tersenet.graph.tidy import attribute_name
from tersenet.graph.trace import trace
from tersenet.model import Model

ENDINGS = (".keras", ".h5", ".hdf5", ".json")
LARGEST_EXAMPLE = 1 << 28  # elements of an example input: 1 GB of floats
_BATCH = 2
_DAMAGE = (KeyError, TypeError, ValueError, IndexError, AttributeError, RecursionError, OverflowError, MemoryError)


class KerasFrontend:
    """Files of Keras by their endings, and Keras's own networks."""

    def accepts(self, source: Any) -> bool:
        return source.suffix.lower() in ENDINGS if isinstance(source, Path) else is_keras(source)

    def read(self, source: Any, reading: Reading) -> Model:
        return _read(source, reading, {})


def load_keras(source: Any, example_inputs: Any = None, *, layers: Mapping[str, Convert] | None = None, name: str | None = None) -> Model:
    """Read a Keras network that has layers of the user's own.

    Args:
        source: a ``.keras``, ``.h5`` or ``.hdf5`` file, or a network of Keras.
        example_inputs: for inputs whose sizes are open: a tuple of arrays, or a dict by name.
        layers: name of a class (``Scale``, or ``package>Scale`` as it was registered) -> a function that converts a layer of it. It takes
            a layer (``name``, ``config``, ``weights.own``: arrays in the order in which the layer made them, ``input_shapes``: batch first)
            and returns a torch module that computes the same from the same tensors. A name of Keras's own replaces its converter.
        name: what reports call the network; by default that of the file.

    Returns:
        The network.

    Raises:
        ModelError: it cannot be read.
    """
    if isinstance(source, str | Path):
        source = Path(source)
        check_readable(source, ModelError)
        if not source.is_file():
            raise ModelError(f"the file {source} does not exist.")
    elif not is_keras(source):
        raise ModelError(f"a Keras network is a file ({', '.join(ENDINGS)}) or a keras.Model, got {type(source).__name__}.")
    return _read(source, Reading(example_inputs, name=name or ""), layers or {})


def is_keras(source: Any) -> bool:
    """Whether an object is a network of Keras; Keras is not imported to tell."""
    return is_a(source, "Model")


def _read(source: Any, reading: Reading, layers: Mapping[str, Convert]) -> Model:
    if isinstance(source, Path):
        with opened(source, reading.weights) as saved:
            return _named(source, lambda: _model(saved, reading, layers, reading.name or source.stem))
    if reading.weights:
        raise ModelError("a keras.Model in memory has its weights: call its load_weights; --weights goes with a file.")
    saved = in_memory(source, {key.rpartition(">")[2] for key in layers})
    return _model(saved, reading, layers, reading.name or str(source.name))


def _named(path: Path, read: Callable[[], Model]) -> Model:
    try:
        return read()
    except _DAMAGE as error:
        raise ModelError(f"{path} is damaged: its configuration is not one that Keras writes ({type(error).__name__}: {str(error)[:80]}).") from error
    except ModelError as error:
        text = str(error).rstrip(".")
        raise error if str(path) in text else ModelError(f"{path}: {text}.") from error


def _model(saved: Saved, reading: Reading, layers: Mapping[str, Convert], name: str) -> Model:
    top = _outermost(saved)
    found = network(top)
    names, shapes, dtypes = _inputs(found)
    examples, dynamic = _examples(names, shapes, dtypes, reading)
    builder = Builder(layers, saved.version, saved.checked)
    given = tuple(
        (None, *(None if axis in dynamic.get(each, {}) else size for axis, size in enumerate(examples[each].shape) if axis)) for each in names
    )
    built = builder.network(top, saved.weights, given, dtypes)
    module = NamedNetwork(built, names, _outputs(built.returned))
    kept = kept_of(module)
    of_parameters: dict[str, dict[str, Any]] = {"masks": masks_of(module), "penalties": kept.penalties, "constraints": kept.constraints}
    model = trace(module, examples, name=name, dynamic=dynamic)
    provenance = {
        "keras": saved.version,
        "class": top.kind,
        "torch": torch.__version__,
        "notes": [*builder.notes, *thawed(builder.frozen), *notes(dict.fromkeys(builder.left))],
    }
    annotations = Annotations(**{what: {attribute_name(key): entry for key, entry in found.items()} for what, found in of_parameters.items()})
    model = replace(model, format="keras", provenance=provenance, annotations=annotations.among(model.graph.state_dict()))
    return with_marks(with_grids(model), builder.marks)


def _outermost(saved: Saved) -> Described:
    if saved.version.partition(".")[0] in ("1", "2"):
        mark_keras_2(saved.config)
    top = described(saved.config)
    if not top.is_network:
        raise ModelError(
            f"its network is a {top.kind}, a subclass of Model: the file holds no description of what it computes. Build it in Python as a "
            "functional keras.Model (keras.Model(inputs, outputs)), load its weights and save that"
        )
    return top


def _inputs(found: Network) -> tuple[list[str], list[tuple[int | None, ...]], list[torch.dtype]]:
    """Names, shapes and types of the network's inputs, as its input layers state them."""
    layers = {layer.name: layer for layer in found.layers}
    names, shapes, dtypes = [], [], []
    for ref in leaves(found.inputs):
        layer = layers.get(ref.layer)
        shape = None if layer is None else layer.config.get("batch_shape") or layer.config.get("batch_input_shape")
        if layer is None or (layer.kind == "InputLayer" and shape is not None and not isinstance(shape, list)):
            raise ModelError(f"its input {ref.layer[:80]!r} is no layer with a shape")
        if layer.config.get("sparse") or layer.config.get("ragged"):
            raise ModelError(f"its input {layer.name!r} is sparse or ragged; networks take dense arrays")
        names.append(re.sub(r"\W", "_", layer.name))
        shapes.append(tuple(shape) if shape else ())
        dtypes.append(dtype_of(layer.config.get("dtype", "float32")))
        if not all(size is None or (isinstance(size, int) and not isinstance(size, bool) and size > 0) for size in shapes[-1]):
            raise ModelError(f"its input {layer.name!r} must have a shape of whole numbers, got {shape}")
    if isinstance(found.inputs, Mapping) and len(found.inputs) == len(names):
        names = [re.sub(r"\W", "_", str(key)) for key in found.inputs]
    return _distinct(names), shapes, dtypes


def _outputs(returned: Any) -> list[str]:
    """Names of what a network returns: the keys of a dict, else those of the layers."""
    if isinstance(returned, Mapping):
        names = [str(key) for key, part in returned.items() for _ in leaves(part)]
    else:
        names = [ref.layer for ref in leaves(returned)]
    return _distinct([re.sub(r"\W", "_", each) for each in names])


def _distinct(names: list[str]) -> list[str]:
    found: list[str] = []
    for name in names:
        candidate, number = name, 1
        while candidate in found:
            candidate = f"{name}_{number}"
            number += 1
        found.append(candidate)
    return found


def _examples(
    names: list[str], shapes: list[tuple[int | None, ...]], dtypes: list[torch.dtype], reading: Reading
) -> tuple[dict[str, torch.Tensor], dict[str, dict[int, str]]]:
    """Example inputs by name, and the axes beside the batch that stay open: the user's, or those that the file leaves open."""
    given = _given(names, reading.example_inputs)
    dynamic = {name: dict(axes) for name, axes in reading.dynamic.items()}
    examples = {}
    for name, shape, dtype in zip(names, shapes, dtypes, strict=True):
        if name in given:
            examples[name] = torch.as_tensor(np.asarray(given[name])).to(dtype)
            continue
        if not shape:
            raise ModelError(f"the shape of its input {name!r} is not in the file; give example inputs (tersenet.load(path, example_inputs))")
        sizes = [_BATCH, *(OPEN_SIZES[0] if size is None else size for size in shape[1:])]
        if np.prod([float(size) for size in sizes]) > LARGEST_EXAMPLE:
            raise ModelError(f"its input {name!r} has the shape {shape}; it must have at most {LARGEST_EXAMPLE} elements")
        examples[name] = torch.zeros(sizes, dtype=dtype)
        open_axes = {axis: f"size_{axis}" for axis, size in enumerate(shape) if axis and size is None}
        if open_axes:
            dynamic[name] = {**open_axes, **dynamic.get(name, {})}
    return examples, dynamic


def _given(names: list[str], inputs: Any) -> Mapping[str, Any]:
    if inputs is None:
        return {}
    if isinstance(inputs, Mapping):
        unknown = [str(key) for key in inputs if key not in names]
        if unknown:
            raise ModelError(f"there is no input {unknown[0]!r}; the inputs are {', '.join(names)}")
        return inputs
    parts = list(inputs) if isinstance(inputs, tuple | list) else [inputs]
    if len(parts) != len(names):
        raise ModelError(f"the network takes {len(names)} inputs ({', '.join(names)}), and {len(parts)} examples are given")
    return dict(zip(names, parts, strict=True))
