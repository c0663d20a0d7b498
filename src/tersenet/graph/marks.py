"""What a source does at places of its network while it learns, noise and penalties of values: marked by a frontend, kept beside the graph, put
back into what trains."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch.nn.functional as F
from torch import Tensor, fx, nn

from tersenet.annotations import Annotations, Noise, Penalty
from tersenet.graph.operators import aten_name
from tersenet.graph.walk import bind, calls, copy, rebind
from tersenet.numerics.regularization import noisy, penalty

if TYPE_CHECKING:
    from tersenet.model import Model

PLACES = "marks"  # where a network that learns has the modules that stand at marks
_UNIT = 2.0**-40


def mark(value: Tensor, number: int) -> Tensor:
    """The value itself; in the traced graph a dropout whose share tells the number, and which `with_marks` takes for what it stands for."""
    return F.dropout(value, (number + 1) * _UNIT, False)


def with_marks(model: Model, entries: Sequence[Noise | Penalty]) -> Model:
    """The network with its marks as annotations; each stays as a dropout of nothing, which every runtime leaves out.

    Args:
        model: stays as it is.
        entries: what the marks stand for, by number.
    """
    module = copy(model.graph)
    noises, activities = dict(model.annotations.noises), dict(model.annotations.activities)
    for node in calls(module):
        number = bind(node)["p"] / _UNIT - 1 if aten_name(node) == "dropout.default" else -1
        if number not in range(len(entries)):
            continue
        rebind(node, p=0.0)
        entry = entries[int(number)]
        if isinstance(entry, Noise):
            noises[node.name] = entry
        else:
            activities[node.name] = entry
    module.recompile()
    return replace(model, graph=module, annotations=replace(model.annotations, noises=noises, activities=activities))


class Noisy(nn.Module):
    """Adds noise in training."""

    def __init__(self, noise: Noise) -> None:
        super().__init__()
        self.noise = noise

    def forward(self, value: Tensor) -> Tensor:
        return noisy(value, self.noise.kind, self.noise.amount, self.noise.shared) if self.training else value


class Watched(nn.Module):
    """Keeps in training what the value that goes through adds to the loss: its penalty, divided by the samples of the batch."""

    def __init__(self, entry: Penalty) -> None:
        super().__init__()
        self.entry = entry
        self.added: Tensor | None = None

    def forward(self, value: Tensor) -> Tensor:
        if self.training:
            self.added = penalty(value, self.entry.l1, self.entry.l2) / max(len(value), 1)
        return value


def put_back(module: fx.GraphModule, annotations: Annotations, dropout: float | None = None) -> None:
    """Put modules where a network has marks.

    Args:
        module: is changed.
        annotations: of the network.
        dropout: the share that noise drops which drops, and that a factor stands for; None: what each has.
    """
    for node in list(calls(module)):
        if node.name in annotations.noises:
            part: nn.Module = Noisy(_overridden(annotations.noises[node.name], dropout))
        elif node.name in annotations.activities:
            part = Watched(annotations.activities[node.name])
        else:
            continue
        source, target = node.args[0], f"{PLACES}.{node.name}"
        module.add_submodule(target, part)
        node.op, node.target, node.args, node.kwargs = "call_module", target, (source,), {}


def _overridden(noise: Noise, dropout: float | None) -> Noise:
    if dropout is None or noise.kind == "add":
        return noise
    return replace(noise, amount=dropout if noise.kind == "dropout" else math.sqrt(dropout / (1 - dropout)))
