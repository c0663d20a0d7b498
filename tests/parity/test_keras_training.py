"""Training goes on as Keras would: one step of gradient descent on one batch gives the weights that Keras's own step gives."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import tersenet
from tersenet.annotations import Constraint
from tersenet.data.parts import Data
from tersenet.graph.training import trainable
from tersenet.model import Model
from tersenet.step import Context
from tersenet.training.options import Training
from tersenet.training.tuning import tuned

os.environ.setdefault("KERAS_BACKEND", "torch")  # read by Keras when it is imported
keras = pytest.importorskip("keras")
pytest.importorskip("pyfive")

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning")

L, R, C = keras.layers, keras.regularizers, keras.constraints
COUNT, RATE = 6, 0.05
STEP = Training(epochs=1, batch_size=COUNT, optimizer="sgd", learning_rate=RATE, schedule="constant", keep="last", device="cpu")


def squares(network: Any, inputs: tuple[torch.Tensor, ...], labels: torch.Tensor | None) -> torch.Tensor:
    assert labels is not None
    return torch.nn.functional.mse_loss(network(*inputs)[0], labels)


def saved(path: Path, layers: Sequence[Any], shape: Sequence[int], words: int = 0) -> tuple[Any, np.ndarray]:
    """A network with larger weights than Keras begins with, so that constraints have something to do, and a batch."""
    keras.utils.set_random_seed(0)
    network = keras.Sequential([keras.Input(tuple(shape)), *layers])
    random = np.random.default_rng(1)
    network.set_weights([np.abs(array) + 0.1 if "variance" in variable.path else array + random.normal(size=array.shape) * 0.5
                         for array, variable in zip(network.get_weights(), network.weights, strict=True)])  # fmt: skip
    network.save(path)
    x = random.integers(0, words, (COUNT, *shape)) if words else random.normal(size=(COUNT, *shape))
    return network, x.astype(np.float32)


def stepped(model: Model, x: np.ndarray, y: np.ndarray, how: Training = STEP) -> tuple[Model, float]:
    data = Data.from_arrays(train=(x, y), calibration=x + 1, selection=(x + 2, y), evaluation=(x + 9, y), task="regression")
    learned, outcome = tuned(model, Context((), data), how, objective=squares)
    return learned, outcome.history[0].loss


CASES = {
    "dense l1": ([lambda: L.Dense(3, kernel_regularizer=R.L1(0.1), bias_regularizer=R.L1(0.2))], (4,)),
    "dense l1l2": ([lambda: L.Dense(3, "tanh", kernel_regularizer=R.L1L2(0.1, 0.2), bias_regularizer="l2")], (4,)),
    "dense orthogonal rows": ([lambda: L.Dense(3, kernel_regularizer=R.OrthogonalRegularizer(0.5))], (4,)),
    "dense orthogonal columns": ([lambda: L.Dense(3, kernel_regularizer=R.OrthogonalRegularizer(0.5, mode="columns"))], (4,)),
    "dense activity": ([lambda: L.Dense(3, "relu", activity_regularizer=R.L1L2(0.1, 0.3)), lambda: L.Dense(2)], (4,)),
    "an activity that is returned": ([lambda: L.Dense(3, activity_regularizer=R.L2(0.3))], (5, 4)),
    "the layer for activities": ([lambda: L.Dense(3), lambda: L.ActivityRegularization(0.1, 0.2), lambda: L.Dense(3)], (4,)),
    "dense max": ([lambda: L.Dense(3, kernel_constraint=C.MaxNorm(0.7), bias_constraint=C.NonNeg())], (4,)),
    "dense max over outputs": ([lambda: L.Dense(3, kernel_constraint=C.MaxNorm(0.7, axis=1))], (4,)),
    "dense unit": ([lambda: L.Dense(3, kernel_constraint=C.UnitNorm(axis=-2), bias_constraint=C.UnitNorm())], (4,)),
    "dense range": ([lambda: L.Dense(3, kernel_constraint=C.MinMaxNorm(0.4, 0.6, rate=0.3, axis=[0, 1]))], (4,)),
    "convolution": (
        [lambda: L.Conv2D(4, 3, kernel_regularizer=R.L2(0.1), kernel_constraint=C.MaxNorm(1.0, axis=[0, 1, 2]), activity_regularizer="l1")],
        (6, 5, 3),
    ),
    "convolution, each column": ([lambda: L.Conv2D(4, 3, kernel_constraint=C.UnitNorm(axis=0))], (6, 5, 3)),
    "convolution in groups": ([lambda: L.Conv2D(4, 3, groups=2, kernel_constraint=C.MinMaxNorm(0.5, 1.0, axis=(0, 1, 2)))], (6, 5, 4)),
    "transposed": ([lambda: L.Conv2DTranspose(4, 3, kernel_regularizer="l1", kernel_constraint=C.MaxNorm(1.0, axis=(0, 1, 3)))], (4, 5, 3)),
    "depthwise": (
        [lambda: L.DepthwiseConv2D(3, depth_multiplier=2, depthwise_regularizer=R.L1(0.1), depthwise_constraint=C.MaxNorm(0.9, axis=[0, 1]))],
        (6, 5, 3),
    ),
    "separable": (
        [
            lambda: L.SeparableConv2D(
                4,
                3,
                depthwise_regularizer=R.L2(0.1),
                pointwise_regularizer=R.L1(0.1),
                bias_regularizer=R.L2(0.3),
                depthwise_constraint=C.NonNeg(),
                pointwise_constraint=C.MaxNorm(0.9, axis=2),
            )
        ],
        (6, 5, 3),
    ),
    "batch norm": ([lambda: L.BatchNormalization(gamma_regularizer=R.L2(0.1), beta_regularizer=R.L1(0.1), gamma_constraint=C.NonNeg())], (4,)),
    "layer norm": ([lambda: L.LayerNormalization(gamma_regularizer=R.L2(0.1), beta_constraint=C.MaxNorm(0.1))], (4,)),
    "prelu": ([lambda: L.PReLU(alpha_regularizer=R.L1(0.1), alpha_constraint=C.NonNeg(), shared_axes=[1])], (5, 3)),
    "lstm": (
        [
            lambda: L.LSTM(
                3, kernel_regularizer=R.L2(0.1), recurrent_regularizer=R.L1(0.1), bias_regularizer=R.L2(0.2), kernel_constraint=C.MaxNorm(1.0)
            )
        ],
        (5, 4),
    ),
    "lstm, orthogonal": ([lambda: L.LSTM(3, recurrent_regularizer=R.OrthogonalRegularizer(0.5), bias_constraint=C.NonNeg())], (5, 4)),
    "gru": (
        [
            lambda: L.GRU(
                3, kernel_regularizer=R.L1L2(0.1, 0.1), bias_regularizer=R.L2(0.2), recurrent_constraint=C.UnitNorm(), activity_regularizer="l2"
            )
        ],
        (5, 4),
    ),
    "both directions": (
        [lambda: L.Bidirectional(L.LSTM(3, kernel_regularizer=R.L2(0.1), bias_regularizer="l1", recurrent_constraint=C.MaxNorm(1.0)))],
        (5, 4),
    ),
    "a cell": ([lambda: L.RNN(L.SimpleRNNCell(3, kernel_regularizer=R.L2(0.1), recurrent_constraint=C.MaxNorm(0.5)))], (5, 4)),
    "each step": ([lambda: L.TimeDistributed(L.Dense(3, kernel_regularizer=R.L2(0.1), kernel_constraint=C.NonNeg()))], (5, 4)),
}


@pytest.mark.parametrize("case", CASES)
def test_a_step_as_kerass_own(tmp_path: Path, case: str) -> None:
    layers, shape = CASES[case]
    compare(tmp_path, [layer() for layer in layers], shape)


def compare(tmp_path: Path, layers: Sequence[Any], shape: Sequence[int], words: int = 0) -> Model:
    network, x = saved(tmp_path / "before.keras", layers, shape, words)
    model = tersenet.load(tmp_path / "before.keras")
    y = np.random.default_rng(2).normal(size=network(x).shape).astype(np.float32)
    network.compile(optimizer=keras.optimizers.SGD(RATE), loss="mse")
    order = np.random.default_rng([0, 0]).permutation(COUNT)
    loss = float(network.train_on_batch(x[order], y[order]))
    network.save(tmp_path / "after.keras")
    wanted = dict(tersenet.load(tmp_path / "after.keras").graph.named_parameters())
    learned, ours = stepped(model, x, y)
    plain, _ = stepped(model, x, y, Training(**{**vars(STEP), "without_source_regularization": True}))
    assert model.provenance["notes"] == []
    assert ours == pytest.approx(loss, rel=1e-4)
    for name, parameter in learned.graph.named_parameters():
        if not name.rpartition(".")[2].startswith("running_"):
            np.testing.assert_allclose(parameter.detach(), wanted[name].detach(), rtol=1e-4, atol=2e-5, err_msg=name)
    assert any(not torch.allclose(own, wanted[name], atol=1e-4) for name, own in plain.graph.named_parameters()), "there was nothing to keep"
    return model


def test_an_embedding(tmp_path: Path) -> None:
    held = L.Embedding(20, 4, embeddings_regularizer=R.L2(0.1), embeddings_constraint=C.MaxNorm(0.8, axis=1), activity_regularizer=R.L1(0.1))
    model = compare(tmp_path, [held, L.Flatten(), L.Dense(2)], (5,), words=9)
    assert model.annotations.constraints == {"embedding.weight": Constraint("norm", 0.0, 0.8, 1.0, (1,))}


def test_each_cell_of_a_stack_keeps_its_own(tmp_path: Path) -> None:
    """The groups of an archive are called by their classes, in the order of the alphabet: lstm_cell comes behind gru_cell."""
    cells = [
        keras.layers.LSTMCell(4, kernel_regularizer=keras.regularizers.L2(0.25)),
        keras.layers.GRUCell(3, kernel_regularizer=keras.regularizers.L1(0.125)),
    ]
    network = keras.Sequential([keras.Input((5, 2)), keras.layers.RNN(cells), keras.layers.Dense(1)])
    network.save(tmp_path / "stacked.keras")
    for source in (network, tmp_path / "stacked.keras"):
        found = tersenet.load(source).annotations.penalties
        assert sorted((name.split(".")[-2], entry.l1, entry.l2) for name, entry in found.items()) == [("0", 0.0, 0.25), ("1", 0.125, 0.0)]


@pytest.mark.parametrize("kind", ["MultiHeadAttention", "GroupQueryAttention"])
def test_attention_drops_in_training(kind: str) -> None:
    options = {"num_heads": 2, "key_dim": 4} if kind == "MultiHeadAttention" else {"head_dim": 4, "num_query_heads": 2, "num_key_value_heads": 1}
    given = keras.Input((6, 8))
    network = keras.Model(given, getattr(keras.layers, kind)(dropout=0.5, **options)(given, given))
    model = tersenet.load(network)
    assert model.provenance["notes"] == []
    learner, x = trainable(model), torch.randn(2, 6, 8)
    assert not torch.equal(learner(x)[0], learner(x)[0])
    learner.eval()
    assert torch.equal(learner(x)[0], learner(x)[0])
    np.testing.assert_allclose(learner(x)[0].detach().numpy(), network(x).detach().numpy(), atol=1e-5)


def test_a_functional_network_has_no_note_of_its_calls(tmp_path: Path) -> None:
    given = keras.Input((4,))
    network = keras.Model(given, keras.layers.Dense(2)(keras.layers.GaussianNoise(0.1)(keras.layers.Dropout(0.2)(given))))
    network.save(tmp_path / "functional.keras")
    model = tersenet.load(tmp_path / "functional.keras")
    assert model.provenance["notes"] == [] and len(model.annotations.noises) == 1
