"""Quantization-aware training: its options, and the hook that settles batch norm and grids late."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from tersenet.errors import RecipeError, unknown
from tersenet.training.hooks import Hook, Moment
from tersenet.training.methods import Distillation
from tersenet.training.options import Training, read_training

# The share of itself by which a step size moves at most at a step of SGD, momentum counted in.
MOST_MOVED = 0.002
LEARN = ("steps", "moving", "fixed")


@dataclass(frozen=True)
class AwareTraining(Training):
    """How a network learns that it will be quantized: the options of `Training`, and those below.

    Args:
        learn: how grids do. steps: step sizes and offsets are parameters (LSQ, LSQ+); moving: ranges of values follow a moving average;
            fixed: they stay as calibrated. A weight's grid spans the weight under the last two.
        statistics_until: share of the steps in which batch norm takes the batch's own statistics, and the running ones move; then it is folded.
        ranges_until: share of the steps in which grids of values and weights change; then they stay.
        grid_rate: what the learning rate of step sizes and offsets is multiplied by; 0: 1 under sgd, as the paper has it, and 10 under optimizers
            that divide a gradient by its size, for they move a ratio of 1 as far as a weight of 0.1.
        distill: what is learned of a teacher beside the labels, a `Distillation` or a mapping of its options; None: nothing.
        teacher: as `tersenet.load` takes it; "": the network as it came.
    """

    learn: str = "steps"
    statistics_until: float = 0.5
    ranges_until: float = 0.75
    grid_rate: float = 0.0
    distill: Distillation | None = None
    teacher: str = ""

    def __post_init__(self) -> None:
        distill: Any = self.distill
        if isinstance(distill, Mapping):
            object.__setattr__(self, "distill", Distillation(**distill))
        super().__post_init__()
        if self.learn not in LEARN:
            raise RecipeError(unknown("way to learn grids", self.learn, LEARN))
        for name in ("statistics_until", "ranges_until"):
            if not 0 <= getattr(self, name) <= 1:
                raise RecipeError(f"{name} must be a share of the steps, 0 to 1, got {getattr(self, name)}.")
        if self.grid_rate < 0:
            raise RecipeError(f"grid_rate must not be negative, got {self.grid_rate}.")
        if self.grid_rate and self.learn != "steps":
            raise RecipeError(f"grid_rate goes with learn steps, got {self.grid_rate} with {self.learn}; leave it out.")
        if self.dropout is not None:
            raise RecipeError("what learns is the network that is deployed, which has no dropout; leave dropout out, or train with it before.")
        if self.teacher and self.distill is None:
            raise RecipeError(f"a teacher is for distill, got {self.teacher!r} alone; say what is learned of it: distill: {{method: soft}}.")

    @property
    def rate(self) -> float:
        """What the learning rate of grids is multiplied by."""
        return self.grid_rate or (1.0 if self.optimizer == "sgd" else 10.0)


def read_aware(value: Any) -> AwareTraining:
    """An `AwareTraining`, a `Training`, or the mapping that one was written as.

    Raises:
        RecipeError: an unknown option (close matches named), or none of these.
    """
    if isinstance(value, Training) and not isinstance(value, AwareTraining):
        return AwareTraining(**{entry.name: getattr(value, entry.name) for entry in fields(Training)})
    return read_training(value, AwareTraining)


class Settling(Hook):
    """Batch norm is folded, and grids stay, from their moments on; grids that a kernel cannot have are mended after each epoch.

    What it knows follows from the number of the step and from the network's own tensors, so that it has no state.

    Args:
        how: the options.
        module: made by `tersenet.graph.aware.aware`.
        grids: start of the names of the grids' parameters.
        mend: called after each epoch, before the network is judged.
    """

    def __init__(self, how: AwareTraining, module: Any, grids: str, mend: Callable[[], None]) -> None:
        self.how, self.module, self.grids, self.mend = how, module, grids, mend
        self.kept: list[tuple[Tensor, Tensor]] = []
        self.rates = {grids: how.rate} if how.learn == "steps" else {}

    def start(self, moment: Moment) -> None:
        self.before_step(moment)

    def before_step(self, moment: Moment) -> None:
        done = moment.step / (moment.steps * self.how.epochs)
        self.module.settled = done >= self.how.statistics_until
        if done < self.how.ranges_until or self.kept:
            return
        for part in self.module.modules():
            if hasattr(part, "watching"):
                part.watching = False
        parameters = [own.detach() for name, own in self.module.named_parameters() if name.startswith(self.grids)]
        self.kept = [(own, own.clone()) for own in parameters]

    def after_backward(self, moment: Moment) -> None:
        """Under SGD a step size moves by its gradient over its own size, which has no bound where weights are small and values are large."""
        if self.how.learn != "steps" or self.how.optimizer != "sgd":
            return
        most = MOST_MOVED * (1 - self.how.momentum) / (moment.optimizer.param_groups[0]["lr"] * self.how.rate)
        for name, own in self.module.named_parameters():
            if name.startswith(self.grids) and own.grad is not None:
                own.grad.clamp_(-most, most)

    def after_step(self, moment: Moment) -> None:
        for own, kept in self.kept:  # an optimizer with momentum moves what has no gradient too
            own.copy_(kept)

    def after_epoch(self, moment: Moment) -> None:
        with torch.no_grad():
            self.mend()
        self.kept = [(own, own.clone()) for own, _ in self.kept]
