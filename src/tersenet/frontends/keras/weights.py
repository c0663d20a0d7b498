"""A network's variables as one tree, `Weights`, whichever of Keras's two ways of storing them a file has.

Keras 3 stores a tree: ``layers/bidirectional/forward_layer/cell/vars/0``. The older ``.h5`` form stores a flat list for each layer
of the outermost network, trainable variables first; `grouped` gives it the same form as the tree. Arrays are read where they are
first asked for, so that a network never lies in memory twice.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from tersenet.errors import ModelError
from tersenet.frontends.keras.hdf5 import Group, joined
from tersenet.frontends.keras.layer import Weights
from tersenet.frontends.keras.wrapped_variables import WRAPPERS, split

# What Keras has called the list of a network's layers.
_LAYERS = ("layers", "_layer_checkpoint_dependencies")
# Public names of classes whose own names, by which weights are stored, are others.
_CLASSES = {"GroupQueryAttention": "GroupedQueryAttention"}
# Layers of Keras that hold one other layer.
_WRAPPERS = {"TimeDistributed", "SpectralNormalization"}
_RECURRENT = {"LSTM", "GRU", "SimpleRNN", "ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D"}
_STRANGE = "its weights do not fit its configuration: it has weights of {}, which is no layer of the network"
_ATTENTION = ("query_dense", "key_dense", "gate_dense", "value_dense", "output_dense")


class Tree(Protocol):
    """A group of a stored tree, whether it lies in one file or in several."""

    def __contains__(self, name: str) -> bool: ...

    def names(self) -> list[str]:
        """The members."""

    def group(self, name: str) -> Tree:
        """A group inside."""

    def array(self, name: str) -> np.ndarray:
        """An array inside."""


@dataclass(frozen=True)
class Entry:
    """One variable of the flat form: its name as the file has it, and its array when asked for."""

    name: str
    load: Callable[[], np.ndarray]


class _Later(Weights):
    """Weights whose arrays are read on first use."""

    def __init__(self, load: Callable[[], tuple[np.ndarray, ...]], children: Mapping[str, Weights]) -> None:
        object.__setattr__(self, "_load", load)
        object.__setattr__(self, "children", children)

    @cached_property
    def own(self) -> tuple[np.ndarray, ...]:
        return tuple(as_float32(array) for array in self._load())  # type: ignore[attr-defined]


def forget(weights: Weights) -> None:
    """Let the arrays of a tree go; whoever asks again reads them again."""
    if isinstance(weights, _Later):
        vars(weights).pop("own", None)
    if not isinstance(weights.children, StoredChildren):
        for child in weights.children.values():
            forget(child)


def as_float32(array: np.ndarray) -> np.ndarray:
    """Floats of other widths as float32, in this machine's order of bytes."""
    return array.astype(np.float32) if array.dtype.kind == "f" and array.dtype != np.float32 else array


class StoredChildren(Mapping[str, Weights]):
    """The groups of a stored tree by name, read as they are asked for."""

    def __init__(self, group: Tree) -> None:
        self._group = group
        self._names = [name for name in group.names() if name != "vars"]

    def __getitem__(self, name: str) -> Weights:
        found = next((each for each in (name, f"_{name}") if each in self._names), None)  # Keras 2: ``_query_dense``
        if found is None:
            raise KeyError(name)
        return stored(self._group.group(found))

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def stored(group: Tree) -> Weights:
    """The weights of Keras 3's form below a group."""
    return _Later(lambda: _variables(group), StoredChildren(group))


def _variables(group: Tree) -> tuple[np.ndarray, ...]:
    if "vars" not in group:
        return ()
    held = group.group("vars")
    names = sorted(held.names(), key=lambda name: (not name.isdigit(), int(name) if name.isdigit() else 0, name))
    return tuple(held.array(name) for name in names)


def of_layers(weights: Weights, classes: Sequence[str]) -> list[Weights]:
    """The weights of each layer of a network, whose classes are given in the order of its configuration.

    Keras numbers the layers of one class in that order: ``conv2d``, ``conv2d_1``; some versions of Keras 2 leave numbers out.

    Raises:
        ModelError: there are weights of layers beyond these.
    """
    held = next((weights.children[name] for name in _LAYERS if name in weights.children), Weights())
    wanted = stored_names(classes)
    renamed: dict[str, str] = {}
    for kind in {_stored_name(kind) for kind in classes}:
        pattern = re.compile(rf"{re.escape(kind)}(?:_(\d+))?")
        there = [(int(match[1] or 0), name) for name in held.children if (match := pattern.fullmatch(name))]
        asked = [name for name, each in zip(wanted, classes, strict=True) if _stored_name(each) == kind]
        if len(there) == len(asked):
            renamed.update(zip(asked, (name for _, name in sorted(there)), strict=True))
    names = [renamed.get(name, name) for name in wanted]
    strange = [name for name, child in held.children.items() if name not in names and _holds_any(child)]
    if strange:
        raise ModelError(_STRANGE.format(", ".join(strange[:3])))
    return [held.children.get(name, Weights()) for name in names]


def _holds_any(weights: Weights) -> bool:
    """Whether a layer has variables; the state of what draws random numbers (Dropout) is none."""
    return bool(weights.own) or any(_holds_any(child) for name, child in weights.children.items() if not name.startswith("seed_generator"))


def stored_names(classes: Sequence[str]) -> list[str]:
    """The names that Keras stores layers of these classes by.

    >>> stored_names(["Conv2D", "ReLU", "Conv2D"])
    ['conv2d', 're_lu', 'conv2d_1']
    """
    counts: dict[str, int] = {}
    names = []
    for kind in classes:
        name = _stored_name(kind)
        names.append(f"{name}_{counts[name]}" if name in counts else name)
        counts[name] = counts.get(name, 0) + 1
    return names


