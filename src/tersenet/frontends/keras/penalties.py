"""Regularizers and constraints of layers: no part of what a network computes, and kept beside it for later training.

What a variable of Keras became is found by trial: the layer is converted again with other numbers in its variables, and the parameters tell
which came where. What became no parameter of its own, or cannot be told of one, is named.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tersenet.annotations import Constraint, Penalty
from tersenet.frontends.keras.layer import Layer, Weights
from tersenet.frontends.keras.regularizers import Unknown, constraint, regularizer, text
from tersenet.frontends.keras.weights import stored_names

Place = tuple[tuple[str, ...], int]  # of a variable: the way to the layer inside that has it, and its number there
Probe = Callable[[Weights], nn.Module]

_MOST = 6  # that a note names
_ENDINGS = {"_regularizer": "regularizers", "_constraint": "constraints"}
_ATTENTION = ("MultiHeadAttention", "GroupedQueryAttention", "GroupQueryAttention")
_LARGEST = 1 << 24  # whole numbers up to it are floats of 32 bits
_NAMES = ("activity", "kernel", "recurrent", "bias", "depthwise", "pointwise", "embeddings", "alpha", "gamma", "beta")
_NUMBER = 101.0  # what tells a variable: no number that a converter puts there of its own


@dataclass(frozen=True)
class Kept:
    """What is kept of one layer or of all.

    Args:
        penalties, constraints: by the name of a parameter.
        left: what is not kept: whether regularizer or constraint, and its name with its settings and the reason.
    """

    penalties: dict[str, Penalty] = field(default_factory=dict)
    constraints: dict[str, Constraint] = field(default_factory=dict)
    left: list[tuple[str, str]] = field(default_factory=list)

    def add(self, other: Kept, name: Callable[[str], str]) -> None:
        """Take in what is kept of a part, whose parameters have other names in the whole."""
        self.penalties.update({name(own): entry for own, entry in other.penalties.items()})
        self.constraints.update({name(own): entry for own, entry in other.constraints.items()})


def kept(layer: Layer, module: nn.Module, probe: Probe | None) -> Kept:
    """What of a layer's regularizers and constraints later training can go on with; that of its activity aside.

    Args:
        layer: as it was converted.
        module: what it became.
        probe: converts the layer with other weights; None for a converter of the user's own.
    """
    found = Kept()
    for key, held in layer.config.items():
        ending = next((ending for ending in _ENDINGS if key.endswith(ending)), "")
        role = key.removesuffix(ending)
        if ending and held is not None and role not in _NAMES:
            found.left.append((ending, f"{layer.name} ({role}: {text(held)}): no variable is known by this name"))
    if any(_asked(layer)):  # shapes are all that is needed from here on: every array of a large file is read once more, not for each question
        layer = replace(layer, weights=_filled(layer.weights, {}))
    for setting in _settings(layer):
        try:
            if probe is None:
                raise Unknown("the layer is converted by a function of your own")
            if setting.ending == "_regularizer":
                found.penalties.update(_penalties(setting, layer, module, probe))
            else:
                found.constraints.update(_constraints(setting, layer, module, probe))
            if setting.role == "bias":
                found.constraints.update(_own_biases(setting, layer, probe))
        except Unknown as why:
            found.left.append((setting.ending, f"{layer.name} ({setting.role}: {text(setting.held)}): {why}"))
    return found


def kept_of(network: nn.Module) -> Kept:
    """Of every layer of a network, by the names of its parameters there."""
    found = Kept()
    for path, module in network.named_modules():
        found.add(kept_beside(module), lambda name, path=path: f"{path}.{name}" if path else name)  # type: ignore[misc]
    return found


def kept_beside(module: nn.Module) -> Kept:
    """What is kept of the layer that a module was made of, by the names of its own parameters."""
    own = getattr(module, "kept", None)
    return own if isinstance(own, Kept) else Kept()


def activity(layer: Layer) -> Penalty | None:
    """What a layer's output costs, by its activity regularizer.

    Raises:
        Unknown: it is none that is kept.
    """
    if layer.kind == "ActivityRegularization":
        strengths = {key: layer.config.get(key) or 0.0 for key in ("l1", "l2")}
        return regularizer({"class_name": "L1L2", "config": strengths}) if any(strengths.values()) else None
    held = layer.config.get("activity_regularizer")
    if held is None:
        return None
    if layer.kind in _ATTENTION:
        raise Unknown("it is of values inside the layer")
    found = regularizer(held)
    if found.orthogonal:
        raise Unknown("the orthogonal one of values is not kept")
    return found


def notes(found: Collection[tuple[str, str]]) -> list[str]:
    """What a network's notes say of those that are not kept: one sentence for each of the two kinds."""
    said = []
    for ending, what in _ENDINGS.items():
        layers = [each for sort, each in found if sort == ending]
        if layers:
            more = f" and {len(layers) - _MOST} more" if len(layers) > _MOST else ""
            said.append(f"{what} that later training goes without: {'; '.join(layers[:_MOST])}{more}")
    return said


