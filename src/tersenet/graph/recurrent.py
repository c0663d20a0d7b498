"""Operators of which tracing needs the shapes alone: recurrent ones, not to be unrolled, so that a sequence may have any length.

torch works out the shapes of ``aten.lstm`` by running it step by step, which fixes the length to that of the example. While
a network is traced, the functions here stand in: they give the shapes alone. (torch's own
``torch.export._patches.register_lstm_while_loop_decomposition`` swaps the same table, for a loop in the graph.)
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

aten = torch.ops.aten
_KEYS = (torch._C.DispatchKey.CompositeImplicitAutograd, torch._C.DispatchKey.Autograd)


def _lstm(  # noqa: PLR0913 - the signature of aten.lstm
    data: torch.Tensor,
    state: Sequence[torch.Tensor],
    weights: Sequence[torch.Tensor],
    has_biases: bool,
    layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
) -> tuple[torch.Tensor, ...]:
    """``(output, hidden, cell)`` of ``aten.lstm``: shapes (length, batch, directions * size) and those of the given state."""
    return _sequence(data, state[0], bidirectional), torch.empty_like(state[0]), torch.empty_like(state[1])


def _single(  # noqa: PLR0913 - the signature of aten.gru
    data: torch.Tensor,
    state: torch.Tensor,
    weights: Sequence[torch.Tensor],
    has_biases: bool,
    layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
) -> tuple[torch.Tensor, ...]:
    """``(output, hidden)`` of ``aten.gru`` and ``aten.rnn_*``."""
    return _sequence(data, state, bidirectional), torch.empty_like(state)


def _sequence(data: torch.Tensor, state: torch.Tensor, bidirectional: bool) -> torch.Tensor:
    return data.new_empty((data.shape[0], data.shape[1], (2 if bidirectional else 1) * state.shape[-1]))


def _as_given(data: torch.Tensor, scale: float, zero_point: int, lowest: int, highest: int) -> torch.Tensor:
    """Fake quantization, by which frontends mark grids (`tersenet.graph.grids`); torch's own shape function takes no open batch."""
    return torch.empty_like(data)


_SHAPES: tuple[tuple[Any, Callable[..., Any]], ...] = (
    (aten.lstm.input, _lstm),
    (aten.gru.input, _single),
    (aten.rnn_tanh.input, _single),
    (aten.rnn_relu.input, _single),
    (aten.fake_quantize_per_tensor_affine.default, _as_given),
)


@contextlib.contextmanager
def shapes_only() -> Iterator[None]:
    """Recurrent operators give shapes without numbers inside; for tracing alone."""
    saved = [(operator, dict(operator.py_kernels)) for operator, _ in _SHAPES]
    try:
        for operator, shape in _SHAPES:
            operator.py_kernels.update(dict.fromkeys(_KEYS, shape))
            operator._dispatch_cache.clear()
        yield
    finally:
        for operator, kernels in saved:
            operator.py_kernels.clear()
            operator.py_kernels.update(kernels)
            operator._dispatch_cache.clear()
