"""Grids as parts of a network that learns: each puts a tensor on its grid, and says at any time which encoding that is."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from tersenet.numerics.affine import encode, grouped, middle, power_of_two, ungrouped
from tersenet.numerics.learned import gradient_share, rounded, step_size, zero_point
from tersenet.numerics.sharing import shared_span
from tersenet.schemes import Encoding

# Weight of the past in a moving range: Jacob et al. 2018, section 3.1, ask for one close to 1, so that thousands of steps are averaged.
MOMENTUM = 0.99


class Grid(nn.Module):
    """A grid that does not learn; what it was given.

    Args:
        encoding: where it starts.
    """

    def __init__(self, encoding: Encoding) -> None:
        super().__init__()
        self.start = encoding
        scheme = encoding.scheme
        self.lowest, self.highest = scheme.lowest, scheme.highest
        self.register_buffer("base", torch.tensor(encoding.scale, dtype=torch.float32))
        self.register_buffer("zero", torch.tensor(encoding.zero_point, dtype=torch.float32))

    base: Tensor
    zero: Tensor

    def numbers(self) -> tuple[Tensor, Tensor]:
        """Scales and zero points, one of each for every scale."""
        return self.base, self.zero

    def see(self, tensor: Tensor) -> None:
        """Look at a tensor before it is put on the grid."""

    def forward(self, tensor: Tensor) -> Tensor:
        self.see(tensor)
        scale, zero = self.numbers()
        encoding = self.start
        if encoding.scheme.granularity == "per-group":
            rows = grouped(tensor, encoding.axis, encoding.scheme.group_size)  # type: ignore[arg-type]
            made = self._rounded(rows, scale.reshape(len(rows), -1, 1), zero.reshape(len(rows), -1, 1))
            return ungrouped(made, tensor.shape, encoding.axis)  # type: ignore[arg-type]
        if encoding.axis is None:
            return self._rounded(tensor, scale, zero)
        shape = [1] * tensor.dim()
        shape[encoding.axis] = -1
        return self._rounded(tensor, scale.reshape(shape), zero.reshape(shape))

    def _rounded(self, tensor: Tensor, scale: Tensor, zero: Tensor) -> Tensor:
        return rounded(tensor, scale, zero, self.lowest, self.highest, self.share(tensor))

    def share(self, tensor: Tensor) -> float:
        """What gradients of its numbers are multiplied by."""
        return 1.0

    def settle(self, encoding: Encoding, weight: Tensor) -> None:
        """Go to other step sizes, for such a weight."""
        self.base = self.base.new_tensor(encoding.scale)

    def encoding(self) -> Encoding:
        """The grid as it is now."""
        with torch.no_grad():
            scale, zero = self.numbers()
        return replace(self.start, scale=tuple(scale.tolist()), zero_point=tuple(int(number) for number in zero.tolist()))


class Unrounded(Grid):
    """A grid that is there in evaluation alone: of probabilities, whose loss has no gradient where one is rounded to 0."""

    def forward(self, tensor: Tensor) -> Tensor:
        return tensor if self.training else super().forward(tensor)


class LearnedGrid(Grid):
    """A grid whose step sizes are parameters, and whose offset is one where it has negative and positive values unevenly.

    Args:
        encoding: where it starts.
        weight: whether it is a weight's; else a value's, whose first axis are samples.
    """

    def __init__(self, encoding: Encoding, weight: bool) -> None:
        super().__init__(encoding)
        self.weight = weight
        self.ratio = nn.Parameter(torch.ones_like(self.base))
        scheme, first = encoding.scheme, encoding.zero_point[0]
        # A grid that starts at zero, behind a ReLU, keeps doing so: LSQ+ gives such values no offset either.
        moves = not weight and not scheme.symmetric and first not in (scheme.lowest, scheme.highest)
        self.shift = nn.Parameter(torch.zeros_like(self.base)) if moves else None
        self.register_buffer("low", self.base * (scheme.lowest - self.zero))
        self.register_buffer("span", self.base * (scheme.highest - scheme.lowest))
        self.steps = max(scheme.highest - first, first - scheme.lowest)

    low: Tensor
    span: Tensor

    def numbers(self) -> tuple[Tensor, Tensor]:
        scale = step_size(self.ratio, self.base, self.start.scheme.power_of_two)
        if self.shift is None:
            return scale, self.zero
        return scale, zero_point(self.shift, self.low, self.span, scale, self.lowest, self.highest)

    def settle(self, encoding: Encoding, weight: Tensor) -> None:
        self.ratio.copy_(self.ratio.new_tensor(encoding.scale) / self.base)

    def share(self, tensor: Tensor) -> float:
        count = tensor.numel() // (len(self.base) if self.weight else max(tensor.shape[0], 1) if tensor.dim() else 1)
        return gradient_share(count, self.steps)


class MovingGrid(Grid):
    """A grid that spans a moving average of the extremes of what it sees in training, until `watching` is False (Jacob et al. 2018, section 3.1)."""

    def __init__(self, encoding: Encoding) -> None:
        super().__init__(encoding)
        low, high = encoding.range
        self.register_buffer("ends", torch.tensor([low, high], dtype=torch.float64))
        self.watching = True

    ends: Tensor

    def see(self, tensor: Tensor) -> None:
        if self.training and self.watching:
            seen = torch.stack(torch.aminmax(tensor.detach())).double()
            if not bool(seen.isfinite().all()):
                return  # the loss is no number either, and the loop has a sentence for that
            self.ends.lerp_(seen, 1 - MOMENTUM)
            encoding = encode(self.ends[0], self.ends[1], self.start.scheme)
            # new tensors: a value that shares the grid may have kept the old ones for its gradient
            self.base = self.base.new_tensor(encoding.scale)
            self.zero = self.zero.new_tensor(encoding.zero_point)


class FollowingGrid(Grid):
    """A weight's grid that spans its extremes at every step, each channel's times a factor that is found at the start."""

    def __init__(self, encoding: Encoding, weight: Tensor) -> None:
        super().__init__(encoding)
        self.register_buffer("factor", torch.ones(len(encoding.scale), dtype=torch.float64))
        self.settle(encoding, weight)

    factor: Tensor

    def settle(self, encoding: Encoding, weight: Tensor) -> None:
        """Span these scales on that weight, and such shares of others."""
        self.factor.fill_(1.0)
        span = self._span(weight)
        wanted = torch.tensor(encoding.scale, dtype=torch.float64, device=span.device)
        self.factor.copy_(torch.where(span > 0, wanted / span.clamp(min=torch.finfo(torch.float64).tiny), 1.0))
        self.see(weight)

    def see(self, tensor: Tensor) -> None:
        scale = self._span(tensor) * self.factor
        scale = torch.where(scale > 0, scale, self.base.double())
        scheme = self.start.scheme
        self.base = power_of_two(scale.float()) if scheme.power_of_two else scale.float()

    def _span(self, weight: Tensor) -> Tensor:
        """The steps that span each scale's weights."""
        encoding, scheme = self.start, self.start.scheme
        weight = weight.detach()
        if scheme.granularity == "per-group":
            rows = grouped(weight, encoding.axis, scheme.group_size).flatten(0, 1)  # type: ignore[arg-type]
        elif encoding.axis is None:
            rows = weight.reshape(1, -1)
        else:
            rows = weight.movedim(encoding.axis, 0).flatten(1)
        low, high = torch.aminmax(rows, dim=1)
        low, high = low.double().clamp(max=0), high.double().clamp(min=0)
        return torch.maximum(-low / (middle(scheme) - scheme.lowest), high / (scheme.highest - middle(scheme)))


