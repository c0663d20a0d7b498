"""One plan that several runtimes' plans agree with: what one network learns for all of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from tersenet.numerics.affine import encode
from tersenet.plan import QuantizationPlan, Unit
from tersenet.schemes import Encoding, Scheme
from tersenet.step import Change
from tersenet.steps.placement import Placement


@dataclass(frozen=True)
class Joint:
    """The plans' common network.

    Args:
        plan: every value that a runtime has in integers is, on one grid for all; its encodings name their groups (`Encoding.shared`).
        groups: each value of any plan -> the group whose numbers it takes.
        fixed: groups whose numbers a kernel demands.
        notes: where the runtimes differ, and what was done.
    """

    plan: QuantizationPlan
    groups: Mapping[str, str]
    fixed: frozenset[str]
    notes: tuple[Change, ...]


def joined(plans: Sequence[QuantizationPlan], placements: Sequence[Placement]) -> Joint:
    """The joint plan.

    Values that must have equal numbers in one runtime have them for all. A value that one runtime computes within a fused operator
    is not rounded on its way there; where another runtime rounds it, it takes the numbers of its group. Of two grids of a weight the
    stricter is taken: fewer scales, the larger of two scales, the narrower integers.

    Args:
        plans: one for each runtime.
        placements: what they were made of.
    """
    groups = common_groups(placements)
    within = {name for plan in plans for unit in plan.units.values() if not unit.dynamic for name in unit.nodes[:-1]}
    fixed = frozenset(groups[name] for placement in placements for name, group in placement.groups.items() if group in placement.fixed)
    names = [name for name in dict.fromkeys(name for plan in plans for name in plan.values) if name not in within]
    members: dict[str, list[Encoding]] = {}
    for name in names:
        members.setdefault(groups[name], []).extend(plan.values[name] for plan in plans if name in plan.values)
    numbers = {group: _spanning(encodings) for group, encodings in members.items()}
    values = {}
    for name in names:
        first = next(plan.values[name] for plan in plans if name in plan.values)
        values[name] = replace(numbers[groups[name]], role=first.role, shared=groups[name])
    units: dict[str, Unit] = {}
    notes = list(_partial(plans, names))
    for plan in plans:
        for anchor, unit in plan.units.items():
            units[anchor] = _stricter(units[anchor], unit, notes) if anchor in units else unit
    uses = {place: replace(numbers[groups[own]], shared=groups[own]) for place, own in _uses(placements) if groups[own] in numbers}
    serves = tuple(name for plan in plans for name in plan.serves)
    return Joint(QuantizationPlan(serves, values, units, uses), groups, fixed, tuple(notes))


def common_groups(placements: Sequence[Placement]) -> dict[str, str]:
    """Groups that overlap in any two placements are one; it is called by the first of its values."""
    parent: dict[str, str] = {}

    def find(name: str) -> str:
        while parent[name] != name:
            name = parent[name]
        return name

    for placement in placements:
        first: dict[str, str] = {}
        for name, group in placement.groups.items():
            parent.setdefault(name, name)
            one, other = find(first.setdefault(group, name)), find(name)
            parent[other] = one
    return {name: find(name) for name in parent}


def _uses(placements: Sequence[Placement]) -> Iterator[tuple[str, str]]:
    """Places of single readers, and a value of the group that each takes its numbers of."""
    for placement in placements:
        first = {group: name for name, group in reversed(placement.groups.items())}
        yield from ((place, first[group]) for place, group in placement.uses.items())


def _spanning(encodings: Sequence[Encoding]) -> Encoding:
    """One grid that spans all of them."""
    first = encodings[0]
    if all((other.scale, other.zero_point, other.scheme) == (first.scale, first.zero_point, first.scheme) for other in encodings):
        return first
    scheme = Scheme(
        first.scheme.dtype,
        symmetric=any(each.scheme.symmetric for each in encodings),
        power_of_two=any(each.scheme.power_of_two for each in encodings),
    )
    return encode(min(each.range[0] for each in encodings), max(each.range[1] for each in encodings), scheme)


def _stricter(one: Unit, other: Unit, notes: list[Change]) -> Unit:
    weights = dict(one.weights)
    for name, encoding in other.weights.items():
        mine = weights.get(name)
        if mine is None or encoding.role == "bias":
            weights[name] = mine or encoding
        elif mine != encoding:
            weights[name] = _strictest(mine, encoding)
            if mine.scheme.granularity != encoding.scheme.granularity:
                found = weights[name].scheme.granularity
                notes.append(Change(f"{one.anchor}.{name}", f"kernels take scales of different kinds; it learns {found} scales for all"))
    return replace(one, weights=weights)


def _strictest(one: Encoding, other: Encoding) -> Encoding:
    restricted = one.scheme.restricted or other.scheme.restricted
    if one.scheme.granularity != other.scheme.granularity:
        coarse = min(one, other, key=lambda each: len(each.scale))
        return replace(coarse, scheme=replace(coarse.scheme, restricted=restricted))
    scales = tuple(max(pair) for pair in zip(one.scale, other.scale, strict=True))
    return replace(one, scheme=replace(one.scheme, restricted=restricted), scale=scales)


def _partial(plans: Sequence[QuantizationPlan], names: Sequence[str]) -> Iterator[Change]:
    for name in names:
        without = [", ".join(plan.serves) for plan in plans if name not in plan.values]
        if without:
            yield Change(name, f"rounded while the network learns, for other runtimes have it in integers; {', '.join(without)} has it in float")
