"""What a node would make out of a few numbers is checked before memory is taken; functions refuse what they do not know."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tersenet.errors import ModelError
from tersenet.frontends.onnx.node import Node
from tersenet.frontends.onnx.operators import activation, classical, creation, indexing, shaping, signal

DATA = torch.ones(2, 3)


@pytest.mark.parametrize(
    ("call", "what"),
    [
        (lambda: creation.constant_of_shape(Node("ConstantOfShape"), (1 << 20, 1 << 20)), "would make 1099511627776 numbers"),
        (lambda: creation.range_(Node("Range"), (0,), (1 << 40,), (1,)), "Range would make"),
        (lambda: shaping.tile(Node("Tile"), DATA, (1 << 20, 1 << 20)), "Tile would make"),
        (lambda: signal.window(Node("HannWindow"), (1 << 40,)), "the size of a HannWindow must be"),
        (lambda: signal.mel_weights(Node("MelWeightMatrix"), (1 << 20,), (1 << 20,), (16000,), (0.0,), (8000.0,)), "MelWeightMatrix of"),
        (lambda: signal.dft(Node("DFT", opset=20), torch.ones(1, 8, 1), (1 << 20,)), "length of a Fourier transform"),
    ],
    ids=["constant", "range", "tile", "window", "mel", "dft"],
)
def test_what_is_made_out_of_nothing_is_bounded(call: Any, what: str) -> None:
    with pytest.raises(ModelError, match=what):
        call()


@pytest.mark.parametrize(
    ("call", "what"),
    [
        (lambda: creation.cast(Node("Cast", attributes={"to": 8}), DATA), "have no counterpart"),
        (lambda: activation.gelu(Node("Gelu", attributes={"approximate": "erf"}), DATA), "'none' or 'tanh'"),
        (lambda: shaping.slice_(Node("Slice"), DATA, (0,), (1,), (0,), (0,)), "must not be zero"),
        (lambda: shaping.reshape(Node("Reshape"), DATA, (2, 3, 0)), "keeps axis 2"),
        (
            lambda: indexing.scatter_elements(Node("ScatterElements", attributes={"reduction": "mean"}), DATA, DATA.long(), DATA),
            "none, add, mul, max or min",
        ),
        (lambda: classical.linear_classifier(Node("LinearClassifier", attributes={"classlabels_strings": ["a"]}), DATA), "are strings"),
        (lambda: classical.normalizer(Node("Normalizer", attributes={"norm": "L3"}), DATA), "MAX, L1 or L2"),
    ],
    ids=["cast", "gelu", "slice", "reshape", "scatter", "labels", "norm"],
)
def test_an_attribute_that_is_none_is_refused(call: Any, what: str) -> None:
    with pytest.raises(ModelError, match=what):
        call()


def test_common_activations_are_torch_s_own() -> None:
    values = torch.linspace(-8, 8, 33)
    assert torch.equal(activation.clip(Node("Clip"), values, 0.0, 6.0), torch.nn.functional.relu6(values))
    third = Node("HardSigmoid", attributes={"alpha": 0.1666666716337204, "beta": 0.5})
    assert torch.equal(activation.hard_sigmoid(third, values), torch.nn.functional.hardsigmoid(values))
    assert activation.clip(Node("Clip"), values, torch.tensor(-1.0), 2).tolist() == values.clamp(-1, 2).tolist()


def test_slopes_of_any_shape() -> None:
    data = torch.linspace(-2, 2, 24).reshape(1, 2, 3, 4)
    for shape in ((2, 1, 1), (1, 2, 1, 1), (4,), (3, 1), (1,)):
        slope = torch.full(shape, 0.25) if shape == (1,) else torch.rand(shape, generator=torch.Generator().manual_seed(0))
        torch.testing.assert_close(activation.prelu(Node("PRelu"), data, slope), torch.where(data < 0, data * slope, data))
