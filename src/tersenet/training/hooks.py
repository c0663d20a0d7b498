"""What takes part in training beside the loop: masks, schedules of sparsity, ranges that are frozen late."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from tersenet.numerics.sharing import means

if TYPE_CHECKING:
    from tersenet.training.options import Training


@dataclass
class Moment:
    """Where training is: what hooks are told.

    Args:
        module: the network that learns; may be changed.
        how: the options.
        optimizer: its state may be looked at.
        steps: in one epoch.
        epoch: from 0.
        step: from 0, over all epochs.
        loss: of the last step.
    """

    module: nn.Module
    how: Training
    optimizer: torch.optim.Optimizer
    steps: int
    epoch: int = 0
    step: int = 0
    loss: float = 0.0

    @property
    def passed(self) -> float:
        """Epochs that are done, with the part of the one that runs."""
        return self.step / self.steps


class Hook:
    """Takes part in training; each method does nothing unless a subclass has its own.

    What a hook must know again after an interruption goes through `state` and `restore`: numbers, texts, tensors, lists and dicts.
    `rates`: start of names of parameters -> what their learning rate is multiplied by; they do not decay.
    """

    rates: Mapping[str, float] = {}

    def start(self, moment: Moment) -> None:
        """Before anything; also when training goes on after an interruption, once the state is back."""

    def before_epoch(self, moment: Moment) -> None:
        """Before an epoch's first step."""

    def before_step(self, moment: Moment) -> None:
        """Before a batch goes through the network."""

    def penalty(self, moment: Moment) -> torch.Tensor | None:
        """What goes into the loss beside what the batch says; asked once the batch is through the network."""
        return None

    def after_backward(self, moment: Moment) -> None:
        """Gradients are there; the optimizer has not used them."""

    def after_step(self, moment: Moment) -> None:
        """The optimizer has changed the parameters."""

    def after_epoch(self, moment: Moment) -> None:
        """After an epoch's last step, before the network is judged."""

    def settled(self, moment: Moment) -> bool:
        """Whether the network is by now what training is for: the best epoch is looked for among those that are."""
        return True

    def state(self) -> Any:
        return None

    def restore(self, state: Any) -> None:
        """Take back what `state` gave."""


class Masked(Hook):
    """Weights that were taken out stay out.

    Args:
        masks: name of a parameter -> True where a weight is alive.
    """

    def __init__(self, masks: Mapping[str, np.ndarray]) -> None:
        self.masks = {name: torch.from_numpy(np.ascontiguousarray(mask)) for name, mask in masks.items()}

    def start(self, moment: Moment) -> None:
        held = dict(moment.module.named_parameters(remove_duplicate=False))
        self.rows = [(held[name], mask.to(held[name].device, held[name].dtype)) for name, mask in self.masks.items()]
        self.after_step(moment)

    def after_step(self, moment: Moment) -> None:
        with torch.no_grad():
            for parameter, mask in self.rows:
                parameter.mul_(mask)


class Shared(Hook):
    """Weights that share a value keep doing so: what is learned is the value, by the sum of its members' gradients.

    A weight that is zero is out, and no member. Comes behind whatever else changes weights.

    Args:
        codebooks: name of a parameter -> which value each weight has.

    Reference: Han et al. 2016, "Deep Compression", section 3.3, equation 3.
    """

    def __init__(self, codebooks: Mapping[str, np.ndarray]) -> None:
        self.codebooks = codebooks

    def start(self, moment: Moment) -> None:
        held = dict(moment.module.named_parameters(remove_duplicate=False))
        self.rows = []
        for name, places in self.codebooks.items():
            at = torch.from_numpy(places.astype(np.int64)).to(held[name].device)
            self.rows.append((held[name], at, int(places.max()) + 1))
        self.after_step(moment)

    def after_backward(self, moment: Moment) -> None:
        for parameter, places, count in self.rows:
            if parameter.grad is not None:
                alive = parameter.detach() != 0
                total = parameter.grad.new_zeros(count).index_add_(0, places.reshape(-1), (parameter.grad * alive).reshape(-1))
                parameter.grad.copy_(total[places] * alive)

    def after_step(self, moment: Moment) -> None:
        with torch.no_grad():
            for parameter, places, count in self.rows:
                alive = parameter != 0
                parameter.copy_(means(parameter, places, count, alive)[places] * alive)


class Rising(Hook):
    """Sparsity that rises while the network learns: masks are chosen anew from the weights that it has by then.

    Args:
        names: of the parameters.
        reached: from epochs that are done to the part of the goal, 0 to 1, that is gone then; it never falls.
        choose: from weights by name and that part to masks by name, True where a weight stays; zeros leave first.

    Reference: Zhu and Gupta 2017, "To prune, or not to prune", section 3: masks change every so many steps, and weights that
    were taken out stay out.
    """

    CHANGES = 16  # of the masks in one epoch, at most

    def __init__(
        self,
        names: Sequence[str],
        reached: Callable[[float], float],
        choose: Callable[[Mapping[str, torch.Tensor], float], Mapping[str, torch.Tensor]],
    ) -> None:
        self.names, self.reached, self.choose = names, reached, choose
        self.done = 0.0
        self.masks: dict[str, torch.Tensor] = {}

    def start(self, moment: Moment) -> None:
        held = dict(moment.module.named_parameters(remove_duplicate=False))
        self.held = {name: held[name] for name in self.names}
        self.after_step(moment)

    def before_step(self, moment: Moment) -> None:
        part = self.reached(moment.passed)
        if part > self.done and (part >= 1 or moment.step % max(1, moment.steps // self.CHANGES) == 0):
            found = self.choose({name: parameter.detach().cpu() for name, parameter in self.held.items()}, part)
            self.done, self.masks = part, {name: mask & self.masks[name].cpu() if name in self.masks else mask for name, mask in found.items()}
            self.after_step(moment)

    def after_step(self, moment: Moment) -> None:
        with torch.no_grad():
            for name, mask in self.masks.items():
                parameter = self.held[name]
                self.masks[name] = mask.to(parameter.device)
                parameter.mul_(self.masks[name])

    def settled(self, moment: Moment) -> bool:
        return self.done >= 1

    def state(self) -> Any:
        return [self.done, self.masks]

    def restore(self, state: Any) -> None:
        self.done, self.masks = state[0], dict(state[1])
