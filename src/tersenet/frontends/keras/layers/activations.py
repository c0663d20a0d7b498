"""Activation functions: by the name that a configuration has, or as the layer that it holds in the place of one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tersenet.errors import ModelError, unknown
from tersenet.frontends.keras.layer import Layer
from tersenet.frontends.keras.layers.arguments import title

OF_KERAS_2 = "keras2>"  # before the name of a function that was another one in Keras 2


def relu(x: Tensor, negative_slope: float = 0.0, max_value: float | None = None, threshold: float = 0.0) -> Tensor:
    """As Keras defines it: max_value where x >= max_value, x where x > threshold, negative_slope * (x - threshold) below."""
    if negative_slope and max_value is None and not threshold:
        return F.leaky_relu(x, negative_slope)
    if threshold:
        above = torch.where(x > threshold, x, 0.0)
        above = above if max_value is None else above.clamp(0.0, max_value)
    elif max_value is None:
        above = F.relu(x)
    else:
        above = F.relu6(x) if max_value == 6 else x.clamp(0.0, max_value)
    return above - negative_slope * F.relu(threshold - x) if negative_slope else above


def soft_shrink(x: Tensor) -> Tensor:
    """x moved towards zero by one half."""
    return F.relu(x - 0.5) - F.relu(-x - 0.5)


def hard_shrink(x: Tensor) -> Tensor:
    """x where it is farther than one half from zero."""
    return torch.where(x.abs() > 0.5, x, 0.0)


def glu(x: Tensor) -> Tensor:
    """The first half of the features, gated by the second (Dauphin et al. 2017, equation 1)."""
    values, gates = x.chunk(2, -1)
    return values * torch.sigmoid(gates)


def sparse_plus(x: Tensor) -> Tensor:
    """The integral of `sparse_sigmoid`: 0 below -1, x above 1, a parabola between."""
    return torch.where(x > -1, torch.where(x < 1, 0.25 * (x + 1) ** 2, x), 0.0)


def sparsemax(x: Tensor) -> Tensor:
    """Sparsemax as Keras computes it, over the last axis.

    The projection onto the simplex (Martins and Astudillo 2016, algorithm 1) takes the sum of the numbers in its support; Keras, on every
    backend, takes the sum of the partial sums of these. A network that was trained with it needs what it was trained with.
    """
    ordered = torch.sort(x, dim=-1, descending=True).values
    sums = torch.cumsum(ordered, -1)
    places = torch.arange(1, x.shape[-1] + 1, dtype=x.dtype)
    within = 1 + places * ordered > sums
    count = within.sum(-1, keepdim=True)
    total = torch.where(within, sums, 0.0).sum(-1, keepdim=True)
    return F.relu(x - (total - 1) / count)


# Every name of keras.activations that needs no argument. Composed where no runtime knows the function as an operator.
ACTIVATIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "celu": F.celu,
    "elu": F.elu,
    "exponential": torch.exp,
    "gelu": F.gelu,
    "glu": glu,
    "hard_shrink": hard_shrink,
    "hard_sigmoid": F.hardsigmoid,
    "hard_silu": F.hardswish,
    "hard_swish": F.hardswish,
    "hard_tanh": F.hardtanh,
    "leaky_relu": lambda x: F.leaky_relu(x, 0.2),
    "linear": lambda x: x,
    "log_sigmoid": lambda x: -F.softplus(-x),
    "log_softmax": lambda x: F.log_softmax(x, -1),
    "mish": F.mish,
    "relu": F.relu,
    "relu6": F.relu6,
    "selu": F.selu,
    "sigmoid": torch.sigmoid,
    "silu": F.silu,
    "soft_shrink": soft_shrink,
    "softmax": lambda x: F.softmax(x, -1),
    "softplus": F.softplus,
    "softsign": lambda x: x / (x.abs() + 1),
    "sparse_plus": sparse_plus,
    "sparse_sigmoid": lambda x: (0.5 * x + 0.5).clamp(0.0, 1.0),
    "sparsemax": sparsemax,
    "squareplus": lambda x: (x + torch.sqrt(x**2 + 4)) / 2,
    "swish": F.silu,
    "tanh": torch.tanh,
    "tanh_shrink": lambda x: x - torch.tanh(x),
    # Keras 2 wrote other functions under names that Keras 3 has too, and other names for functions that are the same.
    OF_KERAS_2 + "hard_sigmoid": lambda x: (0.2 * x + 0.5).clamp(0.0, 1.0),
    "softmax_v2": lambda x: F.softmax(x, -1),
}


class Function(nn.Module):
    """A function of one tensor, with nothing to learn."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def mark_keras_2(config: Any) -> None:
    """Give each activation in a configuration of Keras 2 that was another function there the name that it has here; changes it in place."""
    waiting = [config]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            for name in ("activation", "recurrent_activation"):
                if isinstance(part.get(name), str) and OF_KERAS_2 + part[name] in ACTIVATIONS:
                    part[name] = OF_KERAS_2 + part[name]
        if isinstance(part, dict | list):
            waiting.extend(part.values() if isinstance(part, dict) else part)


def activation(found: Any) -> nn.Module:
    """The activation that a configuration names.

    Args:
        found: a name, null, or a serialized function (``{"class_name": "function", "config": name}``).

    Raises:
        ModelError: there is no such activation.
    """
    if isinstance(found, Mapping) and found.get("class_name") == "function":
        found = found.get("config")
    if found is None or found == "linear":
        return nn.Identity()
    if isinstance(found, str):
        return _named(found)
    raise ModelError(f"an activation must be a name, got {str(found)[:200]}.")


def _named(name: str) -> nn.Module:
    function = ACTIVATIONS.get(name)
    if function is None:
        known = [each for each in ACTIVATIONS if not each.startswith(OF_KERAS_2)]
        raise ModelError(unknown("activation", name, known))
    return Function(function)


def activation_of(layer: Layer) -> nn.Module:
    """The activation of a layer that has one in its configuration: a name, or a layer with variables of its own.

    Raises:
        ModelError: there is no such activation; the message names the layer.
    """
    found = layer.config.get("activation")
    if isinstance(found, Mapping) and isinstance(found.get("config"), Mapping):
        return layer.inner(found, "activation", ())
    try:
        return activation(found)
    except ModelError as error:
        raise ModelError(f"{title(layer)}: {error}") from error
