"""Averages of weights over steps or epochs."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from tersenet.training.options import Training


class Average:
    """A running average of a network's parameters.

    ema: ``average = d average + (1 - d) weights`` at each step, ``d = min(average_decay, (1 + t) / (10 + t))``, so that
    the start is soon forgotten (Polyak and Juditsky 1992; the rise of d as in TensorFlow's ExponentialMovingAverage).
    swa: the plain mean of the weights at the ends of the last epochs (Izmailov et al. 2018, algorithm 1).

    Args:
        how: the options.
        module: whose parameters are averaged.
    """

    def __init__(self, how: Training, module: nn.Module) -> None:
        self.how = how
        self.parameters = [parameter.detach() for parameter in module.parameters() if parameter.requires_grad]
        self.values = [parameter.clone() for parameter in self.parameters] if how.average else []
        self.count = 0
        self.first = math.floor(how.average_start * how.epochs)

    def __bool__(self) -> bool:
        """Whether there is an average yet."""
        return self.count > 0

    def after_step(self) -> None:
        if self.how.average == "ema":
            self.count += 1
            decay = min(self.how.average_decay, (1 + self.count) / (10 + self.count))
            torch._foreach_lerp_(self.values, self.parameters, 1 - decay)

    def after_epoch(self, epoch: int) -> None:
        if self.how.average == "swa" and epoch >= self.first:
            self.count += 1
            torch._foreach_lerp_(self.values, self.parameters, 1 / self.count)

    def load(self) -> None:
        """Put the average into the network."""
        torch._foreach_copy_(self.parameters, self.values)

    def state(self) -> list[Any]:
        return [self.count, self.values]

    def restore(self, state: list[Any]) -> None:
        self.count, values = state
        if values:
            torch._foreach_copy_(self.values, values)
