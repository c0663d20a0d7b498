"""A recipe: steps in order. Printable, diffable, saved beside the result, re-runnable."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tersenet.errors import RecipeError, unknown
from tersenet.model import Model
from tersenet.step import Context, Step, StepResult
from tersenet.steps.distill import Distill
from tersenet.steps.prune import Prune
from tersenet.steps.quantize import Quantize
from tersenet.steps.table import step_from_json
from tersenet.training.aware import AwareTraining
from tersenet.training.methods import Distillation
from tersenet.training.options import Training


@dataclass(frozen=True)
class Recipe:
    """Steps in the order in which they run.

    >>> Recipe([Quantize(weights="int8")]).to_json()
    [{'step': 'quantize'}]
    """

    steps: tuple[Step, ...]

    def __init__(self, steps: Iterable[Step]) -> None:
        try:
            each = iter(steps)
        except TypeError as error:
            raise RecipeError(f"a recipe is a list of steps such as tersenet.Quantize(), got {type(steps).__name__}.") from error
        object.__setattr__(self, "steps", tuple(each))
        for step in self.steps:
            if not isinstance(step, Step):
                raise RecipeError(f"a recipe is a list of steps such as tersenet.Quantize(), got {type(step).__name__}.")

    def apply(self, model: Model, context: Context) -> list[StepResult]:
        """Run every step on the result of the one before it."""
        results: list[StepResult] = []
        for step in self.steps:
            results.append(step.apply(results[-1].model if results else model, context))
        return results

    @property
    def trainings(self) -> tuple[Training, ...]:
        """How each step that trains does so, in order."""
        found = (getattr(step, "training", None) for step in self.steps)
        return tuple(training for training in found if training is not None)

    def retrained(self, epochs: int = 0, learning_rate: float = 0.0, batch_size: int = 0, augmentation: Sequence[str] = ()) -> Recipe:
        """The same recipe, trained otherwise.

        Args:
            epochs: of all its steps together, each with the share that it has; 0 leaves them.
            learning_rate: the highest of its steps', the others in proportion; 0 leaves them.
            batch_size: of every step; 0 leaves them.
            augmentation: of every step, as `tersenet.Training` takes it; () leaves them.

        Raises:
            RecipeError: no step trains, or there are fewer epochs than steps that do.
        """
        given = {"epochs": epochs, "learning_rate": learning_rate, "batch_size": batch_size, "augmentation": augmentation}
        asked: dict[str, Any] = {name: value for name, value in given.items() if not isinstance(value, int | float | Sequence) or value}
        if not asked:
            return self
        Training(**asked)  # they are held to what its options are
        trainings = self.trainings
        if not trainings:
            raise RecipeError("epochs, learning_rate, batch_size and augmentation are for recipes that train, and no step of this one does.")
        shares = iter(_shared(epochs, [training.epochs for training in trainings]) if epochs else [training.epochs for training in trainings])
        rate = learning_rate / max(training.learning_rate for training in trainings) if learning_rate else 1.0

        def otherwise(step: Any) -> Step:
            had = getattr(step, "training", None)
            if had is None:
                return step
            more = {"batch_size": batch_size or had.batch_size, "augmentation": tuple(augmentation) or had.augmentation}
            return replace(step, training=replace(had, epochs=next(shares), learning_rate=had.learning_rate * rate, **more))

        return Recipe(otherwise(step) for step in self.steps)

    def to_json(self) -> list[dict[str, Any]]:
        return [step.to_json() for step in self.steps]

    @classmethod
    def from_json(cls, records: Any) -> Recipe:
        """The recipe of a list of mappings.

        Raises:
            RecipeError: what is wrong, and where.
        """
        if isinstance(records, Mapping) and "recipe" in records:
            records = records["recipe"]
        if not isinstance(records, list):
            raise RecipeError(f"a recipe must be a list of steps, got {type(records).__name__}.")
        return cls(step_from_json(record) for record in records)


def _shared(epochs: int, parts: Sequence[int]) -> list[int]:
    """So many epochs in the proportion of `parts`, at least one each; what rounding leaves is the first's."""
    if epochs < len(parts):
        raise RecipeError(f"this recipe trains in {len(parts)} steps, each for an epoch at least; got {epochs} epochs.")
    shares = [max(1, epochs * part // sum(parts)) for part in parts]
    shares[0] += epochs - sum(shares)
    return shares


# Named recipes are only lists of steps. Those that train share 16 epochs and need no labels: what is left of the network learns from what it was.
RECIPES: Mapping[str, Recipe] = {
    "int8": Recipe([Quantize()]),
    "small": Recipe([Prune(macs=0.5), Distill(training=Training(epochs=16)), Quantize()]),
    "smallest": Recipe(
        [
            Prune(parameters=0.35, multiple=4, ratios="adaptive"),
            Distill(training=Training(epochs=10)),
            Quantize(training=AwareTraining(epochs=6, learning_rate=3e-4, distill=Distillation())),
        ]
    ),
}


def find_recipe(name: str | Path) -> Recipe:
    """A recipe by name, or read from a JSON or YAML file.

    Raises:
        RecipeError: no such name and no such file, or a file that holds no recipe.
    """
    name, path = str(name), Path(name)
    if name in RECIPES:
        return RECIPES[name]
    if path.suffix not in (".json", ".yaml", ".yml"):
        raise RecipeError(unknown("recipe", name, RECIPES) + " A file ends in .json or .yaml.")
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"the recipe {name} cannot be read: {error}.") from error
    try:
        return Recipe.from_json(_parsed(text, path))
    except RecipeError as error:
        raise RecipeError(f"{path}: {error}") from error


def _parsed(text: str, path: Path) -> Any:
    if path.suffix == ".json":
        try:
            return json.loads(text)
        except (ValueError, RecursionError) as error:
            raise RecipeError(f"the recipe is not JSON: {error}.") from error
    import yaml

    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise RecipeError(f"the recipe is not YAML: {error}.") from error
