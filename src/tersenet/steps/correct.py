"""Bias correction: rounded weights move the mean of what an operator computes, and its bias takes that out again.

With W the weight, W' what its grid holds and x the input, E[W'x] - E[Wx] = (W' - W) E[x] (Nagel et al. 2019, "Data-Free Quantization Through
Weight Equalization and Bias Correction", section 4.2, equation 17). Where the paper derives E[x] from batch norm, it is the mean of the
calibration samples here, position by position, so that borders count as they are. It matters where few weights share an input that is far
from zero, as behind the ReLU6 of a depthwise convolution.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from torch import Tensor, fx

from tersenet.graph.operators import WEIGHT_AXIS, kind_of
from tersenet.graph.walk import bind, constant
from tersenet.numerics.affine import fake_quantize
from tersenet.numerics.means import Mean
from tersenet.schemes import Encoding
from tersenet.steps.placement import Placement


@dataclass(frozen=True)
class Correction:
    """What biases are to be moved by.

    Args:
        module: the deployable graph.
        means: of the inputs of operators with weights, by the name of the value; an operator whose input is not there is left as it is.
    """

    module: fx.GraphModule
    means: Mapping[str, Mean] = field(default_factory=dict)

    def offset(self, node: fx.Node, encoding: Encoding) -> Tensor | None:
        """What to add to the bias of an operator whose weight is put on a grid; None where nothing moves.

        Args:
            node: a convolution or a linear layer.
            encoding: the grid of its weight.

        Returns:
            (output channels,), float32.
        """
        arguments = bind(node)
        mean = self.means.get(arguments["input"].name)
        weight = constant(self.module, arguments["weight"])
        error = weight.double() - fake_quantize(weight, encoding).double()
        if mean is None or not bool(error.any()):
            return None
        lost = node.target(**{**arguments, "input": mean.value(), "weight": error, "bias": None})  # type: ignore[operator]
        channels = lost.dim() - 1 if kind_of(node) == "linear" else 1
        offset: Tensor = lost.mean([axis for axis in range(lost.dim()) if axis != channels]).float()
        return offset


def means_for(placements: Iterable[Placement]) -> dict[str, Mean]:
    """Empty means of all inputs that a `Correction` asks for, by the name of the value."""
    means: dict[str, Mean] = {}
    for placement in placements:
        for _, nodes in placement.integers():
            kind = kind_of(nodes[0])
            if kind in WEIGHT_AXIS:
                source = bind(nodes[0])["input"].name
                means.setdefault(source, Mean(features=kind == "linear"))
    return means
