"""Recurrent layers step by step: in floats, or as kernels of int8 weights compute them that quantize what they multiply by as they run.

In such a kernel weights are symmetric integers, known in full; the input of a step and the state before it go on a grid of their own
extremes, products are added up in integers, and gates, states and biases are floats.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import linear

Grid = Callable[[Tensor], Tensor]
State = tuple[Tensor, ...]


def as_it_is(tensor: Tensor) -> Tensor:
    """Floats."""
    return tensor


def on_rows(tensor: Tensor) -> Tensor:
    """Each row of the last axis on a symmetric int8 grid: scale = max |x| / 127, halves away from zero (LiteRT's hybrid kernels).

    >>> on_rows(torch.tensor([[127.0, 0.5, -2.4], [0.0, 0.0, 0.0]])).tolist()
    [[127.0, 1.0, -2.0], [0.0, 0.0, 0.0]]
    """
    largest = tensor.abs().amax(-1, keepdim=True)
    steps = tensor * torch.where(largest > 0, 127 / largest, largest)
    return steps.abs().add_(0.5).floor_().copysign_(steps).mul_(largest / 127)


def on_whole(tensor: Tensor) -> Tensor:
    """The whole tensor on one uint8 grid from its lowest to its highest value, zero among them (onnxruntime's dynamic kernels).

    >>> on_whole(torch.tensor([[0.0, 255.0], [1.4, 2.6]])).tolist()
    [[0.0, 255.0], [1.0, 3.0]]
    """
    lowest, highest = torch.aminmax(tensor)
    low, high = lowest.clamp(max=0), highest.clamp(min=0)
    scale = torch.where(high > low, (high - low) / 255, torch.ones_like(low))
    zero_point = (-low / scale).clamp(0, 255).round()
    return (torch.div(tensor, scale).round_() + zero_point).clamp_(0, 255).sub_(zero_point).mul_(scale)


# What a kernel does at each run with what it multiplies by its integers (`tersenet.capabilities.Kernel.dynamic`).
GRIDS: dict[str, Grid] = {"never": as_it_is, "rows": on_rows, "whole": on_whole}


class Shape(NamedTuple):
    """What a recurrent layer is besides its weights, as torch names it. A tuple, so that a graph's code can hold it."""

    kind: str
    has_biases: bool
    layers: int
    bidirectional: bool
    batch_first: bool


def recurrent(data: Tensor, states: Sequence[Tensor], weights: Sequence[Tensor], shape: Shape, grid: str = "never") -> State:
    """``aten.lstm``, ``aten.gru``, ``aten.rnn_tanh`` and ``aten.rnn_relu``, written out.

    Args:
        data: (length, batch, inputs), or (batch, length, inputs) where the batch comes first.
        states: the hidden one, and an LSTM's cell; each (layers * directions, batch, size).
        weights: as torch lists them; for a kernel of integers, on their grids already.
        shape: the layer.
        grid: of `GRIDS`.

    Returns:
        The sequence and the last of each state.

    Reference:
        Hochreiter and Schmidhuber 1997; Cho et al. 2014, with the reset gate behind the product.
    """
    axis, directions = int(shape.batch_first), 2 if shape.bidirectional else 1
    count = len(weights) // (shape.layers * directions)
    sequence, ends = data, []
    for layer in range(shape.layers):
        made = []
        for direction in range(directions):
            number = layer * directions + direction
            start = tuple(state.select(0, number) for state in states)
            steps, end = _direction(sequence, start, weights[number * count : (number + 1) * count], shape, (GRIDS[grid], axis, direction == 1))
            made.append(torch.stack(steps, axis))
            ends.append(end)
        sequence = made[0] if directions == 1 else torch.cat(made, 2)
    return sequence, *(torch.stack(list(parts)) for parts in zip(*ends, strict=True))


def _direction(sequence: Tensor, state: State, weights: Sequence[Tensor], shape: Shape, way: tuple[Grid, int, bool]) -> tuple[list[Tensor], State]:
    """One layer from the first step to the last, or the other way round; hidden states in the order of the sequence."""
    on_grid, axis, backwards = way
    into, back, *others = weights
    projection = others[-1] if len(others) in (1, 3) else None
    first, second = (others[0], others[1]) if shape.has_biases else (None, None)
    if first is not None and second is not None and shape.kind != "gru":  # only a reset gate comes between the two
        first, second = first + second, None
    products = list(linear(on_grid(sequence), into, first).unbind(axis))
    hiddens = []
    for product in reversed(products) if backwards else products:
        state = CELLS[shape.kind](product, linear(on_grid(state[0]), back, second), state)
        if projection is not None:
            state = (linear(on_grid(state[0]), projection), *state[1:])
        hiddens.append(state[0])
    return hiddens[::-1] if backwards else hiddens, state


def _lstm(product: Tensor, recurrent: Tensor, state: State) -> State:
    entry, forget, fresh, leave = (product + recurrent).chunk(4, 1)
    cell = forget.sigmoid() * state[1] + entry.sigmoid() * fresh.tanh()
    return leave.sigmoid() * cell.tanh(), cell


def _gru(product: Tensor, recurrent: Tensor, state: State) -> State:
    (reset, update, fresh), (reset_, update_, fresh_) = product.chunk(3, 1), recurrent.chunk(3, 1)
    new = (fresh + (reset + reset_).sigmoid() * fresh_).tanh()
    return (new + (update + update_).sigmoid() * (state[0] - new),)


# product of the input, product of the state before, the states before -> the states
CELLS: dict[str, Callable[[Tensor, Tensor, State], State]] = {
    "lstm": _lstm,
    "gru": _gru,
    "rnn_tanh": lambda product, recurrent, state: ((product + recurrent).tanh(),),
    "rnn_relu": lambda product, recurrent, state: ((product + recurrent).relu(),),
}
