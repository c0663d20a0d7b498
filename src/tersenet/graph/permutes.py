"""Permutes that undo one another vanish: an image in the order of its source (NHWC) is turned once, not around each convolution.

Each permute is moved towards the outputs, through whatever works the same in another order of axes, until it meets one that
undoes it, a reduction over the axes that it moves, or a linear layer behind a flatten, whose columns take it over. Exact.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import fx

from tersenet.graph.build import call
from tersenet.graph.fold import Columns
from tersenet.graph.operators import ACTIVATIONS, kind_of
from tersenet.graph.walk import add_constant, bind, calls, constant, copy, is_constant, rebind, shape_of, tensor_inputs

aten = torch.ops.aten
Order = tuple[int, ...]  # as of permute: axis i of the result is axis order[i] of what is permuted

_UNARY = ACTIVATIONS | {"selu", "celu", "mish", "softplus", "abs", "neg", "exp", "log", "sqrt", "rsqrt", "reciprocal", "sin", "cos", "erf"}
_UNARY |= {"floor", "ceil", "round", "sign", "square", "cast", "logical_not", "rsub", "dropout.default", "clamp_min.default", "clamp_max.default"}
_BINARY = {"add", "sub", "mul", "div", "maximum", "minimum", "pow", "where", "eq", "ne", "lt", "le", "gt", "ge", "logical_and", "logical_or"}
# kind -> the name of the argument that names one axis, counted from the end where negative
_ONE_AXIS = {"concat": "dim", "softmax": "dim", "log_softmax": "dim", "slice": "dim", "cumsum": "dim", "split": "dim"}
_REDUCTIONS = {"mean", "sum", "amax", "amin"}


def cancel_permutes(module: fx.GraphModule) -> None:
    """Move permutes until they cancel; a graph that would not have fewer of them stays as it is."""
    tried = copy(module)
    _move(tried)
    if _count(tried) < _count(module):
        module.graph = tried.graph
        for name, value in tried.named_buffers():
            if "." not in name and not hasattr(module, name):
                module.register_buffer(name, value)
        module.recompile()


def _count(module: fx.GraphModule) -> int:
    """Permutes that move data."""
    orders = [(node, order) for node in calls(module) if (order := _order(node)) is not None]
    return sum(not _moves_nothing(shape_of(node.args[0]), order) for node, order in orders)  # type: ignore[arg-type]


def _order(node: Any) -> Order | None:
    """What a permute does, whichever way it is written; None for any other node."""
    if not isinstance(node, fx.Node) or kind_of(node) != "permute":
        return None
    rank = len(shape_of(node))
    held, axes = bind(node), list(range(rank))
    if "dims" in held:
        return tuple(axis % rank for axis in held["dims"])
    if "dim0" in held:
        first, second = held["dim0"] % rank, held["dim1"] % rank
        axes[first], axes[second] = axes[second], axes[first]
        return tuple(axes)
    if "source" in held:  # movedim of one axis
        axes.insert(held["destination"] % rank, axes.pop(held["source"] % rank))
        return tuple(axes)
    return tuple(reversed(axes)) if rank == 2 or "numpy_T" in str(node.target) else tuple(axes)


def _moves_nothing(shape: Sequence[Any], order: Order) -> bool:
    """Whether only axes of size 1 change places."""
    moved = [axis for axis in order if not (isinstance(shape[axis], int) and shape[axis] == 1)]
    return moved == sorted(moved)


def _inverse(order: Order) -> Order:
    return tuple(order.index(axis) for axis in range(len(order)))


def _then(first: Order, second: Order) -> Order:
    """``permute(first)`` followed by ``permute(second)``, as one."""
    return tuple(first[axis] for axis in second)


def _move(module: fx.GraphModule) -> None:
    for node in list(calls(module)):
        order = _order(node)
        if order is not None:
            _merge(module, node, order)
            continue
        source = _permuted_input(node)
        if source is not None:
            through = _rule(kind_of(node))
            if through is not None:
                through(module, node, source)
    module.graph.eliminate_dead_code()


def _merge(module: fx.GraphModule, node: fx.Node, order: Order) -> None:
    """Two permutes in a row become one, equal permutes of one value the same, and one that changes nothing goes."""
    source = node.args[0]
    before = _order(source)
    if before is not None:
        order, source = _then(before, order), source.args[0]  # type: ignore[union-attr]
    result: Any
    if order == tuple(range(len(order))):
        result = source
    elif _moves_nothing(shape_of(source), order):  # type: ignore[arg-type]
        result = _reshaped(module, source, [shape_of(source)[axis] for axis in order], node)  # type: ignore[arg-type]
    else:
        result = next((user for user in source.users if user is not node and _order(user) == order and _is_before(user, node)), None)  # type: ignore[union-attr]
        if result is None and before is None:
            return
        result = result or _permute(module, source, order, node)  # type: ignore[arg-type]
    node.replace_all_uses_with(result)
    module.graph.erase_node(node)


def _is_before(one: fx.Node, other: fx.Node) -> bool:
    return bool(one < other)


def _permute(module: fx.GraphModule, source: fx.Node, order: Order, before: fx.Node) -> fx.Node:
    return call(module, aten.permute.default, (source, list(order)), before=before, like=before)


def _reshaped(module: fx.GraphModule, source: fx.Node, sizes: list[Any], before: fx.Node) -> fx.Node:
    """A reshape, one size of which may be open; reshapes in a row become one."""
    known = [size if isinstance(size, int) else -1 for size in sizes]
    if known.count(-1) > 1:
        return _permute(module, source, tuple(range(len(sizes))), before)
    if kind_of(source) == "reshape" and isinstance(source.args[0], fx.Node) and len(shape_of(source.args[0])) > 0:
        source = source.args[0]
    return call(module, aten.reshape.default, (source, known), before=before, like=before)


def _permuted_input(node: fx.Node) -> fx.Node | None:
    return next((child for child in tensor_inputs(node) if _order(child) is not None), None)


def _after(module: fx.GraphModule, node: fx.Node, order: Order) -> None:
    """`node` has been given what lay before a permute: the permute goes behind it.

    Its shape is that of before, turned back; working it out again could fix sizes that are open.
    """
    node.meta["val"] = node.meta["val"].permute(_inverse(order))
    if order == tuple(range(len(order))):
        return
    following = node.next
    readers = list(node.users)
    turned = _permute(module, node, order, following)
    for reader in readers:
        reader.replace_input_with(node, turned)


def _rule(kind: str) -> Callable[[fx.GraphModule, fx.Node, fx.Node], None] | None:
    if kind in _UNARY:
        return _through_unary
    if kind in _BINARY:
        return _through_elementwise
    if kind in _REDUCTIONS:
        return _through_reduction
    return {
        **dict.fromkeys(_ONE_AXIS, _through_one_axis),
        "pad": _through_pad,
        "reshape": _through_reshape,
    }.get(kind)


def _through_unary(module: fx.GraphModule, node: fx.Node, source: fx.Node) -> None:
    order = _order(source)
    if order is None or node.args[0] is not source:
        return
    node.replace_input_with(source, source.args[0])  # type: ignore[arg-type]
    _after(module, node, order)


def _through_elementwise(module: fx.GraphModule, node: fx.Node, source: fx.Node) -> None:
    """Sums and products: every operand is put in the order of the first permuted one, where that makes no more permutes than it takes away."""
    order = _order(source)
    rank = len(shape_of(node))
    if order is None or len(order) != rank:
        return
    back = _inverse(order)
    if not _pays(node, back):
        return
    for child in list(node.all_input_nodes):
        turned = _turned(module, child, back, node)
        if turned is not child:
            node.replace_input_with(child, turned)
    _after(module, node, order)


def _pays(node: fx.Node, back: Order) -> bool:
    """Whether operands in the other order need no more new permutes than go because nothing else reads them."""
    children = node.all_input_nodes
    if any(len(shape_of(child)) != len(back) and not _free(child, back, len(back)) for child in children):
        return False
    gone = [child for child in children if _order(child) is not None and _then(_order(child) or (), back) == tuple(range(len(back)))]
    return sum(not _free(child, back, len(back)) for child in children) <= sum(len(child.users) == 1 for child in gone)


def _free(child: fx.Node, back: Order, rank: int) -> bool:
    """Whether an operand can be had in the other order at no cost: a permute that cancels or is there already, a constant, axes of size 1."""
    own = _order(child)
    shape = shape_of(child)
    if own is not None and len(own) == rank and (_then(own, back) == tuple(range(rank)) or _moves_nothing(shape_of(child.args[0]), _then(own, back))):  # type: ignore[arg-type]
        return True
    if not shape or is_constant(child):
        return True
    if len(shape) != rank:
        return all(size == 1 for size in shape)
    return _moves_nothing(shape, back) or any(_order(user) == back for user in child.users)


def _turned(module: fx.GraphModule, child: fx.Node, back: Order, before: fx.Node) -> fx.Node:
    """An operand in the other order."""
    rank, shape = len(back), shape_of(child)
    own = _order(child)
    if own is not None and _then(own, back) == tuple(range(rank)):
        return child.args[0]  # type: ignore[return-value]
    if math.prod(size if isinstance(size, int) else 2 for size in shape) == 1:
        return child
    if is_constant(child):
        value = constant(module, child)
        value = value.reshape((1,) * (rank - value.ndim) + tuple(value.shape)).permute(back).contiguous()
        return add_constant(module, f"{child.name}.turned", value, before, child)
    if _moves_nothing(shape, back):
        return _reshaped(module, child, [shape[axis] for axis in back], before)
    found = next((user for user in child.users if _order(user) == back and _is_before(user, before)), None)
    return found or _permute(module, child, back, before)


def _through_one_axis(module: fx.GraphModule, node: fx.Node, source: fx.Node) -> None:
    order = _order(source)
    name = _ONE_AXIS[kind_of(node)]
    if order is None:
        return
    axis = order[bind(node)[name] % len(order)]
    if kind_of(node) == "concat":
        back = _inverse(order)
        if not all(len(shape_of(child)) == len(order) for child in tensor_inputs(node)) or not _pays(node, back):
            return
        turned = [_turned(module, child, back, node) for child in node.args[0]]  # type: ignore[union-attr, arg-type]
        node.args = (turned, axis)
        node.kwargs = {}
    else:
        node.replace_input_with(source, source.args[0])  # type: ignore[arg-type]
        rebind(node, **{name: axis})
    if kind_of(node) == "split":
        _behind_pieces(module, node, order)
    else:
        _after(module, node, order)


def _behind_pieces(module: fx.GraphModule, node: fx.Node, order: Order) -> None:
    node.meta["val"] = type(node.meta["val"])(part.permute(_inverse(order)) for part in node.meta["val"])
    for piece in list(node.users):
        _after(module, piece, order)


def _through_reduction(module: fx.GraphModule, node: fx.Node, source: fx.Node) -> None:
    order = _order(source)
    held = bind(node)
    if order is None or not isinstance(held.get("dim"), list | tuple) or not held["dim"]:
        return
    axes = sorted(order[axis % len(order)] for axis in held["dim"])
    node.replace_input_with(source, source.args[0])  # type: ignore[arg-type]
    rebind(node, dim=axes)
    if held.get("keepdim"):
        _after(module, node, order)
        return
    left = [axis for axis in range(len(order)) if axis not in axes]
    _after(module, node, tuple(left.index(axis) for axis in order if axis in left))


def _through_pad(module: fx.GraphModule, node: fx.Node, source: fx.Node) -> None:
    order = _order(source)
    held = bind(node)
    if order is None or held.get("mode", "constant") != "constant":
        return
    rank = len(order)
    sides = [(0, 0)] * rank
    for place in range(len(held["pad"]) // 2):
        sides[order[rank - 1 - place]] = (held["pad"][2 * place], held["pad"][2 * place + 1])
    while len(sides) > 1 and sides[0] == (0, 0):
        sides = sides[1:]
    node.replace_input_with(source, source.args[0])  # type: ignore[arg-type]
    rebind(node, pad=[size for pair in reversed(sides) for size in pair])
    _after(module, node, order)


def _through_reshape(module: fx.GraphModule, node: fx.Node, source: fx.Node) -> None:
    """A reshape that joins or splits axes which lie side by side before the permute too: the permute is of whole groups, and goes behind it."""
    order = _order(source)
    if order is None or order[0] != 0:
        return
    shape, target = list(shape_of(source)), list(shape_of(node))
    if not target or not all(isinstance(size, int) and size > 0 for size in (*shape[1:], *target[1:])) or str(shape[0]) != str(target[0]):
        return
    groups = _groups(shape, target)
    if groups is None or any(not _in_a_row([order[axis] for axis in sources]) for sources, _ in groups):
        if len(target) == 2:
            _flatten_into_linear(module, node, source, order)
        return
    groups.sort(key=lambda pair: order[pair[0][0]] if pair[0] else -1)
    sizes = [target[axis] for _, targets in groups for axis in targets]
    laid = [axis for _, targets in groups for axis in targets]
    node.target, node.kwargs = aten.reshape.default, {}
    node.args = (source.args[0], [-1, *sizes])
    _after(module, node, (0, *(1 + laid.index(axis) for axis in range(1, len(target)))))


def _groups(shape: list[Any], target: list[Any]) -> list[tuple[list[int], list[int]]] | None:
    """Smallest groups of axes behind the batch whose sizes multiply to those of a group of the target; axes of size 1 join the group before them."""
    groups: list[tuple[list[int], list[int]]] = []
    sources, targets = list(range(1, len(shape))), list(range(1, len(target)))
    while sources and targets:
        taken, given = [sources.pop(0)], [targets.pop(0)]
        left, right = shape[taken[0]], target[given[0]]
        while left != right:
            side, axes, sizes = (taken, sources, shape) if left < right else (given, targets, target)
            if not axes:
                return None
            side.append(axes.pop(0))
            if side is taken:
                left *= sizes[side[-1]]
            else:
                right *= sizes[side[-1]]
        groups.append((taken, given))
    if any(shape[axis] != 1 for axis in sources) or any(target[axis] != 1 for axis in targets):
        return None
    if not groups:
        return None
    groups[-1][0].extend(sources)
    groups[-1][1].extend(targets)
    return groups


def _in_a_row(axes: list[int]) -> bool:
    return axes == list(range(axes[0], axes[0] + len(axes)))


def _flatten_into_linear(module: fx.GraphModule, node: fx.Node, source: fx.Node, order: Order) -> None:
    """A permute before a flatten changes places within the features: the linear layers that read them change their columns instead.

    With y = flatten(permute(x)) and y' = flatten(x), y'[j] = y[p[j]]; so W y = W' y' with W'[:, j] = W[:, p[j]].
    """
    features = shape_of(node)[1]
    layers = _linear_readers(node)
    if not layers:
        return
    sizes = [int(size) for size in shape_of(source)[1:]]
    places = torch.arange(features).reshape(1, *sizes).permute(_inverse(order)).reshape(-1)
    for layer in layers:
        weight = bind(layer)["weight"]
        name = f"{str(weight.target).rpartition('.')[0] or layer.name}.columns"
        moved = add_constant(module, name, constant(module, weight)[:, places].contiguous(), layer, weight)
        before = weight.meta.get("columns", Columns(str(weight.target), torch.arange(features)))
        moved.meta["columns"] = Columns(before.weight, before.places[places])
        rebind(layer, weight=moved)
    node.target, node.kwargs = aten.reshape.default, {}
    node.args = (source.args[0], [-1, features])


def _linear_readers(node: fx.Node) -> list[fx.Node]:
    """The linear layers that read a value, straight or through operators that treat each number alone; [] where something else reads it too."""
    found: list[fx.Node] = []
    for reader in node.users:
        if kind_of(reader) == "linear" and bind(reader)["input"] is node and is_constant(bind(reader)["weight"]):
            found.append(reader)
        elif kind_of(reader) in _UNARY and (further := _linear_readers(reader)):
            found.extend(further)
        else:
            return []
    return found
