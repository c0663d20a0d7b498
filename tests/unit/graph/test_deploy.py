"""The deployable graph computes what the network computes, with one spelling for each operator."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tersenet.frontends.table import load
from tersenet.graph.build import fixed
from tersenet.graph.deploy import deployable
from tersenet.graph.operators import KINDS, kind_of
from tersenet.graph.walk import calls, constant, inputs, is_constant, shape_of


class Function(nn.Module):
    def __init__(self, function, **modules):
        super().__init__()
        self.function = function
        for name, module in modules.items():
            setattr(self, name, module)

    def forward(self, x):
        return self.function(self, x)


def norm(kind, channels):
    torch.manual_seed(1)
    layer = kind(channels)
    nn.init.normal_(layer.running_mean)
    nn.init.uniform_(layer.running_var, 0.3, 3.0)
    nn.init.normal_(layer.weight)
    nn.init.normal_(layer.bias)
    return layer


def graph_of(function, shape=(2, 4, 8, 8), **modules):
    torch.manual_seed(0)
    model = load(Function(function, **modules).eval(), (torch.randn(shape),))
    return model, deployable(model)


def check(function, shape=(2, 4, 8, 8), atol=1e-5, **modules):
    model, module = graph_of(function, shape, **modules)
    torch.manual_seed(3)
    x = torch.randn(shape)
    (result,) = module(x)
    np.testing.assert_allclose(result.detach().numpy(), model(x.numpy()), atol=atol, rtol=1e-4)
    (single,) = fixed(module, 1)(x[:1])
    np.testing.assert_allclose(single.detach().numpy(), model(x[:1].numpy()), atol=atol, rtol=1e-4)
    return [kind_of(node) for node in calls(module)]


FOLDED = {
    "conv2d": (nn.Conv2d(4, 6, 3), nn.BatchNorm2d, 6),
    "conv2d without bias": (nn.Conv2d(4, 6, 3, bias=False), nn.BatchNorm2d, 6),
    "grouped": (nn.Conv2d(4, 6, 3, groups=2), nn.BatchNorm2d, 6),
    "depthwise": (nn.Conv2d(4, 4, 3, groups=4), nn.BatchNorm2d, 4),
    "transposed": (nn.ConvTranspose2d(4, 6, 3, stride=2), nn.BatchNorm2d, 6),
    "transposed and grouped": (nn.ConvTranspose2d(4, 6, 3, groups=2), nn.BatchNorm2d, 6),
}


@pytest.mark.parametrize("name", FOLDED)
def test_batch_norm_folds_into_the_layer_before_it(name):
    layer, kind, channels = FOLDED[name]
    kinds = check(lambda net, x: net.norm(net.layer(x)), layer=layer, norm=norm(kind, channels))
    assert len(kinds) == 1
    assert kinds[0] not in ("batch_norm", "add", "mul")


def test_batch_norm_folds_into_linear_and_conv1d():
    assert check(lambda net, x: net.norm(net.layer(x)), (3, 4), layer=nn.Linear(4, 5), norm=norm(nn.BatchNorm1d, 5)) == ["linear"]
    assert check(lambda net, x: net.norm(net.layer(x)), (3, 4, 9), layer=nn.Conv1d(4, 5, 3), norm=norm(nn.BatchNorm1d, 5)) == ["conv1d"]


def test_batch_norm_whose_input_has_other_readers_stays_apart():
    kinds = check(lambda net, x: (lambda y: net.norm(y) + y)(net.layer(x)), layer=nn.Conv2d(4, 6, 3), norm=norm(nn.BatchNorm2d, 6))
    assert kinds == ["conv2d", "depthwise_conv2d", "add"]


def test_batch_norm_after_a_linear_layer_on_sequences_is_not_folded():
    kinds = check(lambda net, x: net.norm(net.layer(x)), (3, 4, 5), layer=nn.Linear(5, 7), norm=norm(nn.BatchNorm1d, 4))
    assert kinds == ["linear", "mul", "add"]


SPELLINGS = {
    "hardtanh 0 6": (lambda net, x: F.hardtanh(x, 0, 6), ["relu6"]),
    "clamp from 0": (lambda net, x: x.clamp(min=0), ["relu"]),
    "clamp 0 6": (lambda net, x: x.clamp(0, 6), ["relu6"]),
    "clamp": (lambda net, x: x.clamp(-1, 2), ["clamp"]),
    "in place": (lambda net, x: F.relu_(x + 1) * 2, ["add", "relu", "mul"]),
    "dropout": (lambda net, x: F.dropout(x, 0.5, net.training).contiguous() + 1, ["add"]),
    "image mean": (lambda net, x: x.mean((2, 3)), ["adaptive_avg_pool2d", "reshape"]),
    "image mean, kept": (lambda net, x: x.mean((-1, -2), keepdim=True), ["adaptive_avg_pool2d"]),
    "adaptive, even": (lambda net, x: F.adaptive_avg_pool2d(x, 4), ["avg_pool2d"]),
    "adaptive, same": (lambda net, x: F.adaptive_avg_pool2d(x, 8) + 1, ["add"]),
    "division": (lambda net, x: x / 3, ["mul"]),
    "number minus": (lambda net, x: 1 - x, ["sub"]),
    "alpha": (lambda net, x: torch.add(x, x * x, alpha=3), ["mul", "mul", "add"]),
    "constant matrix": (lambda net, x: x @ torch.arange(24.0).reshape(8, 3), ["linear"]),
    "view after permute": (lambda net, x: x.permute(0, 2, 3, 1).contiguous().view(x.shape[0], -1), ["permute", "reshape"]),
}


@pytest.mark.parametrize("name", SPELLINGS)
def test_one_spelling(name):
    function, expected = SPELLINGS[name]
    kinds = check(function, atol=1e-4)
    assert [kind for kind in kinds if kind not in ("size", "mul.default")] == expected


def test_padding_same_of_an_even_kernel_becomes_a_pad_in_front():
    assert check(lambda net, x: net.layer(x), layer=nn.Conv2d(4, 6, 3, padding="same")) == ["conv2d"]
    assert check(lambda net, x: net.layer(x), layer=nn.Conv2d(4, 6, 4, padding="same")) == ["pad", "conv2d"]


def test_attention_is_opened_with_its_mask():
    def attend(net, x):
        q, k, v = x.reshape(2, 4, 8, 8), x.flip(1), x * 2
        mask = torch.ones(8, 8, dtype=torch.bool).tril()
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask) + F.scaled_dot_product_attention(q, k, v, is_causal=True)

    model, module = graph_of(attend)
    x = np.random.default_rng(0).standard_normal((2, 4, 8, 8)).astype(np.float32)
    np.testing.assert_allclose(module(torch.from_numpy(x))[0].numpy(), model(x), atol=1e-5)
    kinds = [kind_of(node) for node in calls(module)]
    assert "attention" not in kinds
    assert kinds.count("matmul") == 4


def test_transformer_layer_has_known_operators_alone():
    layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True, dropout=0.1)
    kinds = set(check(lambda net, x: net.layer(x), (2, 5, 16), atol=1e-4, layer=layer))
    assert kinds - {"mul", "add", "floordiv"} <= KINDS


def test_constants_are_computed_once():
    kinds = check(lambda net, x: x + torch.arange(8).float().sin().reshape(1, 1, 1, 8))
    assert kinds == ["add"]


def test_names_are_the_same_at_every_call():
    model, first = graph_of(lambda net, x: net.norm(net.layer(x)) / 2, layer=nn.Conv2d(4, 6, 3), norm=norm(nn.BatchNorm2d, 6))
    second = deployable(model)
    assert [node.name for node in first.graph.nodes] == [node.name for node in second.graph.nodes]
    assert first.graph is not second.graph


def test_the_model_keeps_its_batch_norm():
    model, _ = graph_of(lambda net, x: net.norm(net.layer(x)), layer=nn.Conv2d(4, 6, 3), norm=norm(nn.BatchNorm2d, 6))
    assert "batch_norm" in [kind_of(node) for node in calls(model.graph)]


def test_fixed_shapes_are_numbers():
    _, module = graph_of(lambda net, x: x.reshape(x.shape[0], -1, 4))
    concrete = fixed(module, 3)
    assert all(isinstance(size, int) for node in concrete.graph.nodes if node.op != "output" for size in shape_of(node))
    assert not [node for node in calls(concrete) if kind_of(node) == "size"]


def test_open_lengths_become_those_of_the_example():
    model = load(nn.Conv1d(2, 3, 3, padding=1).eval(), (torch.zeros(2, 2, 12),), dynamic={"input": {2: "time"}})
    (taken,) = inputs(fixed(deployable(model)))
    assert tuple(shape_of(taken)) == (1, 2, 12)


def test_weights_of_a_folded_layer_can_be_found():
    _, module = graph_of(lambda net, x: net.norm(net.layer(x)), layer=nn.Conv2d(4, 6, 3), norm=norm(nn.BatchNorm2d, 6))
    (conv,) = calls(module)
    held = [argument for argument in conv.args if is_constant(argument)]
    assert [tuple(constant(module, node).shape) for node in held] == [(6, 4, 3, 3), (6,)]


def test_a_window_as_large_as_the_image_is_pooling_to_one():
    assert check(lambda net, x: F.avg_pool2d(x, 8)) == ["adaptive_avg_pool2d"]
    assert check(lambda net, x: F.avg_pool2d(x, 8, padding=1, stride=4)) == ["avg_pool2d"]


IDLE = {
    "relu of relu": (lambda net, x: F.relu(F.relu(x)), ["relu"]),
    "relu of relu6": (lambda net, x: F.relu(F.relu6(x)), ["relu6"]),
    "relu6 of relu": (lambda net, x: F.relu6(F.relu(x)), ["relu", "relu6"]),
    "clamp of sigmoid": (lambda net, x: torch.clamp(torch.sigmoid(x), -0.5, 1.0), ["sigmoid"]),
    "narrower clamp": (lambda net, x: torch.clamp(torch.clamp(x, -1.0, 1.0), -0.5, 2.0), ["clamp", "clamp"]),
    "wider clamp": (lambda net, x: torch.clamp(torch.clamp(x, -1.0, 1.0), -1.0, 2.0), ["clamp"]),
    "relu behind pooling": (lambda net, x: F.relu(F.max_pool2d(F.relu(x), 2)), ["relu", "max_pool2d"]),
    "relu behind a pad": (lambda net, x: F.relu(F.pad(F.relu(x), (1, 1), value=-2.0)), ["relu", "pad", "relu"]),
    "relu of tanh": (lambda net, x: F.relu(torch.tanh(x)), ["tanh", "relu"]),
    "relu of a sum": (lambda net, x: F.relu(F.relu(x) + x), ["relu", "add", "relu"]),
}


@pytest.mark.parametrize("name", IDLE)
def test_limits_that_values_keep_already_vanish(name):
    function, kinds = IDLE[name]
    assert check(function) == kinds
