"""Values of fewer than 8 bits: which have them, which keep 8 and why, and that the trail says so."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from tersenet import Override, Quantize
from tersenet.capabilities import Capabilities, Kernel
from tersenet.errors import RecipeError
from tersenet.step import StepResult
from unit.steps.test_quantize import TABLE, conv, quantized

NARROW = Quantize(activations="int4")


def bits(result: StepResult) -> dict[str, int]:
    return {name: encoding.scheme.bits for plan in result.model.plans for name, encoding in plan.values.items()}


def said(result: StepResult) -> dict[str, str]:
    return {change.what: change.why for change in result.skipped}


def test_inner_values_have_what_was_asked_and_the_network_s_own_keep_8() -> None:
    _, result, _ = quantized(lambda net, x: net.two(torch.relu(net.one(x))), NARROW, one=conv(), two=conv())
    assert bits(result) == {"x": 8, "relu": 4, "conv2d_1": 8}
    relu = result.model.plans[0].values["relu"]
    assert (relu.scheme.dtype, relu.zero_point) == ("int4", (-8,))
    assert "inputs keep 8 bits" in said(result)["fewer bits of x"]
    assert "outputs" in said(result)["fewer bits of conv2d_1"]
    assert "each value takes a byte: a file is as large as with 8 bits" in said(result)["bytes and time by values of fewer bits (fake)"]
    assert "1 of 3, each in a byte of its own" in {change.what: change.why for change in result.changed}["values of 4 bits (fake)"]


def test_nothing_is_said_of_8_bits() -> None:
    _, result, _ = quantized(lambda net, x: net.two(torch.relu(net.one(x))), Quantize(), one=conv(), two=conv())
    assert not [what for what in said(result) if "bits" in what]


def test_what_shares_its_numbers_with_8_bits_has_8() -> None:
    def joined(net, x):
        inner = net.two(torch.relu(net.one(x)))
        return net.three(torch.cat([torch.max_pool2d(x, 2), torch.max_pool2d(inner, 2)], 1))

    _, result, _ = quantized(joined, NARROW, one=conv(), two=conv(), three=conv(8))
    assert bits(result)["relu"] == 4
    assert {bits(result)[name] for name in ("x", "conv2d_1", "cat", "max_pool2d", "max_pool2d_1")} == {8}


def test_scores_and_fixed_grids_have_8() -> None:
    def gated(net, x):
        inner = torch.relu(net.one(x))
        return torch.softmax(net.two(inner * torch.sigmoid(net.three(x))), 1)

    _, result, _ = quantized(gated, NARROW, one=conv(), two=conv(), three=conv())
    found = bits(result)
    assert (found["relu"], found["mul"], found["conv2d_1"]) == (4, 4, 4)
    assert (found["sigmoid"], found["softmax"], found["conv2d_2"]) == (8, 8, 8)
    assert "kernel fixes the grid" in said(result)["fewer bits of sigmoid"]


def test_a_constant_has_8() -> None:
    _, result, _ = quantized(lambda net, x: net.two(torch.relu(net.one(x)) * torch.tensor([0.5])), NARROW, one=conv(), two=conv())
    assert sorted(bits(result).values()) == [4, 4, 8, 8, 8]


def test_overrides_name_the_layer_or_the_activation_behind_it() -> None:
    def chain(net, x):
        return net.three(torch.relu(net.two(torch.relu(net.one(x)))))

    layers = {"one": conv(), "two": conv(), "three": conv()}
    by_layer = Quantize(activations="int4", overrides=(Override("one", activations="int8"),))
    assert bits(quantized(chain, by_layer, **layers)[1]) == {"x": 8, "relu": 8, "relu_1": 4, "conv2d_2": 8}
    by_activation = Quantize(overrides=(Override("relu_1", activations="int3"),))
    assert bits(quantized(chain, by_activation, **layers)[1]) == {"x": 8, "relu": 8, "relu_1": 3, "conv2d_2": 8}
    with pytest.raises(RecipeError, match="16 bits in the whole network or nowhere"):
        Quantize(activations="int4", overrides=(Override("one", activations="int16"),))


def test_a_shared_grid_has_the_most_that_was_asked_for() -> None:
    step = Quantize(activations="int2", overrides=(Override("one", activations="int6"),))
    layers = {"one": conv(), "two": conv(), "three": conv(8)}
    _, result, _ = quantized(lambda net, x: net.three(torch.cat([torch.relu(net.one(x)), net.two(x)], 1)), step, **layers)
    assert (bits(result)["relu"], bits(result)["conv2d_1"], bits(result)["cat"]) == (6, 6, 6)


def test_a_value_has_the_same_bits_for_every_runtime() -> None:
    """Here one runtime pools the sigmoid's fixed grid, and the other knows no such kernel."""
    other = replace(TABLE, name="other", kernels={kind: kernel for kind, kernel in TABLE.kernels.items() if kind != "sigmoid"})
    layers = {"one": conv(), "two": conv()}
    _, result, _ = quantized(lambda net, x: net.two(torch.sigmoid(net.one(x))), NARROW, tables=(TABLE, other), **layers)
    assert [plan.values["sigmoid"].scheme.bits for plan in result.model.plans] == [8, 8]


def test_kernels_of_8_bits_are_enough() -> None:
    table = Capabilities("own", {"linear": Kernel(weights=("int8",), activations=("int8",))})
    _, result, _ = quantized(lambda net, x: net.two(net.one(x)), NARROW, tables=(table,), shape=(6,), one=nn.Linear(6, 6), two=nn.Linear(6, 3))
    assert bits(result) == {"x": 8, "linear": 4, "linear_1": 8}
