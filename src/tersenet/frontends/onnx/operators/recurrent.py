"""LSTM, GRU and RNN: one operator of torch where theirs is the same, their steps written out where it is not."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch

from tersenet.errors import ModelError
from tersenet.frontends.onnx.node import Node

# ONNX's gates in the order of torch: input, forget, cell, output of "iofc"; reset, update, new of "zrh".
GATES: Mapping[str, tuple[int, ...]] = {"LSTM": (0, 2, 3, 1), "GRU": (1, 0, 2), "RNN": (0,)}
STANDARD: Mapping[str, tuple[str, ...]] = {"LSTM": ("sigmoid", "tanh", "tanh"), "GRU": ("sigmoid", "tanh"), "RNN": ("tanh",)}
FUNCTIONS: Mapping[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "relu": torch.relu,
    "softsign": torch.nn.functional.softsign,
    "softplus": torch.nn.functional.softplus,
}
LONGEST = 2048  # steps that are written out


def torch_weights(kind: str, weight: torch.Tensor, recurrence: torch.Tensor, bias: torch.Tensor | None) -> list[torch.Tensor]:
    """The weights of each direction as torch has them: gates in its order; input, recurrence, and two biases."""
    made = []
    for direction in range(weight.shape[0]):
        parts = [weight[direction], recurrence[direction]]
        if bias is not None:
            parts += list(bias[direction].chunk(2))
        made += [_ordered(kind, part) for part in parts]
    return made


def _ordered(kind: str, part: torch.Tensor) -> torch.Tensor:
    gates = part.chunk(len(GATES[kind]))
    return torch.cat([gates[place] for place in GATES[kind]]) if len(gates) > 1 else part


def recurrent(  # noqa: PLR0913 - the inputs of the operator
    node: Node,
    data: torch.Tensor,
    weight: torch.Tensor,
    recurrence: torch.Tensor,
    bias: torch.Tensor | None = None,
    lengths: Sequence[int] | None = None,
    hidden: torch.Tensor | None = None,
    cell: torch.Tensor | None = None,
    peepholes: torch.Tensor | None = None,
) -> tuple[torch.Tensor, ...]:
    ends = _ends(node, data, lengths)
    if ends or not is_standard(node) or peepholes is not None:
        return _written_out(node, data, (weight, recurrence, bias, peepholes), (hidden, cell), ends)
    return with_torch_weights(node, data, hidden, cell, *torch_weights(node.kind, weight, recurrence, bias))


def is_standard(node: Node) -> bool:
    """Whether torch has the very operator."""
    kinds, directions = STANDARD.get(node.kind, ()), 2 if _direction(node) == "bidirectional" else 1
    given = tuple(name.lower() for name in node.get("activations", ())) or kinds * directions
    same = given == kinds * directions or (node.kind == "RNN" and given == ("relu",) * directions)
    return same and not node.get("clip") and not node.get("input_forget") and (node.kind != "GRU" or bool(node.get("linear_before_reset", 0)))


def _direction(node: Node) -> str:
    direction = node.get("direction", "forward")
    if direction not in ("forward", "reverse", "bidirectional"):
        raise ModelError(f"direction must be forward, reverse or bidirectional, got {direction[:40]!r}.")
    return direction


def _ends(node: Node, data: torch.Tensor, lengths: Sequence[int] | None) -> tuple[int, ...]:
    """The steps of each sequence of the batch; () where all of them run to the end."""
    batch_first = bool(node.get("layout", 0))
    steps, batch = data.shape[1 if batch_first else 0], data.shape[0 if batch_first else 1]
    if lengths is None or all(isinstance(steps, int) and length == steps for length in lengths):
        return ()
    if not all(isinstance(number, int) for number in (steps, batch, *lengths)) or len(lengths) != batch:
        raise ModelError("sequence_lens must be one constant for each sequence of a batch of known size, or as long as the input.")
    if not all(1 <= length <= steps for length in lengths):
        raise ModelError(f"sequence_lens must be between 1 and the {steps} steps of the input, got {str(list(lengths))[:80]}.")
    return tuple(lengths)


def with_torch_weights(
    node: Node, data: torch.Tensor, hidden: torch.Tensor | None, cell: torch.Tensor | None, *weights: torch.Tensor
) -> tuple[torch.Tensor, ...]:
    """``(Y, Y_h)`` and, of an LSTM, ``Y_c``."""
    data, (hidden, cell) = _time_first(node, data, (hidden, cell))
    direction = _direction(node)
    directions, size = 2 if direction == "bidirectional" else 1, weights[1].shape[1]
    hidden = torch.zeros(directions, data.shape[1], size) if hidden is None else hidden
    cell = torch.zeros(directions, data.shape[1], size) if cell is None and node.kind == "LSTM" else cell
    _check_shapes(node, data, (hidden, cell), weights, directions)
    data = data.flip(0) if direction == "reverse" else data
    biased = len(weights) == 4 * directions
    rest = (list(weights), biased, 1, 0.0, False, directions == 2, False)
    if node.kind == "LSTM":
        result, *states = torch.lstm(data, [hidden, cell], *rest)  # type: ignore[list-item]
    elif node.kind == "GRU":
        result, *states = torch.gru(data, hidden, *rest)
    else:
        relu = any(name.lower() == "relu" for name in node.get("activations", ()))
        result, *states = (torch.rnn_relu if relu else torch.rnn_tanh)(data, hidden, *rest)
    result = result.flip(0) if direction == "reverse" else result
    if directions == 1:
        result = result.unsqueeze(1)
    else:
        result = result.reshape(result.shape[0], result.shape[1], 2, size).permute(0, 2, 1, 3)
    return _as_asked(node, result, states)


def _check_shapes(node: Node, data: torch.Tensor, states: Sequence[torch.Tensor | None], weights: Sequence[torch.Tensor], directions: int) -> None:
    """torch's operators end the process where these do not fit."""
    size, gates, each = weights[1].shape[1], len(GATES[node.kind]), len(weights) // directions
    if each not in (2, 4) or len(weights) % directions:
        raise ModelError(f"it has {len(weights)} tensors of weights for {directions} directions.")
    for place, weight in enumerate(weights):
        inner = ((data.shape[2],), (size,), (), ())[place % each]
        if tuple(weight.shape) != (gates * size, *inner):
            raise ModelError(f"its weights have the shape {tuple(weight.shape)}, wanted {(gates * size, *inner)}.")
    for state in states:
        if state is not None and tuple(state.shape) != (directions, data.shape[1], size):
            raise ModelError(f"its initial state has the shape {tuple(state.shape)}, wanted {(directions, data.shape[1], size)}.")


