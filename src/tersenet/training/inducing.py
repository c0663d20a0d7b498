"""Training that makes channels ready to leave: group lasso over what leaves together, and L1 on the factors of batch norm."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import fx

from tersenet.errors import RecipeError
from tersenet.graph.dependencies import Dependencies, dependencies, held
from tersenet.graph.operators import kind_of
from tersenet.graph.walk import bind, is_constant
from tersenet.model import Model
from tersenet.training.hooks import Hook, Moment
from tersenet.training.options import Training


class GroupLasso(Hook):
    """Behind each step every unit that may leave is scaled by ``max(0, 1 - t lambda sqrt(n) / |w|)``.

    This is the proximal operator of ``lambda sqrt(n) |w|``, w all n weights of the unit (rows of what makes it, columns of what reads it),
    t the learning rate: units that the loss does not need become exactly zero. A weight belongs to a unit by its row and to one by its column,
    and is scaled by both.

    Args:
        found: what leaves together in the network that learns.
        strength: lambda.

    Reference: Yuan and Lin 2006, "Model Selection and Estimation in Regression with Grouped Variables", equation 2.2; groups as in Fang et al. 2023,
    "DepGraph", section 3.3; the proximal step as in Parikh and Boyd 2014, "Proximal Algorithms", section 6.5.1, also behind adaptive optimizers.
    """

    def __init__(self, found: Dependencies, strength: float) -> None:
        self.strength = strength
        floats = ((part, held(found.module, part.tensor)) for part in found.slices)
        self.slices = [(part, tensor.numel() // len(part.unit)) for part, tensor in floats if tensor.is_floating_point() and tensor.dim() > 1]
        count = len(found.everything)
        self.free = torch.zeros(count, dtype=torch.bool)
        self.free[[unit for group in found.groups if not group.why for unit in group.units]] = True
        sizes = np.zeros(count)
        for part, each in self.slices:
            np.add.at(sizes, part.unit, each)
        self.roots = torch.from_numpy(np.sqrt(sizes)).float()

    def start(self, moment: Moment) -> None:
        parameters = dict(moment.module.named_parameters(remove_duplicate=False))
        named = [(parameters[part.tensor], part.axis, part.unit) for part, _ in self.slices if part.tensor in parameters]
        self.rows = [(parameter, axis, torch.from_numpy(unit).to(parameter.device)) for parameter, axis, unit in named]
        self.free, self.roots = (tensor.to(self.rows[0][0].device) if self.rows else tensor for tensor in (self.free, self.roots))

    def after_step(self, moment: Moment) -> None:
        with torch.no_grad():
            squares = torch.zeros_like(self.roots)
            for parameter, axis, unit in self.rows:
                squares.index_add_(0, unit, parameter.movedim(axis, 0).reshape(len(unit), -1).float().square().sum(1))
            least = _rate(moment) * self.strength * self.roots
            factors = torch.where(self.free, (1 - least / squares.sqrt().clamp_min(1e-12)).clamp_min(0), torch.ones_like(squares))
            for parameter, axis, unit in self.rows:
                shape = [-1 if place == axis else 1 for place in range(parameter.dim())]
                parameter.mul_(factors[unit].reshape(shape))


class Slimming(Hook):
    """Behind each step the factors of batch norm move by ``t lambda`` towards zero: the proximal operator of ``lambda |gamma|``.

    Args:
        names: of the factors.
        strength: lambda.

    Reference: Liu et al. 2017, "Learning Efficient Convolutional Networks through Network Slimming", equation 1; there by subgradients, here by
    the proximal step, so that factors become exactly zero.
    """

    def __init__(self, names: Sequence[str], strength: float) -> None:
        self.names, self.strength = names, strength

    def start(self, moment: Moment) -> None:
        parameters = dict(moment.module.named_parameters(remove_duplicate=False))
        self.factors = [parameters[name] for name in self.names if name in parameters]

    def after_step(self, moment: Moment) -> None:
        with torch.no_grad():
            for factor in self.factors:
                factor.copy_(factor.sign() * (factor.abs() - _rate(moment) * self.strength).clamp_min(0))


def _rate(moment: Moment) -> float:
    return float(moment.optimizer.param_groups[0]["lr"])


def inducing(model: Model, how: Training) -> list[Hook]:
    """The hooks that a training asks for.

    Raises:
        RecipeError: slimming of a network without batch norm, or group lasso where no channel can leave.
    """
    hooks: list[Hook] = []
    if how.slimming:
        names = factors(model.graph)
        if not names:
            raise RecipeError("slimming draws the factors of batch norm to zero, and this network has no batch norm; take group_lasso.")
        hooks.append(Slimming(names, how.slimming))
    if how.group_lasso:
        found = dependencies(model)
        if all(group.why for group in found.groups):
            raise RecipeError("group_lasso draws channels to zero that can leave, and none can leave this network; leave it out.")
        hooks.append(GroupLasso(found, how.group_lasso))
    return hooks


def factors(module: fx.GraphModule) -> list[str]:
    """The names of batch norm's factors."""
    norms = (bind(node)["weight"] for node in module.graph.nodes if kind_of(node) == "batch_norm")
    return list(dict.fromkeys(str(weight.target) for weight in norms if is_constant(weight)))
