"""Values of fewer than 8 bits as runtimes hold them: in a byte each, at its upper end, and clipped below.

Kernels compute with 8 bits and cut their results off at the ends of those. So the largest integer of a narrower grid is put on 127, where that
is done for nothing, and only the other end is left. A relu is such an end too, and what selects, moves or averages values of one grid leaves none
of it; every other value gets an operator that clips it behind the one that makes it. Once that is done the plan is one of 8 bits, which every
exporter can write, and files compute what the narrower grid was simulated with.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import fx

from tersenet.capabilities import Kernel
from tersenet.graph.build import call
from tersenet.graph.operators import MOVEMENTS, kind_of
from tersenet.graph.walk import bind, calls, is_float
from tersenet.plan import QuantizationPlan, Unit
from tersenet.schemes import Encoding

aten = torch.ops.aten
# Results lie between the smallest and the largest of what they are made of.
WITHIN = frozenset(MOVEMENTS - {"embedding"}) | {
    *("avg_pool1d", "avg_pool2d", "adaptive_avg_pool1d", "adaptive_avg_pool2d", "mean", "amax", "amin", "maximum", "minimum", "resize_bilinear"),
    *("adaptive_max_pool1d",),
}
# A kernel may round what lies halfway between two integers to either.
SAFELY = 0.25
UNCLIPPED = "unclipped"


def clipped_values(module: fx.GraphModule, plan: QuantizationPlan) -> tuple[str, ...]:
    """Names of the values of fewer than 8 bits that need an operator of their own that clips them."""
    nodes = {node.name: node for node in module.graph.nodes}
    return tuple(name for name in plan.narrow if not _ends_above(nodes[name], plan))


def clip_narrow_values(module: fx.GraphModule, plan: QuantizationPlan, kernels: Mapping[str, Kernel]) -> QuantizationPlan:
    """Put the clips of values of fewer than 8 bits into a deployable graph, in place.

    A clip takes the name of the value that it clips, and what made that becomes ``..._unclipped``.

    Args:
        module: the deployable graph.
        plan: stays as it is.
        kernels: of the runtime that it is written for; one that can clip its own result does so.

    Returns:
        a plan of 8 bits for the graph as it is now; the same plan where no value has fewer.
    """
    if not plan.narrow:
        return plan
    nodes, stored = {node.name: node for node in module.graph.nodes}, plan.in_bytes()
    values, units = dict(stored.values), dict(stored.units)
    makers = {unit.result: unit for unit in units.values()}
    for name in clipped_values(module, plan):
        node, encoding = nodes[name], stored.values[name]
        inner = _clip(module, node, plan.values[name].range[0])
        maker = makers.get(name)
        if maker is not None:
            units = {key: _renamed(unit, name, inner) if unit is maker else unit for key, unit in units.items()}
            units = {unit.anchor: unit for unit in units.values()}
        if maker is not None and len(maker.nodes) == 1 and "clamp" in kernels[maker.kind].fuses:
            units[inner] = replace(units[inner], nodes=(inner, name))
        else:
            values[inner] = replace(encoding, role="activation")
            units[name] = Unit((name,), "clamp", rounding=kernels["clamp"].rounding if "clamp" in kernels else "nearest")
    module.graph.lint()
    module.recompile()
    return replace(stored, values=values, units=units)


def _clip(module: fx.GraphModule, node: fx.Node, low: float) -> str:
    """Insert what clips a value, under its name; returns the name that the value has now."""
    name, readers = node.name, list(node.users)
    node._rename(f"{name}_{UNCLIPPED}")
    clip = call(module, aten.clamp.default, (node, low), before=node.next if node.op != "placeholder" else next(calls(module)), like=node)
    clip.name = name
    for reader in readers:
        reader.replace_input_with(node, clip)
    return node.name


def _renamed(unit: Unit, name: str, other: str) -> Unit:
    return replace(unit, nodes=tuple(other if each == name else each for each in unit.nodes))


def _ends_above(node: fx.Node, plan: QuantizationPlan) -> bool:
    """Whether no result of an operator lies below the grid that it goes on."""
    low, encoding = _least(node, plan), plan.values[node.name]
    return low is not None and low / encoding.scale[0] + encoding.zero_point[0] >= encoding.scheme.lowest - SAFELY


def _least(node: fx.Node, plan: QuantizationPlan) -> float | None:
    """The smallest number that an operator can return, by what its inputs are; None where that is not known."""
    kind = kind_of(node)
    if kind in ("relu", "relu6"):
        return 0.0
    held = bind(node) if kind in ("clamp", "pad") else {}
    if kind == "clamp" and held["min"] is not None:
        return float(held["min"])
    if (kind not in WITHIN and kind != "clamp") or (kind.startswith("avg_pool") and bind(node).get("divisor_override") is not None):
        return None
    lows = [None if encoding is None else encoding.range[0] for encoding in _read(node, plan)]
    if kind == "clamp" and held["max"] is not None:
        lows.append(float(held["max"]))
    if kind == "pad":
        lows.append(float(held.get("value") or 0.0) if held.get("mode", "constant") == "constant" else 0.0)
    return min((low for low in lows if low is not None), default=None) if None not in lows else None


def _read(node: fx.Node, plan: QuantizationPlan) -> list[Encoding | None]:
    """The grids of the floats that an operator reads; a part of a split reads what is split, one of anything else nothing that is known."""
    sources = node.all_input_nodes
    if kind_of(node) == "getitem":
        sources = sources[0].all_input_nodes
        if kind_of(node.all_input_nodes[0]) not in WITHIN:
            return [None]
    return [plan.values.get(source.name) for source in sources if is_float(source)]
