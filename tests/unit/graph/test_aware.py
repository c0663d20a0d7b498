"""The network that quantization-aware training trains: what it computes, and from what."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

import tersenet
from tersenet import Data, Quantize
from tersenet.graph.aware import Aware, aware
from tersenet.graph.tape import Tape
from tersenet.graph.training import follow_within
from tersenet.step import Context
from tersenet.targets.litert.capabilities import LITERT
from tersenet.testing.networks import samples, small_convolutional


def test_a_tape_follows_what_was_computed_and_what_came_back_as_it_was() -> None:
    weight, other = torch.ones(2, 3), torch.full((2, 1), 2.0)
    tape = Tape({"weight": weight, "other": other})
    with tape:
        same = weight.to(torch.float32)
        made = (same.double() * other.detach().double()).t().contiguous()
        apart = torch.ones(3) * 2
    assert tape.sources(same) == {"weight"}
    assert tape.sources(made) == {"weight", "other"}
    assert tape.sources(apart) == set()


def network() -> tuple[Aware, tersenet.Model]:
    model = small_convolutional()
    data = Data.from_arrays(calibration=samples(32)).bind(model.inputs)
    plan = Quantize(correct_biases=False).apply(model, Context((LITERT,), data)).model.plans[0]
    named = replace(plan, values={name: replace(each, shared=each.shared or name) for name, each in plan.values.items()})
    return aware(model, named, "steps"), model


def test_every_parameter_learns_with_batch_norm_alive_and_folded() -> None:
    made, model = network()
    for settled in (False, True):
        made.module.settled = settled
        made.module.zero_grad()
        made.module.train()(torch.from_numpy(samples(16)))[0].square().sum().backward()
        missing = [name for name, own in made.module.named_parameters() if own.grad is None or not bool(own.grad.isfinite().all())]
        assert not missing
    assert set(dict(model.graph.named_parameters())) <= set(dict(made.module.named_parameters()))


def test_alive_and_folded_agree_where_the_batch_is_what_the_statistics_say() -> None:
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(4, momentum=1.0)
    model = tersenet.load(nn.Sequential(nn.Conv2d(3, 4, 3), norm).eval(), (torch.zeros(2, 3, 8, 8),))
    images = torch.from_numpy(samples(16)) if samples(2).shape[1:] == (3, 8, 8) else torch.randn(16, 3, 8, 8)
    data = Data.from_arrays(calibration=images.numpy()).bind(model.inputs)
    plan = Quantize(correct_biases=False).apply(model, Context((LITERT,), data)).model.plans[0]
    named = replace(plan, values={name: replace(each, shared=each.shared or name) for name, each in plan.values.items()})
    made = aware(model, named, "fixed")
    for grid in made.values.values():
        grid.forward = lambda tensor: tensor
    for _ in range(8):  # each moves the statistics, and those the rounded weights
        alive = made.module.train()(images)[0]
    folded = made.module.eval()(images)[0]
    assert torch.allclose(alive, folded, atol=0.02 * float(folded.detach().abs().max()))


def test_running_statistics_follow_within_an_epoch_with_grids_too() -> None:
    model = tersenet.load(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, momentum=1e-3)).eval(), (torch.zeros(2, 3, 8, 8),))
    images = torch.randn(16, 3, 8, 8) + 2
    data = Data.from_arrays(calibration=images.numpy()).bind(model.inputs)
    plan = Quantize(correct_biases=False).apply(model, Context((LITERT,), data)).model.plans[0]
    named = replace(plan, values={name: replace(each, shared=each.shared or name) for name, each in plan.values.items()})
    made = aware(model, named, "fixed")
    own = next(tensor for name, tensor in made.module.named_buffers() if name.endswith("running_mean"))
    follow_within(made.module, 30)
    made.module.train()(images)
    seen = model.graph.get_parameter(next(name for name, _ in model.graph.named_parameters() if name.endswith("0.weight")))
    expected = 0.1 * torch.conv2d(images, seen.detach(), model.graph.get_parameter("0.bias").detach()).mean((0, 2, 3))
    assert torch.allclose(own, expected, atol=0.01 * float(expected.abs().max()) + 1e-3)


@pytest.mark.parametrize("learn", ["moving", "fixed"])
def test_nothing_is_watched_in_evaluation(learn: str) -> None:
    made, _ = network()
    before = {name: tensor.clone() for name, tensor in made.module.state_dict().items()}
    made.module.eval()(torch.from_numpy(samples(16) * 9))
    assert all(torch.equal(tensor, before[name]) for name, tensor in made.module.state_dict().items())
