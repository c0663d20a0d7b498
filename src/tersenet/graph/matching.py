"""Which inner values of two networks are alike, so that one can learn from the other's: by name, by size, or by order."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from tersenet.errors import RecipeError, unknown
from tersenet.graph.operators import HEAVY, aten_name, kind_of
from tersenet.graph.walk import bind, calls, inputs, is_constant, layer_of, outputs
from tersenet.model import Model

# Operators whose results have channels on the second axis, and on the last; others keep the axis of what they read.
_SECOND = (
    "conv",
    "depthwise",
    "batch_norm",
    "group_norm",
    "instance_norm",
    "max_pool",
    "avg_pool",
    "adaptive_",
    "resize_",
    "pixel_",
    "channel_shuffle",
)
_LAST = ("linear", "layer_norm", "rms_norm", "embedding")
_RECURRENT = ("lstm", "gru", "rnn_tanh", "rnn_relu")
_STOPS = ("reshape", "matmul", "attention", "einsum", "mean", "sum", "index", "gather", "unbind", "select", "stack", "expand")


@dataclass(frozen=True)
class Inner:
    """A value inside a network.

    Args:
        name: of its node.
        layer: that it comes from.
        axis: of its channels.
        channels: how many.
        grid: sizes of the axes but the batch's and the channels'; None for any.
        starts: whether a layer with weights starts with it.
        joins: whether branches meet in it, or a recurrent layer ends with it.
    """

    name: str
    layer: str
    axis: int
    channels: int
    grid: tuple[int | None, ...]
    starts: bool = False
    joins: bool = False

    @property
    def pictured(self) -> bool:
        """Whether its grid is one that networks make smaller in stages."""
        return len(self.grid) > 1 or (len(self.grid) == 1 and self.axis == 1)

    def __str__(self) -> str:
        sizes = [f"{self.channels} channels", *("any" if size is None else str(size) for size in self.grid)]
        return f"{self.layer} ({' x '.join(sizes)})"


Match = tuple[Inner, Inner]


def inner_values(model: Model) -> list[Inner]:
    """Values of one sample each whose channels can be told, in the order in which they are computed; not what the network returns."""
    graph, axes, found = model.graph, dict[fx.Node, int](), []
    batch = _batch(graph)
    returned = set(_returned(graph))
    for node in calls(graph):
        value = node.meta.get("val")
        if (axis := _axis(node, axes)) is None or not isinstance(value, torch.Tensor) or not value.is_floating_point():
            continue
        axes[node] = axis
        shape = value.shape
        if len(shape) < 2 or str(shape[0]) != batch or node in returned or not isinstance(shape[axis], int):
            continue
        grid = tuple(size if isinstance(size, int) else None for position, size in enumerate(shape) if position not in (0, axis))
        found.append(Inner(node.name, layer_of(node), axis, int(shape[axis]), grid, kind_of(node) in HEAVY, _joins(node, axes)))
    return found


def matched(student: Sequence[Inner], teacher: Sequence[Inner]) -> list[Match]:
    """Pairs of values that are alike, from the inputs on.

    Of images and other grids that shrink in stages: the last value of each stage, with that of the same size; where no size is
    the same, in order from the end. Of sequences: what layers with a residual sum, or recurrent ones, end with; networks of other depths evenly,
    as Sun et al. 2019 ("Patient Knowledge Distillation") skip layers; but values of equal names go together where layers were taken out of the one
    network that the other still is. Of networks without either: what their hidden layers end with.
    """
    found = [*_stages(student, teacher), *_even(_steps(student), _steps(teacher))]
    return found or _even(_hidden(student), _hidden(teacher))


def named(student: Sequence[Inner], teacher: Sequence[Inner], pairs: Sequence[str]) -> list[Match]:
    """Pairs that somebody chose: ``layer of the student:layer of the teacher``, each standing for the last value in it.

    Raises:
        RecipeError: a layer that there is not, or whose value has no channels; or values of grids that cannot be compared.
    """
    found = []
    for pair in pairs:
        one, colon, other = pair.partition(":")
        match = _last_of(student, one, "the student"), _last_of(teacher, other if colon else one, "the teacher")
        if len(match[0].grid) != len(match[1].grid):
            raise RecipeError(f"layers {pair} cannot be compared: {match[0]} and {match[1]} have other numbers of axes; name others.")
        found.append(match)
    return found


def watched(module: fx.GraphModule, names: Sequence[str]) -> None:
    """Let a network return inner values too, behind its outputs, in this order.

    Raises:
        RecipeError: it has no such value.
    """
    nodes = {node.name: node for node in module.graph.nodes}
    missing = [name for name in names if name not in nodes]
    if missing:
        raise RecipeError(f"the network that learns was rewritten, and its value {missing[0]} is gone; take methods that look at outputs alone.")
    end = next(node for node in reversed(module.graph.nodes) if node.op == "output")
    end.args = ((*outputs(module), *(nodes[name] for name in names)),)
    module.recompile()


def _batch(graph: fx.GraphModule) -> str:
    return next((str(node.meta["val"].shape[0]) for node in inputs(graph) if node.meta["val"].dim()), "")


def _returned(graph: fx.GraphModule) -> list[fx.Node]:
    """What the network returns, and what that is but another form of."""
    found = []
    for node in outputs(graph):
        found.append(node)
        while kind_of(node) in ("softmax", "log_softmax", "sigmoid", "reshape", "permute", "cast"):
            node = node.all_input_nodes[0]
            found.append(node)
    return found


def _axis(node: fx.Node, axes: Mapping[fx.Node, int]) -> int | None:
    """Where a value's channels are; None where that cannot be told."""
    kind = kind_of(node)
    value: Any = node.meta.get("val")
    if node.target is operator.getitem:
        source: Any = node.args[0]
        return value.dim() - 1 if kind_of(source) in _RECURRENT and node.args[1] == 0 else axes.get(source)
    if not isinstance(value, torch.Tensor):
        return axes.get(node.all_input_nodes[0]) if kind == "split" else None
    if kind.startswith(_SECOND):
        return 1
    if kind in _LAST:
        return value.dim() - 1
    if kind.startswith(_STOPS):
        return None
    sources = [child for child in node.all_input_nodes if child in axes and child.meta["val"].dim() == value.dim()]
    if not sources:
        return None
    return _permuted(node, axes[sources[0]]) if kind == "permute" else axes[sources[0]]


