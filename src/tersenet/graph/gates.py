"""What the arguments of a recurrent operator are: its matrices by layer and direction, and the states that it starts from."""

from __future__ import annotations

from dataclasses import dataclass

from torch import fx

from tersenet.graph.operators import kind_of
from tersenet.graph.walk import bind, constant, is_constant
from tersenet.numerics.recurrent import Shape

# Kind -> gates that lie one below the other in each matrix: torch's input, forget, cell, output; reset, update, new.
GATES = {"lstm": 4, "gru": 3, "rnn_tanh": 1, "rnn_relu": 1}


@dataclass(frozen=True)
class Cell:
    """One layer of a recurrent operator in one direction: positions of its tensors in ``params``.

    Args:
        input: of the matrix (gates * size, inputs).
        recurrent: of the matrix (gates * size, results).
        biases: of the two vectors (gates * size,), or none.
        projection: of the matrix (results, size) behind an LSTM, or None.
        backwards: whether it reads the sequence from its end.
    """

    input: int
    recurrent: int
    biases: tuple[int, ...]
    projection: int | None
    backwards: bool


@dataclass(frozen=True)
class Matrix:
    """A weight of a recurrent operator.

    Args:
        name: of the argument, as `tersenet.graph.walk.argument` takes it.
        node: that makes it.
        gates: that lie one below the other in it; 1 for a projection.
    """

    name: str
    node: fx.Node
    gates: int


def states_of(node: fx.Node) -> list[fx.Node]:
    """The states that an operator starts from: the hidden one, and an LSTM's cell."""
    held = bind(node)["hx"]
    return list(held) if isinstance(held, list | tuple) else [held]


def shape_of_layer(node: fx.Node) -> Shape:
    """What an operator is besides its weights."""
    given = bind(node)
    return Shape(kind_of(node), given["has_biases"], given["num_layers"], given["bidirectional"], given["batch_first"])


def cells(node: fx.Node) -> list[Cell]:
    """Layer by layer, the forward direction first."""
    given = bind(node)
    directions = 2 if given["bidirectional"] else 1
    count = len(given["params"]) // (given["num_layers"] * directions)
    biases = 2 if given["has_biases"] else 0
    return [
        Cell(
            input=start,
            recurrent=start + 1,
            biases=tuple(range(start + 2, start + 2 + biases)),
            projection=start + count - 1 if count > 2 + biases else None,
            backwards=directions == 2 and number % 2 == 1,
        )
        for number, start in enumerate(range(0, len(given["params"]), count))
    ]


def matrices(node: fx.Node) -> list[Matrix]:
    """Every weight that is multiplied by, in the order of ``params``."""
    parameters, gates = bind(node)["params"], GATES[kind_of(node)]
    found = []
    for cell in cells(node):
        found += [Matrix(f"params.{place}", parameters[place], gates) for place in (cell.input, cell.recurrent)]
        if cell.projection is not None:
            found.append(Matrix(f"params.{cell.projection}", parameters[cell.projection], 1))
    return found


def starts_from_zeros(module: fx.GraphModule, state: fx.Node) -> bool:
    """Whether a state is nothing but zeros, however it was made."""
    if is_constant(state):
        return not bool(constant(module, state).any())
    kind = kind_of(state)
    if kind == "fill":
        name = str(state.target)
        return "zeros" in name or ("full" in name and bind(state)["fill_value"] == 0)
    return kind in ("expand", "reshape", "permute", "slice", "select", "tile") and starts_from_zeros(module, state.args[0])  # type: ignore[arg-type]


def keeps_states_to_itself(module: fx.GraphModule, node: fx.Node) -> bool:
    """Whether a recurrent operator starts from zeros and nobody reads an LSTM's last cell state."""
    reads_cell = any(reader.args[1] == 2 and reader.users for reader in node.users)
    return all(starts_from_zeros(module, state) for state in states_of(node)) and not reads_cell
