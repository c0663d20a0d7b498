"""Weights that become zero: how many, which, and that they stay so."""

import numpy as np
import pytest
import torch

from tersenet import Data, Quantize, Recipe, Sparsify, Train, Training
from tersenet.errors import RecipeError
from tersenet.step import Context
from tersenet.testing.networks import samples, small_convolutional
from tersenet.testing.step import FAKE_TABLE, check_step


def state(model):
    return model.graph.state_dict()


def test_the_smallest_weights_of_each_layer_become_zero():
    model = small_convolutional()
    result = Sparsify(ratio=0.75).apply(model, Context())
    for name, mask in result.model.annotations.masks.items():
        before, after = state(model)[name], state(result.model)[name].numpy()
        assert mask.sum() == mask.size - round(0.75 * mask.size)
        assert np.array_equal(after, before.numpy() * mask)
        assert np.abs(before.numpy()[mask]).min() >= np.abs(before.numpy()[~mask]).max()
    assert "75.0 % of 216 weights are zero" in [change.why for change in result.changed]
    assert len(result.changed) == 4


def test_a_threshold_for_all():
    result = Sparsify(ratio=0.5, scope="global").apply(small_convolutional(), Context())
    masks = result.model.annotations.masks.values()
    assert sum(mask.sum() for mask in masks) == sum(mask.size for mask in masks) - round(0.5 * sum(mask.size for mask in masks))
    assert len({mask.mean() for mask in masks}) > 1


def test_two_of_four_neighbours_stay():
    result = Sparsify(pattern="2:4").apply(small_convolutional(), Context())
    mask = result.model.annotations.masks["pointwise.0.weight"]
    assert (mask.reshape(8, 2, 4).sum(2) == 2).all()
    assert ("stem.0", "it has 3 inputs, fewer than 4") in [(entry.what, entry.why) for entry in result.skipped]


def test_blocks_leave_whole():
    result = Sparsify(pattern="4x2", ratio=0.5, layers={"head": 0.0}).apply(small_convolutional(), Context())
    mask = result.model.annotations.masks["pointwise.0.weight"].reshape(8, 8)
    blocks = mask.reshape(2, 4, 4, 2).transpose(0, 2, 1, 3).reshape(8, 8)
    assert set(blocks.sum(1).tolist()) == {0, 8}
    assert "head.weight" not in result.model.annotations.masks


def test_zeros_survive_training_and_quantization():
    labels = np.arange(64) % 5
    data = Data.from_arrays(train=(samples(64, 1), labels), calibration=samples(32, 2), selection=(samples(32, 3), labels[:32]))
    recipe = Recipe([Sparsify(ratio=0.6), Train(Training(epochs=1, batch_size=16)), Quantize()])
    results = recipe.apply(small_convolutional(), Context((FAKE_TABLE,), data))
    for result in results:
        for name, mask in result.model.annotations.masks.items():
            assert not state(result.model)[name].numpy()[~mask].any()
    changed = state(results[1].model)["stem.0.weight"]
    assert not torch.equal(changed, state(results[0].model)["stem.0.weight"])


def test_more_becomes_zero_step_by_step():
    first = Sparsify(ratio=0.4).apply(small_convolutional(), Context()).model
    second = Sparsify(ratio=0.8).apply(first, Context()).model
    for name, mask in second.annotations.masks.items():
        assert not (mask & ~first.annotations.masks[name]).any()


@pytest.mark.parametrize(
    "options, message",
    [
        ({}, "sparsify needs a ratio"),
        (dict(ratio=1.0), "at least 0 and less than 1, got 1"),
        (dict(pattern="4:2"), "0 < N < M; got 4:2"),
        (dict(ratio=0.5, pattern="2:4"), "or a pattern N:M, which says how many stay, alone"),
        (dict(ratio=0.5, pattern="4by1"), "pattern must be weights, ROWSxCOLUMNS"),
        (dict(ratio=0.5, pattern="4x1", scope="global"), "scope global is for single weights"),
        (dict(ratio=0.5, criterion="l9"), "unknown criterion 'l9'"),
    ],
)
def test_options_are_checked(options, message):
    with pytest.raises(RecipeError, match=message):
        Sparsify(**options)


def test_a_pattern_that_matches_nothing_is_refused():
    with pytest.raises(RecipeError, match="unknown layer 'heads'; did you mean 'head'"):
        Sparsify(ratio=0.5, keep="heads").apply(small_convolutional(), Context())


@pytest.mark.parametrize(
    "step", [Sparsify(ratio=0.5), Sparsify(pattern="1:4", criterion="random"), Sparsify(layers=(("stem*", 0.3),), pattern="2x2")]
)
def test_the_contract(step):
    check_step(step)
