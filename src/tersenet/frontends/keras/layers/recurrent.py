"""Recurrent layers: LSTM, GRU, SimpleRNN and RNN. Where a layer computes what torch's sequence operator computes, it stays one operator."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tersenet.errors import ModelError
from tersenet.frontends.keras.layer import Layer, Weights
from tersenet.frontends.keras.layers.arguments import axis_size, flag, number, title, value, variables, whole
from tersenet.frontends.keras.layers.cells import Cell, States, cell_of, gated, gated_matrices, resets_after, unrolled

# Gates of torch in the order of Keras's: the place in Keras of each that torch has.
_ORDER = {"LSTM": (0, 1, 2, 3), "GRU": (1, 0, 2), "SimpleRNN": (0,)}
_STANDARD = {"LSTM": ("tanh", "sigmoid"), "GRU": ("tanh", "sigmoid")}


class Steps(nn.Module):
    """A cell, run step by step."""

    def __init__(self, cell: Cell) -> None:
        super().__init__()
        self.cell = cell

    def forward(self, x: Tensor, states: States, mask: Tensor | None, cells: bool = False) -> tuple[Tensor, States]:
        return unrolled(self.cell, x, states or self.cell.begin(x), mask)


class Fused(nn.Module):
    """torch's sequence operator, of one direction or of two."""

    def __init__(self, operator: nn.RNNBase) -> None:
        super().__init__()
        self.operator = operator
        self.sizes = ((operator.hidden_size,),) * (2 if isinstance(operator, nn.LSTM) else 1)

    def forward(self, x: Tensor, states: States, mask: Tensor | None, cells: bool = False) -> tuple[Tensor, States]:
        if mask is None:
            return self.direct(x, states)
        return self.masked(x, states, mask, cells, "")

    def direct(self, x: Tensor, states: States) -> tuple[Tensor, States]:
        """Without a mask: the outputs, and the last states, each (directions, batch, units) or, of one direction, (batch, units)."""
        bidirectional = self.operator.bidirectional
        given = states if bidirectional else [state.unsqueeze(0) for state in states]
        outputs, last = self.operator(x, None if not given else tuple(given) if len(self.sizes) > 1 else given[0])
        after = list(last) if isinstance(last, tuple) else [last]
        return outputs, after if bidirectional else [state.squeeze(0) for state in after]

    def masked(self, x: Tensor, states: States, mask: Tensor, cells: bool, suffix: str) -> tuple[Tensor, States]:
        """One direction with a mask: the steps that count are moved to the front, so that the operator sees them alone, and each output is looked
        up at the last step that counted.

        Args:
            cells: the last cell state of an LSTM is asked for, which the operator has at the end of the padding only; steps are written out.
            suffix: of the names of the direction's weights.
        """
        names = [f"{part}_l0{suffix}" for part in ("weight_ih", "weight_hh", *(("bias_ih", "bias_hh") if self.operator.bias else ()))]
        weights = [getattr(self.operator, name) for name in names]
        begun = states or [x.new_zeros((x.shape[0], *size)) for size in self.sizes]
        if cells and len(self.sizes) > 1:
            return unrolled(_Written(weights), x, begun, mask)
        counted = torch.cumsum(mask.to(torch.float32), 1)
        places = torch.arange(x.shape[1], dtype=torch.float32)
        # The n-th step that counts is preceded by all steps at which fewer than n have been counted.
        source = (counted.unsqueeze(1) <= places.reshape(1, -1, 1)).to(torch.float32).sum(2).clamp(max=x.shape[1] - 1)
        x = torch.gather(x, 1, source.to(torch.int64).unsqueeze(-1).expand(-1, -1, x.shape[2]))
        given: Any = [state.unsqueeze(0) for state in begun]
        outputs = self._run(x, given if len(self.sizes) > 1 else given[0], weights)
        index = (counted - 1).clamp(min=0).to(torch.int64).unsqueeze(-1).expand(-1, -1, outputs.shape[2])
        outputs = torch.where((counted > 0).unsqueeze(-1), torch.gather(outputs, 1, index), 0.0)
        return outputs, [torch.where(counted[:, -1:] > 0, outputs[:, -1], begun[0])]

    def _run(self, x: Tensor, begun: Any, weights: list[Tensor]) -> Tensor:
        operator = self.operator
        if isinstance(operator, nn.LSTM):
            return torch.lstm(x, begun, weights, operator.bias, 1, 0.0, self.training, False, True)[0]
        if isinstance(operator, nn.GRU):
            return torch.gru(x, begun, weights, operator.bias, 1, 0.0, self.training, False, True)[0]
        run = torch.rnn_tanh if operator.mode == "RNN_TANH" else torch.rnn_relu
        return run(x, begun, weights, operator.bias, 1, 0.0, self.training, False, True)[0]


