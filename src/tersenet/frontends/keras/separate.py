"""Weights in files of their own: ``model.save_weights("net.weights.h5")``, or in pieces, ``net.weights.json`` beside ``net_00000.weights.h5`` ...

What a piece holds is laid out as in one file; the variables of one layer may lie in two pieces.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from tersenet.errors import MissingDependencyError, ModelError
from tersenet.frontends.keras import hdf5
from tersenet.frontends.keras.layer import Weights
from tersenet.frontends.keras.weights import flat, network_of_flat, stored

_LARGEST_MAP = 1 << 26  # bytes of JSON
_MOST_PIECES = 10_000


class Pieces:
    """Groups of several files as one: what is in any of them is in it."""

    def __init__(self, parts: Sequence[hdf5.Group]) -> None:
        self._parts = parts

    def __contains__(self, name: str) -> bool:
        return any(name in part for part in self._parts)

    def names(self) -> list[str]:
        """The members of all pieces."""
        return list(dict.fromkeys(name for part in self._parts for name in part.names()))

    def group(self, name: str) -> Pieces:
        """A group inside, of all pieces that have it.

        Raises:
            ModelError: there is none of that name.
        """
        found = [part.group(name) for part in self._parts if name in part]
        if not found:
            raise ModelError(f"there is no group {name[:80]!r} in it")
        return Pieces(found)

    def array(self, name: str) -> np.ndarray:
        """An array, of the first piece that has it.

        Raises:
            ModelError: there is none of that name.
        """
        part = next((part for part in self._parts if name in part), None)
        if part is None:
            raise ModelError(f"there is no array {name[:80]!r} in it")
        return part.array(name)


def weights_of(path: Path, config: Mapping[str, Any], stack: ExitStack) -> Weights:
    """The weights in a file of their own, for the network of a configuration.

    Args:
        stack: closes what is opened.

    Raises:
        ModelError: it holds none of Keras's, or a piece is missing; the message names the file.
        MissingDependencyError: pyfive is not installed.
    """
    if not path.is_file():
        raise ModelError(f"the file of weights {path} does not exist.")
    try:
        return _weights(path, config, stack)
    except MissingDependencyError:
        raise
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ModelError(f"the file of weights {path} does not fit the configuration of the network ({str(error)[:80]}).") from error
    except OSError as error:
        raise ModelError(f"the file of weights {path} cannot be read: {error.strerror or error}.") from error
    except ModelError as error:
        raise error if str(path) in str(error) else ModelError(f"the file of weights {path}: {str(error).rstrip('.')}.") from error


def _weights(path: Path, config: Mapping[str, Any], stack: ExitStack) -> Weights:
    if path.suffix == ".json":
        return stored(Pieces([_opened(path.with_name(name), stack) for name in _pieces(path)]))
    with path.open("rb") as stream:
        if stream.read(len(hdf5.SIGNATURE)) != hdf5.SIGNATURE:
            raise ModelError("it must be what model.save_weights writes, .weights.h5 or .weights.json; this is no HDF5 file")
    root = _opened(path, stack)
    if root.attribute("layer_names") is not None or root.attribute("layer_names0") is not None:  # of Keras 2
        inner = config["config"]
        return network_of_flat(inner if isinstance(inner, list) else inner.get("layers", []), flat(root))
    return stored(root)


def _opened(path: Path, stack: ExitStack) -> hdf5.Group:
    if not path.is_file():
        raise ModelError(f"{path.name} is missing; Keras writes it beside its .weights.json")
    return hdf5.opened(stack.enter_context(path.open("rb")), 0, path.stat().st_size)


def _pieces(path: Path) -> list[str]:
    """The names of the pieces, which lie beside the file that lists them."""
    if path.stat().st_size > _LARGEST_MAP:
        raise ModelError(f"its list of pieces must have at most {_LARGEST_MAP} bytes")
    try:
        found = json.loads(path.read_bytes())
        lists = found["weight_map"].values()
        names = list(dict.fromkeys(name for each in lists for name in ([each] if isinstance(each, str) else each)))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ModelError("it must be what model.save_weights writes: JSON with a weight_map") from error
    if not 1 <= len(names) <= _MOST_PIECES:
        raise ModelError(f"it must name 1 to {_MOST_PIECES} pieces, got {len(names)}")
    strange = next((name for name in names if not isinstance(name, str) or Path(name).name != name or not name.endswith(".h5")), None)
    if strange is not None:
        raise ModelError(f"its piece {str(strange)[:80]!r} must be the name of an .h5 file beside it")
    return names
