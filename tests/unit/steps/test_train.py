"""The step that learns: what it needs, what it says, and what it leaves."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tersenet import Data, Quantize, Task, Train, Training
from tersenet.annotations import Annotations
from tersenet.errors import DataError, DivergedError, RecipeError
from tersenet.schemes import Encoding, Scheme
from tersenet.step import Context
from tersenet.store import Store
from tersenet.testing.networks import samples, small_convolutional
from tersenet.testing.step import FAKE_TABLE, _data

MODEL = small_convolutional()
ONCE = Train(Training(epochs=1))
LABELS = np.arange(32) % 5


def context(**parts: object) -> Context:
    return Context((FAKE_TABLE,), Data.from_arrays(**parts).bind(MODEL.inputs))


def test_it_says_what_it_did() -> None:
    result = ONCE.apply(MODEL, Context((), _data()))
    (change,) = result.changed
    assert change.what == "weights"
    assert change.why.startswith("1 epoch of adam from the weights that were there, loss ")
    assert "kept: epoch 1, accuracy 0." in change.why
    assert result.skipped == ()


def test_it_needs_samples_and_labels() -> None:
    with pytest.raises(DataError, match="train needs a train part, and these data have none"):
        ONCE.apply(MODEL, context(calibration=samples(8)))
    with pytest.raises(DataError, match="train needs labels in the train part, and these data have none"):
        ONCE.apply(MODEL, context(train=samples(64)))


def test_a_task_of_ones_own_has_no_loss() -> None:
    task = Task.own(lambda outputs, labels: 1.0, "mine", "higher")
    with pytest.raises(RecipeError, match="the task own has no loss to train with"):
        ONCE.apply(MODEL, context(train=(samples(32), LABELS), task=task))


def test_masks_stay_and_plans_and_grids_go() -> None:
    planned = Quantize().apply(MODEL, Context((FAKE_TABLE,), _data())).model
    mask = np.random.default_rng(0).random((5, 8)) < 0.5
    given = replace(planned, annotations=Annotations(weights={"head.weight": Encoding(Scheme("int8"), (0.1,), (0,))}, masks={"head.weight": mask}))
    result = ONCE.apply(given, Context((), _data()))
    assert result.model.plans == ()
    assert not result.model.annotations.weights
    assert np.array_equal(result.model.graph.state_dict()["head.weight"].numpy() != 0, mask)
    assert [change.what for change in result.skipped] == ["quantization plans", "grids of the source"]


def test_from_scratch_forgets_what_the_network_knew() -> None:
    first = Train(Training(epochs=1), from_scratch=True)
    other = small_convolutional(seed=3)
    one, two = (first.apply(model, Context((), _data())).model for model in (MODEL, other))
    assert one.graph.state_dict().keys() == two.graph.state_dict().keys()
    assert all(np.array_equal(tensor, two.graph.state_dict()[name]) for name, tensor in one.graph.state_dict().items())


def test_a_store_keeps_a_draft_that_a_second_call_answers_from(tmp_path) -> None:
    store = Store(tmp_path / "steps")
    seen: list[int] = []
    held = Context((), _data(), store=store, progress=lambda done, total, what: seen.append(done))
    first = ONCE.apply(MODEL, held).model
    assert len(list(store.folder.glob(".draft-*/training.pt"))) == 1
    seen.clear()
    assert ONCE.apply(MODEL, held).model.fingerprint == first.fingerprint
    assert len(seen) == 1, "no step is taken again"
    store.clear()
    assert not store.folder.exists()


def test_a_diverged_network_is_left_as_it_last_was_well(monkeypatch) -> None:
    from tersenet.training import loop

    checked, calls = loop.Loop._checked, iter(range(100))
    monkeypatch.setattr(loop.Loop, "_checked", lambda self, loss: checked(self, loss * (float("nan") if next(calls) == 1 else 1)))
    good = Train(Training(epochs=2, batch_size=64, keep="last"))
    with pytest.raises(DivergedError, match="the loss became nan in epoch 2, step 1") as caught:
        good.apply(MODEL, Context((), _data()))
    assert caught.value.model.fingerprint != MODEL.fingerprint
    assert np.isfinite(caught.value.model(samples(4))).all()


def test_several_inputs_by_name() -> None:
    import torch
    from torch import nn

    import tersenet

    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.head = nn.Embedding(9, 4), nn.Linear(7, 2)

        def forward(self, tokens: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
            return self.head(torch.cat([self.table(tokens).mean(1), numbers], 1))

    model = tersenet.load(Two(), (torch.zeros(2, 5, dtype=torch.long), torch.zeros(2, 3)))
    random = np.random.default_rng(0)
    numbers, tokens = random.standard_normal((64, 3)).astype(np.float32), random.integers(0, 9, (64, 5))
    data = Data.from_arrays(
        train=({"numbers": numbers, "tokens": tokens}, (numbers[:, 0] > 0).astype(int)),
        calibration={"numbers": numbers[:4] + 1, "tokens": tokens[:4]},
    )
    data = data.bind(model.inputs, model.outputs)
    result = Train(Training(epochs=30, learning_rate=0.05, batch_size=16)).apply(model, Context((), data)).model
    found = result({"numbers": numbers, "tokens": tokens}).argmax(1)
    assert (found == (numbers[:, 0] > 0)).mean() > 0.95