def thawed(layers: Collection[str]) -> list[str]:
    """The note on layers that the source had frozen."""
    names = list(dict.fromkeys(layers))
    more = f" and {len(names) - _MOST} more" if len(names) > _MOST else ""
    return [f"layers that the source does not train (trainable=False) learn here with the others: {', '.join(names[:_MOST])}{more}"] if names else []


@dataclass(frozen=True)
class _Setting:
    """One regularizer or constraint: of which variables, and its serialized form."""

    role: str
    ending: str
    held: Any
    places: tuple[Place, ...]


def _settings(layer: Layer) -> Iterator[_Setting]:
    for asked in _asked(layer):
        places = tuple((path, number) for path, number in asked.places if number < len(_at(layer.weights, path).own))
        if places:
            yield replace(asked, places=places)


def _asked(layer: Layer) -> Iterator[_Setting]:
    """By the configuration alone: no variable is read for it."""
    for config, paths in _owners(layer):
        for role, number in _roles(layer.kind, config):
            for ending in _ENDINGS:
                held = config.get(f"{role}{ending}")
                if held is not None:
                    yield _Setting(role, ending, held, tuple((path, number) for path in paths))


def _owners(layer: Layer) -> Iterator[tuple[Mapping[str, Any], list[tuple[str, ...]]]]:
    """Configurations that speak of variables, and the ways to what has these."""
    cell = layer.config.get("cell")
    if isinstance(cell, Mapping) and isinstance(cell.get("config"), Mapping):
        inner = cell["config"].get("cells")
        if isinstance(inner, list):
            for each, name in zip(inner, stored_names([str(each.get("class_name")) for each in inner]), strict=True):
                yield each["config"], [("cell", "cells", name)]
        else:
            yield cell["config"], [("cell",)]
    elif layer.kind in _ATTENTION:
        yield layer.config, [(name,) for name in layer.weights.children if name.endswith("_dense")]
    else:
        yield layer.config, [("cell",) if "cell" in layer.weights.children else ()]


def _roles(kind: str, config: Mapping[str, Any]) -> list[tuple[str, int]]:
    """What a layer calls its variables, and the number of each."""
    if kind.startswith("Separable"):
        names = ["depthwise", "pointwise", "bias"]
    elif kind.startswith("Depthwise"):
        names = ["depthwise", "bias"]
    elif kind.endswith("Normalization"):
        names = [name for name, key in (("gamma", "scale"), ("beta", "center")) if config.get(key, True)]
    elif kind.endswith("Embedding"):
        names = ["embeddings"]
    elif kind == "PReLU":
        names = ["alpha"]
    else:
        names = [name for name in ("kernel", "recurrent", "bias") if name != "recurrent" or "recurrent_initializer" in config]
    return [(name, number) for number, name in enumerate(names)]


def _penalties(setting: _Setting, layer: Layer, module: nn.Module, probe: Probe) -> dict[str, Penalty]:
    entry = regularizer(setting.held)
    if not (entry.l1 or entry.l2 or entry.orthogonal):
        return {}
    names = _parameters(setting, layer, module, probe)
    if not entry.orthogonal:
        return dict.fromkeys(names, entry)
    shapes = {_at(layer.weights, path).own[number].shape for path, number in setting.places}
    if any(len(shape) != 2 for shape in shapes):
        raise Unknown("it is of a matrix")
    along, across = (1, 0) if entry.axes == (1,) else (0, 1)
    axes, others = (_axes(setting, layer, probe, names, (axis,)) for axis in (along, across))
    for name in names:
        if {*axes[name], *others[name]} != {0, 1} or len(axes[name]) != 1:
            raise Unknown("the parameter has the matrix in another form")
    return {name: replace(entry, axes=axes[name]) for name in names}