def _time_first(node: Node, data: torch.Tensor, states: Sequence[torch.Tensor | None]) -> tuple[torch.Tensor, list[torch.Tensor | None]]:
    if not node.get("layout", 0):
        return data, list(states)
    return data.transpose(0, 1), [state.transpose(0, 1) if state is not None else None for state in states]


def _as_asked(node: Node, result: torch.Tensor, states: Sequence[torch.Tensor]) -> tuple[torch.Tensor, ...]:
    if not node.get("layout", 0):
        return (result, *states)
    return (result.permute(2, 0, 1, 3), *(state.transpose(0, 1) for state in states))


def _written_out(
    node: Node,
    data: torch.Tensor,
    weights: tuple[torch.Tensor, torch.Tensor, torch.Tensor | None, torch.Tensor | None],
    given: tuple[torch.Tensor | None, torch.Tensor | None],
    ends: Sequence[int],
) -> tuple[torch.Tensor, ...]:
    """Step by step, for activations, peepholes, resets and sequences that end early, which torch's operators do not have."""
    data, starts = _time_first(node, data, given)
    steps, direction = data.shape[0], _direction(node)
    if not isinstance(steps, int) or steps > LONGEST:
        raise ModelError(f"its steps must be written out, and there must be a known number of them, at most {LONGEST}; got {steps}.")
    weight, recurrence, bias, peepholes = weights
    size = recurrence.shape[2]
    sequences, last = [], []
    for place in range(weight.shape[0]):
        backwards = direction == "reverse" or place == 1
        states = [torch.zeros(data.shape[1], size) if start is None else start[place] for start in starts[: 2 if node.kind == "LSTM" else 1]]
        step = _Step(
            node, place, weight[place], recurrence[place], None if bias is None else bias[place], None if peepholes is None else peepholes[place]
        )
        made = []
        for time in reversed(range(steps)) if backwards else range(steps):
            states, result = _within(ends, time, step(data[time], states), states)
            made.append(result)
        sequences.append(torch.stack(made[::-1] if backwards else made))
        last.append(states)
    return _as_asked(node, torch.stack(sequences, 1), [torch.stack(states) for states in zip(*last, strict=True)])


