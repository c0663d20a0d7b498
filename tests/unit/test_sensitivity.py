"""What one part's compression costs: against the same by hand, kept where it was interrupted, without labels too."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tersenet import Data, sensitivity
from tersenet.errors import DataError
from tersenet.model import Model
from tersenet.sensitivity import Harm, Jury, Variant, measured
from tersenet.step import Context
from tersenet.store import Store
from tersenet.testing.networks import samples, small_convolutional

X, LABELS = samples(96, 1), np.arange(96) % 5
MODEL = small_convolutional()
LABELLED = Data.from_arrays(calibration=X[:32], selection=(X[32:], LABELS[32:]))


def changed(seed: int) -> Model:
    """The network with a noisy head."""
    model = small_convolutional()
    head = model.graph.get_parameter("head.weight")
    with torch.no_grad():
        head.add_(0.5 * torch.randn(head.shape, generator=torch.Generator().manual_seed(seed)))
    return model


def variants(count: int = 4) -> list[Variant]:
    return [Variant("head", seed, lambda seed=seed: changed(seed)) for seed in range(count)]


def test_harm_is_the_drop_of_the_metric_and_the_energy_of_the_difference() -> None:
    found = Jury(MODEL, Context(data=LABELLED), "test").harm(changed(0))
    wanted, got = MODEL(X[32:]), changed(0)(X[32:])
    hits = [(outputs.argmax(1) == LABELS[32:]).mean() for outputs in (wanted, got)]
    assert found.drop_points == pytest.approx(100 * (hits[0] - hits[1]))
    assert found.distance == pytest.approx(((got - wanted) ** 2).sum() / (wanted**2).sum(), rel=1e-5)
    assert Jury(MODEL, Context(data=LABELLED), "test").harm(MODEL) == Harm(0.0, 0.0)


def test_without_labels_the_network_judges_itself_on_the_calibration_part() -> None:
    jury = Jury(MODEL, Context(data=Data.from_arrays(calibration=X)), "test")
    assert (jury.where, jury.value) == ("the calibration part", 1.0)
    agree = (MODEL(X).argmax(1) == changed(0)(X).argmax(1)).mean()
    assert jury.harm(changed(0)).drop_points == pytest.approx(100 * (1 - agree))


def test_samples_are_as_many_as_their_outputs_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sensitivity, "OUTPUT_BYTES", 10 * 5 * 4)
    jury = Jury(MODEL, Context(data=LABELLED), "test")
    assert jury.outputs.shape == (10, 5)


def test_somebody_must_judge() -> None:
    with pytest.raises(DataError, match="test needs a calibration part"):
        Jury(MODEL, Context(), "test")


def test_what_was_measured_is_kept(tmp_path: Path) -> None:
    context = Context(data=LABELLED, store=Store(tmp_path))
    jury = Jury(MODEL, context, "test")
    whole = measured(jury, MODEL, replace(context, store=None), variants(), "test")
    made: list[str] = []

    def stop(done: int, total: int, what: str) -> None:
        made.append(what)
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measured(jury, MODEL, replace(context, progress=stop), variants(), "test")
    assert made == ["measuring sensitivity (head)"] * 3
    made.clear()
    assert measured(jury, MODEL, replace(context, progress=lambda done, total, what: made.append(what)), variants(), "test") == whole
    assert len(made) == 3, "two were there, two were measured"

    def fails() -> Model:
        raise AssertionError("it was measured already")

    again = [Variant(variant.name, variant.amount, fails) for variant in variants()]
    context.store.clear()  # what steps do at their end leaves finished work alone
    assert measured(jury, MODEL, context, again, "test") == whole
    with pytest.raises(AssertionError, match="already"):
        measured(jury, MODEL, context, again, "another")
