"""Units whose kernels add up integers and round once, as the simulation computes them (`tersenet.numerics.requantize`)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import fx

from tersenet.graph.operators import WEIGHT_AXIS
from tersenet.graph.walk import add_constant, bind, constant
from tersenet.numerics.affine import quantize
from tersenet.numerics.requantize import multiplier, product_of_integers
from tersenet.plan import Unit
from tersenet.schemes import Encoding

# float32 holds every whole number up to this.
LARGEST_WHOLE = 1 << 24


def add_integers(module: fx.GraphModule, node: fx.Node, unit: Unit, inputs: Sequence[Encoding | None], result: Encoding) -> None:
    """Rewrite a convolution or a linear layer of 8 bits, in place, as its kernel computes it; all else stays.

    Args:
        module: the graph, being rewritten.
        node: the unit's anchor; its weight and bias are on their grids already.
        unit: what the plan says of it.
        inputs: encodings of the tensors that it reads; None for weights.
        result: encoding of the unit's result.
    """
    source, held = inputs[0], bind(node) if unit.kind in WEIGHT_AXIS else {}
    if not held or source is None or source.scheme.bits > 8 or result.scheme.bits > 8 or (held["bias"] is not None and "bias" not in unit.weights):
        return
    encoding, axis = unit.weights["weight"], WEIGHT_AXIS[unit.kind]
    if encoding.scheme.granularity == "per-group":
        return
    integers = quantize(constant(module, held["weight"]), encoding)
    bias = None if held["bias"] is None else quantize(constant(module, held["bias"]), unit.weights["bias"])
    furthest = max(abs(end - source.zero_point[0]) for end in (source.scheme.lowest, source.scheme.highest))
    largest = int(integers.abs().to(torch.int64).transpose(0, axis).flatten(1).sum(1).max()) * furthest
    largest += 0 if bias is None else int(bias.abs().max())
    dtype = torch.float32 if largest < LARGEST_WHOLE else torch.float64
    scales = (source.scale[0], result.scale[0])
    factor = multiplier(encoding.scale, scales)
    if unit.kind != "linear":
        factor = factor.reshape(-1, *[1] * (integers.dim() - 2))
    like = held["weight"]
    weight = add_constant(module, f"integers.{node.name}", integers.to(dtype), node, like)
    offset = None if bias is None else add_constant(module, f"integers.{node.name}.bias", bias.to(dtype), node, like)
    factors = add_constant(module, f"multiplier.{node.name}", factor, node, like)
    rest = tuple(value for name, value in held.items() if name not in ("input", "weight", "bias"))
    node.args = (node.target, (held["input"], weight, offset), rest, factors, scales)  # type: ignore[assignment]
    node.target, node.kwargs = product_of_integers, {}
