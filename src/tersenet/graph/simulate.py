"""A network with its plan in it: what the shipped file should compute, in floats."""

from __future__ import annotations

from dataclasses import replace

from tersenet.graph.deploy import deployable
from tersenet.graph.rewrite import Simulation, apply_plan
from tersenet.model import Model
from tersenet.plan import QuantizationPlan


def simulate(model: Model, plan: QuantizationPlan) -> Model:
    """The deployable graph with fake quantization at the plan's points; a callable of the same inputs."""
    module = deployable(model, plan)
    apply_plan(module, plan, Simulation())
    return replace(model, graph=module, plans=())
