"""How a network is trained: a frozen value of plain options that round-trips through JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, TypeVar

from tersenet.errors import RecipeError, unknown
from tersenet.step import Options, check_options

OPTIMIZERS = ("sgd", "adam", "adamw", "adagrad", "rmsprop")
WITH_MOMENTUM = ("sgd", "rmsprop")
SCHEDULES = ("constant", "step", "exponential", "cosine", "plateau")
AVERAGES = ("", "ema", "swa")
PRECISIONS = ("float32", "bf16", "fp16")
DEVICES = ("auto", "cpu", "cuda")
# What is done to batches, and the number each takes where none is given.
AUGMENTATIONS: Mapping[str, float] = {"flip": 0.5, "crop": 4, "noise": 0.01, "shift": 0.1}


@dataclass(frozen=True)
class Training(metaclass=Options):
    """Epochs, optimizer, schedule, regularization, augmentation, averaging, and where it runs.

    Args:
        epochs: passes over the train part.
        batch_size: samples of one step; a network of a fixed batch takes its own.
        optimizer: sgd, adam, adamw, adagrad or rmsprop.
        learning_rate: of the optimizer, at the height of the schedule.
        momentum: of sgd or rmsprop, 0 to 1.
        nesterov: look ahead, with sgd and a momentum.
        schedule: constant; step (times decay every decay_epochs); exponential (times decay each epoch); cosine (to zero at the end); plateau (times
            decay after decay_epochs without a better metric).
        decay: what step, exponential and plateau multiply the learning rate by.
        decay_epochs: of step and plateau.
        warmup_epochs: in which the learning rate rises from zero in a line; a part of an epoch too.
        l1: times the sum of magnitudes of weights, added to the loss; not of biases and norms.
        l2: decay of weights (decoupled in adamw); not of biases and norms.
        slimming: what draws the factors of batch norm to zero (L1), so that channels can leave.
        group_lasso: what draws all weights of a channel to zero together, so that it can leave.
        dropout: the share that every dropout of the network drops; by default what each has.
        without_source_regularization: leave what the source's own training had and its file told: penalties, constraints, noise.
        label_smoothing: share of a label that is spread over all classes.
        augmentation: what is done to batches, in order: flip (left and right, with a chance), crop (with padding, in pixels), noise (normal,
            standard deviation), shift (in time, share of the length); each as a name, or name:number.
        clip_norm: largest norm of all gradients together; 0: none.
        average: of the weights over steps: ema or swa, batch norm estimated anew; "" for none.
        average_decay: of ema: what an average keeps at each step.
        average_start: of swa: the share of the epochs after which it starts.
        patience: epochs without a better metric on the selection part after which training stops; 0: never.
        keep: best (weights of the epoch that is best on the selection part, where there is one) or last.
        precision: float32, bf16 or fp16 (mixed: weights stay float32); fp16 needs a GPU.
        device: auto (a GPU where there is one), cpu or cuda.
        processes: that share each batch.
    """

    epochs: int = 10
    batch_size: int = 64
    optimizer: str = "adam"
    learning_rate: float = 1e-3
    momentum: float = 0.0
    nesterov: bool = False
    schedule: str = "cosine"
    decay: float = 0.1
    decay_epochs: int = 0
    warmup_epochs: float = 0.0
    l1: float = 0.0
    l2: float = 0.0
    slimming: float = 0.0
    group_lasso: float = 0.0
    dropout: float | None = None
    without_source_regularization: bool = False
    label_smoothing: float = 0.0
    augmentation: tuple[str, ...] = ()
    clip_norm: float = 0.0
    average: str = ""
    average_decay: float = 0.999
    average_start: float = 0.75
    patience: int = 0
    keep: str = "best"
    precision: str = "float32"
    device: str = "auto"
    processes: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "augmentation", entries(self.augmentation))
        check_options(self, "training")
        self._check_names()
        self._check_numbers()
        self._check_schedule()

    def _check_names(self) -> None:
        for what, known in (
            ("optimizer", OPTIMIZERS),
            ("schedule", SCHEDULES),
            ("average", AVERAGES),
            ("keep", ("best", "last")),
            ("precision", PRECISIONS),
            ("device", DEVICES),
        ):
            if getattr(self, what) not in known:
                raise RecipeError(unknown(what, getattr(self, what), known))
        if self.momentum and self.optimizer not in WITH_MOMENTUM:
            raise RecipeError(f"momentum goes with {' or '.join(WITH_MOMENTUM)}, got {self.momentum} with {self.optimizer}; leave it out.")
        if self.nesterov and not (self.optimizer == "sgd" and self.momentum):
            raise RecipeError(f"nesterov goes with sgd and a momentum, got {self.optimizer} with {self.momentum}.")
        for entry in self.augmentation:
            augmentation(entry)

    def _check_numbers(self) -> None:
        for name in ("epochs", "batch_size", "processes"):
            if getattr(self, name) < 1:
                raise RecipeError(f"{name} must be at least 1, got {getattr(self, name)}.")
        if self.learning_rate <= 0:
            raise RecipeError(f"learning_rate must be positive, got {self.learning_rate}.")
        for name in ("l1", "l2", "slimming", "group_lasso", "clip_norm", "patience", "warmup_epochs", "decay_epochs"):
            if getattr(self, name) < 0:
                raise RecipeError(f"{name} must not be negative, got {getattr(self, name)}.")
        for name in ("momentum", "label_smoothing", "dropout", "average_decay", "average_start"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < 1:
                raise RecipeError(f"{name} must be at least 0 and below 1, got {value}.")
        if not 0 < self.decay <= 1:
            raise RecipeError(f"decay must be above 0 and at most 1, got {self.decay}.")

    def _check_schedule(self) -> None:
        """A schedule must fit the epochs."""
        if self.warmup_epochs >= self.epochs:
            raise RecipeError(f"warmup_epochs must be below epochs ({self.epochs}), got {self.warmup_epochs}; train longer, or warm up less.")
        if self.schedule in ("step", "plateau"):
            if not 1 <= self.decay_epochs < self.epochs:
                raise RecipeError(
                    f"the schedule {self.schedule} needs decay_epochs of at least 1 and below epochs ({self.epochs}), got {self.decay_epochs}."
                )
        elif self.decay_epochs:
            raise RecipeError(f"decay_epochs goes with the schedules step and plateau, got {self.decay_epochs} with {self.schedule}.")


def entries(given: Any) -> Any:
    """One name, or a list of them; anything else is left for the check of types."""
    return (given,) if isinstance(given, str) else tuple(given) if isinstance(given, list) else given


def augmentation(entry: str) -> tuple[str, float]:
    """The name and number of ``crop:2``, or of ``crop``, whose number is the usual one.

    Raises:
        RecipeError: an unknown name, or no number.
    """
    name, _, number = entry.partition(":")
    if name not in AUGMENTATIONS:
        raise RecipeError(unknown("augmentation", name, AUGMENTATIONS))
    try:
        value = float(number) if number else AUGMENTATIONS[name]
    except ValueError as error:
        raise RecipeError(f"an augmentation is a name, or name:number as in crop:4; got {entry!r}.") from error
    highest = 1.0 if name in ("flip", "shift") else math.inf
    if not 0 <= value <= highest or (name == "crop" and not value.is_integer()):
        allowed = "a share, 0 to 1" if highest == 1 else "a whole number" if name == "crop" else "0 or more"
        raise RecipeError(f"the number of {name} must be {allowed}, got {number}.")
    return name, value


Kind = TypeVar("Kind", bound=Training)


def read_training(value: Any, kind: type[Kind] = Training) -> Kind:  # type: ignore[assignment]  # the default is the widest kind
    """A `Training`, or a kind of it, or the mapping that one was written as.

    Raises:
        RecipeError: an unknown option (close matches named), or none of these.
    """
    if isinstance(value, kind):
        return value
    if isinstance(value, Mapping):
        known = [entry.name for entry in fields(kind)]
        for name in value:
            if name not in known:
                raise RecipeError(unknown("option of training", str(name), known))
        return kind(**value)
    raise RecipeError(f"training must be a tersenet.{kind.__name__} or a mapping of its options, got {type(value).__name__}.")
