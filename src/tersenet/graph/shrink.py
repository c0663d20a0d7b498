"""A network with some of its channels gone: tensors sliced, constants rewritten from where they come from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import fx

from tersenet.annotations import Annotations
from tersenet.errors import RecipeError
from tersenet.graph.dependencies import Alive, Dependencies, held
from tersenet.graph.dimensions.constants import REWRITES, Cut
from tersenet.graph.dimensions.site import Axes, Axis, Fixed, Value
from tersenet.graph.shuffles import close_shuffles
from tersenet.graph.walk import bind
from tersenet.model import Model
from tersenet.schemes import Encoding

Indices = NDArray[np.int64]


def shrink(found: Dependencies, removed: Iterable[int]) -> Model:
    """Take units out of a network.

    Args:
        found: of the network.
        removed: units, as `Dependencies.groups` number them.

    Returns:
        The network without them; inputs and outputs are as before. Where nothing reads what a removed channel gives (its outgoing
        weights are zero) and no normalization runs over it, the outputs are the same numbers.

    Raises:
        RecipeError: a unit that must stay (the operator that ties it is named), a layer that would be left empty, or a quantized network.
    """
    if found.model.plans:
        raise RecipeError("a quantized network cannot be pruned: its ranges belong to the channels that it has; prune before you quantize.")
    alive = found.everything
    alive[list(removed)] = False
    _check(found, alive)
    kept = _kept_indices(found, alive)
    module, copies = _copied(found.module, kept)
    for old, node in copies.items():
        if old.op == "call_function":
            _rewrite(found, module, old, node, alive)
    _renew_shapes(found, copies, alive)
    close_shuffles(module)
    module.graph.eliminate_dead_code()
    module = without_unused(module)
    return replace(found.model, graph=module, annotations=_cut_annotations(found.model.annotations, kept))


def without_unused(module: fx.GraphModule) -> fx.GraphModule:
    """The same graph without tensors that nothing reads any more."""
    for node in list(module.graph.nodes):
        if node.op == "get_attr" and not node.users:
            module.graph.erase_node(node)
    used = {str(node.target): held(module, str(node.target)) for node in module.graph.nodes if node.op == "get_attr"}
    module.graph.lint()
    return fx.GraphModule(used, module.graph, "Network").eval()


def _check(found: Dependencies, alive: Alive) -> None:
    why = found.propagation.classes.why
    stuck = [int(unit) for unit in np.flatnonzero(~alive) if why[unit]]
    if stuck:
        layers = [group.name for group in found.groups if stuck[0] in group.units]
        raise RecipeError(f"channels of {layers[0] if layers else 'a constant'} cannot leave: {why[stuck[0]]}.")
    for node, axes in _all_axes(found):
        for axis in axes:
            if not isinstance(axis, Fixed) and len(axis) and not alive[found.units(axis)].any():
                raise RecipeError(f"at least one channel of {node.name} must stay; all of its {len(axis)} were to leave. Take fewer away.")


def _all_axes(found: Dependencies) -> Iterator[tuple[fx.Node, Axes]]:
    for node, value in found.propagation.values.items():
        for axes in value if value and isinstance(value[0], tuple) else (value,):
            yield node, axes  # type: ignore[misc]


def _kept_indices(found: Dependencies, alive: Alive) -> Mapping[str, tuple[Indices | None, ...]]:
    """For each tensor the indices of each axis that stay; None where all do."""

    def left(axis: Axis) -> Indices | None:
        if isinstance(axis, Fixed):
            return None
        stays = alive[found.units(axis)]
        return None if stays.all() else np.flatnonzero(stays)

    return {name: tuple(left(axis) for axis in axes) for name, axes in found.propagation.constants.items()}


def _copied(module: fx.GraphModule, kept: Mapping[str, tuple[Indices | None, ...]]) -> tuple[fx.GraphModule, dict[fx.Node, fx.Node]]:
    """A copy of the graph over tensors that are cut; what two names share stays shared."""
    graph = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    for node in module.graph.nodes:
        copies[node] = graph.node_copy(node, lambda old: copies[old])
        copies[node].meta = dict(node.meta)
    owned: dict[int, torch.Tensor] = {}
    state: dict[str, torch.Tensor] = {}
    for name, indices in kept.items():
        tensor = held(module, name)
        if id(tensor) not in owned:
            owned[id(tensor)] = _sliced(tensor, indices)
        state[name] = owned[id(tensor)]
    return fx.GraphModule(state, graph, "Network"), copies


def _sliced(tensor: torch.Tensor, indices: tuple[Indices | None, ...]) -> torch.Tensor:
    result = tensor.detach()
    for axis, index in enumerate(indices):
        if index is not None:
            result = result.index_select(axis, torch.from_numpy(index).to(result.device))
    result = result.clone()
    return torch.nn.Parameter(result, tensor.requires_grad) if isinstance(tensor, torch.nn.Parameter) else result


def _rewrite(found: Dependencies, module: fx.GraphModule, old: fx.Node, node: fx.Node, alive: Alive) -> None:
    rewrite = REWRITES.get(_name(old))
    if rewrite is None:
        return
    values = found.propagation.values
    axes = [axis for child in (old, *old.all_input_nodes) for axis in _flat(values.get(child, ()))]
    if any(not isinstance(axis, Fixed) and not alive[found.units(axis)].all() for axis in axes):
        rewrite(Cut(module, node, bind(old), values, values[old], lambda axis: _stays(found, axis, alive), found.propagation.sizes))


def _stays(found: Dependencies, axis: Axis, alive: Alive) -> NDArray[np.bool_]:
    return np.ones(len(axis), bool) if isinstance(axis, Fixed) else alive[found.units(axis)]


def _flat(value: Value) -> Iterator[Axis]:
    for part in value:
        if isinstance(part, tuple):
            yield from part
        else:
            yield part


def _name(node: fx.Node) -> str:
    return node.target._schema.name.removeprefix("aten::") if isinstance(node.target, torch._ops.OpOverload) else ""


def _renew_shapes(found: Dependencies, copies: Mapping[fx.Node, fx.Node], alive: Alive) -> None:
    """Shapes of what was cut. Running the operators on shapes would fix sizes that are open: torch guards what its kernels look at."""
    for old, node in copies.items():
        value, axes = old.meta.get("val"), found.propagation.values.get(old, ())
        if isinstance(value, tuple | list):
            node.meta["val"] = type(value)(_resized(found, part, each, alive) for part, each in zip(value, axes, strict=True))  # type: ignore[arg-type]
        elif isinstance(value, torch.Tensor):
            node.meta["val"] = _resized(found, value, axes, alive)  # type: ignore[arg-type]


def _resized(found: Dependencies, value: torch.Tensor, axes: Axes, alive: Alive) -> torch.Tensor:
    stays = [_stays(found, axis, alive) for axis in axes]
    if all(kept.all() for kept in stays):
        return value
    # An open axis that holds channels too keeps its part of them.
    shape = [size * int(kept.sum()) // len(kept) for size, kept in zip(value.shape, stays, strict=True)]
    return value.new_empty(shape)


def _cut_annotations(annotations: Annotations, kept: Mapping[str, tuple[Indices | None, ...]]) -> Annotations:
    masks = {name: _taken(mask, kept.get(name, ())) for name, mask in annotations.masks.items()}
    codebooks = {name: _taken(places, kept.get(name, ())) for name, places in annotations.codebooks.items()}
    weights = {name: cut for name, encoding in annotations.weights.items() if (cut := _cut_encoding(encoding, kept.get(name, ()))) is not None}
    return replace(annotations, masks=masks, weights=weights, codebooks=codebooks)


def _taken(array: NDArray[Any], indices: tuple[Indices | None, ...]) -> NDArray[Any]:
    for axis, index in enumerate(indices):
        array = array if index is None else np.take(array, index, axis)
    return array


def _cut_encoding(encoding: Encoding, indices: tuple[Indices | None, ...]) -> Encoding | None:
    """A weight's grid with the scales of the channels that stay; none where groups of neighbours are torn apart."""
    if encoding.scheme.group_size and any(index is not None for index in indices):
        return None
    if encoding.axis is None or not indices or (index := indices[encoding.axis]) is None:
        return encoding
    return replace(encoding, scale=tuple(encoding.scale[i] for i in index), zero_point=tuple(encoding.zero_point[i] for i in index))
