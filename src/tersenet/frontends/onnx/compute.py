"""One operator on what is known of its inputs: tensors, and sizes that are known while the network is traced."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import torch

from tersenet.errors import ModelError, TersenetError
from tersenet.frontends.onnx.node import Node, Operator
from tersenet.frontends.onnx.program import Operation
from tersenet.frontends.onnx.sizes import ARITHMETIC, MOVEMENTS, SOURCES, Sizes
from tersenet.frontends.onnx.table import CUSTOM, OPERATORS, REFUSED
from tersenet.graph.explain import first_line

Value = torch.Tensor | Sizes | None


def key(node: Node) -> str:
    """The operator's name in the table."""
    return f"{node.domain}.{node.kind}" if node.domain else node.kind


@cache
def _function(row: Operator) -> Callable[..., Any]:
    return getattr(importlib.import_module(f"tersenet.frontends.onnx.operators.{row.module}"), row.function)


def is_known(node: Node) -> bool:
    """Whether there is a function that computes it."""
    return key(node) in OPERATORS or key(node) in CUSTOM


def check_known(nodes: Sequence[Node]) -> None:
    """Every operator has a converter.

    Raises:
        ModelError: names all that have none, each with the reason, and says how to add one.
    """
    lacking = {key(node): node for node in nodes if not is_known(node)}
    if not lacking:
        return
    why = [f"{name} ({node.name}): {REFUSED[name]}" if name in REFUSED else f"{name} ({node.name})" for name, node in lacking.items()]
    raise ModelError(
        f"{len(lacking)} operators cannot be read: {'; '.join(why)}. A function that computes one is added with "
        "tersenet.frontends.onnx.table.CUSTOM['domain.Name'] = function."
    )


def compute(operation: Operation, values: Sequence[Value], known: Sequence[Sizes | None]) -> tuple[Value, ...]:
    """What an operator makes.

    Args:
        operation: has no branches.
        values: its inputs; None for one that is left out.
        known: for each input its numbers, where they are known while tracing.

    Raises:
        ModelError: an input must be known before the network runs and is not, or the operator fails; names the node.
    """
    node = operation.node
    try:
        result = _sizes(node, values, known)
        if result is None:
            result = _tensors(node, values, known)
    except TersenetError as error:
        raise type(error)(_named(node, str(error))) from error
    except (
        RuntimeError,
        TypeError,
        ValueError,
        IndexError,
        KeyError,
        ZeroDivisionError,
        OverflowError,
        AttributeError,
        NotImplementedError,
    ) as error:
        raise ModelError(_named(node, f"it fails: {first_line(error)}")) from error
    return result if isinstance(result, tuple) else (result,)


def _named(node: Node, text: str) -> str:
    start = f"the node {node.name} ({node.kind})"
    return text if text.startswith("the node ") else f"{start}: {text}"


def _sizes(node: Node, values: Sequence[Value], known: Sequence[Sizes | None]) -> Any:
    """The result as sizes; None where it is none."""
    if node.domain:
        return None
    if node.kind in SOURCES and isinstance(values[0], torch.Tensor):
        return SOURCES[node.kind](node, values[0])
    if node.kind in MOVEMENTS:  # how they move sizes must be plain numbers; anything else is a matter of tensors
        plain = all(isinstance(number, int) for entry in known[1:] if entry is not None for number in entry.flat)
        begins = isinstance(values[0], Sizes) and plain
    else:
        begins = node.kind in ARITHMETIC and any(isinstance(value, Sizes) for value in values)
    if begins and all(value is None or number is not None for value, number in zip(values, known, strict=True)):
        return ARITHMETIC[node.kind](node, *known)
    return None


def _tensors(node: Node, values: Sequence[Value], known: Sequence[Sizes | None]) -> Any:
    custom = CUSTOM.get(key(node))
    row = OPERATORS.get(key(node)) if custom is None else Operator("", "")
    if row is None:
        check_known([node])
    arguments = [_argument(row, place, value, number) for place, (value, number) in enumerate(zip(values, known, strict=True))]  # type: ignore[arg-type]
    while arguments and arguments[-1] is None:
        arguments.pop()
    return (custom or _function(row))(node, *arguments)


def _argument(row: Operator, place: int, value: Value, known: Sizes | None) -> Any:
    if value is None:
        return None
    if place in row.sizes:
        if known is None:
            raise ModelError(f"its input {place + 1} must be known before the network runs, and is computed from the data")
        return known.flat
    if place in row.numbers and known is not None:
        numbers = known.flat
        return numbers[0] if len(numbers) == 1 else list(numbers)
    if place in row.scalars and known is not None and not known.values.ndim:
        return known.flat[0]
    return value.tensor() if isinstance(value, Sizes) else value
