"""A network with its plan in it: what the shipped file should compute, in floats."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from tersenet.graph.deploy import deployable
from tersenet.graph.rewrite import Simulation, apply_plan
from tersenet.model import Model
from tersenet.plan import QuantizationPlan


def simulate(model: Model, plan: QuantizationPlan, arithmetic: Mapping[str, str] | None = None) -> Model:
    """The deployable graph with fake quantization at the plan's points; a callable of the same inputs.

    Args:
        model: the network.
        plan: one of its plans.
        arithmetic: kind of operator -> the library whose kernel of it is followed to the last step: `Capabilities.arithmetic` of one of
            the runtimes that the plan serves. None: results are rounded once.
    """
    module = deployable(model, plan)
    inputs = {node.name for node in module.graph.nodes if node.op == "placeholder"}
    apply_plan(module, plan.in_bytes(), Simulation(arithmetic or {}, frozenset(inputs | plan.float_operators.keys()), plan.narrow))
    return replace(model, graph=module, plans=())
