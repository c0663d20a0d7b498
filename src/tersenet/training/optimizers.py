"""Optimizers by name, and what the learning rate is multiplied by at each step."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import nn

from tersenet.training.options import Training

_MAKERS: Mapping[str, Callable[[list[dict[str, Any]], Training], torch.optim.Optimizer]] = {
    "sgd": lambda groups, how: torch.optim.SGD(groups, how.learning_rate, how.momentum, nesterov=how.nesterov),
    "adam": lambda groups, how: torch.optim.Adam(groups, how.learning_rate),
    "adamw": lambda groups, how: torch.optim.AdamW(groups, how.learning_rate),
    "adagrad": lambda groups, how: torch.optim.Adagrad(groups, how.learning_rate),
    "rmsprop": lambda groups, how: torch.optim.RMSprop(groups, how.learning_rate, momentum=how.momentum),
}


def weights(module: nn.Module) -> list[nn.Parameter]:
    """The parameters that regularization is for: those of two axes or more, so neither biases nor norms' weights."""
    return [parameter for parameter in module.parameters() if parameter.requires_grad and parameter.dim() > 1]


def optimizer_for(module: nn.Module, how: Training, rates: Mapping[str, float] | None = None) -> torch.optim.Optimizer:
    """The optimizer, its first group the weights that decay, its second all other parameters, then one for each of `rates`.

    Args:
        rates: start of parameters' names -> what their learning rate is multiplied by; they do not decay.
    """
    apart = {start: [own for name, own in module.named_parameters() if name.startswith(start)] for start in rates or {}}
    known = {id(parameter) for parameters in apart.values() for parameter in parameters}
    decaying = [parameter for parameter in weights(module) if id(parameter) not in known]
    known |= {id(parameter) for parameter in decaying}
    rest = [parameter for parameter in module.parameters() if parameter.requires_grad and id(parameter) not in known]
    groups: list[dict[str, Any]] = [{"params": decaying, "weight_decay": how.l2}, {"params": rest, "weight_decay": 0.0}]
    groups += [{"params": parameters, "weight_decay": 0.0, "rate": (rates or {})[start]} for start, parameters in apart.items()]
    return _MAKERS[how.optimizer]([group for group in groups if group["params"]], how)


class Schedule:
    """The learning rate at each step: ``learning_rate * factor``.

    With ``e`` the epoch, ``t`` the step and ``T`` all steps, both counted from the end of the warm-up:
    constant 1; step ``decay ** (e // decay_epochs)``; exponential ``decay ** e``; cosine ``(1 + cos(pi t / T)) / 2``
    (Loshchilov and Hutter 2017, equation 5, without restarts). Plateau is multiplied by ``decay`` once `decay_epochs` epochs
    in a row were no better than the best. In the warm-up the rate rises in a line (Goyal et al. 2017, section 2.2).

    Args:
        how: the options.
        steps: in one epoch.
    """

    def __init__(self, how: Training, steps: int) -> None:
        self.how, self.steps = how, steps
        self.warmup = round(how.warmup_epochs * steps)
        self.dropped, self.waited, self.best = 1.0, 0, math.inf

    def factor(self, step: int) -> float:
        """What the learning rate is multiplied by.

        Args:
            step: from 0, over all epochs.
        """
        if step < self.warmup:
            return (step + 1) / self.warmup
        how, done = self.how, step - self.warmup
        if how.schedule == "cosine":
            return 0.5 * (1 + math.cos(math.pi * done / (how.epochs * self.steps - self.warmup)))
        if how.schedule == "step":
            return how.decay ** (done // self.steps // how.decay_epochs)
        if how.schedule == "exponential":
            return how.decay ** (done // self.steps)
        return self.dropped

    def judge(self, badness: float) -> None:
        """Tell plateau how an epoch went: lower is better."""
        if self.how.schedule != "plateau":
            return
        better = badness < self.best
        self.best, self.waited = min(self.best, badness), 0 if better else self.waited + 1
        if self.waited >= self.how.decay_epochs:
            self.dropped, self.waited = self.dropped * self.how.decay, 0

    def state(self) -> list[float]:
        return [self.dropped, self.waited, self.best]

    def restore(self, state: Iterable[float]) -> None:
        self.dropped, waited, self.best = state
        self.waited = int(waited)
