"""Atoms: one for each index of each axis that may be cut. Which of them leave together, and which must stay.

An axis of a value is a vector of atoms, one for each index; an index is alive as long as its atom is. Rules of operators
*unite* atoms (they leave together), *pin* them (they stay, and why), and relate an axis to the axes that it is made of by a
*product*: where a reshape merges axes or splits one, an index of the whole is alive exactly where the indices of all parts
are. A rectangle stays one only if whole rows leave or whole columns do, so a product is settled by letting one part be cut
and pinning the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.int64]


@dataclass(frozen=True)
class Product:
    """A whole whose index (i, j, ...), counted row by row, is alive exactly where index i of the first part, j of the second, ... are.

    Args:
        whole: one atom for each combination of the parts' indices.
        parts: the atoms of each part; None for one that is never cut, with `sizes`.
        sizes: of the parts.
        where: the operator that merges or splits.
    """

    whole: Vector
    parts: tuple[Vector | None, ...]
    sizes: tuple[int, ...]
    where: str

    def spread(self, part: int) -> Vector:
        """The atoms of one part, one for each index of the whole."""
        atoms = self.parts[part]
        assert atoms is not None
        shape = [1] * len(self.sizes)
        shape[part] = self.sizes[part]
        return np.broadcast_to(atoms.reshape(shape), self.sizes).reshape(-1)

    def slices(self, part: int) -> NDArray[np.int64]:
        """The whole as a matrix: a row for each index of one part."""
        return np.moveaxis(self.whole.reshape(self.sizes), part, 0).reshape(self.sizes[part], -1)


@dataclass
class Atoms:
    """What the rules of a graph's operators said, and what follows from it."""

    count: int = 0
    left: list[Vector] = field(default_factory=list)
    right: list[Vector] = field(default_factory=list)
    pinned: list[tuple[Vector, int]] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    products: list[Product] = field(default_factory=list)
    preferred: list[Vector] = field(default_factory=list)

    def fresh(self, size: int) -> Vector:
        """New atoms."""
        self.count += size
        return np.arange(self.count - size, self.count)

    def unite(self, left: Vector, right: Vector) -> None:
        """Let atoms leave together, one by one."""
        self.left.append(left)
        self.right.append(right)

    def pin(self, atoms: Vector, why: str) -> None:
        """Let atoms stay."""
        if not self.reasons or self.reasons[-1] != why:
            self.reasons.append(why)
        self.pinned.append((atoms, len(self.reasons) - 1))

    def prefer(self, atoms: Vector) -> None:
        """Where a product can be settled by these or by others, let it be these."""
        self.preferred.append(atoms)

    def solve(self) -> Classes:
        """Settle all products, and sort the atoms into classes that leave together."""
        label: Vector = np.arange(self.count)
        waiting, chosen = list(self.products), list(self.preferred)
        while True:
            label = joined(label, self.left, self.right)
            self.left, self.right = [], []
            pins = self._pins(label)
            of_atoms = pins[label]
            left = [product for product in waiting if not self._settle(product, of_atoms)]
            if len(left) == len(waiting):
                if not left:
                    break
                self._choose(left[0], label, pins, chosen)
            waiting = left
        roots, dense = np.unique(label, return_inverse=True)
        why = [self.reasons[reason] if reason < len(self.reasons) else "" for reason in pins[roots]]
        return Classes(dense, tuple(why))

    def _pins(self, label: Vector) -> Vector:
        """For each root the first reason why it stays; as many as there are reasons where there is none."""
        pins = np.full(self.count, len(self.reasons))
        for atoms, reason in reversed(self.pinned):
            pins[label[atoms]] = reason
        return np.where(pins == len(self.reasons), np.iinfo(np.int64).max, pins)

    def _settle(self, product: Product, pins: Vector) -> bool:
        """Apply a product of which one part at most can be cut; False where more can."""
        nowhere = np.iinfo(np.int64).max
        parts = [part for part, atoms in enumerate(product.parts) if atoms is not None]
        if (pins[product.whole] < nowhere).all():
            why = self.reasons[int(pins[product.whole].min(initial=nowhere))] if len(product.whole) else product.where
            for part in parts:
                self.pin(self._part(product, part), why)
            return True
        alive = [part for part in parts if (pins[self._part(product, part)] == nowhere).any()]
        if len(alive) > 1:
            return False
        if alive:
            self.unite(product.whole, product.spread(alive[0]))
        else:
            stays = [int(pins[self._part(product, part)].min()) for part in parts]
            self.pin(product.whole, self.reasons[min(stays)] if stays else f"{product.where} ties it to axes of places")
        return True

    @staticmethod
    def _part(product: Product, part: int) -> Vector:
        atoms = product.parts[part]
        assert atoms is not None
        return atoms

    def _choose(self, product: Product, label: Vector, pins: Vector, chosen: list[Vector]) -> None:
        """Let one part of a product be cut, and pin the others: a preferred one, else the one with the most to choose from."""
        liked = np.zeros(self.count, bool)
        for axis in chosen:
            liked[label[axis]] = True
        scores = []
        for part, atoms in enumerate(product.parts):
            if atoms is not None:
                free = _free_rows(label[product.slices(part)], label[atoms], pins)
                scores.append((free > 1, bool(liked[label[atoms]].any()), free, -part))
        best = -max(scores)[3]
        for part, atoms in enumerate(product.parts):
            if atoms is not None and part != best:
                self.pin(atoms, f"{product.where} keeps this axis whole")
        chosen.append(self._part(product, best))


def _free_rows(rows: NDArray[np.int64], heads: Vector, pins: Vector) -> int:
    """How many independent, unpinned classes the rows of a product fall into if each row leaves as a whole."""
    flat, inverse = np.unique(np.concatenate([rows, heads[:, None]], 1), return_inverse=True)
    inverse = inverse.reshape(len(rows), -1)
    label = joined(np.arange(len(flat)), [np.repeat(inverse[:, 0], inverse.shape[1])], [inverse.reshape(-1)])
    stays = np.zeros(len(flat), bool)
    stays[label[pins[flat] < np.iinfo(np.int64).max]] = True
    return int((~stays[np.unique(label)]).sum())


def joined(label: Vector, left: Sequence[Vector], right: Sequence[Vector]) -> Vector:
    """Labels after uniting pairs: each element's label is the smallest element of its class.

    >>> joined(np.arange(4), [np.array([3])], [np.array([1])])
    array([0, 1, 2, 1])
    """
    if not left:
        return label
    first, second = np.concatenate(left), np.concatenate(right)
    label = label.copy()
    while len(first):
        first, second = label[first], label[second]
        apart = first != second
        first, second = first[apart], second[apart]
        # Each root hangs below the smallest that it is paired with: no circles, and few rounds where one has many partners.
        np.minimum.at(label, np.maximum(first, second), np.minimum(first, second))
        while not np.array_equal(deeper := label[label], label):
            label = deeper
    return label


@dataclass(frozen=True)
class Classes:
    """Atoms that leave together, as numbered classes.

    Args:
        of: class of each atom.
        why: for each class why it must stay, or "".
    """

    of: Vector
    why: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.why)
