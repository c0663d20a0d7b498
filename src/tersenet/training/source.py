"""What the source of a network trained it with, and later training goes on with: penalties of weights and values, and constraints."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from tersenet.annotations import Constraint, Penalty
from tersenet.graph.marks import Watched
from tersenet.model import Model
from tersenet.numerics.regularization import penalty, scaled
from tersenet.training.hooks import Hook, Moment
from tersenet.training.options import Training


class Penalized(Hook):
    """Adds to the loss what weights and values cost.

    Args:
        penalties: name of a parameter -> what it costs. What values cost is told by the network itself (`tersenet.graph.marks`).
    """

    def __init__(self, penalties: Mapping[str, Penalty]) -> None:
        self.penalties = penalties

    def start(self, moment: Moment) -> None:
        held = dict(moment.module.named_parameters(remove_duplicate=False))
        self.rows = [(held[name], entry) for name, entry in self.penalties.items() if name in held]
        self.watched = [part for part in moment.module.modules() if isinstance(part, Watched)]

    def penalty(self, moment: Moment) -> Tensor | None:
        costs = [penalty(parameter, entry.l1, entry.l2, entry.orthogonal, entry.axes) for parameter, entry in self.rows]
        for part in self.watched:
            if part.added is not None:
                costs.append(part.added)
                part.added = None  # the graph of a step's gradients goes with the step
        return torch.stack(costs).sum() if costs else None


class Constrained(Hook):
    """Holds parameters to what their source held them to, behind every step.

    Args:
        constraints: name of a parameter -> what it is held to.
    """

    def __init__(self, constraints: Mapping[str, Constraint]) -> None:
        self.constraints = constraints

    def start(self, moment: Moment) -> None:
        held = dict(moment.module.named_parameters(remove_duplicate=False))
        self.rows = [(held[name], entry) for name, entry in self.constraints.items() if name in held]

    def after_step(self, moment: Moment) -> None:
        with torch.no_grad():
            for parameter, entry in self.rows:
                if entry.kind == "non-negative":
                    parameter.clamp_(min=0)
                else:
                    parameter.copy_(scaled(parameter, entry.lowest, entry.highest, entry.rate, entry.axes))


def of_source(model: Model, how: Training) -> list[Hook]:
    """The hooks for what a network came with; none where training is told to go without."""
    held = model.annotations
    if how.without_source_regularization:
        return []
    penalized = [Penalized(held.penalties)] if held.penalties or held.activities else []
    return [*penalized, *([Constrained(held.constraints)] if held.constraints else [])]
