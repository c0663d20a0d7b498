"""Networks that the TensorFlow Model Optimization toolkit has wrapped: the wrapper goes, and what it had learned stays beside the network.

``prune_low_magnitude`` keeps a mask for each pruned weight; ``quantize_model`` keeps the range of each activation, which it rounds
to an 8-bit grid. Its names and configurations are those of tensorflow/model-optimization (pruning_wrapper.py, quantize_wrapper.py,
quantize_layer.py, quantize_aware_activation.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from tersenet.errors import ModelError
from tersenet.frontends.keras.layer import Layer, Weights
from tersenet.frontends.keras.weights import Entry, grouped
from tersenet.frontends.keras.wrapped_variables import INPUT, PRUNED, QUANTIZED, WRAPPERS, Masked, masks, quantized
from tersenet.numerics.affine import encode
from tersenet.schemes import Scheme

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


def stripped(layer: Layer) -> torch.nn.Module:
    """The module of the layer inside a wrapper.

    Raises:
        ModelError: the layer inside cannot be converted, or a mask fits none of its weights.
    """
    if layer.kind == INPUT:
        low, high = _range(*_ends_of_input(layer.weights))
        return torch.nn.Identity() if low is None else rounded(torch.nn.Identity(), low, high)
    entry = _plain(layer.config.get("layer"))
    if layer.kind in QUANTIZED and layer.weights.own:
        layer = replace(layer, weights=_of_archive(layer.weights, layer.config["layer"]))
    inside = layer.inner(entry, "layer", layer.input_shapes)
    if layer.kind == PRUNED:
        return _pruned(layer, entry, inside)
    low, high = _range(*(_ends(layer.weights, name) for name in _RANGES))
    return inside if low is None else rounded(inside, low, high)


def _of_archive(weights: Weights, entry: Mapping[str, Any]) -> Weights:
    """What an archive has of a quantized layer as the flat form has it."""
    found = quantized(weights, entry["config"].get("activation"))
    inside = grouped(entry, [Entry("", lambda array=array: array) for array in found.variables])  # type: ignore[misc]
    return Weights((), {"layer": inside, **{name: Weights((array,)) for name, array in found.ranges.items()}})


def rounded(module: torch.nn.Module, low: float, high: float) -> torch.nn.Module:
    """The module with its result on an 8-bit grid: the mark that this leaves in the traced graph becomes an annotation."""
    grid = encode(low, high, Scheme("int8"))

    def mark(_: torch.nn.Module, __: Any, result: torch.Tensor) -> torch.Tensor:
        return torch.fake_quantize_per_tensor_affine(result, grid.scale[0], grid.zero_point[0], -128, 127)

    module.register_forward_hook(mark)  # no module around it: parameters keep their names
    return module


def _ends(weights: Weights, name: str) -> list[np.ndarray]:
    """The ends of a learned range, as far as they are there."""
    return [array for end in ("min", "max") for array in weights.children.get(f"{name}_{end}", Weights()).own]


def _ends_of_input(weights: Weights) -> list[list[np.ndarray]]:
    """Those of a layer that rounds the network's input; an archive has them before a count of steps."""
    if weights.own:
        return [list(weights.own[:-1])]
    return [_ends(weights, name.removesuffix("_min")) for name in weights.children if name.endswith("_min")]


def _range(*ranges: Sequence[np.ndarray]) -> tuple[Any, Any]:
    """The first of the ranges that is one: two finite numbers, of which the second is larger."""
    for ends in ranges:
        if len(ends) == 2 and all(end.size == 1 for end in ends):
            low, high = (float(end.reshape(())) for end in ends)
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
    left: list[Masked] = [(None, mask) for mask in held.own] if held is not None else masks(layer.weights.own)
    if not left:
        return inside
    ones = _masked(layer.weights.children.get("layer", Weights()), left)
    if left:
        raise ModelError(f"{layer.name!r} has a mask of shape {left[0][1].shape}, and no weight of that shape")
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


def _masked(weights: Weights, left: list[Masked]) -> Weights:
    """The tree with each mask in the place of the weight that it is of, ones elsewhere; masks that are used leave the list."""
    own = []
    for array in weights.own:
        place = next((place for place, masked in enumerate(left) if _is_of(masked, array)), None)
        own.append(np.ones_like(array) if place is None else (left.pop(place)[1] != 0).astype(np.float32))
    return Weights(tuple(own), {name: _masked(child, left) for name, child in weights.children.items()})


def _is_of(masked: Masked, array: np.ndarray) -> bool:
    weight, mask = masked
    return mask.shape == array.shape and (weight is None or np.array_equal(weight, array))


def masks_of(network: torch.nn.Module) -> dict[str, np.ndarray]:
    """Name of a parameter -> its mask, of every pruned layer of a network."""
    return {
        f"{path}.{name}" if path else name: mask for path, module in network.named_modules() for name, mask in getattr(module, "pruned", {}).items()
    }
