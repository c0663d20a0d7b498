"""The contract suite of frontends passes an honest frontend and catches each kind of fault."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from tersenet.graph.trace import trace
from tersenet.model import Model
from tersenet.testing.frontend import check_frontend

INPUTS = [np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)]


def network() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(3, 5)


def reference(x: np.ndarray) -> np.ndarray:
    return network()(torch.from_numpy(x)).detach().numpy()


def honest(source: object) -> Model:
    return trace(network(), (torch.zeros(1, 3),))


def test_an_honest_frontend_passes():
    assert check_frontend(honest, "source", reference, INPUTS).outputs[0].shape == (None, 5)


def other_every_time(source: object, count: list[int] = []) -> Model:  # noqa: B006 - the memory is the fault
    count.append(1)
    return trace(nn.Sequential(*[nn.Identity()] * len(count), network()), (torch.zeros(1, 3),))


@pytest.mark.parametrize(
    "load, words",
    [
        (lambda source: trace(nn.Linear(3, 5), (torch.zeros(1, 3),)), "differs by"),
        (lambda source: trace(nn.Linear(3, 6), (torch.zeros(1, 3),)), r"shape \(4, 6\), wanted \(4, 5\)"),
        (lambda source: replace(honest(source), fixed_batch="because"), "the batch is open"),
        (lambda source: replace(honest(source), inputs=(replace(honest(source).inputs[0], shape=(4, 3)),)), "does not say why"),
        (lambda source: replace(honest(source), outputs=(replace(honest(source).outputs[0], dtype="int8"),)), "described as int8"),
        (lambda source: replace(honest(source), outputs=()), "1 outputs come out, 0 are described"),
        (other_every_time, "another fingerprint"),
    ],
)
def test_faults_are_caught(load, words):
    with pytest.raises(AssertionError, match=words):
        check_frontend(load, "source", reference, INPUTS)


def test_unreadable_names_are_caught():
    model = honest("source")
    model.graph.register_buffer("a b", torch.zeros(1))
    with pytest.raises(AssertionError, match="'a b' is not readable"):
        check_frontend(lambda source: model, "source", reference, INPUTS)


def normalized(training: bool):
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5)).train(training)
    return lambda x: module(torch.from_numpy(x)).detach().numpy()


def test_training_mode_is_held_too():
    def load(source):
        torch.manual_seed(0)
        return trace(nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5)), (torch.zeros(2, 3),))

    model = check_frontend(load, "source", normalized(False), INPUTS, training=normalized(True))
    running = [tensor for name, tensor in model.graph.named_buffers() if name.endswith("running_mean")]
    assert torch.equal(running[0], torch.zeros(5)), "the model's own statistics stay"
    with pytest.raises(AssertionError, match="differs by"):
        check_frontend(load, "source", normalized(False), INPUTS, training=normalized(False))
