"""Grids whose numbers learn with the network: step sizes and offsets as parameters, rounding passed straight through.

On a grid of integers n to p with step size s and zero point z, a value x becomes x' = s (clamp(round(x / s) + z, n, p) - z). The gradients
are those of Esser et al. 2020, "Learned Step Size Quantization" (equations 3 and 5), and of Bhalgat et al. 2020, "LSQ+" (equations 5 and 6),
which take rounding for the identity (Bengio et al. 2013): dx'/dx is 1 within the grid and 0 beyond it; dx'/ds is round(x / s) - x / s within it.

Departures: kernels want zero to be on the grid, so that the offset is a whole number of steps, rounded in the network that learns too, where
LSQ+ lets any real number be one; and a step size is held as a ratio to the one that it started from, which changes nothing under SGD
(`times_base`) and lets optimizers that look at the sign alone (Adam) move small and large steps by the same share.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

# A step size may shrink to this share of what it started from: it stays positive whatever the learning rate.
LEAST_RATIO = 1.0 / 64


def rounded(tensor: Tensor, scale: Tensor, zero_point: Tensor, lowest: int, highest: int, share: float = 1.0) -> Tensor:
    """The nearest values of a grid, with gradients for tensor, scale and zero point.

    Args:
        tensor: any shape, float32.
        scale: positive; broadcasts against the tensor.
        zero_point: whole numbers, in the shape of `scale`.
        lowest, highest: the grid's integers n and p.
        share: what the gradients of scale and zero point are multiplied by (`gradient_share`).

    Returns:
        float32, in the tensor's shape; in evaluation and training the same bits as `tersenet.numerics.affine.fake_quantize`.

    >>> scale = torch.tensor(0.5, requires_grad=True)
    >>> rounded(torch.tensor([0.6, 9.0]), scale, torch.tensor(0.0), -8, 7).tolist()
    [0.5, 3.5]
    """
    result: Tensor = _Rounded.apply(tensor, scale, zero_point, lowest, highest, share)
    return result


class _Rounded(torch.autograd.Function):
    """Keeps its input and its result, which the operators beside it keep anyway, and no mask."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor, scale: Tensor, zero_point: Tensor, lowest: int, highest: int, share: float) -> Tensor:
        bottom, top, step = _ends(scale, zero_point, lowest, highest)
        result = torch.div(tensor, step).round_().clamp_(bottom, top).mul_(step)
        ctx.grid, ctx.share = (lowest, highest), share
        ctx.save_for_backward(tensor, result, scale, zero_point)
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        tensor, result, scale, zero_point = ctx.saved_tensors
        (gradient,) = gradients
        bottom, top, step = _ends(scale, zero_point, *ctx.grid)
        # what rounds to an integer of the grid lies within half a step of its ends
        low, high = (bottom - 0.5) * step, (top + 0.5) * step
        if scale.numel() == 1:
            inside = torch.ops.aten.hardtanh_backward(gradient, tensor, low, high)
        else:
            inside = gradient * ((tensor > low) & (tensor < high))
        of_scale = of_zero = None
        if ctx.needs_input_grad[1]:  # sum of gradient * (x' / s - [inside] x / s)
            of_scale = (_summed(gradient, result, scale) - _summed(inside, tensor, scale)) * (ctx.share / step)
        if ctx.needs_input_grad[2]:  # beyond the grid x' = s (n - z), and moves by -s
            of_zero = (inside.sum_to_size(scale.shape) - gradient.sum_to_size(scale.shape)) * (ctx.share * step)
        return inside, of_scale, of_zero, None, None, None


def _ends(scale: Tensor, zero_point: Tensor, lowest: int, highest: int) -> tuple[Any, Any, Any]:
    """A grid's ends in steps from zero, and the step: plain numbers where there is one of each, for they cost a tenth of what tensors do."""
    if scale.numel() == 1:
        zero = zero_point.item()
        return lowest - zero, highest - zero, scale.item()
    return lowest - zero_point, highest - zero_point, scale


def _summed(first: Tensor, second: Tensor, like: Tensor) -> Tensor:
    """The sum of products, in the shape of `like`."""
    if like.numel() == 1 and first.is_contiguous() and second.is_contiguous():
        return torch.dot(first.view(-1), second.view(-1)).reshape(like.shape)
    return (first * second).sum_to_size(like.shape)


def gradient_share(count: int, steps: int) -> float:
    """What the gradient of a step size is multiplied by, so that it learns as fast as weights do: 1 / sqrt(N Q_p).

    Args:
        count: N, the weights, or the features of one sample, that share the step size.
        steps: Q_p, the grid's largest integer, counted from its zero.

    Esser et al. 2020, section 2.2.
    """
    return 1.0 / math.sqrt(max(count, 1) * max(steps, 1))


class _RatioGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, ratio: Tensor, base: Tensor) -> Tensor:
        ctx.save_for_backward(base)
        return ratio * base

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (base,) = ctx.saved_tensors
        return gradients[0] / base, None


def times_base(ratio: Tensor, base: Tensor) -> Tensor:
    """``ratio * base``, where a step of SGD moves the product as if it were the parameter itself: the gradient is divided by base, not multiplied.

    Args:
        ratio: the parameter.
        base: what it is measured in; positive, of its shape.
    """
    result: Tensor = _RatioGradient.apply(ratio, base)
    return result


def step_size(ratio: Tensor, base: Tensor, power_of_two: bool = False) -> Tensor:
    """The step size of a ratio; the nearest power of two where the grid is to have one, with the gradient passed straight through.

    (Jain et al. 2020, "Trained Quantization Thresholds", round the logarithm up; nearest, a step that starts at a power of two does not leave it
    at the first move.)

    >>> step_size(torch.tensor(1.3), torch.tensor(0.25), power_of_two=True).item()
    0.25
    """
    step = times_base(ratio.clamp(min=LEAST_RATIO), base)
    if not power_of_two:
        return step
    return step + (torch.exp2(torch.log2(step.detach()).round_()) - step.detach())


def zero_point(shift: Tensor, low: Tensor, span: Tensor, scale: Tensor, lowest: int, highest: int) -> Tensor:
    """The zero point of a grid whose lower end learns: round(n - low' / s), low' = low + shift * span.

    Args:
        shift: the parameter, 0 at the start.
        low: the lower end at the start.
        span: the length of the grid at the start.
        scale: the step size by now.
        lowest, highest: the grid's integers; zero stays among them.
    """
    end = low + times_base(shift, span)
    exact = (lowest - end / scale).clamp(lowest, highest)
    return exact + (exact.detach().round() - exact.detach())
