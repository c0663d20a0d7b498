"""What a converter reads of a layer: its variables and the values of its configuration, each checked before it is used."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tersenet.errors import ModelError
from tersenet.frontends.keras.layer import Layer

Shape = tuple[int | None, ...]  # None for any size
_SHARED = " (a .keras archive has a layer that several networks share at its first place alone: save as .h5, or load the network from memory)"


def title(layer: Layer) -> str:
    """How messages call a layer."""
    return f"the layer {layer.name!r} ({layer.kind})"


def variables(layer: Layer, *shapes: Shape) -> list[np.ndarray]:
    """A layer's own variables, which must be as many as shapes are given, and have these.

    Raises:
        ModelError: they are not.
    """
    held = layer.weights.own
    if len(held) != len(shapes):
        raise ModelError(
            f"{title(layer)} must have {len(shapes)} variables by its configuration, and {len(held)} are there; its weights are of another "
            f"network, or were not saved{'' if held else _SHARED}."
        )
    for number, (array, shape) in enumerate(zip(held, shapes, strict=True)):
        if array.ndim != len(shape) or any(want is not None and have != want for have, want in zip(array.shape, shape, strict=True)):
            wanted = ", ".join("any" if size is None else str(size) for size in shape)
            raise ModelError(f"variable {number} of {title(layer)} must have the shape ({wanted}) by its configuration, got {array.shape}.")
    return list(held)


def parameter(array: np.ndarray) -> nn.Parameter:
    """A parameter with a copy of an array."""
    return nn.Parameter(tensor(array))


def tensor(array: np.ndarray) -> Tensor:
    """A copy of an array, in float32."""
    return torch.from_numpy(np.array(array, dtype=np.float32, order="C"))


def value(layer: Layer, name: str, default: Any = None) -> Any:
    """One value of the configuration; what Keras would take for it where it is absent or null."""
    found = layer.config.get(name)
    return default if found is None else found


def number(layer: Layer, name: str, default: float | None = None) -> float:
    """A finite number.

    Raises:
        ModelError: it is none.
    """
    found = value(layer, name, default)
    if isinstance(found, dict):  # how Keras 2.2 wrote a number that it held as an array
        found = found.get("value")
    if isinstance(found, bool) or not isinstance(found, int | float) or not math.isfinite(found):
        raise ModelError(f"{name} of {title(layer)} must be a number, got {found!r}.")
    return float(found)


def rate(layer: Layer, name: str = "rate") -> float:
    """A part of one.

    Raises:
        ModelError: it is none.
    """
    found = number(layer, name)
    if not 0 <= found <= 1:
        raise ModelError(f"{name} of {title(layer)} must be between 0 and 1, got {found}.")
    return found


def whole(layer: Layer, name: str, default: int | None = None, least: int = 1) -> int:
    """A whole number of at least `least`.

    Raises:
        ModelError: it is none.
    """
    return _whole(layer, name, value(layer, name, default), least)


def sizes(layer: Layer, name: str, rank: int, default: Any = None, least: int = 1) -> tuple[int, ...]:
    """One whole number for each of `rank` axes; one number stands for all.

    Raises:
        ModelError: they are none.
    """
    found = value(layer, name, default)
    parts = [found] * rank if not isinstance(found, list | tuple) else list(found)
    if len(parts) != rank:
        raise ModelError(f"{name} of {title(layer)} must be {rank} numbers, got {found!r}.")
    return tuple(_whole(layer, name, part, least) for part in parts)


def _whole(layer: Layer, name: str, found: Any, least: int) -> int:
    if isinstance(found, bool) or not isinstance(found, int) or found < least:
        raise ModelError(f"{name} of {title(layer)} must be a whole number of at least {least}, got {found!r}.")
    return found


def flag(layer: Layer, name: str, default: bool) -> bool:
    """True or false; 1 and 0 stand for them too, as some have written.

    Raises:
        ModelError: it is neither.
    """
    found = value(layer, name, default)
    if found not in (True, False):
        raise ModelError(f"{name} of {title(layer)} must be true or false, got {found!r}.")
    return bool(found)


def choice(layer: Layer, name: str, known: Sequence[str], default: str | None = None) -> str:
    """One of several words.

    Raises:
        ModelError: it is another.
    """
    found = value(layer, name, default)
    if not isinstance(found, str) or found.lower() not in known:
        raise ModelError(f"{name} of {title(layer)} must be one of {', '.join(known)}, got {found!r}.")
    return found.lower()


def channels_last(layer: Layer) -> bool:
    """Whether the channels are the last axis, and not the first behind the batch."""
    return choice(layer, "data_format", ("channels_last", "channels_first"), "channels_last") == "channels_last"


def input_shape(layer: Layer, rank: int | None = None) -> Shape:
    """The shape of the one tensor that comes in, batch first.

    Args:
        rank: how many axes it must have, the batch among them.

    Raises:
        ModelError: it is another number of tensors or of axes.
    """
    if len(layer.input_shapes) != 1:
        raise ModelError(f"{title(layer)} takes one tensor, got {len(layer.input_shapes)}.")
    shape = layer.input_shapes[0]
    if rank is not None and len(shape) != rank:
        raise ModelError(f"{title(layer)} takes a tensor of {rank} axes, the batch among them; got the shape {shape}.")
    return shape


def axis_size(layer: Layer, shape: Shape, axis: int) -> int:
    """The size of an axis that must be known.

    Raises:
        ModelError: there is no such axis, or its size is open.
    """
    if not -len(shape) <= axis < len(shape):
        raise ModelError(f"{title(layer)} works on axis {axis}, and its input has the shape {shape}.")
    size = shape[axis]
    if size is None:
        raise ModelError(f"{title(layer)} needs a known size of axis {axis}; its input has the shape {shape}.")
    return size


def axes(layer: Layer, name: str, rank: int, default: Any = -1) -> list[int]:
    """The axes that a layer works on, counted from the front, sorted; neither the batch nor one twice.

    Raises:
        ModelError: they are none.
    """
    found = value(layer, name, default)
    parts = list(found) if isinstance(found, list | tuple) else [found]
    if not parts or not all(isinstance(part, int) and not isinstance(part, bool) and -rank <= part < rank for part in parts):
        raise ModelError(f"{name} of {title(layer)} must be axes of an input of {rank} axes, got {found!r}.")
    counted = sorted({part % rank for part in parts})
    if len(counted) != len(parts):
        raise ModelError(f"{name} of {title(layer)} names one axis twice: {found!r}.")
    return counted


def array(layer: Layer, name: str) -> np.ndarray:
    """Numbers that stand in the configuration: one, a list, or the way in which Keras writes an array.

    Raises:
        ModelError: they are no numbers.
    """
    found = value(layer, name)
    if isinstance(found, dict):
        found = found.get("config", {}).get("value") if isinstance(found.get("config"), dict) else found.get("value")
    try:
        numbers = np.asarray(found, dtype=np.float32)
    except (TypeError, ValueError, OverflowError) as error:
        raise ModelError(f"{name} of {title(layer)} must be numbers, got {found!r}.") from error
    if not np.isfinite(numbers).all():
        raise ModelError(f"{name} of {title(layer)} must be finite numbers, got {found!r}.")
    return numbers
