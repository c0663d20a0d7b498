"""Which channels, heads and hidden units of a network must leave together, what that would save, and which must stay and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import fx

from tersenet.graph.cost import cost
from tersenet.graph.dimensions.atoms import Vector
from tersenet.graph.dimensions.propagate import Propagation, propagate
from tersenet.graph.dimensions.site import Fixed
from tersenet.graph.operators import kind_of
from tersenet.graph.shuffles import open_shuffles
from tersenet.graph.walk import layer_of
from tersenet.model import Model

Alive = NDArray[np.bool_]


@dataclass(frozen=True)
class Group:
    """Units between which one chooses: they are made by the same layers, and each leaves for itself.

    Args:
        name: the first of its layers.
        layers: whose weights make these channels.
        units: numbers of classes of `Dependencies`; each is what leaves together.
        channels: how many channels of the widest of the layers one unit is: 1, or the width of a head.
        why: why none can leave ("" where they can), naming the operator that ties them.
        macs, parameters: what all units together take part in.
    """

    name: str
    layers: tuple[str, ...]
    units: tuple[int, ...]
    channels: int
    why: str
    macs: int
    parameters: int

    @property
    def width(self) -> int:
        return len(self.units)


@dataclass(frozen=True)
class Slice:
    """Where units stand in one axis of one tensor.

    Args:
        tensor: its name in the model.
        axis: of the tensor.
        unit: the unit of each index of that axis.
    """

    tensor: str
    axis: int
    unit: Vector


@dataclass(frozen=True)
class Dependencies:
    """What leaves together in a model.

    Args:
        model: the network.
        module: its graph, in the form that is cut.
        propagation: axes of every value.
        groups: in the order in which the network runs.
    """

    model: Model
    module: fx.GraphModule
    propagation: Propagation
    groups: tuple[Group, ...]

    @property
    def everything(self) -> Alive:
        """All units alive."""
        return np.ones(len(self.propagation.classes), bool)

    def units(self, axis: Vector) -> Vector:
        """The unit of each index of an axis."""
        return self.propagation.classes.of[axis]

    @cached_property
    def slices(self) -> tuple[Slice, ...]:
        """Every axis of every tensor that units stand in; a tensor with several names once."""
        found, seen = [], set()
        for name, axes in self.propagation.constants.items():
            key = id(held(self.module, name))
            if key not in seen:
                seen.add(key)
                found += [Slice(name, position, self.units(axis)) for position, axis in enumerate(axes) if not isinstance(axis, Fixed)]
        return tuple(found)

    def macs(self, alive: Alive) -> int:
        """Multiply-accumulates of one sample with these units alive."""
        return round(sum(count * np.prod([alive[units].mean() for units in axes]) for count, axes in self._terms) + self._constant_macs)

    def parameters(self, alive: Alive) -> int:
        """Numbers in all float tensors with these units alive."""
        return sum(int(np.prod([rest, *(alive[units].sum() for units in axes)])) for rest, axes in self._tensors)

    @cached_property
    def _costs(self) -> Mapping[str, int]:
        return {name: share.macs for name, share in cost(self.model).nodes.items()}

    @cached_property
    def _terms(self) -> list[tuple[float, list[Vector]]]:
        return [
            (self._costs.get(node.name, 0) * term.share, [self.units(axis) for axis in term.axes if not isinstance(axis, Fixed)])
            for node, terms in self.propagation.terms.items()
            for term in terms
        ]

    @cached_property
    def _constant_macs(self) -> int:
        counted = {node.name for node, terms in self.propagation.terms.items() if terms}
        return sum(macs for name, macs in self._costs.items() if name not in counted)

    @cached_property
    def _tensors(self) -> list[tuple[int, list[Vector]]]:
        found, seen = [], set()
        for name, axes in self.propagation.constants.items():
            tensor = held(self.module, name)
            if id(tensor) not in seen and tensor.is_floating_point():
                seen.add(id(tensor))
                rest = int(np.prod([len(axis) for axis in axes if isinstance(axis, Fixed)], dtype=np.int64))
                found.append((rest, [self.units(axis) for axis in axes if not isinstance(axis, Fixed)]))
        return found

    @cached_property
    def added(self) -> frozenset[int]:
        """Units of channels that an addition of two computed values ties: the stream of a residual network."""
        found: set[int] = set()
        computed: set[fx.Node] = set()
        for node in self.module.graph.nodes:
            if node.op == "placeholder" or not computed.isdisjoint(node.all_input_nodes):
                computed.add(node)
            if kind_of(node) == "add" and len(operands := computed.intersection(node.all_input_nodes)) == 2:
                both = (tuple(self.propagation.values[operand]) for operand in operands)
                for one, other in zip(*(reversed(axes) for axes in both), strict=False):
                    if not isinstance(one, Fixed) and not isinstance(other, Fixed):
                        found.update(self.units(one).tolist())
        return frozenset(found)

    def worth(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(MACs, parameters) that each unit takes part in; what two units share counts for both."""
        macs, parameters = np.zeros(len(self.propagation.classes)), np.zeros(len(self.propagation.classes))
        for count, axes in self._terms:
            for units in axes:
                np.add.at(macs, units, count / len(units))
        for rest, axes in self._tensors:
            whole = rest * float(np.prod([len(units) for units in axes]))
            for units in axes:
                np.add.at(parameters, units, whole / len(units))
        return macs, parameters


def dependencies(model: Model, *, heads: bool = True) -> Dependencies:
    """Find what leaves together.

    Args:
        model: a float network.
        heads: of attention, whole heads leave; else the same channels of every head.
    """
    module = open_shuffles(model.graph)
    found = Dependencies(model, module, propagate(module, heads=heads), ())
    return Dependencies(model, module, found.propagation, _groups(found))


def _groups(found: Dependencies) -> tuple[Group, ...]:
    """Units by the set of axes that they stand in: a layer's channels that also go another way are a group of their own."""
    propagation = found.propagation
    members: dict[int, list[int]] = {}
    axes = [found.units(axis) for _, axis in propagation.made]
    for number, axis in enumerate([*axes, *(found.units(axis) for axis in propagation.pieces)]):
        for unit in np.unique(axis):
            members.setdefault(int(unit), []).append(number)
    sets: dict[tuple[tuple[int, ...], str], list[int]] = {}
    for unit, numbers in members.items():
        if numbers[0] < len(axes):
            sets.setdefault((tuple(numbers), propagation.classes.why[unit]), []).append(unit)
    macs, parameters = found.worth()
    groups = []
    for (where, why), units in sorted(sets.items()):
        makers = [number for number in where if number < len(axes)]
        layers = tuple(dict.fromkeys(layer_of(propagation.made[number][0]) for number in makers))
        channels = max(int(np.isin(axes[number], units).sum()) for number in makers) // len(units)
        groups.append(Group(layers[0], layers, tuple(sorted(units)), max(1, channels), why, round(macs[units].sum()), round(parameters[units].sum())))
    return tuple(groups)


def held(module: fx.GraphModule, name: str) -> torch.Tensor:
    """The very tensor, not a view of it: what two names share is one."""
    owner, _, last = name.rpartition(".")
    holder: torch.nn.Module = module.get_submodule(owner)
    tensor: torch.Tensor = getattr(holder, last)
    return tensor
