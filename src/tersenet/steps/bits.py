"""How many bits each value has where fewer than 8 were asked for, and which values keep 8, and why."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from torch import fx

from tersenet.graph.operators import kind_of
from tersenet.graph.walk import is_constant, outputs
from tersenet.schemes import INTEGERS
from tersenet.steps.joint import common_groups
from tersenet.steps.placement import Placement

BYTE = 8
IN, OUT = "the network's inputs keep 8 bits", "the network's outputs, and what its last softmax or sigmoid reads, keep 8 bits"
FIXED = "a kernel fixes the grid of its result, and that has 8 bits"
HELD, CONVERTED = "constants keep 8 bits", "it is put on a second grid for one of its readers, which keeps 8 bits"
# Kinds that make scores of what they read: behind the last layer they belong to the output.
SCORES = frozenset({"softmax", "log_softmax", "sigmoid", "tanh"})


@dataclass(frozen=True)
class Bits:
    """Bits of values.

    Args:
        fewer: value -> how many it has, where those are fewer than 8.
        kept: value of 8 bits of which fewer were asked for -> why.
    """

    fewer: Mapping[str, int] = field(default_factory=dict)
    kept: Mapping[str, str] = field(default_factory=dict)


def bits_of_values(module: fx.GraphModule, placements: Sequence[Placement], asked: Callable[[Sequence[str]], str]) -> Bits:
    """Choose the bits of every value, the same for all runtimes, so that one network can learn for them.

    Args:
        module: the deployable graph.
        placements: one for each runtime.
        asked: the integer type that was asked for the value that some nodes (an operator, and the activation behind it) make.
    """
    groups, wanted, why = common_groups(placements), dict[str, int](), dict[str, str]()
    results = {node.name for node in outputs(module)}
    for placement in placements:
        makers = {nodes[-1].name: [node.name for node in nodes] for _, nodes in placement.integers()}
        converted = set(placement.uses.values())
        for name, node in placement.values.items():
            group, bits = groups[name], INTEGERS[asked(makers.get(name, [name]))][0]
            wanted[group] = max(wanted.get(group, 0), bits)
            found = _why_a_byte(node, results)
            found = found or (FIXED if placement.groups[name] in placement.fixed else CONVERTED if placement.groups[name] in converted else "")
            if found and why.get(group, HELD) == HELD:
                why[group] = found
    narrow = {group: bits for group, bits in wanted.items() if bits < BYTE}
    names = list(dict.fromkeys(name for placement in placements for name in placement.values))
    return Bits(
        {name: narrow[groups[name]] for name in names if groups[name] in narrow and groups[name] not in why},
        {name: why[groups[name]] for name in names if groups[name] in narrow and groups[name] in why},
    )


def _why_a_byte(node: fx.Node, results: set[str]) -> str:
    """Why a value has 8 bits, whatever was asked for; "" where it may have fewer."""
    if node.op == "placeholder":
        return IN
    if is_constant(node):
        return HELD
    if node.name in results or any(kind_of(reader) in SCORES and reader.name in results for reader in node.users):
        return OUT
    return ""
