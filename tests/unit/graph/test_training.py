"""A graph that learns: modes that switch, tensors of its own, statistics that can be estimated anew, and the way back to a model."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import tersenet
from tersenet.annotations import Annotations
from tersenet.graph.training import Statistics, ending, follow_within, learned, trainable
from tersenet.graph.walk import bind, calls
from tersenet.testing.networks import SmallConvolutional, samples, small_convolutional


def test_modes_switch_and_nothing_is_shared_with_the_model() -> None:
    model = small_convolutional()
    before, inputs = model.fingerprint, torch.from_numpy(samples(8))
    module = trainable(model)
    source = SmallConvolutional()
    source.load_state_dict(model.graph.state_dict(), strict=False)
    assert torch.equal(module(inputs)[0], source.train()(inputs))
    assert torch.equal(module.eval()(inputs)[0], source.eval()(inputs))
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(1)
    assert small_convolutional().fingerprint == before
    assert all(parameter.requires_grad for parameter in module.parameters())
    changed = learned(model, module)
    assert [node.name for node in changed.graph.graph.nodes] == [node.name for node in model.graph.graph.nodes]
    assert not np.allclose(changed(samples(2)), model(samples(2)))


def test_dropout_drops_and_its_share_can_be_chosen() -> None:
    model = tersenet.load(nn.Sequential(nn.Dropout(0.2), nn.Flatten()), (torch.ones(2, 50, 50),))
    inputs = torch.ones(4, 50, 50)
    for chosen, share in ((None, 0.2), (0.6, 0.6), (0.0, 0.0)):
        module = trainable(model, chosen)
        assert float((module(inputs)[0] == 0).float().mean()) == pytest.approx(share, abs=0.02)
        assert torch.equal(module.eval()(inputs)[0], inputs.flatten(1))


def test_recurrent_layers_drop_between_one_another() -> None:
    layer = nn.LSTM(4, 6, num_layers=2, dropout=0.5, batch_first=True)
    module = trainable(tersenet.load(layer, (torch.zeros(2, 5, 4),)))
    inputs = torch.randn(3, 5, 4)
    assert not torch.equal(module(inputs)[0], module(inputs)[0])
    assert torch.equal(module.eval()(inputs)[0], layer.eval()(inputs)[0])


@pytest.mark.parametrize(("own", "steps", "moved"), [(0.001, 60, 0.05), (0.001, 10, 0.1), (0.001, 30_000, 0.001), (0.3, 10, 0.3)])
def test_running_statistics_follow_within_an_epoch(own: float, steps: int, moved: float) -> None:
    module = trainable(tersenet.load(nn.Sequential(nn.BatchNorm1d(3, momentum=own)), (torch.zeros(4, 3),)))
    follow_within(module, steps)
    module(torch.full((4, 3), 2.0))
    mean = next(value for name, value in module.state_dict().items() if name.endswith("running_mean"))
    torch.testing.assert_close(mean, torch.full((3,), 2 * moved))


def test_what_two_names_share_stays_shared() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(9, 4)
            self.head = nn.Linear(4, 9, bias=False)
            self.head.weight = self.embedding.weight

        def forward(self, tokens: torch.Tensor) -> torch.Tensor:
            return self.head(self.embedding(tokens).mean(1))

    model = tersenet.load(Tied(), (torch.zeros(2, 3, dtype=torch.long),))
    module = trainable(model)
    assert len(list(module.parameters())) == 1
    module(torch.zeros(2, 3, dtype=torch.long))[0].sum().backward()
    with torch.no_grad():
        next(module.parameters()).add_(1)
    state = learned(model, module).graph.state_dict()
    assert len({tensor.data_ptr() for tensor in state.values()}) == 1


def test_running_statistics_that_are_a_parameter_too_become_their_own() -> None:
    model = tersenet.load(nn.Sequential(nn.BatchNorm1d(3)), (torch.zeros(4, 3),))
    (node,) = calls(model.graph)
    held = bind(node)
    node.args = (
        held["input"],
        held["weight"],
        held["bias"],
        held["bias"],
        held["weight"],
        *node.args[5:],
    )  # as some files have them: equal numbers once
    model.graph.recompile()
    module, inputs = trainable(model), torch.randn(8, 3) + 2
    layer = nn.BatchNorm1d(3)
    assert torch.equal(module(inputs)[0], layer(inputs))
    assert torch.equal(learned(model, module).graph(inputs)[0], layer.eval()(inputs))


def test_statistics_estimated_anew_are_the_mean_over_batches() -> None:
    model = small_convolutional()
    module = trainable(model)
    batches = torch.from_numpy(samples(24)).split(8)
    statistics = Statistics(module)
    for batch in batches:
        statistics.see(batch)
    statistics.settle()
    first = nn.functional.conv2d(torch.cat(batches), module.get_parameter("stem.0.weight"), padding=1)
    assert torch.allclose(module.get_buffer("stem.1.running_mean"), first.mean((0, 2, 3)), atol=1e-5)
    assert not torch.allclose(model.graph.get_buffer("stem.1.running_mean"), first.mean((0, 2, 3)), atol=1e-2)


ENDINGS = {
    "scores": (nn.Identity(), nn.ReLU()),
    "probabilities": (nn.Softmax(1),),
    "probability": (nn.Sigmoid(), nn.Hardsigmoid()),
}


@pytest.mark.parametrize(("last", "kind"), [(last, kind) for kind, ends in ENDINGS.items() for last in ends])
def test_what_a_network_returns_is_told_by_its_last_operator(last: nn.Module, kind: str) -> None:
    model = tersenet.load(nn.Sequential(nn.Linear(4, 3), last, nn.Unflatten(1, (3, 1))), (torch.zeros(2, 4),))
    assert ending(model) == kind


def test_masks_stay_and_the_sources_grids_go() -> None:
    model = small_convolutional()
    mask = {"head.weight": np.ones((5, 8), bool)}
    model = replace(model, annotations=Annotations(masks=mask))
    assert learned(model, trainable(model)).annotations.masks == mask