def _within(ends: Sequence[int], time: int, after: list[torch.Tensor], before: list[torch.Tensor]) -> tuple[list[torch.Tensor], torch.Tensor]:
    """States and result of a step: beyond its end a sequence keeps its states (read backwards, it has not begun), and its results are zero."""
    if all(time < end for end in ends):
        return after, after[0]
    runs = torch.tensor([[time < end] for end in ends])
    return [torch.where(runs, new, old) for new, old in zip(after, before, strict=True)], torch.where(runs, after[0], torch.zeros(()))


class _Step:
    """One step of one direction, by the equations of the ONNX operators."""

    def __init__(
        self, node: Node, place: int, weight: torch.Tensor, recurrence: torch.Tensor, bias: torch.Tensor | None, peepholes: torch.Tensor | None
    ) -> None:
        self.node, self.weight, self.recurrence, self.peepholes = node, weight, recurrence, peepholes
        self.biases = bias.chunk(2) if bias is not None else (torch.zeros(()), torch.zeros(()))
        kinds = STANDARD[node.kind]
        names = [name.lower() for name in node.get("activations", ())][place * len(kinds) :][: len(kinds)] or list(kinds)
        if node.get("activation_alpha") or node.get("activation_beta") or any(name not in FUNCTIONS for name in names):
            raise ModelError(f"its activations must be of {', '.join(FUNCTIONS)}, without numbers of their own; got {', '.join(names)[:80]}.")
        self.functions = [FUNCTIONS[name] for name in names]

    def __call__(self, data: torch.Tensor, states: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        inner = data @ self.weight.t() + self.biases[0]
        if self.node.kind == "GRU":
            return [self._gru(inner, states[0])]
        inner = inner + states[0] @ self.recurrence.t() + self.biases[1]
        if self.node.kind == "RNN":
            return [self.functions[0](self._clipped(inner))]
        return self._lstm(inner, states[1])

    def _clipped(self, data: torch.Tensor) -> torch.Tensor:
        limit = self.node.get("clip")
        return torch.clamp(data, -limit, limit) if limit else data

    def _gru(self, inner: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
        gate, new = self.functions
        update_in, reset_in, new_in = inner.chunk(3, -1)
        update_weight, reset_weight, new_weight = self.recurrence.chunk(3)
        biases = self.biases[1].chunk(3) if self.biases[1].dim() else [self.biases[1]] * 3
        update = gate(self._clipped(update_in + hidden @ update_weight.t() + biases[0]))
        reset = gate(self._clipped(reset_in + hidden @ reset_weight.t() + biases[1]))
        if self.node.get("linear_before_reset", 0):
            added = reset * (hidden @ new_weight.t() + biases[2])
        else:
            added = (reset * hidden) @ new_weight.t() + biases[2]
        return (1 - update) * new(self._clipped(new_in + added)) + update * hidden

    def _lstm(self, inner: torch.Tensor, cell: torch.Tensor) -> list[torch.Tensor]:
        gate, new, out = self.functions
        given, output, forget, fresh = inner.chunk(4, -1)
        looks = self.peepholes.chunk(3) if self.peepholes is not None else [torch.zeros(())] * 3  # input, output, forget
        given = gate(self._clipped(given + looks[0] * cell))
        forget = 1 - given if self.node.get("input_forget") else gate(self._clipped(forget + looks[2] * cell))
        cell = forget * cell + given * new(self._clipped(fresh))
        return [gate(self._clipped(output + looks[1] * cell)) * out(cell), cell]
