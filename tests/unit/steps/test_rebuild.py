"""The step that rebuilds: ranks by energy and by budget, only where that wins, and what a run writes down of it."""

from __future__ import annotations

import numpy as np
import pytest

from tersenet import Data, Quantize, Rebuild, Recipe
from tersenet.errors import DataError, RecipeError
from tersenet.graph.cost import cost
from tersenet.model import Model
from tersenet.step import Context, Worth
from tersenet.testing.networks import samples, small_convolutional
from tersenet.testing.step import FAKE_TABLE

MODEL = small_convolutional()
DATA = Data.from_arrays(calibration=samples(16))
CONTEXT = Context((FAKE_TABLE,), DATA)


def names(changes: object) -> list[str]:
    return [change.what for change in changes]  # type: ignore[attr-defined]


def test_more_energy_changes_the_network_less() -> None:
    x = samples(8)
    moved = [float(np.abs(Rebuild(energy=energy).apply(MODEL, CONTEXT).model(x) - MODEL(x)).mean()) for energy in (0.3, 0.6, 0.8)]
    assert moved == sorted(moved, reverse=True)
    assert moved[-1] > 0


@pytest.mark.parametrize("what", ["macs", "parameters"])
@pytest.mark.parametrize("method", ["tucker", "spatial", "channel"])
def test_a_budget_is_met(what: str, method: str) -> None:
    result = Rebuild(**{what: 0.15}, method=method).apply(MODEL, CONTEXT)
    assert getattr(cost(result.model), what) <= 0.85 * getattr(cost(MODEL), what)
    assert result.model(samples(3)).shape == (3, 5)


def test_a_budget_out_of_reach_says_how_much_can_leave() -> None:
    with pytest.raises(RecipeError, match=r"at most 0\.\d+ of the macs can leave .* and 0.95 was asked for"):
        Rebuild(macs=0.95).apply(MODEL, CONTEXT)


def test_layers_that_are_not_faster_are_left_with_the_figures() -> None:
    def timed(after: Model, before: Model) -> dict[str, Worth]:
        rebuilt_stem = "stem.0.reduce.weight" in after.graph.state_dict()
        return {"fake": Worth(900, 1000, 0.8 if rebuilt_stem else 1.2, (0.7, 0.9) if rebuilt_stem else (1.1, 1.3))}

    context = Context((FAKE_TABLE,), DATA, time_on_target=timed)
    faster = Rebuild(energy=0.7, wins="faster", method="channel").apply(MODEL, context)
    left = {change.what: change.why for change in faster.skipped}
    assert left["stem.0"] == "fake: 1,000 -> 900 bytes, 0.80 times as fast (0.70 to 0.90)"
    assert left["depthwise.0"] == "each of its 8 channels has a filter of its own"
    assert "stem.0" not in names(faster.changed)
    assert "1.20 times as fast" in next(change.why for change in faster.changed if change.what == "pointwise.0")
    either = Rebuild(energy=0.7, method="channel").apply(MODEL, context)
    assert "stem.0" in names(either.changed), "it is smaller"


def test_what_was_decided_needs_no_measuring_again() -> None:
    first = Rebuild(energy=0.7).apply(MODEL, CONTEXT)
    assert first.decided is not None
    assert first.decided != Rebuild(energy=0.7)
    read = Recipe.from_json(Recipe([first.decided]).to_json()).steps[0]

    def never(after: Model, before: Model) -> dict[str, Worth]:
        raise AssertionError("nothing is measured")

    second = read.apply(MODEL, Context((FAKE_TABLE,), DATA, time_on_target=never))
    assert second.model.fingerprint == first.model.fingerprint


def test_what_is_asked_to_be_kept_stays_and_ranks_are_multiples() -> None:
    result = Rebuild(energy=0.6, method="channel", keep="stem", multiple=2).apply(MODEL, CONTEXT)
    assert {"what": "stem.0", "why": "it was asked to keep it"} in [vars(change) for change in result.skipped]
    assert isinstance(result.decided, Rebuild)
    assert all(rank % 2 == 0 for _, rank, _ in result.decided.ranks)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({}, "one of energy, macs, parameters and ranks, got none"),
        ({"energy": 0.9, "macs": 0.5}, "got energy and macs"),
        ({"energy": 1.5}, "energy is at most 1"),
        ({"energy": 0.9, "method": "tuckr"}, "did you mean 'tucker'"),
        ({"energy": 0.9, "wins": "fast"}, "faster"),
        ({"energy": 0.9, "multiple": 0}, "multiple must be at least 1"),
        ({"ranks": (("stem.0", 0, 0),)}, "ranks must be at least 1"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, object], says: str) -> None:
    with pytest.raises(RecipeError, match=says):
        Rebuild(**options)


def test_what_cannot_be_rebuilt_is_refused() -> None:
    with pytest.raises(RecipeError, match="did you mean 'head'"):
        Rebuild(ranks=(("haed", 2, 0),)).apply(MODEL, CONTEXT)
    with pytest.raises(RecipeError, match="layer 'stm"):
        Rebuild(energy=0.9, keep="stm*").apply(MODEL, CONTEXT)
    with pytest.raises(RecipeError, match="rebuild before you quantize"):
        Rebuild(energy=0.9).apply(Quantize().apply(MODEL, CONTEXT).model, CONTEXT)
    with pytest.raises(DataError, match="rebuild needs a train part"):
        Rebuild(energy=0.9, training={"epochs": 1}).apply(MODEL, CONTEXT)
