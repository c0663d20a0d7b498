"""What a rule of the table sees of the operator that it speaks for: arguments, axes, and the ways to tie them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from tersenet.graph.dimensions.atoms import Atoms, Product, Vector

# Stands for the batch where it is open: reshapes are matched by sizes, so it must be no divisor of usual ones.
OPEN_BATCH = 13


@dataclass(frozen=True)
class Fixed:
    """An axis that is never cut: places of an image or a sequence, the batch, what comes from outside.

    Args:
        size: with an open batch taken as `OPEN_BATCH`.
        why: what it is, as a part of a sentence: "the input x".
    """

    size: int
    why: str

    def __len__(self) -> int:
        return self.size


Axis = Vector | Fixed
Axes = tuple[Axis, ...]
Value = Axes | tuple[Axes, ...]
ONE = Fixed(1, "an axis of one")


@dataclass(frozen=True)
class Term:
    """A share of an operator's multiply-accumulates.

    Args:
        share: of the operator's count; the shares of one operator sum to 1.
        axes: the count is proportional to how much of each of these is alive.
    """

    share: float
    axes: tuple[Axis, ...]


class Sizes:
    """Sizes as numbers."""

    def __init__(self, module: fx.GraphModule) -> None:
        self.known: dict[Any, int] = {}
        self.cache: dict[Any, int] = {}
        for node in module.graph.nodes:
            if node.op == "placeholder":
                for axis, size in enumerate(node.meta["val"].shape):
                    if isinstance(size, torch.SymInt):
                        self.known.setdefault(size.node.expr, OPEN_BATCH if axis == 0 else size.node.hint)

    def number(self, size: Any) -> int:
        if not isinstance(size, torch.SymInt):
            return int(size)
        expression = size.node.expr
        if expression not in self.cache:
            found = expression.subs(self.known)
            self.cache[expression] = int(found) if found.is_number else int(size.node.hint)
        return self.cache[expression]

    def shape(self, value: torch.Tensor) -> tuple[int, ...]:
        return tuple(self.number(size) for size in value.shape)


@dataclass
class Site:
    """One operator of the graph.

    Args:
        module: the graph.
        node: the operator.
        arguments: by the names of its schema.
        values: the axes of what has been computed so far.
        atoms: what is said about them.
        sizes: sizes as numbers.
        made: axes of channels that its weights make: what a user chooses the width of.
        pieces: axes that it takes parts of others as: none of them may be emptied.
        terms: how its multiply-accumulates depend on axes.
    """

    module: fx.GraphModule
    node: fx.Node
    arguments: Mapping[str, Any]
    values: Mapping[fx.Node, Value]
    atoms: Atoms
    sizes: Sizes
    made: list[Vector]
    pieces: list[Vector]
    terms: list[Term]

    def axes(self, argument: Any) -> Axes:
        """Of a tensor among the arguments, by its name in the schema or as a node."""
        node = self.arguments[argument] if isinstance(argument, str) else argument
        return self.values[node]  # type: ignore[return-value]

    def shape(self, result: int | None = None) -> tuple[int, ...]:
        """Of the result, or of one of several."""
        value = self.node.meta["val"]
        return self.sizes.shape(value if result is None else value[result])

    def tensors(self) -> list[fx.Node]:
        """The tensors that it reads, each once."""
        return [child for child in self.node.all_input_nodes if isinstance(child.meta.get("val"), torch.Tensor)]

    def fixed(self, size: int, why: str = "") -> Axis:
        return Fixed(size, why or f"places that {self.node.name} counts") if size != 1 else ONE

    def fresh(self, size: int) -> Axis:
        """An axis that is free so far: one that weights have, or whose indices all hold the same."""
        return self.atoms.fresh(size) if size != 1 else ONE

    def opened(self, axis: Axis) -> Vector:
        """An axis as atoms; those of one that is never cut are pinned."""
        if not isinstance(axis, Fixed):
            return axis
        made = self.atoms.fresh(axis.size)
        self.atoms.pin(made, f"{axis.why} meets it in {self.node.name}")
        return made

    def tie(self, *axes: Axis) -> Axis:
        """Let axes be cut alike, index by index; with one that is never cut, none is."""
        free = [axis for axis in axes if not isinstance(axis, Fixed)]
        held = [axis for axis in axes if isinstance(axis, Fixed)]
        if any(len(axis) != len(axes[0]) for axis in axes):
            for axis in free:
                self.pin(axis, f"{self.node.name} joins axes of different sizes")
            return self.fixed(len(axes[0]))
        for axis in free[1:]:
            self.atoms.unite(free[0], axis)
        if held and free:
            self.pin(free[0], f"{held[0].why} meets it in {self.node.name}")
        return free[0] if free else held[0]

    def pin(self, axis: Axis, why: str) -> None:
        if not isinstance(axis, Fixed):
            self.atoms.pin(axis, why)

    def refuse(self, axes: Sequence[Axis], why: str) -> Axes:
        """Pin axes; what they are to whoever reads them on."""
        for axis in axes:
            self.pin(axis, why)
        return tuple(self.fixed(len(axis), f"what {self.node.name} computes") for axis in axes)

    def product(self, whole: Axis, parts: Sequence[Axis]) -> None:
        """Say that an axis is made of others, row by row."""
        if isinstance(whole, Fixed):
            for part in parts:
                self.pin(part, f"{whole.why} meets it in {self.node.name}")
            return
        kept = tuple(None if isinstance(part, Fixed) else part for part in parts)
        self.atoms.products.append(Product(whole, kept, tuple(len(part) for part in parts), self.node.name))

    def broadcast(self, *operands: Axes) -> Axes:
        """Tie the axes of operands as broadcasting lines them up."""
        rank = max(len(axes) for axes in operands)
        padded = [(ONE,) * (rank - len(axes)) + tuple(axes) for axes in operands]
        result: list[Axis] = []
        for column in zip(*padded, strict=True):
            wide = [axis for axis in column if len(axis) != 1]
            result.append(self.tie(*wide) if wide else ONE)
        return tuple(result)
