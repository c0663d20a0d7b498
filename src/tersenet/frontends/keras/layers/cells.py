"""One step of recurrent layers: what runs where no operator takes a whole sequence (other activations, cells of cells)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tersenet.errors import ModelError
from tersenet.frontends.keras.layer import Layer, Weights
from tersenet.frontends.keras.layers.activations import activation
from tersenet.frontends.keras.layers.arguments import flag, parameter, title, value, variables, whole
from tersenet.frontends.keras.weights import stored_names

States = list[Tensor]


class Cell(nn.Module):
    """A step: an input and states in, an output and states out.

    Args:
        sizes: of each state, per sample.
    """

    sizes: tuple[tuple[int, ...], ...]

    def prepare(self, x: Tensor) -> Tensor:
        """What can be computed for the whole sequence (batch, time, ...) at once, before the steps."""
        return x

    def begin(self, x: Tensor) -> States:
        """The states before the first step of (batch, time, ...): zeros."""
        return [x.new_zeros((x.shape[0], *size)) for size in self.sizes]

    def step(self, x: Tensor, states: States) -> tuple[Tensor, States]:
        """One step, of what `prepare` gave."""
        raise NotImplementedError


class Gated(Cell):
    """A cell of dense gates: weight_x (gates * units, inputs), weight_h (gates * units, units), bias_x and bias_h or None."""

    def __init__(self, units: int, states: int, matrices: Sequence[np.ndarray], activations: Sequence[nn.Module]) -> None:
        super().__init__()
        kernel, recurrent, *biases = matrices
        self.units = units
        self.sizes = ((units,),) * states
        self.weight_x, self.weight_h = parameter(kernel.T), parameter(recurrent.T)
        rows = [row.reshape(-1) for bias in biases for row in (bias if bias.ndim == 2 else bias[None])]
        self.bias_x = parameter(rows[0]) if rows else None
        self.bias_h = parameter(rows[1]) if len(rows) > 1 else None
        self.activation, self.gate = activations

    def prepare(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight_x, self.bias_x)


class LSTMCell(Gated):
    """Gates in the order input, forget, cell, output (Hochreiter and Schmidhuber 1997, as Keras writes it)."""

    def step(self, x: Tensor, states: States) -> tuple[Tensor, States]:
        hidden, cell = states
        i, f, c, o = (x + F.linear(hidden, self.weight_h, self.bias_h)).chunk(4, -1)
        cell = self.gate(f) * cell + self.gate(i) * self.activation(c)
        hidden = self.gate(o) * self.activation(cell)
        return hidden, [hidden, cell]


class GRUCell(Gated):
    """Gates in the order update, reset, new (Cho et al. 2014); the reset gate before the product with the state, or after it."""

    reset_after = False

    def step(self, x: Tensor, states: States) -> tuple[Tensor, States]:
        (hidden,) = states
        x_z, x_r, x_h = x.chunk(3, -1)
        if self.reset_after:
            h_z, h_r, h_h = F.linear(hidden, self.weight_h, self.bias_h).chunk(3, -1)
            new = x_h + self.gate(x_r + h_r) * h_h
        else:
            h_z, h_r = F.linear(hidden, self.weight_h[: 2 * self.units]).chunk(2, -1)
            new = x_h + F.linear(self.gate(x_r + h_r) * hidden, self.weight_h[2 * self.units :])
        update = self.gate(x_z + h_z)
        hidden = update * hidden + (1 - update) * self.activation(new)
        return hidden, [hidden]


class SimpleCell(Gated):
    """activation(W x + U h + b)."""

    def step(self, x: Tensor, states: States) -> tuple[Tensor, States]:
        hidden = self.activation(x + F.linear(states[0], self.weight_h))
        return hidden, [hidden]


class Stacked(Cell):
    """Cells one above the other."""

    def __init__(self, cells: Sequence[Cell]) -> None:
        super().__init__()
        self.cells = nn.ModuleList(cells)
        self.sizes = tuple(size for cell in cells for size in cell.sizes)

    def step(self, x: Tensor, states: States) -> tuple[Tensor, States]:
        left, after = list(states), []
        for cell in self.cells:
            own, left = left[: len(cell.sizes)], left[len(cell.sizes) :]  # type: ignore[arg-type]
            x, new = cell.step(cell.prepare(x), own)  # type: ignore[operator]
            after += new
        return x, after


GATES = {"LSTM": 4, "GRU": 3, "SimpleRNN": 1}
_CELLS: dict[str, tuple[type[Gated], int]] = {"LSTM": (LSTMCell, 2), "GRU": (GRUCell, 1), "SimpleRNN": (SimpleCell, 1)}


def gated_matrices(layer: Layer, kind: str, weights: Weights, inputs: int) -> list[np.ndarray]:
    """Kernel, recurrent kernel and bias of a cell of dense gates, checked.

    Raises:
        ModelError: they do not fit the configuration.
    """
    units, biased = whole(layer, "units"), flag(layer, "use_bias", True)
    wide = GATES[kind] * units
    held = Layer(layer.kind, layer.name, layer.config, weights)
    bias = weights.own[-1].ndim if weights.own and biased else 0
    shapes: list[tuple[int | None, ...]] = [(inputs, wide), (units, wide)]
    if biased:
        shapes.append((2, wide) if bias == 2 and kind == "GRU" else (wide,))
    return variables(held, *shapes)


def resets_after(layer: Layer, matrices: Sequence[np.ndarray]) -> bool:
    """Whether a GRU has its reset gate after the product: said, or told by its two biases."""
    return flag(layer, "reset_after", len(matrices) < 3 or matrices[2].ndim == 2)


def gated(layer: Layer, kind: str, weights: Weights, inputs: int) -> Gated:
    """The cell of an LSTM, a GRU or a simple recurrent layer, whose configuration is `layer`'s."""
    matrices = gated_matrices(layer, kind, weights, inputs)
    made, states = _CELLS[kind]
    gate = activation(value(layer, "recurrent_activation", "sigmoid")) if kind != "SimpleRNN" else nn.Identity()
    cell = made(whole(layer, "units"), states, matrices, (activation(value(layer, "activation", "linear")), gate))
    if isinstance(cell, GRUCell):
        cell.reset_after = resets_after(layer, matrices)
        if cell.reset_after is (cell.bias_h is None) and cell.bias_x is not None:
            raise ModelError(f"{title(layer)} must have {'two biases' if cell.reset_after else 'one bias'} by its reset_after.")
    return cell