def _constraints(setting: _Setting, layer: Layer, module: nn.Module, probe: Probe) -> dict[str, Constraint]:
    entry = constraint(setting.held)
    names = _parameters(setting, layer, module, probe)
    if entry.kind == "non-negative":
        return dict.fromkeys(names, entry)
    axes = _axes(setting, layer, probe, names, entry.axes)
    return {name: replace(entry, axes=axes[name]) for name in names}


def _parameters(setting: _Setting, layer: Layer, module: nn.Module, probe: Probe) -> list[str]:
    """The parameters that hold the variables and nothing else.

    Raises:
        Unknown: they are not all there.
    """
    made = dict(probe(_filled(layer.weights, dict.fromkeys(setting.places, _NUMBER))).named_parameters())
    names = [name for name, tensor in made.items() if bool((tensor == _NUMBER).all())]
    wanted = sum(_at(layer.weights, path).own[place].size for path, place in setting.places)
    if sum(made[name].numel() for name in names) != wanted or any(name not in dict(module.named_parameters()) for name in names):
        raise Unknown("no parameter is this variable alone")
    return names


def _own_biases(setting: _Setting, layer: Layer, probe: Probe) -> dict[str, Constraint]:
    """Held to zero: biases of torch's operators that Keras's layers do not have, so that the layer's own is the whole of it."""
    made = probe(_filled(layer.weights, dict.fromkeys(setting.places, _NUMBER))).named_parameters()
    return {name: Constraint("norm") for name, tensor in made if name.rpartition(".")[2].startswith("bias_") and not bool(tensor.any())}


def _axes(setting: _Setting, layer: Layer, probe: Probe, names: Sequence[str], reduced: Sequence[int]) -> dict[str, tuple[int, ...]]:
    """Along which axes of each parameter a vector lies that lies along some axes of a variable.

    Args:
        reduced: axes of the variable, from its front or its end.

    Raises:
        Unknown: a parameter has them in no axes of their own.
    """
    numbers: dict[Place, np.ndarray] = {}
    count = 0
    for path, place in setting.places:
        shape = _at(layer.weights, path).own[place].shape
        if not all(-len(shape) <= axis < len(shape) for axis in reduced):
            raise Unknown(f"its axes {list(reduced)} are not those of a variable of shape {shape}")
        along = {axis % len(shape) for axis in reduced}
        sizes = [1 if axis in along else size for axis, size in enumerate(shape)]
        numbers[path, place] = np.broadcast_to(np.arange(count, count + math.prod(sizes)).reshape(sizes), shape)
        count += math.prod(sizes)
    if count > _LARGEST:
        raise Unknown(f"it has more than {_LARGEST:,} vectors")
    made = dict(probe(_filled(layer.weights, numbers)).named_parameters())
    found = {name: _constant_axes(made[name].detach()) for name in names}
    vectors = [made[name].detach()[tuple(slice(0, 1) if axis in found[name] else slice(None) for axis in range(made[name].dim()))] for name in names]
    if sum(each.numel() for each in vectors) != count or len(torch.cat([each.reshape(-1) for each in vectors]).unique()) != count:
        raise Unknown("the parameter has its vectors in another form")
    return found


def _constant_axes(tensor: Tensor) -> tuple[int, ...]:
    """Axes of more than one place along which a tensor is the same."""
    return tuple(axis for axis, size in enumerate(tensor.shape) if size > 1 and bool((tensor == tensor.narrow(axis, 0, 1)).all()))


def _filled(weights: Weights, numbers: Mapping[Place, Any], path: tuple[str, ...] = ()) -> Weights:
    """The same tree with numbers for some variables, and ones for the others."""
    own = tuple(np.broadcast_to(np.float32(numbers.get((path, place), 1.0)), array.shape) for place, array in enumerate(weights.own))
    return Weights(own, {name: _filled(child, numbers, (*path, name)) for name, child in weights.children.items()})


def _at(weights: Weights, path: Sequence[str]) -> Weights:
    for name in path:
        weights = weights.children.get(name, Weights())
    return weights
