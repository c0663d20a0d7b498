"""One rounding of a whole sum of products: what the integer kernels of onnxruntime and XNNPACK compute, to the last step.

Sums of products of integers are exact, whatever their order; the sum is then multiplied by one float32 a channel, input scale x weight scale /
result scale, and rounded half to even. Computed in reals instead, the sum is off in its last bits, and falls on the other side of a half
once in some 10,000 values: a deep network with long tails makes a different network of that.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor


def product_of_integers(
    operator: Callable[..., Tensor],
    inputs: tuple[Tensor, Tensor, Tensor | None],
    rest: Sequence[Any],
    multiplier: Tensor,
    scales: tuple[float, float],
) -> Tensor:
    """A convolution or a linear layer, its result on the grid but not clamped.

    Args:
        operator: takes input, weight, bias and `rest`.
        inputs: values of a grid (its zero point has no part in them), integers of the weight and of the bias, in a float type that holds all
            sums exactly.
        rest: the operator's other arguments.
        multiplier: float32, one or one for each output channel, shaped to meet the result.
        scales: of the input and of the result.

    Returns:
        float32, whole multiples of the result's scale.
    """
    value, weight, bias = inputs
    integers = torch.div(value, scales[0]).round_().to(weight.dtype)
    total = operator(integers, weight, bias, *rest).to(torch.float32)
    return total.mul_(multiplier).round_().mul_(scales[1])


def multiplier(weight_scale: Sequence[float], scales: tuple[float, float]) -> Tensor:
    """(channels,): input scale x weight scale / result scale, each operation in float32, in the kernels' order.

    >>> multiplier([0.5, 0.25], (2.0, 4.0)).tolist()
    [0.25, 0.125]
    """
    source, result = (torch.tensor(scale, dtype=torch.float32) for scale in scales)
    return source * torch.tensor(weight_scale, dtype=torch.float32) / result
