"""Rules of recurrent operators: a hidden unit is a row of every gate, a column of the recurrent matrix, and a channel of the result."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import fx

from tersenet.graph.dimensions.elementwise import without_rule
from tersenet.graph.dimensions.site import Axes, Axis, Fixed, Site, Term, Value
from tersenet.graph.gates import GATES


def recurrent(site: Site) -> Value:
    """``lstm``, ``gru``, ``rnn_tanh``, ``rnn_relu``. The operator has one width for all its layers and directions: the same units leave each."""
    kind = site.node.target._schema.name.removeprefix("aten::")  # type: ignore[union-attr]
    held = site.arguments
    if "params" not in held or "input" not in held or "data" in held:
        return without_rule(site)
    states = held["hx"] if isinstance(held["hx"], list | tuple) else [held["hx"]]
    given = [site.axes(state) for state in states]
    directions = 2 if held["bidirectional"] else 1
    count = len(held["params"]) // (held["num_layers"] * directions)
    projected = kind == "lstm" and count == (5 if held["has_biases"] else 3)
    source, hidden = site.axes("input"), given[-1][-1]
    result = given[0][-1] if projected else site.tie(hidden, given[0][-1])
    reads: Axis = source[-1]
    for layer in range(held["num_layers"]):
        for direction in range(directions):
            start = (layer * directions + direction) * count
            _cell(site, held["params"][start : start + count], reads, hidden, result, GATES[kind], projected)
        reads = _beside(result, directions)
    for state in given:
        site.pin(state[0], f"{site.node.name} counts its layers by it")
        site.tie(state[-2], source[0 if held["batch_first"] else 1])
    output = (*source[:-1], reads)
    return (output, *given)


def cell(site: Site) -> Value:
    """``lstm_cell``, ``gru_cell``, ``rnn_tanh_cell``, ``rnn_relu_cell``: one step of the above, as often as the network's own loop calls it."""
    held = site.arguments
    kind = site.node.target._schema.name.removeprefix("aten::").removesuffix("_cell")  # type: ignore[union-attr]
    given = [site.axes(state) for state in (held["hx"] if isinstance(held["hx"], list | tuple) else [held["hx"]])]
    hidden = site.tie(*(state[-1] for state in given))
    tensors = [held[name] for name in ("w_ih", "w_hh", "b_ih", "b_hh") if held.get(name) is not None]
    _cell(site, tensors, site.axes("input")[-1], hidden, hidden, GATES[kind], False)
    result = (site.tie(site.axes("input")[0], *(state[0] for state in given)), hidden)
    return (result, result) if kind == "lstm" else result


def _cell(site: Site, tensors: Sequence[fx.Node], reads: Axis, hidden: Axis, result: Axis, gates: int, projected: bool) -> None:
    """One layer in one direction."""
    weights = [site.axes(tensor) for tensor in tensors]
    rows = _beside(hidden, gates)
    matrices = weights[:2]
    site.tie(matrices[0][1], reads)
    site.tie(matrices[1][1], result)
    for axes in (*matrices, *(axes for axes in weights[2:] if len(axes) == 1)):
        site.tie(axes[0], rows)
    if projected:
        matrices = [*matrices, weights[-1]]
        site.tie(weights[-1][0], result)
        site.tie(weights[-1][1], hidden)
    for axis in (hidden, result):
        if not isinstance(axis, Fixed):
            site.made.append(axis)
    whole = sum(len(axes[0]) * len(axes[1]) for axes in _all_matrices(site, tensors))
    site.terms += [Term(len(axes[0]) * len(axes[1]) / whole, (axes[0], axes[1])) for axes in matrices]


def _all_matrices(site: Site, tensors: Sequence[fx.Node]) -> list[Axes]:
    """Of all layers and directions; of a cell those that it has."""
    return [axes for axes in (site.axes(tensor) for tensor in site.arguments.get("params", tensors)) if len(axes) == 2]


def _beside(axis: Axis, times: int) -> Axis:
    """An axis several times over: gates, directions."""
    return Fixed(axis.size * times, axis.why) if isinstance(axis, Fixed) else np.tile(axis, times)
