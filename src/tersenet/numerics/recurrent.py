"""LSTMs of int8 weights as kernels compute them that quantize what they multiply by anew at each product.

Weights are symmetric integers, known in full; the input of a step and the state before it go on a grid of their own extremes, the
products are added up in integers, and gates, states and biases are floats.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

States = tuple[Tensor, Tensor]


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
    low, high = (end.clamp(**{side: 0.0}) for end, side in zip(torch.aminmax(tensor), ("max", "min"), strict=True))
    scale = torch.where(high > low, (high - low) / 255, torch.ones_like(low))
    zero_point = (-low / scale).clamp(0, 255).round()
    return (torch.div(tensor, scale).round_() + zero_point).clamp_(0, 255).sub_(zero_point).mul_(scale)


# What a kernel does at each run with what it multiplies by its integers (`tersenet.capabilities.Kernel.dynamic`).
GRIDS: dict[str, Callable[[Tensor], Tensor]] = {"rows": on_rows, "whole": on_whole}


def quantized_lstm(
    data: Tensor, states: Sequence[Tensor], weights: Sequence[Tensor], options: tuple[bool, int, bool, bool], grid: str
) -> tuple[Tensor, Tensor, Tensor]:
    """``aten.lstm`` (Hochreiter and Schmidhuber 1997) by such a kernel.

    Args:
        data: (length, batch, inputs), or (batch, length, inputs) where the batch comes first.
        states: hidden and cell, (layers * directions, batch, ...).
        weights: as torch lists them, matrices on their grids already.
        options: whether it has biases, the number of layers, whether it is bidirectional, whether the batch comes first.
        grid: of `GRIDS`.

    Returns:
        The sequence, the last hidden states and the last cell states.
    """
    has_biases, layers, bidirectional, batch_first = options
    sequence = data.transpose(0, 1) if batch_first else data
    directions = 2 if bidirectional else 1
    count = len(weights) // (layers * directions)
    ends: list[States] = []
    for layer in range(layers):
        made = []
        for direction in range(directions):
            number = layer * directions + direction
            own = weights[number * count : (number + 1) * count]
            start = (states[0][number], states[1][number])
            result, end = _direction(sequence.flip(0) if direction else sequence, start, own, has_biases, GRIDS[grid])
            made.append(result.flip(0) if direction else result)
            ends.append(end)
        sequence = torch.cat(made, 2)
    hidden, cell = (torch.stack(list(parts)) for parts in zip(*ends, strict=True))
    return sequence.transpose(0, 1) if batch_first else sequence, hidden, cell


def _direction(
    sequence: Tensor, start: States, weights: Sequence[Tensor], has_biases: bool, on_grid: Callable[[Tensor], Tensor]
) -> tuple[Tensor, States]:
    """One layer, from the first step to the last."""
    into, back, *others = weights
    products = on_grid(sequence) @ into.t()
    if has_biases:
        products = products + (others[0] + others[1])
    projection = others[-1] if len(others) in (1, 3) else None
    hidden, cell = start
    results = []
    for product in products:
        gates = product + on_grid(hidden) @ back.t()
        entry, forget, fresh, exit_ = gates.chunk(4, 1)
        cell = forget.sigmoid() * cell + entry.sigmoid() * fresh.tanh()
        hidden = exit_.sigmoid() * cell.tanh()
        if projection is not None:
            hidden = on_grid(hidden) @ projection.t()
        results.append(hidden)
    return torch.stack(results), (hidden, cell)