def cell_of(layer: Layer, entry: Any, weights: Weights, inputs: int) -> Cell:
    """The cell that an RNN layer holds.

    Args:
        entry: its serialized form.
        inputs: size of a step of the sequence.

    Raises:
        ModelError: it is none of Keras's cells.
    """
    if not isinstance(entry, dict) or not isinstance(entry.get("config"), dict):
        raise ModelError(f"{title(layer)} must hold the configuration of its cell.")
    kind, config = str(entry.get("class_name")), entry["config"]
    if kind == "StackedRNNCells" and isinstance(config.get("cells"), list):
        held = weights.children.get("cells", Weights())
        cells: list[Cell] = []
        for each, name in zip(config["cells"], stored_names([str(each.get("class_name")) for each in config["cells"]]), strict=True):
            cells.append(cell_of(layer, each, held.children.get(name, Weights()), inputs))
            inputs = cells[-1].sizes[0][0]
        return Stacked(cells)
    if kind.removesuffix("Cell") not in GATES or entry.get("registered_name"):
        raise ModelError(f"{title(layer)} has a cell of kind {kind}, which is none of LSTMCell, GRUCell, SimpleRNNCell, StackedRNNCells.")
    return gated(Layer(kind, f"{layer.name}/{config.get('name', kind)}", config), kind.removesuffix("Cell"), weights, inputs)


class Stepwise(Protocol):
    """What can be run step by step."""

    def prepare(self, x: Tensor) -> Tensor:
        """What can be computed for the whole sequence at once."""

    def step(self, x: Tensor, states: States) -> tuple[Tensor, States]:
        """One step: its output and the states after it."""


def unrolled(cell: Stepwise, x: Tensor, states: States, mask: Tensor | None) -> tuple[Tensor, States]:
    """Run a cell step by step over (batch, time, ...); a masked step leaves the states as they are and repeats the output before it.

    Returns:
        The outputs (batch, time, ...) and the last states.
    """
    prepared, outputs = cell.prepare(x), []
    before: Tensor | None = None
    for time in range(x.shape[1]):
        output, after = cell.step(prepared[:, time], states)
        if mask is not None:
            alive = mask[:, time]
            last = torch.zeros_like(output) if before is None else before
            output = torch.where(_over(alive, output), output, last)
            after = [torch.where(_over(alive, new), new, old) for new, old in zip(after, states, strict=True)]
        outputs.append(output)
        states, before = after, output
    return torch.stack(outputs, 1), states


def _over(alive: Tensor, x: Tensor) -> Tensor:
    return alive.reshape(-1, *[1] * (x.dim() - 1))
