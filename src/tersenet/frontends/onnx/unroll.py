"""Loops whose number of turns the file states, as their bodies one after another.

A ``Loop`` is written out where its trip count is a constant and its condition stays true; a ``Scan`` where the file states the length of the axis
that it goes along. Every other one depends on the data, and stays what it is: refused by its name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from tersenet.errors import ModelError
from tersenet.frontends.onnx.node import Node
from tersenet.frontends.onnx.tensors import Constant

MOST_TURNS = 1000
_OPSET = 13  # in which Unsqueeze takes its axes as an input


@dataclass(frozen=True)
class Turns:
    """What writing out needs of the builder of a program.

    Args:
        constants: of the program, by name.
        fresh: a name that is not taken, like the one given.
        body: writes the body once more, for values by the names of its inputs, and gives its results.
        emit: writes one operator, and gives the name of its result.
        source: what a chain of identities that ends in a value starts from.
    """

    constants: dict[str, Constant]
    fresh: Callable[[str], str]
    body: Callable[[dict[str, str]], tuple[str, ...]]
    emit: Callable[[Node, tuple[str, ...]], str]
    source: Callable[[str], str]

    def number(self, value: int | Sequence[int], name: str) -> str:
        """A constant of whole numbers."""
        made = self.fresh(name)
        self.constants[made] = Constant(torch.tensor(value, dtype=torch.int64), "int64")
        return made

    def stacked(self, parts: Sequence[str], axis: int, name: str) -> str:
        """One value of each turn, along a new axis."""
        places = self.number([axis], f"{name}_axis")
        rows = tuple(self.emit(Node("Unsqueeze", "", _OPSET, f"{name}_row"), (part, places)) for part in parts)
        return self.emit(Node("Concat", "", _OPSET, name, {"axis": axis}), rows)


def loop_turns(constants: Mapping[str, Constant], inputs: Sequence[str]) -> int | None:
    """The number of turns of a Loop; None where the data decide."""
    count, condition = (constants.get(name) if name else None for name in (inputs[0], inputs[1]))
    begins = not inputs[1] or (condition is not None and bool(condition.value.reshape(-1)[0]))
    if count is None or not begins:
        return None
    turns = int(count.value.reshape(-1)[0])
    return turns if 0 < turns <= MOST_TURNS else None


def loop(turns: Turns, graph: Any, inputs: Sequence[str], count: int, name: str) -> list[str]:
    """The results of a Loop: its last states, then what it collects.

    Raises:
        ModelError: its condition may become false.
    """
    condition, states = inputs[1], list(inputs[2:])
    if not condition:
        condition = turns.fresh(f"{name}_goes_on")
        turns.constants[condition] = Constant(torch.tensor(True), "bool")
    collected: list[list[str]] = []
    for turn in range(count):
        given = [turns.number(turn, f"{name}_turn"), condition, *states]
        made = turns.body(dict(zip((entry.name for entry in graph.input), given, strict=True)))
        goes_on = turns.source(made[0])
        held = turns.constants.get(goes_on)
        if goes_on != turns.source(condition) and (held is None or not bool(held.value.reshape(-1)[0])):
            raise ModelError(f"the node {name} (Loop) ends when the data say so; only a loop with a constant number of turns is written out.")
        states = list(made[1 : 1 + len(states)])
        collected.append(list(made[1 + len(states) :]))
    return [*states, *(turns.stacked(parts, 0, f"{name}_all") for parts in zip(*collected, strict=True))]


def scan(turns: Turns, graph: Any, inputs: Sequence[str], length: int, name: str, attributes: Mapping[str, Any]) -> list[str]:
    """The results of a Scan: its last states, then what it collects."""
    count = int(attributes["num_scan_inputs"])
    states, sequences = list(inputs[: len(inputs) - count]), inputs[len(inputs) - count :]
    axes, backwards = _listed(attributes, "scan_input_axes", count), _listed(attributes, "scan_input_directions", count)
    collected: list[list[str]] = []
    for turn in range(length):
        given = list(states)
        for sequence, axis, reverse in zip(sequences, axes, backwards, strict=True):
            place = turns.number(length - 1 - turn if reverse else turn, f"{name}_turn")
            given.append(turns.emit(Node("Gather", "", _OPSET, f"{name}_step", {"axis": axis}), (sequence, place)))
        made = turns.body(dict(zip((entry.name for entry in graph.input), given, strict=True)))
        states = list(made[: len(states)])
        collected.append(list(made[len(states) :]))
    results = len(collected[0])
    axes, backwards = (_listed(attributes, f"scan_output_{what}", results) for what in ("axes", "directions"))
    orders = zip(zip(*collected, strict=True), axes, backwards, strict=True)
    return [*states, *(turns.stacked(parts[::-1] if reverse else parts, axis, f"{name}_all") for parts, axis, reverse in orders)]


def scan_length(attributes: Mapping[str, Any], inputs: Sequence[str], sizes: Callable[[str], Sequence[int | None] | None]) -> int | None:
    """The number of turns of a Scan; None where the file does not state it.

    Args:
        sizes: name of a value in the file -> its sizes, None for open ones; None where nothing is known.
    """
    count = int(attributes.get("num_scan_inputs", 0))
    if not 0 < count <= len(inputs):
        return None
    axes = _listed(attributes, "scan_input_axes", count)
    for name, axis in zip(inputs[len(inputs) - count :], axes, strict=True):
        known = sizes(name)
        if known and -len(known) <= axis < len(known) and known[axis] and 0 < known[axis] <= MOST_TURNS:  # type: ignore[operator]
            return known[axis]
    return None


def _listed(attributes: Mapping[str, Any], name: str, count: int) -> list[int]:
    found = list(attributes.get(name) or [0] * count)
    if len(found) != count:
        raise ModelError(f"a Scan must have {count} {name}, got {len(found)}.")
    return [int(number) for number in found]
