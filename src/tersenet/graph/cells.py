"""Recurrent cells that a network's own loop calls, written as the linear layers and gates that they are made of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import fx

from tersenet.graph.build import call
from tersenet.graph.walk import bind, calls

aten = torch.ops.aten
_Call = Callable[..., fx.Node]


def open_cells(module: fx.GraphModule) -> None:
    """``lstm_cell``, ``gru_cell``, ``rnn_tanh_cell`` and ``rnn_relu_cell`` as arithmetic; their matrices are weights of linear layers."""
    for node in list(calls(module)):
        name = node.target._schema.name.removeprefix("aten::") if isinstance(node.target, torch._ops.OpOverload) else ""
        written = _WRITTEN.get(name)
        if written is None:
            continue
        made = written(bind(node), _caller(module, node))
        if isinstance(made, fx.Node):
            node.replace_all_uses_with(made)
        else:
            for reader in list(node.users):
                reader.replace_all_uses_with(made[reader.args[1]])
                module.graph.erase_node(reader)
        module.graph.erase_node(node)


def _caller(module: fx.GraphModule, node: fx.Node) -> _Call:
    return lambda operator, *arguments: call(module, operator, arguments, before=node, like=node)


def _gates(held: dict[str, Any], hidden: fx.Node, make: _Call, count: int) -> tuple[list[fx.Node], list[fx.Node]]:
    """What the input says to each gate, and what the state says."""
    both = (make(aten.linear.default, held["input"], held["w_ih"], held["b_ih"]), make(aten.linear.default, hidden, held["w_hh"], held["b_hh"]))
    size = hidden.meta["val"].shape[-1]
    given, kept = ([make(aten.slice.Tensor, one, 1, size * gate, size * (gate + 1)) for gate in range(count)] for one in both)
    return given, kept


def _lstm(held: dict[str, Any], make: _Call) -> tuple[fx.Node, fx.Node]:
    """c' = f c + i g, h' = o tanh(c') (Hochreiter and Schmidhuber 1997; torch's order of gates: input, forget, cell, output)."""
    hidden, memory = held["hx"]
    given, kept = _gates(held, hidden, make, 4)
    enters, stays, new, shown = (make(aten.add.Tensor, *pair) for pair in zip(given, kept, strict=True))
    old = make(aten.mul.Tensor, make(aten.sigmoid.default, stays), memory)
    memory = make(aten.add.Tensor, old, make(aten.mul.Tensor, make(aten.sigmoid.default, enters), make(aten.tanh.default, new)))
    return make(aten.mul.Tensor, make(aten.sigmoid.default, shown), make(aten.tanh.default, memory)), memory


def _gru(held: dict[str, Any], make: _Call) -> fx.Node:
    """h' = n + z (h - n) with n = tanh(a + r b) (Cho et al. 2014, in torch's form: the reset gate behind the matrix)."""
    given, kept = _gates(held, held["hx"], make, 3)
    reset, update = (make(aten.sigmoid.default, make(aten.add.Tensor, *pair)) for pair in zip(given[:2], kept[:2], strict=True))
    new = make(aten.tanh.default, make(aten.add.Tensor, given[2], make(aten.mul.Tensor, reset, kept[2])))
    return make(aten.add.Tensor, new, make(aten.mul.Tensor, update, make(aten.sub.Tensor, held["hx"], new)))


def _plain(activation: Any) -> Callable[[dict[str, Any], _Call], fx.Node]:
    def write(held: dict[str, Any], make: _Call) -> fx.Node:
        (given,), (kept,) = _gates(held, held["hx"], make, 1)
        result: fx.Node = make(activation, make(aten.add.Tensor, given, kept))
        return result

    return write


_WRITTEN: dict[str, Callable[[dict[str, Any], _Call], Any]] = {
    "lstm_cell": _lstm,
    "gru_cell": _gru,
    "rnn_tanh_cell": _plain(aten.tanh.default),
    "rnn_relu_cell": _plain(aten.relu.default),
}
