"""Dense, EinsumDense, Embedding, ReversibleEmbedding, Identity, Masking."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tersenet.errors import ModelError
from tersenet.frontends.keras.layer import Layer
from tersenet.frontends.keras.layers.activations import activation_of
from tersenet.frontends.keras.layers.arguments import axis_size, flag, input_shape, number, parameter, title, value, variables, whole


def identity(layer: Layer) -> nn.Module:
    """``Identity``, and what a network begins with."""
    return nn.Identity()


class Linear(nn.Module):
    """y = activation(x W^T + b) over the last axis.

    Args:
        weight: (outputs, inputs).
    """

    def __init__(self, weight: nn.Parameter, bias: nn.Parameter | None, activation: nn.Module) -> None:
        super().__init__()
        self.weight = weight
        self.bias = bias
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(F.linear(x, self.weight, self.bias))


def dense(layer: Layer) -> nn.Module:
    """``Dense``, over the last axis of a tensor of any rank."""
    units, inputs = whole(layer, "units"), axis_size(layer, input_shape(layer), -1)
    biased = flag(layer, "use_bias", True)
    kernel, *bias = variables(layer, (inputs, units), *[(units,)] * biased)
    return Linear(parameter(kernel.T), parameter(bias[0]) if biased else None, activation_of(layer))


class FoldedLinear(nn.Module):
    """A linear layer from several last axes to several: heads of attention, joined and split.

    Args:
        weight: (product of the outputs, product of the inputs).
        bias: as Keras adds it to the result.
        inputs: how many last axes are summed over.
        outputs: the sizes that come in their place.
    """

    def __init__(self, weight: nn.Parameter, bias: nn.Parameter | None, inputs: int, outputs: tuple[int, ...], activation: nn.Module) -> None:
        super().__init__()
        whole = bias is not None and tuple(bias.shape) == outputs
        self.weight = weight
        self.bias = nn.Parameter(bias.detach().reshape(-1)) if whole and bias is not None else bias
        self.fused = whole
        self.inputs = inputs
        self.outputs = outputs
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        flat = x.flatten(x.dim() - self.inputs) if self.inputs > 1 else x
        result = F.linear(flat, self.weight, self.bias if self.fused else None)
        if len(self.outputs) != 1:
            result = result.reshape(*result.shape[:-1], *self.outputs)
        return self.activation(result if self.bias is None or self.fused else result + self.bias)


class Einsum(nn.Module):
    """A product that is no matrix product over last axes.

    Args:
        weight: as Keras has it.
    """

    def __init__(self, equation: str, weight: nn.Parameter, bias: nn.Parameter | None, activation: nn.Module) -> None:
        super().__init__()
        self.equation = equation
        self.weight = weight
        self.bias = bias
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        result = torch.einsum(self.equation, x, self.weight)
        return self.activation(result if self.bias is None else result + self.bias)


def einsum_dense(layer: Layer) -> nn.Module:
    """``EinsumDense``: a linear layer where the equation sums over the last axes of the input and the first of the kernel."""
    equation = str(value(layer, "equation", "")).replace(" ", "")
    left, arrow, result = equation.partition("->")
    of_input, comma, of_kernel = left.partition(",")
    if not arrow or not comma or "." in of_kernel or len(set(of_kernel)) != len(of_kernel):
        raise ModelError(f"equation of {title(layer)} must be such as 'abc,cd->abd', got {equation!r}.")
    biased = value(layer, "bias_axes") is not None
    rank_of_bias = layer.weights.own[-1].ndim if layer.weights.own else 0
    kernel, *bias = variables(layer, (None,) * len(of_kernel), *[(None,) * rank_of_bias] * biased)
    _check_sizes(layer, of_input, of_kernel, kernel)
    added = parameter(bias[0]) if biased else None
    summed = "".join(label for label in of_kernel if label not in result)
    kept = of_kernel[len(summed) :]
    if of_kernel.startswith(summed) and of_input.endswith(summed) and result == of_input[: len(of_input) - len(summed)] + kept and summed:
        outputs = kernel.shape[len(summed) :]
        matrix = parameter(kernel.reshape(math.prod(kernel.shape[: len(summed)]), -1).T)
        return FoldedLinear(matrix, added, len(summed), outputs, activation_of(layer))
    return Einsum(equation, parameter(kernel), added, activation_of(layer))


def _check_sizes(layer: Layer, of_input: str, of_kernel: str, kernel: np.ndarray) -> None:
    """Axes of one label must be of one size."""
    shape = input_shape(layer)
    before, dots, behind = of_input.partition("...")
    places = {label: place for place, label in enumerate(before)}
    places |= {label: place - len(behind) for place, label in enumerate(behind)} if dots else {}
    for label, size in zip(of_kernel, kernel.shape, strict=True):
        if label in places and axis_size(layer, shape, places[label]) != size:
            raise ModelError(f"{title(layer)} has a kernel of the shape {kernel.shape}, which does not fit its input {shape}.")


class Embedding(nn.Module):
    """Rows of a table.

    Args:
        weight: (rows, features).
        masks: row 0 stands for padding.
    """

    def __init__(self, weight: nn.Parameter, masks: bool) -> None:
        super().__init__()
        self.weight = weight
        self.masks = masks

    def forward(self, x: Tensor) -> Tensor:
        return F.embedding(x.to(torch.int32) if x.is_floating_point() else x, self.weight)

    def output_mask(self, x: Tensor, mask: Tensor | None = None) -> Tensor | None:
        return x != 0 if self.masks else None


def embedding(layer: Layer) -> nn.Module:
    """``Embedding``."""
    (table,) = variables(layer, (whole(layer, "input_dim"), whole(layer, "output_dim")))
    return Embedding(parameter(table), flag(layer, "mask_zero", False))


def reversible_embedding(layer: Layer) -> nn.Module:
    """``ReversibleEmbedding`` in the direction from words to features."""
    rows, features = whole(layer, "input_dim"), whole(layer, "output_dim")
    table, *_ = variables(layer, (rows, features), *[(features, rows)] * (not flag(layer, "tie_weights", True)))
    return Embedding(parameter(table), flag(layer, "mask_zero", False))


class Masking(nn.Module):
    """Zeros for the steps all of whose features are a given value."""

    def __init__(self, mask_value: float) -> None:
        super().__init__()
        self.mask_value = mask_value

    def forward(self, x: Tensor) -> Tensor:
        return torch.where(self.output_mask(x).unsqueeze(-1), x, 0)

    def output_mask(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        return (x != self.mask_value).float().amax(-1) > 0  # no runtime here has an "any"


def masking(layer: Layer) -> nn.Module:
    """``Masking``."""
    return Masking(number(layer, "mask_value", 0.0))
