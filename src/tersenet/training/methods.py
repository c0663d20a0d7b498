"""What can be learned of a teacher, and how much of each: a frozen value of plain options."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from tersenet.errors import RecipeError, unknown
from tersenet.step import Options, check_options
from tersenet.training.options import entries

# What can be learned of a teacher, and the weight of each where none is given.
METHODS: Mapping[str, float] = {"soft": 1.0, "decoupled": 1.0, "features": 1.0, "attention": 10.0, "relations": 25.0}
INSIDE = ("features", "attention", "relations")  # those that look at layers, not at what the networks return
OUTPUTS = ("", "scores", "values")


@dataclass(frozen=True)
class Distillation(metaclass=Options):
    """What a network learns of a teacher, and how much of each.

    Args:
        method: what is learned, each as a name or name:weight: soft (the teacher's softened probabilities; of regression its outputs), decoupled
            (the same, the target apart from the other classes), features (inner values), attention (where inner values are large), relations
            (distances and angles between samples).
        temperature: that soft and decoupled divide logits by, above 0.
        alpha: weight of the task's own loss, of the labels; 0: the teacher alone. Data without labels are learned from by the teacher alone.
        others: of decoupled, the weight of what the teacher says of the classes that are not the target.
        layers: pairs ``student:teacher`` of layers that features, attention and relations look at; found by size, name and order unless given.
        outputs: what the networks return: scores (classes are chosen by them) or values; told by the task unless given.
    """

    method: tuple[str, ...] = ("soft",)
    temperature: float = 4.0
    alpha: float = 0.1
    others: float = 8.0
    layers: tuple[str, ...] = ()
    outputs: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "method", entries(self.method))
        object.__setattr__(self, "layers", entries(self.layers))
        check_options(self, "distillation")
        self.check()

    def check(self) -> None:
        """Refuse options that make no sense."""
        if not self.temperature > 0:
            raise RecipeError(f"temperature must be above 0, got {self.temperature}; 1 leaves probabilities as they are, 4 is usual.")
        for name in ("alpha", "others"):
            if getattr(self, name) < 0:
                raise RecipeError(f"{name} must not be negative, got {getattr(self, name)}.")
        if self.outputs not in OUTPUTS:
            raise RecipeError(unknown("kind of outputs", self.outputs, OUTPUTS[1:]))
        if not self.method or not any(self.weights.values()):
            raise RecipeError(f"distillation needs at least one method with a weight above 0; methods are {', '.join(METHODS)}.")
        if self.outputs == "values" and "decoupled" in self.weights:
            raise RecipeError("decoupled is about classes, and outputs are to be taken for values; use soft.")
        if self.layers and not self.inner:
            raise RecipeError(f"layers go with {', '.join(INSIDE)}, got {', '.join(self.method)}; leave them out.")

    @property
    def weights(self) -> dict[str, float]:
        """Each method with its weight."""
        return dict(_weighed(entry) for entry in self.method)

    @property
    def inner(self) -> tuple[str, ...]:
        """The methods that look inside the networks."""
        return tuple(name for name, weight in self.weights.items() if weight and name in INSIDE)


def _weighed(entry: str) -> tuple[str, float]:
    name, _, number = entry.partition(":")
    if name not in METHODS:
        raise RecipeError(unknown("method of distillation", name, METHODS))
    try:
        weight = float(number) if number else METHODS[name]
    except ValueError as error:
        raise RecipeError(f"a method is a name, or name:weight as in soft:0.5; got {entry!r}.") from error
    if not 0 <= weight < math.inf:
        raise RecipeError(f"the weight of {name} must be 0 or more, got {number}.")
    return name, weight