def _stored_name(kind: str) -> str:
    kind = kind.rpartition(">")[2]  # "package>Name" of a class that its author registered
    return _snake_case(_CLASSES.get(kind, kind))


def _snake_case(name: str) -> str:
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", re.sub(r"\W+", "", name))
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()


def flat(group: Group) -> dict[str, list[Entry]]:
    """The variables of each layer of the outermost network, of the older form."""
    layers = {}
    for layer in joined(group, "layer_names"):
        held = group.group(layer)
        layers[layer] = [Entry(name, lambda held=held, name=name: held.array(name)) for name in joined(held, "weight_names")]  # type: ignore[misc]
    return layers


def network_of_flat(layers: Sequence[Mapping[str, Any]], entries: Mapping[str, Sequence[Entry]]) -> Weights:
    """The tree of a whole network of the older form.

    Args:
        layers: the configurations of its layers.
        entries: name of a layer -> its variables.

    Raises:
        ModelError: the file has weights of layers that the configuration does not have.
    """
    names = [_name(layer) for layer in layers]
    strange = [name for name, found in entries.items() if found and name not in names]
    if strange:
        raise ModelError(_STRANGE.format(", ".join(strange[:3])))
    parts = [grouped(layer, entries.get(name, ())) for layer, name in zip(layers, names, strict=True)]
    return _network(layers, parts)


def _network(layers: Sequence[Mapping[str, Any]], parts: Sequence[Weights]) -> Weights:
    held = dict(zip(stored_names([str(layer["class_name"]) for layer in layers]), parts, strict=True))
    return Weights((), {"layers": Weights((), held)})


def grouped(layer: Mapping[str, Any], entries: Sequence[Entry]) -> Weights:
    """The flat variables of one layer as the tree that Keras 3 would store."""
    kind, config = str(layer["class_name"]), layer["config"]
    inner = config.get("layers") if isinstance(config, Mapping) else config
    if isinstance(inner, list):
        return _network(inner, _by_name(inner, entries))
    if kind == "Bidirectional":
        half = len(entries) // 2
        backward = config.get("backward_layer") or config["layer"]
        return Weights((), {"forward_layer": grouped(config["layer"], entries[:half]), "backward_layer": grouped(backward, entries[half:])})
    if kind in WRAPPERS or kind in _WRAPPERS:
        return _wrapped(kind, config, entries)
    if kind in _RECURRENT:
        return Weights((), {"cell": _leaf(entries)})
    if kind == "RNN":
        return Weights((), {"cell": grouped(config["cell"], entries)})
    if kind == "StackedRNNCells":
        return Weights((), {"cells": _cells(config["cells"], entries)})
    if kind in {"MultiHeadAttention", "GroupQueryAttention", "GroupedQueryAttention"}:
        names = [name for name in _ATTENTION if name != "gate_dense" or config.get("use_gate")]
        each = 2 if config.get("use_bias", True) else 1
        return Weights((), {name: _leaf(entries[place * each : (place + 1) * each]) for place, name in enumerate(names)})
    return _leaf(entries)


def _leaf(entries: Sequence[Entry]) -> Weights:
    return _Later(lambda: tuple(entry.load() for entry in entries), {})


def _wrapped(kind: str, config: Mapping[str, Any], entries: Sequence[Entry]) -> Weights:
    """A wrapper: the layer inside it, and its own variables, by their names where the order does not tell them apart."""
    inner = config.get("layer")
    if kind == "SpectralNormalization":
        return _Later(lambda: tuple(entry.load() for entry in entries[-1:]), {"layer": grouped(config["layer"], entries[:-1])})
    if kind == "TimeDistributed":
        return Weights((), {"layer": grouped(config["layer"], entries)})
    own, rest = split(kind, [entry.name for entry in entries])
    children = {name: _leaf([entries[place] for place in places]) for name, places in own.items()}
    if isinstance(inner, Mapping):
        children["layer"] = grouped(inner, [entries[place] for place in rest])
    return Weights((), children)


def _by_name(layers: Sequence[Mapping[str, Any]], entries: Sequence[Entry]) -> list[Weights]:
    """The variables of a network inside a network, by the names of its layers, which stand in the names of the variables.

    Raises:
        ModelError: a variable is of none of the layers.
    """
    names = [_name(layer) for layer in layers]
    sorted_out: dict[str, list[Entry]] = {name: [] for name in names}
    for entry in entries:
        parts = entry.name.split("/")
        owner = next((cut for cut in _prefixes(parts) if cut in sorted_out), None)
        if owner is None:
            raise ModelError(f"its weights do not fit its configuration: {entry.name[:80]!r} is of none of the layers {', '.join(names[:5])} ...")
        sorted_out[owner].append(entry)
    return [grouped(layer, sorted_out[name]) for layer, name in zip(layers, names, strict=True)]


def _prefixes(parts: Sequence[str]) -> Iterator[str]:
    """Every run of the path's parts, from the left, longest first: a layer's own name may hold slashes."""
    for start in range(len(parts)):
        for end in range(len(parts), start, -1):
            yield "/".join(parts[start:end])


def _cells(cells: Sequence[Mapping[str, Any]], entries: Sequence[Entry]) -> Weights:
    parts, place = [], 0
    for cell in cells:
        size = 3 if cell["config"].get("use_bias", True) else 2
        parts.append(_leaf(entries[place : place + size]))
        place += size
    return Weights((), dict(zip(stored_names([str(cell["class_name"]) for cell in cells]), parts, strict=True)))


def _name(layer: Mapping[str, Any]) -> str:
    config = layer["config"]
    return str(layer.get("name") or (config.get("name") if isinstance(config, Mapping) else "") or layer["class_name"])
