"""Which variables of a wrapper of the TensorFlow Model Optimization toolkit are what: by their names in the flat form of files, by their
order in the tree that ``.keras`` archives store."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tersenet.frontends.keras.layer import Weights

PRUNED, QUANTIZED, ANNOTATED, INPUT = "PruneLowMagnitude", ("QuantizeWrapperV2", "QuantizeWrapper"), "QuantizeAnnotate", "QuantizeLayer"
WRAPPERS = {PRUNED, *QUANTIZED, ANNOTATED, INPUT}
_OWN = {PRUNED: r"(mask|threshold|pruning_step)", **dict.fromkeys(QUANTIZED, r"(optimizer_step|\w+_min|\w+_max)"), INPUT: r"\w+", ANNOTATED: r"$^"}
# Activations whose inputs, and whose results, are rounded (quantize_aware_activation.py).
_ROUNDED_BEFORE = {"softmax", "sigmoid", "tanh", "gelu"}
_ROUNDED_AFTER = {"linear", "relu", "swish", "gelu"}

# The weight that a mask is of, where the file says which it is, and the mask.
Masked = tuple[np.ndarray | None, np.ndarray]


def split(kind: str, names: Sequence[str]) -> tuple[dict[str, list[int]], list[int]]:
    """Which of a wrapper's variables are its own, by the last part of their names, and which are those of the layer inside it.

    >>> split("PruneLowMagnitude", ["d/kernel:0", "d/bias:0", "p/mask:0", "p/threshold:0", "p/pruning_step:0"])
    ({'mask': [2], 'threshold': [3], 'pruning_step': [4]}, [0, 1])
    """
    own: dict[str, list[int]] = {}
    rest = []
    for place, name in enumerate(names):
        last = name.rpartition("/")[2].partition(":")[0]
        found = re.fullmatch(rf"{_OWN[kind]}(_\d+)?", last)
        if found:
            own.setdefault(found[1] if kind == PRUNED else last, []).append(place)
        else:
            rest.append(place)
    if kind == QUANTIZED[1]:  # the first version listed the weights that it rounds after those that it does not
        rest.sort(key=lambda place: names[place].rpartition("/")[2].startswith("bias"))
    return own, rest


def masks(own: Sequence[np.ndarray]) -> list[Masked]:
    """Each mask of a pruned layer, and the weight that it is of, of the variables that an archive has for the wrapper.

    They are the weights that are pruned, a mask and a threshold (one number) for each, and a count of steps.

    >>> kernel, mask, threshold, step = np.ones((2, 3)), np.eye(2, 3), np.float32(0.5), np.int64(9)
    >>> [(weight.sum(), mask.sum()) for weight, mask in masks([kernel, mask, threshold, step])]
    [(6.0, 2.0)]
    """
    found = [place for place, array in enumerate(own[1:]) if not array.ndim and own[place].ndim]
    pruned = own[: found[0]] if found else []
    weights = pruned if len(pruned) == len(found) else [None] * len(found)
    return [(weight, own[place]) for weight, place in zip(weights, found, strict=True)]


@dataclass(frozen=True)
class Quantized:
    """What an archive has of a layer within a `QuantizeWrapperV2`, told apart.

    Args:
        variables: of the layer inside, in the order in which it made them.
        ranges: ``output_min`` and others -> one number.
    """

    variables: tuple[np.ndarray, ...]
    ranges: Mapping[str, np.ndarray]


def quantized(weights: Weights, activation: Any) -> Quantized:
    """A wrapped layer's variables, and the ranges that were learned for what it returns.

    The wrapper stores, in this order: the variables of the layer that learn, those of them that it rounds once more, a count of steps, and
    pairs of ends: for each weight that it rounds, before and after the activation, for what the layer returns. The layer itself has lost
    the weights that are rounded, for others stand in their places, and keeps the rest.

    Args:
        weights: of the wrapper, with the layer's own at ``layer``.
        activation: as the layer's configuration has it.
    """
    step = next((place for place, array in enumerate(weights.own) if not array.ndim and array.dtype.kind in "iu"), len(weights.own))
    ours = list({_content(array): array for array in weights.own[:step]}.values())
    inside = _opened(weights.children.get("layer", Weights()))
    kept = {_content(array) for array in inside}
    rounded = [array for array in ours if _content(array) not in kept]
    ends = weights.own[step + 1 :]
    pairs = list(zip(ends[::2], ends[1::2], strict=False))[len(rounded) :]
    return Quantized((*ours, *_without(inside, ours)), _named(pairs, activation))


def _without(arrays: Sequence[np.ndarray], others: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The arrays, less the first that is equal to each of the others."""
    counts = Counter(_content(array) for array in others)
    left = []
    for array in arrays:
        content = _content(array)
        if counts[content]:
            counts[content] -= 1
        else:
            left.append(array)
    return left


def _named(pairs: Sequence[tuple[np.ndarray, np.ndarray]], activation: Any) -> dict[str, np.ndarray]:
    """The pairs by the names that the flat form has for them; none where they are more or fewer than the toolkit's own classes make."""
    names = []
    if isinstance(activation, Mapping) and activation.get("class_name") == "QuantizeAwareActivation":
        inner = activation["config"].get("activation")
        inner = inner if isinstance(inner, str) else ""  # no name: NoOpActivation, which is not rounded
        names = [name for name, kinds in (("pre_activation", _ROUNDED_BEFORE), ("post_activation", _ROUNDED_AFTER)) if inner in kinds]
    names += ["output"] * (len(pairs) - len(names))
    if len(set(names)) != len(pairs):
        return {}
    return {f"{name}_{end}": array for name, pair in zip(names, pairs, strict=True) for end, array in zip(("min", "max"), pair, strict=True)}


def _opened(weights: Weights) -> list[np.ndarray]:
    """Every array of a tree."""
    return [*weights.own, *(array for child in weights.children.values() for array in _opened(child))]


def _content(array: np.ndarray) -> tuple[tuple[int, ...], bytes]:
    return array.shape, array.tobytes()