def _permuted(node: fx.Node, axis: int) -> int | None:
    bound, rank = bind(node), node.meta["val"].dim()
    if aten_name(node) == "permute.default":
        return [place % rank for place in bound["dims"]].index(axis)
    if aten_name(node) == "transpose.int":
        first, second = bound["dim0"] % rank, bound["dim1"] % rank
        return {first: second, second: first}.get(axis, axis)
    return None


def _joins(node: fx.Node, axes: Mapping[fx.Node, int]) -> bool:
    meets = kind_of(node) == "add" and len([child for child in node.all_input_nodes if child in axes and not is_constant(child)]) > 1
    return meets or (node.target is operator.getitem and kind_of(node.args[0]) in _RECURRENT)  # type: ignore[arg-type]


def _stages(student: Sequence[Inner], teacher: Sequence[Inner]) -> list[Match]:
    ends = []
    for values in (student, teacher):
        last: dict[tuple[int | None, ...], Inner] = {}
        for value in values:
            if value.pictured and any(size != 1 for size in value.grid):
                last.pop(value.grid, None)  # the order is that of the last ones
                last[value.grid] = value
        ends.append(last)
    same = [(ends[0][grid], ends[1][grid]) for grid in ends[0] if grid in ends[1]]
    if same:
        return same
    pairs = zip(reversed(ends[0].values()), reversed(ends[1].values()), strict=False)
    return [pair for pair in pairs if len(pair[0].grid) == len(pair[1].grid)][::-1]


def _steps(values: Sequence[Inner]) -> list[Inner]:
    found = [value for value in values if len(value.grid) == 1 and not value.pictured]
    return _blocks([value for value in found if value.joins]) or _hidden_of(found)


def _blocks(values: Sequence[Inner]) -> list[Inner]:
    """The last value of each numbered layer (``encoder.layer.3``), where layers are numbered; what embeddings sum is none then."""
    last: dict[str, Inner] = {}
    for value in values:
        parts = value.layer.split(".")
        numbers = [place for place, part in enumerate(parts) if part.isdigit()]
        if numbers:
            last[".".join(parts[: numbers[-1] + 1])] = value
    return list(last.values()) or list(values)


def _hidden(values: Sequence[Inner]) -> list[Inner]:
    return _hidden_of([value for value in values if not value.grid])


def _hidden_of(values: Sequence[Inner]) -> list[Inner]:
    """The last value before each layer with weights, and the last of all."""
    return [value for place, value in enumerate(values) if place + 1 == len(values) or values[place + 1].starts]


def _even(student: Sequence[Inner], teacher: Sequence[Inner]) -> list[Match]:
    if not student or not teacher:
        return []
    by_name = {value.name: value for value in teacher}
    first = [value.name for value in teacher[: len(student)]]  # a shallow network of its own has the first names of a deep one's too
    if all(value.name in by_name for value in student) and [value.name for value in student] != first:
        return [(value, by_name[value.name]) for value in student]
    deep, shallow = len(teacher), len(student)
    return [(value, teacher[max(-(-place * deep // shallow) - 1, 0)]) for place, value in enumerate(student, 1)]


def _last_of(values: Sequence[Inner], layer: str, whose: str) -> Inner:
    found = [value for value in values if value.layer == layer or value.layer.startswith(f"{layer}.")]
    if not found:
        raise RecipeError(unknown(f"layer of {whose}", layer, {value.layer for value in values}))
    return found[-1]
