"""Networks that the TensorFlow Model Optimization toolkit has wrapped: the wrapper goes, and what it had learned stays beside the network.

``prune_low_magnitude`` keeps a mask for each pruned weight; ``quantize_model`` keeps the range of each activation, which it rounds
to an 8-bit grid. Its names and configurations are those of tensorflow/model-optimization (pruning_wrapper.py, quantize_wrapper.py,
quantize_layer.py, quantize_aware_activation.py).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from tersenet.errors import ModelError
from tersenet.frontends.keras.layer import Layer, Weights
from tersenet.numerics.affine import encode
from tersenet.schemes import Scheme

PRUNED, QUANTIZED, ANNOTATED, INPUT = "PruneLowMagnitude", ("QuantizeWrapperV2", "QuantizeWrapper"), "QuantizeAnnotate", "QuantizeLayer"
WRAPPERS = {PRUNED, *QUANTIZED, ANNOTATED, INPUT}
_PREFIXES = ("prune_low_magnitude_", "quant_", "quantize_annotate_")
_OWN = {PRUNED: r"(mask|threshold|pruning_step)", **dict.fromkeys(QUANTIZED, r"(optimizer_step|\w+_min|\w+_max)"), INPUT: r"\w+", ANNOTATED: r"$^"}
# Where a wrapper rounds what the layer returns; the range of what goes into the activation is not the range of any value of the float network.
_RANGES = ("output", "post_activation")


def is_wrapper(layer: Any) -> bool:
    """Whether a layer, or a description of one, is a wrapper of that toolkit."""
    return layer.kind in WRAPPERS


def plain_name(layer: Any) -> str:
    """The name of the layer inside a wrapper; of any other layer, its own."""
    inner = layer.config.get("layer")
    if layer.kind in WRAPPERS and isinstance(inner, Mapping) and isinstance(inner.get("config"), Mapping):
        return str(inner["config"].get("name") or layer.name)
    return str(layer.name)


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


def stripped(layer: Layer) -> torch.nn.Module:
    """The module of the layer inside a wrapper.

    Raises:
        ModelError: the layer inside cannot be converted, or a mask fits none of its weights.
    """
    if layer.kind == INPUT:
        low, high = _range(layer.weights, [name.removesuffix("_min") for name in layer.weights.children if name.endswith("_min")])
        return torch.nn.Identity() if low is None else rounded(torch.nn.Identity(), low, high)
    entry = _plain(layer.config.get("layer"))
    inside = layer.inner(entry, "layer", layer.input_shapes)
    if layer.kind == PRUNED:
        return _pruned(layer, entry, inside)
    low, high = _range(layer.weights, _RANGES)
    return inside if low is None else rounded(inside, low, high)


def rounded(module: torch.nn.Module, low: float, high: float) -> torch.nn.Module:
    """The module with its result on an 8-bit grid: the mark that this leaves in the traced graph becomes an annotation."""
    grid = encode(low, high, Scheme("int8"))

    def mark(_: torch.nn.Module, __: Any, result: torch.Tensor) -> torch.Tensor:
        return torch.fake_quantize_per_tensor_affine(result, grid.scale[0], grid.zero_point[0], -128, 127)

    module.register_forward_hook(mark)  # no module around it: parameters keep their names
    return module


def _range(weights: Weights, names: Sequence[str]) -> tuple[Any, Any]:
    """The learned range of the first of the names that has one."""
    for name in names:
        ends = [weights.children.get(f"{name}_{end}") for end in ("min", "max")]
        if all(end is not None and len(end.own) == 1 and end.own[0].size == 1 for end in ends):
            low, high = (float(end.own[0].reshape(())) for end in ends)  # type: ignore[union-attr]
            if np.isfinite([low, high]).all() and low < high:
                return low, high
    return None, None


def _plain(entry: Any) -> Any:
    """A layer's serialized form without the toolkit's activations, which round what the activation inside them returns."""
    if not isinstance(entry, Mapping) or not isinstance(entry.get("config"), Mapping):
        raise ModelError("a wrapper must hold the configuration of the layer inside it")
    config = dict(entry["config"])
    activation = config.get("activation")
    while isinstance(activation, Mapping) and activation.get("class_name") == "QuantizeAwareActivation":
        activation = activation["config"].get("activation")
    if isinstance(activation, Mapping) and activation.get("class_name") == "NoOpActivation":
        activation = "linear"
    if "activation" in config:
        config["activation"] = activation
    return {**entry, "config": config}


def _pruned(layer: Layer, entry: Any, inside: torch.nn.Module) -> torch.nn.Module:
    """The layer with its pruned weights at zero, and the masks in the form of its parameters: they take the same way as the weights."""
    held = layer.weights.children.get("mask")
    masks = [array for array in (held.own if held is not None else layer.weights.own) if array.ndim]
    if not masks:
        return inside
    left = list(masks)
    ones = _masked(layer.weights.children.get("layer", Weights()), left)
    if left:
        raise ModelError(f"{layer.name!r} has a mask of shape {left[0].shape}, and no weight of that shape")
    children = {**layer.weights.children, "layer": ones}
    alive = dict(replace(layer, weights=Weights((), children)).inner(entry, "layer", layer.input_shapes).named_parameters())
    found = {}
    with torch.no_grad():
        for name, parameter in inside.named_parameters():
            mask = alive[name] != 0
            if not bool(mask.all()):
                parameter.mul_(mask)
                found[name] = mask.numpy()
    inside.pruned = found  # type: ignore[assignment]
    return inside


def _masked(weights: Weights, left: list[np.ndarray]) -> Weights:
    """The tree with each mask in the place of the weight that it is of, ones elsewhere; masks that are used leave the list."""
    own = []
    for array in weights.own:
        place = next((place for place, mask in enumerate(left) if mask.shape == array.shape), None)
        own.append(np.ones_like(array) if place is None else (left.pop(place) != 0).astype(np.float32))
    return Weights(tuple(own), {name: _masked(child, left) for name, child in weights.children.items()})


def masks_of(network: torch.nn.Module) -> dict[str, np.ndarray]:
    """Name of a parameter -> its mask, of every pruned layer of a network."""
    return {
        f"{path}.{name}" if path else name: mask for path, module in network.named_modules() for name, mask in getattr(module, "pruned", {}).items()
    }