class _Written:
    """The steps of an LSTM over the weights of torch's operator."""

    def __init__(self, weights: list[Tensor]) -> None:
        self.weights = weights

    def prepare(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weights[0], self.weights[2] if len(self.weights) > 2 else None)

    def step(self, x: Tensor, states: States) -> tuple[Tensor, States]:
        hidden, cell = states
        i, f, c, o = (x + F.linear(hidden, self.weights[1], self.weights[3] if len(self.weights) > 3 else None)).chunk(4, -1)
        cell = torch.sigmoid(f) * cell + torch.sigmoid(i) * torch.tanh(c)
        hidden = torch.sigmoid(o) * torch.tanh(cell)
        return hidden, [hidden, cell]


class Recurrent(nn.Module):
    """A recurrent layer of Keras.

    Args:
        steps: runs a sequence.
        sequences: the outputs of all steps are returned, not of the last alone.
        states: the last states are returned too.
        backwards: the sequence is read from its end, and outputs come in the order in which they were computed.
        zeroed: outputs of masked steps are zero, not those of the step before.
        time_major: time is the first axis.
        dropout: part of each input that is dropped in training, the same for all steps.
    """

    def __init__(self, steps: nn.Module, layer: Layer) -> None:
        super().__init__()
        self.steps = steps
        self.sequences, self.states = flag(layer, "return_sequences", False), flag(layer, "return_state", False)
        self.backwards = flag(layer, "go_backwards", False)
        self.zeroed = flag(layer, "zero_output_for_mask", False)
        self.time_major = flag(layer, "time_major", False)
        self.dropout = number(layer, "dropout", 0.0)
        self.notes = _notes(layer)

    def forward(self, x: Tensor, *states: Tensor, mask: Tensor | None = None) -> Any:
        x = x.transpose(0, 1) if self.time_major else x
        mask = _of_sequence(mask)
        if self.backwards:
            x = x.flip(1)
            mask = None if mask is None else mask.flip(1)
        if self.dropout and x.dim() == 3:
            x = torch.feature_dropout(x.transpose(1, 2), self.dropout, self.training).transpose(1, 2)
        outputs, after = self.steps(x, list(states), mask, self.states)
        if mask is not None and self.zeroed:
            outputs = torch.where(mask.reshape(*mask.shape, *[1] * (outputs.dim() - 2)), outputs, 0.0)
        result = outputs if self.sequences else outputs[:, -1]
        result = result.transpose(0, 1) if self.time_major and self.sequences else result
        return (result, *after) if self.states else result

    def output_mask(self, x: Tensor, *states: Tensor, mask: Any = None) -> Tensor | None:
        return _of_sequence(mask) if self.sequences else None


def _of_sequence(mask: Any) -> Tensor | None:
    """The mask of the sequence, the first where there are several tensors."""
    return mask[0] if isinstance(mask, list | tuple) else mask


def _notes(layer: Layer) -> tuple[str, ...]:
    notes = []
    if value(layer, "recurrent_dropout", 0.0):
        notes.append("its recurrent dropout is left out of later training")
    if value(layer, "stateful", False):
        notes.append("it kept its state from one call to the next; here each call starts from a state of zeros")
    return tuple(notes)


def _inputs(layer: Layer) -> int:
    if not layer.input_shapes or len(layer.input_shapes[0]) != 3:
        raise ModelError(f"{title(layer)} takes a batch of sequences of vectors, got the shapes {layer.input_shapes}.")
    return axis_size(layer, layer.input_shapes[0], 2)


def recurrent(layer: Layer, kind: str) -> nn.Module:
    """A layer of one kind, by torch's operator where that computes the same."""
    weights = layer.weights.children.get("cell", layer.weights)
    inputs = _inputs(layer)
    operator = fused(layer, kind, weights, inputs)
    return Recurrent(Steps(gated(layer, kind, weights, inputs)) if operator is None else Fused(operator), layer)


