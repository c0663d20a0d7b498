"""What a network is made of, and what each runtime would do with it; nothing is compressed."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from tersenet.frontends.table import load
from tersenet.graph.cost import cost
from tersenet.graph.dependencies import Group, dependencies
from tersenet.graph.deploy import deployable
from tersenet.graph.operators import kind_of
from tersenet.graph.walk import calls, layer_of
from tersenet.steps.placement import place
from tersenet.target import check_cpu
from tersenet.targets import table


def inspect_model(
    model: Any, targets: Sequence[str] = (), *, weights: str | None = None, trust: bool = False, length: int = 0, cpu: str = ""
) -> dict[str, Any]:
    """Layers, MACs and bytes of a network; which channels can leave; for each runtime what would be integers and what would stay in float, and why.

    `from_source` counts what came with it: grids of values and weights, masks, penalties, constraints, noise.

    Args:
        model: anything that `tersenet.load` takes.
        targets: runtimes; all whose packages are installed unless given.
        weights, trust, length: as in `tersenet.load`.
        cpu: instruction set that kernels are chosen for; this machine's unless given.
    """
    check_cpu(cpu)
    chosen = table.found(targets) or [target for target in table.TARGETS.values() if _installed(target.requires)]
    network = load(model, weights=weights, trust=trust, length=length)
    totals = cost(network)
    graph = deployable(network)
    rows = [
        {"name": node.name, "layer": layer_of(node), "kind": kind_of(node), "macs": totals.nodes[node.name].macs}
        for node in calls(graph)
        if node.name in totals.nodes
    ]
    plans = {}
    for target in chosen:
        capabilities = table.exporter(target).capabilities(cpu)
        placement = place(graph, capabilities, {}, {})
        left = [{"name": name, "why": why} for name, why in placement.float_operators.items()]
        integers = len(list(placement.integers()))
        plans[target.name] = {"integer_operators": integers, "integer_weights_alone": len(placement.units) - integers, "float_operators": left}
    return {
        "name": network.name,
        "format": network.format,
        "inputs": [vars(spec) for spec in network.inputs],
        "outputs": [vars(spec) for spec in network.outputs],
        "fixed_batch": network.fixed_batch,
        "parameters": totals.parameters,
        "macs": totals.macs,
        "float_bytes": totals.float_bytes,
        "from_source": {part.name: len(held) for part in fields(network.annotations) if (held := getattr(network.annotations, part.name))},
        "layers": rows,
        "pruning": [_prunable(group) for group in dependencies(network).groups],
        "targets": plans,
    }


def _prunable(group: Group) -> dict[str, Any]:
    """What a group of channels is, for a user: whose they are, how many leave at once, what all are worth, and why none can leave."""
    return {
        "layers": list(group.layers),
        "channels": group.width * group.channels,
        "at_once": group.channels,
        "macs": group.macs,
        "parameters": group.parameters,
        "cannot_leave": group.why,
    }


def _installed(modules: Sequence[str]) -> bool:
    return all(importlib.util.find_spec(module.partition(".")[0]) is not None for module in modules)
