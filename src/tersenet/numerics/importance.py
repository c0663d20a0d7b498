"""How much channels matter: one number for each index along an axis of a tensor, larger for what matters more.

Each criterion is a function of the tensors that it needs; `aggregate` makes one number of the many that a group of channels
gets, which leave together (a row of one weight, a column of another, a scale of batch norm).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch

from tersenet.errors import RecipeError, unknown


def magnitude(weight: torch.Tensor, axis: int = 0, *, power: int = 1) -> torch.Tensor:
    """Norm of each slice: ``(sum |w|^p)^(1/p)``.

    Args:
        weight: any shape.
        axis: along which slices lie.
        power: p; 1 or 2.

    Returns:
        (size of the axis,), at least 0.

    >>> magnitude(torch.tensor([[3.0, -4.0], [1.0, 0.0]]), 0, power=2)
    tensor([5., 1.])

    Reference: Li et al. 2017, "Pruning Filters for Efficient ConvNets", section 3.1 (L1); He et al. 2018, "Soft Filter Pruning" (L2).
    """
    return torch.linalg.vector_norm(_rows(weight, axis), ord=power, dim=1)


def scale(weight: torch.Tensor) -> torch.Tensor:
    """Magnitude of batch norm's factors, which a channel is multiplied by.

    Args:
        weight: (channels,).

    Returns:
        (channels,), at least 0.

    Reference: Liu et al. 2017, "Learning Efficient Convolutional Networks through Network Slimming".
    """
    return weight.abs()


def taylor(weight: torch.Tensor, gradient: torch.Tensor, axis: int = 0) -> torch.Tensor:
    """First-order estimate of how the loss changes without a slice: ``|sum w g|``.

    Args:
        weight, gradient: one shape; the gradient of the loss, a mean over samples.
        axis: along which slices lie.

    Returns:
        (size of the axis,), at least 0.

    Reference: Molchanov et al. 2019, "Importance Estimation for Neural Network Pruning", equation 8 (its square root, so that
    slices of several tensors can be added).
    """
    return _rows(weight * gradient, axis).sum(1).abs()


def fisher(weight: torch.Tensor, gradients: Sequence[torch.Tensor], axis: int = 0) -> torch.Tensor:
    """Second-order estimate by the empirical Fisher information: the mean over batches of ``(sum w g)^2 / 2``.

    Args:
        weight: any shape.
        gradients: of the loss, one for each sample or batch.
        axis: along which slices lie.

    Returns:
        (size of the axis,), at least 0.

    Reference: Theis et al. 2018, "Faster gaze prediction with dense networks and Fisher pruning", equation 10.
    """
    return torch.stack([_rows(weight * gradient, axis).sum(1).square() for gradient in gradients]).mean(0) / 2


def activation(values: torch.Tensor, axis: int = 1) -> torch.Tensor:
    """Mean magnitude of what each channel gives.

    Args:
        values: of a layer on samples.
        axis: of its channels.

    Returns:
        (channels,), at least 0.
    """
    return _rows(values, axis).abs().mean(1)


def nonzeros(values: torch.Tensor, axis: int = 1) -> torch.Tensor:
    """Share of what each channel gives that is not zero: 1 less the average percentage of zeros.

    Args:
        values: of a layer on samples, behind its activation.
        axis: of its channels.

    Returns:
        (channels,), in [0, 1].

    >>> nonzeros(torch.tensor([[0.0, 1.0], [0.0, 0.0]]))
    tensor([0.0000, 0.5000])

    Reference: Hu et al. 2016, "Network Trimming", equation 1 (APoZ; turned around, so that more is more important).
    """
    return (_rows(values, axis) != 0).float().mean(1)


def median_distance(weight: torch.Tensor, axis: int = 0) -> torch.Tensor:
    """Sum of Euclidean distances from each slice to all others: slices near the geometric median can be replaced by others.

    Args:
        weight: any shape.
        axis: along which slices lie.

    Returns:
        (size of the axis,), at least 0.

    Reference: He et al. 2019, "Filter Pruning via Geometric Median" (FPGM), equation 4.
    """
    rows = _rows(weight, axis)
    return torch.cdist(rows[None], rows[None], compute_mode="donot_use_mm_for_euclid_dist")[0].sum(1)


def random(size: int, seed: int) -> torch.Tensor:
    """Chance: the baseline that a criterion has to beat.

    Args:
        size: how many numbers.
        seed: of the generator; equal seeds give equal numbers.

    Returns:
        (size,), in [0, 1).
    """
    return torch.rand(size, generator=torch.Generator().manual_seed(seed))


def _rows(tensor: torch.Tensor, axis: int) -> torch.Tensor:
    return tensor.movedim(axis, 0).reshape(tensor.shape[axis], -1)


# What a group of channels gets, from what each tensor says of it.
REDUCTIONS: Mapping[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "mean": lambda scores: scores.mean(0),
    "sum": lambda scores: scores.sum(0),
    "max": lambda scores: scores.amax(0),
    "first": lambda scores: scores[0],
}


def aggregate(scores: Sequence[torch.Tensor], reduction: str = "mean", *, normalize: bool = True) -> torch.Tensor:
    """One score for each unit of a group.

    Args:
        scores: from each tensor, (units,).
        reduction: one of `REDUCTIONS`.
        normalize: divide by the mean over the group, so that groups of layers with small weights can be compared with others.

    Returns:
        (units,).

    Raises:
        RecipeError: an unknown reduction.

    >>> aggregate([torch.tensor([1.0, 3.0]), torch.tensor([3.0, 1.0])], "sum")
    tensor([1., 1.])

    Reference: Fang et al. 2023, "DepGraph: Towards Any Structural Pruning", section 3.3.
    """
    if reduction not in REDUCTIONS:
        raise RecipeError(unknown("reduction", reduction, REDUCTIONS))
    whole = REDUCTIONS[reduction](torch.stack([score.double() for score in scores]))
    mean = whole.mean()
    return (whole / mean if normalize and mean > 0 else whole).float()