def fused(layer: Layer, kind: str, weights: Weights, inputs: int) -> nn.RNNBase | None:
    """torch's operator with the layer's weights, or None where it does not compute the same."""
    names = tuple(_name(layer, key) for key in ("activation", "recurrent_activation"))
    if names != _STANDARD.get(kind, names) or (kind == "SimpleRNN" and names[0] not in {"tanh", "relu"}):
        return None
    matrices = gated_matrices(layer, kind, weights, inputs)
    if kind == "GRU" and not resets_after(layer, matrices):
        return None
    units, biased = whole(layer, "units"), len(matrices) > 2
    made: nn.RNNBase
    with torch.device("meta"):  # numbers drawn for it would move the user's random state
        if kind == "SimpleRNN":
            made = nn.RNN(inputs, units, nonlinearity=names[0], bias=biased, batch_first=True)
        else:
            made = (nn.LSTM if kind == "LSTM" else nn.GRU)(inputs, units, bias=biased, batch_first=True)
    made.to_empty(device="cpu")
    fill(made, kind, matrices, "")
    return made


def fill(operator: nn.RNNBase, kind: str, matrices: list[np.ndarray], suffix: str) -> None:
    """Put Keras's matrices into torch's operator, gates in its order; one by one, for joined ones would take the memory of the layer again."""
    kernel, kernel_h, *biases = matrices
    rows = [row for bias in biases for row in (bias if bias.ndim == 2 else bias[None])]
    rows += [np.zeros_like(rows[0])] * (2 - len(rows)) if rows else []
    held = {"weight_ih": kernel.T, "weight_hh": kernel_h.T, **dict(zip(("bias_ih", "bias_hh"), rows, strict=False))}
    order = _ORDER[kind]
    for name, array in held.items():
        gates = np.split(array, len(order))
        filled = np.split(getattr(operator, f"{name}_l0{suffix}").detach().numpy(), len(order))
        for place, gate in zip(order, filled, strict=True):
            gate[...] = gates[place]


def _name(layer: Layer, key: str) -> str:
    found = value(layer, key, "linear")
    if isinstance(found, dict) and found.get("class_name") == "function":
        found = found.get("config")
    return found if isinstance(found, str) else ""


def lstm(layer: Layer) -> nn.Module:
    """``LSTM``, as one aten.lstm where its activations are tanh and sigmoid."""
    return recurrent(layer, "LSTM")


def gru(layer: Layer) -> nn.Module:
    """``GRU``, as one aten.gru where its activations are tanh and sigmoid and its reset gate comes after the product."""
    return recurrent(layer, "GRU")


def cudnn_lstm(layer: Layer) -> nn.Module:
    """``CuDNNLSTM`` of Keras 2."""
    return recurrent(_of_cudnn(layer, "LSTM"), "LSTM")


def cudnn_gru(layer: Layer) -> nn.Module:
    """``CuDNNGRU`` of Keras 2: a GRU whose reset gate comes after the product."""
    return recurrent(_of_cudnn(layer, "GRU"), "GRU")


def _of_cudnn(layer: Layer, kind: str) -> Layer:
    """The plain layer that computes the same: cuDNN keeps each gate's kernels transposed, and two biases whose sum an LSTM feels alone.

    The order is that of tf-keras, saving/legacy/hdf5_format.py.
    """
    gates, units, inputs = len(_ORDER[kind]), whole(layer, "units"), _inputs(layer)
    kernel, kernel_h, bias = variables(layer, (inputs, gates * units), (units, gates * units), (2 * gates * units,))
    across = [gate.T.reshape(gate.shape, order="F") for gate in np.split(kernel, gates, 1)]
    through = [gate.T for gate in np.split(kernel_h, gates, 1)]
    biases = bias.reshape(2, -1)
    own = (np.concatenate(across, 1), np.concatenate(through, 1), biases.sum(0) if kind == "LSTM" else biases)
    names = dict(zip(("activation", "recurrent_activation"), _STANDARD[kind], strict=True))
    return replace(layer, config={**layer.config, **names, "use_bias": True, "reset_after": True}, weights=Weights(own))


def simple(layer: Layer) -> nn.Module:
    """``SimpleRNN``, as one aten.rnn_tanh or aten.rnn_relu where its activation is one of these."""
    return recurrent(layer, "SimpleRNN")


def rnn(layer: Layer) -> nn.Module:
    """``RNN`` of a cell or of several: step by step."""
    return Recurrent(Steps(cell_of(layer, layer.config.get("cell"), layer.weights.children.get("cell", Weights()), _inputs(layer))), layer)
