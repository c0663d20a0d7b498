"""What quantization does to each layer: the float graph and its simulation, run side by side on a few samples."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import fx

from tersenet.graph.deploy import deployable
from tersenet.graph.operators import kind_of
from tersenet.graph.simulate import simulate
from tersenet.graph.walk import bind, constant, layer_of
from tersenet.measure.agreement import sqnr_db
from tersenet.measure.layers import LayerMeter, weight_range
from tersenet.model import Model, as_tensors
from tersenet.plan import QuantizationPlan
from tersenet.record import Layer, WeightRange
from tersenet.target import Export


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
        watcher.run(*as_tensors(arrays))
    return watcher.seen


def compare_layers(model: Model, plan: QuantizationPlan, batches: Iterable[tuple[np.ndarray, ...]]) -> dict[str, Layer]:
    """Error, use of the range and histograms of every unit's result.

    Args:
        model: the float network.
        plan: the plan.
        batches: a few small batches; both graphs' inner values of one batch are held at once.

    Returns:
        By value: one record for each unit whose result is quantized, and for each network input, in the order in which they run.
    """
    plain = deployable(model)
    simulated = simulate(model, plan).graph
    nodes = {node.name: node for node in plain.graph.nodes}
    anchors = {unit.result: nodes[unit.anchor] for unit in plan.units.values()}
    names = [name for name in plan.values if name in anchors or nodes[name].op == "placeholder"]
    meters = {name: _meter(nodes[name], anchors.get(name), plan) for name in names}
    for arrays in batches:
        reference = watch(plain, {name: name for name in names}, arrays)
        quantized = watch(simulated, {_quantized_name(simulated, name): name for name in names}, arrays)
        for name in names:
            meters[name].add(reference[name], quantized[name])
    return {name: meters[name].layer(_weights(plain, anchors.get(name), plan)) for name in names}


def simulated_values(
    model: Model, plan: QuantizationPlan, arrays: tuple[np.ndarray, ...], arithmetic: Mapping[str, str] | None = None
) -> dict[str, np.ndarray]:
    """Every quantized activation of the simulation for one batch, by the name of the value; `arithmetic` as `simulate` takes it."""
    simulated = simulate(model, plan, arithmetic).graph
    activations = {node.name for node in simulated.graph.nodes if node.op != "get_attr"}
    return watch(simulated, {_quantized_name(simulated, name): name for name in plan.values if name in activations}, arrays)


def file_agreement(simulated: Mapping[str, np.ndarray], inner: Mapping[str, np.ndarray], export: Export) -> dict[str, float]:
    """How well a file's own inner tensors agree with the simulation's, in decibels.

    Args:
        simulated: by the name of the value.
        inner: the file's tensors for the same sample, in floats, by their names in the file.
        export: says which tensor holds a value, and how its axes lie.

    Returns:
        By value, where the file still has it in the same shape.
    """
    found = {}
    for name, expected in simulated.items():
        measured = inner.get(export.names.get(name, ""))
        if measured is None:
            continue
        axes = export.axes.get(name)
        if axes is not None and len(axes) == measured.ndim:
            measured = measured.transpose(np.argsort(axes))
        if expected.ndim and measured.shape[1:] == expected.shape[1:]:
            measured = measured[: len(expected)]  # a file of a larger batch was given the sample as often as it takes
        if measured.shape == expected.shape:
            found[name] = sqnr_db(expected, measured)
    return found


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
