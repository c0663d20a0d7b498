"""A recipe: steps in order. Printable, diffable, saved beside the result, re-runnable."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tersenet.errors import RecipeError, unknown
from tersenet.model import Model
from tersenet.step import Context, Step, StepResult
from tersenet.steps.quantize import Quantize
from tersenet.steps.table import step_from_json


@dataclass(frozen=True)
class Recipe:
    """Steps in the order in which they run.

    >>> Recipe([Quantize(weights="int8")]).to_json()
    [{'step': 'quantize'}]
    """

    steps: tuple[Step, ...]

    def __init__(self, steps: Iterable[Step]) -> None:
        object.__setattr__(self, "steps", tuple(steps))
        for step in self.steps:
            if not isinstance(step, Step):
                raise RecipeError(f"a recipe is a list of steps such as tersenet.Quantize(), got {type(step).__name__}.")

    def apply(self, model: Model, context: Context) -> list[StepResult]:
        """Run every step on the result of the one before it."""
        results: list[StepResult] = []
        for step in self.steps:
            results.append(step.apply(results[-1].model if results else model, context))
        return results

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


# Named recipes are only lists of steps.
RECIPES: Mapping[str, Recipe] = {"int8": Recipe([Quantize()])}


def find_recipe(name: str) -> Recipe:
    """A recipe by name, or read from a JSON or YAML file.

    Raises:
        RecipeError: no such name and no such file, or a file that holds no recipe.
    """
    if name in RECIPES:
        return RECIPES[name]
    path = Path(name)
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
