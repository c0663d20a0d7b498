"""How much each unit of a network matters, by a criterion."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import fx

from tersenet.errors import DataError, RecipeError, unknown
from tersenet.graph.dependencies import Dependencies, Slice, held
from tersenet.graph.dimensions.site import Axes, Fixed
from tersenet.graph.operators import ACTIVATIONS, kind_of
from tersenet.graph.training import ending, trainable
from tersenet.model import as_tensors, fails_on
from tersenet.numerics import importance
from tersenet.step import Context
from tersenet.training.objective import objective_for

Scores = NDArray[np.float64]
BATCH = 32
GRADIENT_SAMPLES = 512


def scores(found: Dependencies, criterion: str, context: Context) -> Scores:
    """One number for each unit, larger for what matters more; within a group their mean is 1.

    Args:
        found: what leaves together.
        criterion: one of `CRITERIA`.
        context: its seed; the calibration part for criteria of activations, the train part for those of gradients.

    Raises:
        RecipeError: an unknown criterion.
        DataError: the part that the criterion looks at is missing, or has no labels.
    """
    if criterion not in CRITERIA:
        raise RecipeError(unknown("criterion", criterion, CRITERIA))
    parts = CRITERIA[criterion](found, context)
    result = np.zeros(len(found.everything))
    for group in found.groups:
        units = list(group.units)
        own = [torch.from_numpy(values[units]) for known, values in parts if known[units].any()]
        if not own:  # nothing that the criterion looks at: a layer without batch norm
            own = [torch.from_numpy(values[units]) for known, values in _weights(found, context, 1) if known[units].any()]
        if own:
            result[units] = importance.aggregate(own).double().numpy()
    return result


# (which units it speaks of, its number for each unit)
Part = tuple[NDArray[np.bool_], Scores]


def _of_units(found: Dependencies, units: NDArray[np.int64], values: torch.Tensor, power: int = 1) -> Part:
    """Numbers of an axis's indices, summed over the indices of each unit."""
    count = len(found.everything)
    known = np.zeros(count, bool)
    known[units] = True
    whole = np.bincount(units, weights=values.detach().double().numpy() ** power, minlength=count)
    return known, np.asarray(whole ** (1 / power), np.float64)


def _is_weight(found: Dependencies, part: Slice) -> bool:
    tensor = held(found.module, part.tensor)
    return tensor.is_floating_point() and tensor.dim() >= 2


def _weights(found: Dependencies, context: Context, power: int) -> list[Part]:
    """Rows and columns of all weights."""
    parts = []
    for part in found.slices:
        if _is_weight(found, part):
            values = importance.magnitude(held(found.module, part.tensor).detach(), part.axis, power=power)
            parts.append(_of_units(found, part.unit, values, power))
    return parts


def _scales(found: Dependencies, context: Context) -> list[Part]:
    names = {str(node.args[1].target) for node in found.module.graph.nodes if kind_of(node) == "batch_norm" and isinstance(node.args[1], fx.Node)}
    return [_of_units(found, part.unit, importance.scale(held(found.module, part.tensor))) for part in found.slices if part.tensor in names]


def _distances(found: Dependencies, context: Context) -> list[Part]:
    """Of the rows that make the channels."""
    makers = {(str(child.target), len(axis)) for node, axis in found.propagation.made for child in node.all_input_nodes if child.op == "get_attr"}
    parts = []
    for part in found.slices:
        if _is_weight(found, part) and (part.tensor, len(part.unit)) in makers:
            values = importance.median_distance(held(found.module, part.tensor).detach(), part.axis)
            parts.append(_of_units(found, part.unit, values))
    return parts


def _chance(found: Dependencies, context: Context) -> list[Part]:
    count = len(found.everything)
    return [(np.ones(count, bool), importance.random(count, context.seed).double().numpy())]


def _activations(statistic: Callable[[torch.Tensor, int], torch.Tensor]) -> Callable[[Dependencies, Context], list[Part]]:
    """A statistic of what the channels give on the calibration part, behind their activation."""

    def judge(found: Dependencies, context: Context) -> list[Part]:
        part = context.require("calibration", "prune (by activations)")
        watched = {node: position for node, position in (_given(found, node, axis) for node, axis in found.propagation.made) if position >= 0}
        sums = _Watcher(found.module, watched, statistic).watch(_batches(found, part))
        parts = []
        for node, position in watched.items():
            axes: Axes = found.propagation.values[node]  # type: ignore[assignment]
            parts.append(_of_units(found, found.units(axes[position]), sums[node]))  # type: ignore[arg-type]
        return parts

    return judge