class SharedGrid(FollowingGrid):
    """The grid of a weight that shares a few values: it spans them, and each channel's scale has the factor that was folded into the channel.

    Equal values become equal integers then, whatever they have become.

    Args:
        encoding: where it starts, a scale for each channel.
        weight: as folded.
        source: the parameter that it is made of.
    """

    def __init__(self, encoding: Encoding, weight: Tensor, source: Tensor) -> None:
        self.source = (source,)  # in a tuple, so that it is no part of this one
        super().__init__(encoding, weight)

    def _span(self, weight: Tensor) -> Tensor:
        return shared_span(weight, self.source[0], self.start.axis) / self.start.scheme.highest  # type: ignore[arg-type]


class BiasGrid(nn.Module):
    """Biases on the product of the input's and the weight's scale, in 32 bits (Jacob et al. 2018, equation 11); the scales learn elsewhere."""

    def __init__(self, encoding: Encoding, input: Grid, weight: Grid) -> None:
        super().__init__()
        self.start = encoding
        self.beside = (input, weight)  # in a tuple, so that they are no parts of this one

    def forward(self, bias: Tensor) -> Tensor:
        with torch.no_grad():
            scales = self.beside[1].numbers()[0] * self.beside[0].numbers()[0]
            exact = bias.double()
            moved = exact.div(scales).round_().mul_(scales.double()).sub_(exact).float()
        return bias + moved
