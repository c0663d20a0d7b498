"""A network of Keras that is in memory: its configuration as Keras itself writes it, its variables from its own layers.

Nothing is saved: an archive stores a layer that several networks share once, at the first place where it comes, and lacks it at the others.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Collection, Iterator
from typing import Any

import numpy as np

from tersenet.errors import ModelError
from tersenet.frontends.keras.config import OF_KERAS, package_of
from tersenet.frontends.keras.file import Saved, as_keras_3
from tersenet.frontends.keras.weights import stored, stored_names

# Attributes by which a layer lists all that are inside it, whatever they are called.
_LISTS = {"_layers", "_self_tracked_trackables", "_metrics"}


def in_memory(network: Any, own: Collection[str]) -> Saved:
    """A network in memory in the form in which a file has it.

    Args:
        own: the names of classes that the user converts.

    Raises:
        ModelError: Keras cannot describe it, or a class of its networks computes something else than its layers say.
    """
    _check_calls(network, own)
    package = sys.modules[next(package_of(kind.__module__) for kind in type(network).__mro__ if package_of(kind.__module__) in OF_KERAS)]
    try:
        config = json.loads(json.dumps(package.saving.serialize_keras_object(network)))
    except Exception as error:  # the user's own layers raise anything when they are described
        message = str(error).partition("\n")[0][:160]
        raise ModelError(f"the Keras network {network.name} cannot be described: {type(error).__name__}: {message}") from error
    version = str(package.__version__)
    return Saved(as_keras_3(config) if version.startswith("2") else config, stored(Live(network)), version, checked=True)


class Live:
    """A layer, or a list of layers, as a group of the tree that an archive would store (`tersenet.frontends.keras.weights.Tree`).

    Args:
        held: what is at this place.
    """

    def __init__(self, held: Any) -> None:
        self._held = held
        self._inside = dict(_inside(held))

    def __contains__(self, name: str) -> bool:
        return name in self._inside or (name == "vars" and not isinstance(self._held, list))

    def names(self) -> list[str]:
        """What is inside."""
        return list(self._inside)

    def group(self, name: str) -> Any:
        """What is inside by a name; at ``vars`` the variables themselves."""
        return _Variables(self._held) if name == "vars" else Live(self._inside[name])

    def array(self, name: str) -> np.ndarray:
        """Arrays are in the group ``vars``."""
        raise ModelError(f"there is no array {name[:80]!r} in it")


class _Variables:
    """A layer's own variables by their numbers, as the layer itself would save them."""

    def __init__(self, layer: Any) -> None:
        self._held: dict[str, Any] = {}
        try:
            layer.save_own_variables(self._held)
        except Exception as error:
            raise ModelError(f"the variables of the layer {layer.name!r} cannot be read: {type(error).__name__}: {str(error)[:160]}") from error

    def __contains__(self, name: str) -> bool:
        return name in self._held

    def names(self) -> list[str]:
        return list(self._held)

    def group(self, name: str) -> Any:
        raise ModelError(f"there is no group {name[:80]!r} in it")

    def array(self, name: str) -> np.ndarray:
        found = self._held[name]
        array = np.asarray(found.detach().cpu() if hasattr(found, "detach") else found)
        return array.astype(np.float32) if array.dtype.name == "bfloat16" else array


def _inside(held: Any) -> Iterator[tuple[str, Any]]:
    """The layers, and lists of layers, within a layer or a list, by the names that an archive has for them."""
    if isinstance(held, list):
        layers = [each for each in held if is_a(each, "Layer")]
        yield from zip(stored_names([type(each).__name__ for each in layers]), layers, strict=True)
    elif is_a(held, "Model"):  # its other attributes are not what its configuration describes
        yield "layers", list(held.layers)
    else:
        attributes = {**vars(held), **vars(held).get("_modules", {})}  # over torch, layers are kept as torch's modules are
        for name, found in attributes.items():
            if name not in _LISTS and (is_a(found, "Layer") or (isinstance(found, list | tuple) and any(is_a(each, "Layer") for each in found))):
                yield name, list(found) if isinstance(found, list | tuple) else found


def _check_calls(network: Any, own: Collection[str]) -> None:
    """Every network must compute what its layers say: a class that has a `call` of its own is not in the configuration."""
    seen, waiting = set(), [network]
    while waiting:
        held = waiting.pop()
        if id(held) in seen:
            continue
        seen.add(id(held))
        kind = type(held)
        if kind.__name__ in own and held is not network:
            continue
        if is_a(held, "Model") and package_of(kind.call.__module__) not in OF_KERAS:
            raise ModelError(
                f"the network {held.name!r} is a {kind.__name__}, whose call is written in Python, and its layers alone do not say what it "
                f"computes: make of it a functional network, keras.Model(inputs, outputs), that holds all of it"
            )
        waiting += [inner for _, inner in _inside(held)]


def is_a(found: Any, name: str) -> bool:
    """Whether an object is of a class of Keras by that name; Keras is not imported to tell."""
    return any(kind.__name__ == name and package_of(kind.__module__) in OF_KERAS for kind in type(found).__mro__)
