"""ConvLSTM1D, ConvLSTM2D, ConvLSTM3D: an LSTM whose products are convolutions (Shi et al. 2015, without peepholes)."""

from __future__ import annotations

from torch import Tensor, nn

from tersenet.errors import ModelError
from tersenet.frontends.keras.layer import Layer, Weights
from tersenet.frontends.keras.layers.activations import activation
from tersenet.frontends.keras.layers.arguments import channels_last, flag, title, value, whole
from tersenet.frontends.keras.layers.cells import Cell, States
from tersenet.frontends.keras.layers.convolution import convolution
from tersenet.frontends.keras.layers.recurrent import Recurrent, Steps


class ConvolutionalCell(Cell):
    """Gates in the order input, forget, cell, output.

    Args:
        inside, across: convolutions of the input and of the state to all gates, in the layout of the layer.
        axis: of the channels.
    """

    def __init__(self, inside: nn.Module, across: nn.Module, axis: int, activations: tuple[nn.Module, nn.Module]) -> None:
        super().__init__()
        self.inside, self.across, self.axis = inside, across, axis
        self.activation, self.gate = activations

    def prepare(self, x: Tensor) -> Tensor:
        made = self.inside(x.flatten(0, 1))
        return made.reshape(-1, x.shape[1], *made.shape[1:])

    def begin(self, x: Tensor) -> States:
        made = self.inside(x[:, 0])
        sizes = list(made.shape[1:])
        sizes[self.axis - 1 if self.axis > 0 else self.axis] //= 4
        return [x.new_zeros((x.shape[0], *sizes)) for _ in range(2)]

    def step(self, x: Tensor, states: States) -> tuple[Tensor, States]:
        hidden, cell = states
        i, f, c, o = (x + self.across(hidden)).chunk(4, self.axis)
        cell = self.gate(f) * cell + self.gate(i) * self.activation(c)
        hidden = self.gate(o) * self.activation(cell)
        return hidden, [hidden, cell]


def _layer(layer: Layer, rank: int) -> nn.Module:
    if not layer.input_shapes or len(layer.input_shapes[0]) != rank + 3:
        raise ModelError(f"{title(layer)} takes sequences of tensors of {rank + 1} axes, got the shapes {layer.input_shapes}.")
    held = layer.weights.children.get("cell", layer.weights).own
    biased, filters = flag(layer, "use_bias", True), whole(layer, "filters")
    if len(held) != 2 + biased:
        raise ModelError(f"{title(layer)} must have {2 + biased} variables by its configuration, and the file has {len(held)}.")
    batch, _, *step = layer.input_shapes[0]
    config = {**layer.config, "filters": 4 * filters, "activation": "linear", "groups": 1}
    inside = convolution(Layer(f"Conv{rank}D", layer.name, config, Weights((held[0], *held[2:])), ((batch, *step),)), rank)
    axis = -1 if channels_last(layer) else 1
    step[axis if axis < 0 else 0] = filters
    plain = {**config, "strides": 1, "dilation_rate": 1, "padding": "same", "use_bias": False}
    across = convolution(Layer(f"Conv{rank}D", layer.name, plain, Weights((held[1],)), ((batch, *step),)), rank)
    activations = (activation(value(layer, "activation", "linear")), activation(value(layer, "recurrent_activation", "sigmoid")))
    return Recurrent(Steps(ConvolutionalCell(inside, across, axis, activations)), layer)


def convolutional1d(layer: Layer) -> nn.Module:
    """``ConvLSTM1D``."""
    return _layer(layer, 1)


def convolutional2d(layer: Layer) -> nn.Module:
    """``ConvLSTM2D``."""
    return _layer(layer, 2)


def convolutional3d(layer: Layer) -> nn.Module:
    """``ConvLSTM3D``."""
    return _layer(layer, 3)
