"""Recipes: named ones are lists of steps, and how they train can be said for all steps at once."""

from __future__ import annotations

import numpy as np
import pytest

import tersenet
from tersenet import Data, Distill, Prune, Quantize, Recipe, Train
from tersenet.errors import DataError, RecipeError
from tersenet.recipe import RECIPES, find_recipe
from tersenet.testing.networks import small_convolutional


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_a_named_recipe_reads_back_as_it_was(name: str) -> None:
    recipe = find_recipe(name)
    assert Recipe.from_json(recipe.to_json()) == recipe
    assert isinstance(recipe.steps[-1], Quantize), "what ships is integers"


def test_recipes_that_train_share_as_many_epochs() -> None:
    totals = {name: sum(training.epochs for training in recipe.trainings) for name, recipe in RECIPES.items()}
    assert totals == {"int8": 0, "small": 16, "smallest": 16}


def test_epochs_are_shared_as_the_recipe_shares_them() -> None:
    recipe = RECIPES["smallest"].retrained(epochs=8)
    assert [training.epochs for training in recipe.trainings] == [5, 3]
    assert [training.epochs for training in RECIPES["smallest"].retrained(epochs=2).trainings] == [1, 1]
    assert recipe.steps[0] == RECIPES["smallest"].steps[0], "a step that does not train stays"


def test_rates_stay_in_proportion_and_the_rest_is_for_every_step() -> None:
    whole = RECIPES["smallest"].retrained(learning_rate=1e-2, batch_size=16, augmentation=("flip", "crop:2"))
    assert [training.learning_rate for training in whole.trainings] == pytest.approx([1e-2, 3e-3])
    assert {training.batch_size for training in whole.trainings} == {16}
    assert {training.augmentation for training in whole.trainings} == {("flip", "crop:2")}
    assert [training.epochs for training in whole.trainings] == [10, 6]
    assert whole.retrained() == whole


def test_what_cannot_be_trained_otherwise_is_refused() -> None:
    with pytest.raises(RecipeError, match="no step of this one does"):
        RECIPES["int8"].retrained(epochs=3)
    with pytest.raises(RecipeError, match="trains in 2 steps, each for an epoch at least; got 1"):
        RECIPES["smallest"].retrained(epochs=1)
    assert Recipe([Prune(ratio=0.5), Train()]).retrained(epochs=1).trainings[0].epochs == 1


def test_a_recipe_that_trains_is_refused_without_samples_to_learn_from(tmp_path) -> None:
    model = small_convolutional()
    samples = np.random.default_rng(0).normal(size=(8, *model.inputs[0].shape[1:])).astype("float32")
    data = Data.from_arrays(calibration=samples, evaluation=-samples)
    with pytest.raises(DataError, match=r"this recipe trains \(distill\), and these data have no train part.*recipe int8"):
        tersenet.compress(model, data, recipe="small", out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    assert isinstance(RECIPES["small"].steps[1], Distill)
