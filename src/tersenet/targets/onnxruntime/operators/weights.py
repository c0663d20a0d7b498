"""Operators with weights: convolutions, linear layers, embeddings."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx

from tersenet.graph.walk import bind, constant, is_constant, shape_of
from tersenet.numerics.weights import pairs_fit, reduction_rows
from tersenet.targets.onnxruntime.lowering import Lowering, listed, unsupported
from tersenet.targets.onnxruntime.operators import quantization

# onnxruntime's fast kernel for symmetric weights takes multiples of 4 inputs and of 16 outputs; others copy every window first.
INPUTS, OUTPUTS = 4, 16


def convolution(build: Lowering, node: fx.Node) -> str:
    """Conv of one, two or three dimensions, grouped and dilated ones too."""
    given = bind(node)
    rank = len(shape_of(given["weight"])) - 2
    attributes = _window(node, given, rank)
    return build.add("Conv", *(_with_a_fourth_channel(build, given) or _operands(build, given)), **attributes)


def _with_a_fourth_channel(build: Lowering, given: dict[str, Any]) -> tuple[str, str, str] | None:
    """An integer convolution of three colours gets a channel of zeros, and weights of 0 for it.

    The same sums, one operator more (the Pad), in less time for a whole network: 6 % (6.0 to 7.1) for a ResNet-8, about 3 % for a ResNet-32
    or a MobileNetV2. None for other convolutions, and for one whose neighbouring weights would then saturate.
    """
    source, weight = given["input"], given["weight"]
    held = quantization.held_weight(build, weight)
    outputs, inputs, *rest = shape_of(weight)
    if held is None or not quantization.is_dequantized(source) or (inputs, len(rest), given["groups"]) != (INPUTS - 1, 2, 1) or outputs % OUTPUTS:
        return None
    wider_weight = torch.nn.functional.pad(held, (0, 0, 0, 0, 0, 1))
    if build.saturating_pairs and not bool(pairs_fit(reduction_rows(wider_weight, 0, 1)).all()):
        return None
    scale, zero_point = quantization.parameters(build, source)
    wider = build.add("Pad", build.value(source.args[0]), build.sizes([0, 0, 0, 0, 0, 1, 0, 0]), zero_point)
    bias = "" if given["bias"] is None else build.value(given["bias"])
    return build.add("DequantizeLinear", wider, scale, zero_point), quantization.laid_out(build, weight, wider_weight.numpy()), bias


def transposed_convolution(build: Lowering, node: fx.Node) -> str:
    """ConvTranspose; the weight has its inputs first in both worlds."""
    given = bind(node)
    rank = len(shape_of(given["weight"])) - 2
    attributes = _window(node, given, rank)
    extra = listed(given["output_padding"], rank)
    return build.add("ConvTranspose", *_operands(build, given), output_padding=extra if any(extra) else None, **attributes)


def _operands(build: Lowering, given: dict[str, Any]) -> tuple[str, str, str]:
    return build.value(given["input"]), build.value(given["weight"]), "" if given["bias"] is None else build.value(given["bias"])


def _window(node: fx.Node, given: dict[str, Any], rank: int) -> dict[str, Any]:
    """Attributes that differ from ONNX's defaults."""
    if len(shape_of(given["input"])) != rank + 2:
        raise unsupported(node, "its input has no batch axis", "give the network a batch of one")
    strides, pads, dilations = (listed(given[name], rank) for name in ("stride", "padding", "dilation"))
    return {
        "strides": strides if strides != [1] * rank else None,
        "pads": pads * 2 if any(pads) else None,
        "dilations": dilations if dilations != [1] * rank else None,
        "group": given["groups"] if given["groups"] != 1 else None,
    }


def linear(build: Lowering, node: fx.Node) -> str:
    """Gemm on two axes, MatMul and Add on more (integer ones were brought to two axes before, see `..flatten`)."""
    given = bind(node)
    source, weight, bias = given["input"], given["weight"], given["bias"]
    if len(shape_of(source)) == 2:
        return build.add("Gemm", build.value(source), build.value(weight), "" if bias is None else build.value(bias), transB=1)
    product = build.add("MatMul", build.value(source), _turned(build, weight))
    return product if bias is None else build.add("Add", product, build.value(bias))


def _turned(build: Lowering, weight: fx.Node) -> str:
    """The weight as (inputs, outputs), as MatMul takes it."""
    if is_constant(weight):
        return build.constant(constant(build.module, weight).t().contiguous().numpy())
    held = quantization.held_weight(build, weight)
    if held is None:
        return build.add("Transpose", build.value(weight), perm=[1, 0])
    axis = quantization.channel_axis(weight)
    return quantization.laid_out(build, weight, held.t().contiguous().numpy(), None if axis is None else 1 - axis)


def embedding(build: Lowering, node: fx.Node) -> str:
    """Gather of rows: of the integers where the table and the result have the same numbers, so that it is never expanded."""
    given = bind(node)
    integers = quantization.same_integers(build, node, [given["weight"]])
    rows = build.add("Gather", integers[0] if integers is not None else build.value(given["weight"]), build.value(given["indices"]))
    if integers is None:
        return rows
    build.integers[node] = rows
    return build.value(given["weight"])  # nobody reads the value itself
