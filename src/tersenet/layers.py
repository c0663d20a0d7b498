"""What quantization does to each layer: the float graph and its simulation, run side by side on a few samples."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import fx

from tersenet.graph.deploy import deployable
from tersenet.graph.operators import kind_of
from tersenet.graph.rewrite import Simulation, apply_plan
from tersenet.graph.walk import bind, constant, layer_of
from tersenet.measure.layers import LayerMeter, weight_range
from tersenet.model import Model
from tersenet.plan import QuantizationPlan
from tersenet.record import Layer, WeightRange


class _Watcher(fx.Interpreter):
    """Runs a graph and keeps the values of chosen nodes, under the names that the caller gives them."""

    def __init__(self, module: fx.GraphModule, names: Mapping[str, str]) -> None:
        super().__init__(module)
        self.names = names
        self.seen: dict[str, np.ndarray] = {}

    def run_node(self, node: fx.Node) -> Any:
        value = super().run_node(node)
        if node.name in self.names:
            self.seen[self.names[node.name]] = value.numpy()
        return value


def watch(module: fx.GraphModule, names: Mapping[str, str], arrays: tuple[np.ndarray, ...]) -> dict[str, np.ndarray]:
    """Inner values of a graph for one batch.

    Args:
        module: any graph.
        names: node name -> the key of its value in the answer.
        arrays: one for each input.
    """
    watcher = _Watcher(module, names)
    with torch.no_grad():
        watcher.run(*(torch.from_numpy(np.ascontiguousarray(array)) for array in arrays))
    return watcher.seen


def compare_layers(model: Model, plan: QuantizationPlan, batches: Iterable[tuple[np.ndarray, ...]]) -> tuple[Layer, ...]:
    """Error, use of the range and histograms of every unit's result.

    Args:
        model: the float network.
        plan: the plan.
        batches: a few small batches; both graphs' inner values of one batch are held at once.

    Returns:
        One record for each unit whose result is quantized, and for each network input, in the order in which they run.
    """
    plain = deployable(model)
    simulated = deployable(model)
    apply_plan(simulated, plan, Simulation())
    nodes = {node.name: node for node in plain.graph.nodes}
    anchors = {unit.result: nodes[unit.anchor] for unit in plan.units.values()}
    names = [name for name in plan.values if name in anchors or nodes[name].op == "placeholder"]
    meters = {name: _meter(nodes[name], anchors.get(name), plan) for name in names}
    for arrays in batches:
        reference = watch(plain, {name: name for name in names}, arrays)
        quantized = watch(simulated, {_quantized_name(simulated, name): name for name in names}, arrays)
        for name in names:
            meters[name].add(reference[name], quantized[name])
    return tuple(meters[name].layer(_weights(plain, anchors.get(name), plan)) for name in names)


def _meter(node: fx.Node, anchor: fx.Node | None, plan: QuantizationPlan) -> LayerMeter:
    if anchor is None:
        return LayerMeter(node.name, plan.values[node.name].range, "input")
    return LayerMeter(layer_of(anchor), plan.values[node.name].range, kind_of(anchor))


def _quantized_name(module: fx.GraphModule, name: str) -> str:
    """The node of a simulation that holds a quantized value."""
    source = next(node for node in module.graph.nodes if node.name == name)
    return next((user.name for user in source.users if user.name.startswith(f"{name}_quantized")), name)


def _weights(module: fx.GraphModule, anchor: fx.Node | None, plan: QuantizationPlan) -> WeightRange | None:
    encoding = plan.units[anchor.name].weights.get("weight") if anchor is not None else None
    if anchor is None or encoding is None:
        return None
    return weight_range(constant(module, bind(anchor)["weight"]).numpy(), encoding)