def _given(found: Dependencies, node: fx.Node, made: NDArray[np.int64]) -> tuple[fx.Node, int]:
    """The last value, behind norm and activation, that only these channels are in, and their axis; -1 where the node gives several values."""
    values = found.propagation.values
    while len(node.users) == 1:
        user = next(iter(node.users))
        if kind_of(user) not in ACTIVATIONS | {"batch_norm"} or user.args[0] is not node:
            break
        node = user
    wanted = found.units(made)
    for position, axis in enumerate(values[node] if isinstance(node.meta["val"], torch.Tensor) else ()):
        if not isinstance(axis, Fixed | tuple) and np.array_equal(found.units(axis), wanted):
            return node, position
    return node, -1


def _batches(found: Dependencies, part: Any) -> Iterable[tuple[np.ndarray, ...]]:
    return (found.model.filled(arrays) for arrays, _ in part.batches(found.model.batches_of(BATCH)))


def _gradients(judge: Callable[[torch.Tensor, torch.Tensor, int], torch.Tensor]) -> Callable[[Dependencies, Context], list[Part]]:
    """A criterion of weights and the loss's gradients on the train part, batch by batch; of weights, biases and factors of norms alike."""

    def mean(found: Dependencies, context: Context) -> list[Part]:
        part = context.require("train", "prune (by gradients)").take(GRADIENT_SAMPLES, context.seed)
        if part.labels is None:
            raise DataError("prune by gradients needs labels in the train part, and these data have none; use another criterion, such as l1.")
        assert context.data is not None
        module, objective = trainable(found.model).eval(), objective_for(context.data.task, ending(found.model))
        state = dict(module.named_parameters(remove_duplicate=False))
        slices = [piece for piece in found.slices if piece.tensor in state and state[piece.tensor].requires_grad]
        sums: dict[tuple[str, int], torch.Tensor] = {}
        for arrays, labels in part.batches(found.model.batches_of(BATCH)):
            module.zero_grad()
            objective(module, tuple(as_tensors(found.model.filled(arrays))), torch.from_numpy(found.model.filled([labels])[0])).backward()
            for piece in slices:
                weight, key = state[piece.tensor], (piece.tensor, piece.axis)
                if weight.grad is not None:
                    sums[key] = sums.get(key, torch.zeros(())) + judge(weight.detach(), weight.grad, piece.axis)
        return [_of_units(found, piece.unit, sums[piece.tensor, piece.axis]) for piece in slices if (piece.tensor, piece.axis) in sums]

    return mean


class _Watcher(fx.Interpreter):
    """Runs a graph and adds up a statistic of some values."""

    def __init__(self, module: fx.GraphModule, watched: Mapping[fx.Node, int], statistic: Callable[[torch.Tensor, int], torch.Tensor]) -> None:
        super().__init__(module)
        self.extra_traceback = False
        self.watched, self.statistic = watched, statistic
        self.sums: dict[fx.Node, torch.Tensor] = {}

    def run_node(self, node: fx.Node) -> Any:
        value = super().run_node(node)
        if node in self.watched:
            self.sums[node] = self.sums.get(node, torch.zeros(())) + self.statistic(value, self.watched[node])
        return value

    def watch(self, batches: Iterable[Sequence[np.ndarray]]) -> Mapping[fx.Node, torch.Tensor]:
        with torch.no_grad():
            for arrays in batches:
                try:
                    self.run(*as_tensors(arrays))
                except (IndexError, RuntimeError, ValueError) as error:
                    raise DataError(fails_on("the calibration samples", error)) from error
        return self.sums


CRITERIA: Mapping[str, Callable[[Dependencies, Context], list[Part]]] = {
    "l1": lambda found, context: _weights(found, context, 1),
    "l2": lambda found, context: _weights(found, context, 2),
    "scale": _scales,
    "median": _distances,
    "taylor": _gradients(importance.taylor),
    "fisher": _gradients(lambda weight, gradient, axis: importance.fisher(weight, [gradient], axis)),
    "activation": _activations(importance.activation),
    "nonzeros": _activations(importance.nonzeros),
    "random": _chance,
}
