"""Penalties, constraints and noise of a source take part in every training, behind masks too, and training that was interrupted ends the same."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tersenet.annotations import Annotations, Constraint, Noise, Penalty
from tersenet.model import Model
from tersenet.step import Context
from tersenet.steps.quantize import Quantize
from tersenet.store import Store
from tersenet.targets.table import exporter, find
from tersenet.testing.networks import small_convolutional
from tersenet.testing.step import _data
from tersenet.training.options import Training
from tersenet.training.tuning import tuned

HOW = Training(epochs=2, batch_size=32, learning_rate=0.02, keep="last", device="cpu")
HEAD = "head.weight"


def held(**annotations: object) -> Model:
    return replace(small_convolutional(), annotations=Annotations(**annotations))  # type: ignore[arg-type]


def head(model: Model) -> np.ndarray:
    return model.graph.get_parameter(HEAD).detach().numpy()


def test_penalties_draw_weights_to_zero_unless_told_otherwise() -> None:
    model = held(penalties={HEAD: Penalty(l1=1.0)})
    sizes = [
        np.abs(head(tuned(model, Context((), _data()), replace(HOW, without_source_regularization=without))[0])).sum() for without in (False, True)
    ]
    assert sizes[0] < 0.9 * sizes[1]


def test_constraints_hold_behind_masks() -> None:
    mask = np.random.default_rng(0).random((5, 8)) < 0.5
    mask[0] = False
    model = held(constraints={HEAD: Constraint("norm", 1.0, 1.0, 1.0, (1,))}, masks={HEAD: mask})
    learned, _ = tuned(model, Context((), _data()), HOW)
    assert np.array_equal(head(learned) != 0, mask)
    np.testing.assert_allclose(np.linalg.norm(head(learned), axis=1), [0, 1, 1, 1, 1], atol=1e-4)
    assert learned.annotations.constraints == model.annotations.constraints


def test_quantization_aware_training_has_them() -> None:
    model = held(constraints={HEAD: Constraint("norm", 0.0, 0.3, 1.0, (1,))}, penalties={HEAD: Penalty(l2=0.1)}, noises={"relu": Noise("add", 0.1)})
    result = Quantize(training={"epochs": 1, "batch_size": 32, "device": "cpu"}).apply(
        model, Context((exporter(find("onnxruntime")).capabilities(""),), _data())
    )
    assert float(np.linalg.norm(head(result.model), axis=1).max()) < 0.3 + 1e-5
    assert "noise and penalties of values" in [change.what for change in result.skipped]


def stop(done: int, total: int, what: str) -> None:
    """Ends a training in its middle, as a killed process would."""
    if done > total // 2:
        raise KeyboardInterrupt


def test_interrupted_training_ends_bit_for_bit_the_same(tmp_path: Path) -> None:
    import tersenet
    from tersenet.graph.marks import mark, with_marks

    class Noisy(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.head = torch.nn.Linear(3 * 8 * 8, 5)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return mark(self.head(mark(x, 0).flatten(1)), 1)

    source = tersenet.load(Noisy(), (torch.zeros(2, *_data().train.inputs[0].shape[1:]),))
    model = with_marks(source, [Noise("add", 0.5), Penalty(l2=0.1)])
    whole, _ = tuned(model, Context((), _data()), HOW)
    context = Context((), _data(), store=Store(tmp_path))
    with pytest.raises(KeyboardInterrupt):
        tuned(model, replace(context, progress=stop), HOW)
    resumed, _ = tuned(model, context, HOW)
    assert np.array_equal(head(whole), head(resumed))
    plain, _ = tuned(source, Context((), _data()), HOW)
    assert not np.array_equal(head(whole), head(plain))
