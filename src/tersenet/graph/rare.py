"""Operators that no runtime's table speaks of, written as those that they are made of: by torch's own decompositions, and by a few of ours.

An operator is opened only where everything that it is made of has a kind (or gets one in the passes that follow); every other one stays, and
exporters refuse it by its name.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import torch
from torch import Tensor, fx
from torch._decomp import core_aten_decompositions, decomposition_table
from torch.fx.experimental.proxy_tensor import make_fx

from tersenet.graph.normalize import drop_identities, views_to_reshapes
from tersenet.graph.operators import KIND_OF, KINDS, aten_name, kind_of
from tersenet.graph.walk import calls

aten = torch.ops.aten
# What later passes spell as others, compute, or take away.
SPELLED = frozenset(
    {"addmm.default", "convolution.default", "clamp_min.default", "clamp_max.default", "scalar_tensor.default", "clone.default"}
    | {"rsub.Tensor", "alias.default", "detach.default", "lift_fresh_copy.default", "contiguous.default"}
    | {f"{name}.Scalar" for name in ("add", "sub", "mul", "div", "rsub")}
)
# Products over named axes are plain ones once axes are moved, and plain ones have integer kernels.
PLAIN = KINDS - {"einsum"}
_LONGEST = 256  # steps of a running product that are written out


def open_rare(module: fx.GraphModule) -> None:
    """Replace rare operators by what they are made of."""
    opened_any = False
    for node in list(calls(module)):
        if kind_of(node) not in PLAIN and aten_name(node) not in SPELLED and isinstance(node.target, torch._ops.OpOverload):
            opened = _traced(node)
            if opened is not None:
                _insert(module, node, *opened)
                opened_any = True
    if opened_any:
        views_to_reshapes(module)
        drop_identities(module)


def _traced(node: fx.Node) -> tuple[fx.Graph, list[fx.Node]] | None:
    """The graph of what an operator is made of, and the nodes that its placeholders stand for; None where that has rare operators itself."""
    given: list[fx.Node] = []
    fx.node.map_arg((node.args, node.kwargs), lambda child: given.append(child))
    given = list(dict.fromkeys(given))
    # What torch takes apart before a table is asked is taken apart by ours first.
    target = OURS.get(node.target, node.target) if node.target._can_decompose() else node.target  # type: ignore[union-attr]

    def call(*values: Any) -> Any:
        held = dict(zip(given, values, strict=True))
        arguments, keywords = fx.node.map_arg((node.args, node.kwargs), lambda child: held[child])
        return target(*arguments, **keywords)  # type: ignore[operator]

    try:
        graph = make_fx(call, decomposition_table=_table())(*(child.meta["val"] for child in given)).graph
    except Exception:  # noqa: BLE001 - a decomposition that fails, for whatever reason, leaves the operator as it is
        return None
    inside = [part for part in graph.nodes if part.op == "call_function"]
    known = all(kind_of(part) in PLAIN or aten_name(part) in SPELLED for part in inside)
    fixed = all(part.op in ("placeholder", "call_function", "output") for part in graph.nodes)
    return (graph, given) if known and fixed else None


def _insert(module: fx.GraphModule, node: fx.Node, graph: fx.Graph, given: list[fx.Node]) -> None:
    """Put the traced graph in front of an operator, and let readers read that."""
    held = dict(zip((part for part in graph.nodes if part.op == "placeholder"), given, strict=True))
    origin = {key: value for key, value in node.meta.items() if key in ("nn_module_stack", "stack_trace")}
    with module.graph.inserting_before(node):
        for part in graph.nodes:
            if part.op == "call_function":
                held[part] = module.graph.node_copy(part, lambda child: held[child])
                held[part].meta = {"val": part.meta["val"], **origin}
    made = next(part for part in graph.nodes if part.op == "output").args[0]
    if isinstance(made, fx.Node):
        node.replace_all_uses_with(held[made])
    else:
        for reader in list(node.users):
            reader.replace_all_uses_with(held[made[reader.args[1]]])
            module.graph.erase_node(reader)
    module.graph.erase_node(node)


@cache
def _table() -> Mapping[Any, Callable[..., Any]]:
    """Decompositions of everything that has no kind of its own; ours go before torch's."""
    known = {**decomposition_table, **core_aten_decompositions()}
    rare = {overload: function for overload, function in known.items() if isinstance(overload, torch._ops.OpOverload) and not _has_kind(overload)}
    return {**rare, **OURS}


def _has_kind(overload: Any) -> bool:
    name = f"{overload._opname}.{overload._overloadname}"
    return name in KIND_OF or name in SPELLED


def _inverse_sine(x: Tensor) -> Tensor:
    """asin(x) = atan(x / sqrt(1 - x^2)); at the ends the quotient is infinite, and its angle a right one."""
    return torch.atan(x * torch.rsqrt(1 - x * x))


def _angle(y: Tensor, x: Tensor) -> Tensor:
    """atan2: the angle of the half plane on the right, turned by half a circle on the left."""
    right = torch.atan(y / torch.where(x == 0, torch.ones_like(x), x))
    turned = torch.where(x < 0, torch.where(y < 0, right - math.pi, right + math.pi), right)
    upright = torch.where(y == 0, torch.zeros_like(y), torch.sign(y) * (math.pi / 2))
    return torch.where(x == 0, upright, turned)


def _truncated(x: Tensor) -> Tensor:
    return torch.sign(x) * torch.floor(torch.abs(x)) if x.is_floating_point() else x


def _quotient(x: Tensor, y: Any, *, rounding_mode: str | None) -> Tensor:
    """A quotient rounded to a whole number; of integers, by way of floats, exact to 24 bits."""
    quotient = torch.true_divide(x, y)
    whole = torch.floor(quotient) if rounding_mode == "floor" else _truncated(quotient) if rounding_mode == "trunc" else quotient
    floats = x.is_floating_point() or (isinstance(y, float) or (isinstance(y, Tensor) and y.is_floating_point()))
    return whole if floats else whole.to(x.dtype)


def _remainder(x: Tensor, y: Any) -> Tensor:
    return x - _quotient(x, y, rounding_mode="floor") * y


def _modulo(x: Tensor, y: Any) -> Tensor:
    return x - _quotient(x, y, rounding_mode="trunc") * y


def _any(x: Tensor, dim: Any = None, keepdim: bool = False) -> Tensor:
    axes = list(range(x.dim())) if dim is None else dim
    return torch.amax((x != 0).to(torch.float32), axes, keepdim) > 0


def _all(x: Tensor, dim: Any = None, keepdim: bool = False) -> Tensor:
    axes = list(range(x.dim())) if dim is None else dim
    return torch.amin((x != 0).to(torch.float32), axes, keepdim) > 0


def _running_product(x: Tensor, dim: int, *, dtype: torch.dtype | None = None) -> Tensor:
    if not isinstance(x.shape[dim], int) or x.shape[dim] > _LONGEST:
        return NotImplemented
    parts = [x.narrow(dim, 0, 1)]
    for place in range(1, x.shape[dim]):
        parts.append(parts[-1] * x.narrow(dim, place, 1))
    return torch.cat(parts, dim)


def _sorted(x: Tensor, dim: int = -1, descending: bool = False) -> tuple[Tensor, Tensor]:
    """All values of an axis, in order: the so many largest or smallest, equal ones in the order in which they stood."""
    size = x.shape[dim]
    if not isinstance(size, int):
        return NotImplemented
    values, places = torch.topk(x, size, dim, descending)
    return values, places


def _stable(x: Tensor, *, stable: bool | None = None, dim: int = -1, descending: bool = False) -> tuple[Tensor, Tensor]:
    return _sorted(x, dim, descending)


def _places(row: Tensor, x: Tensor, *, right: bool = False, side: str | None = None, **_: Any) -> Tensor:
    """Where numbers would stand in a sorted row: how many of it are smaller, or not larger."""
    row, x = (row, x.unsqueeze(-1)) if row.dim() == 1 else (row.unsqueeze(-2), x.unsqueeze(-1))
    counted = row <= x if right or side == "right" else row < x
    return torch.sum(counted.to(torch.int64), -1)


def _chosen(condition: Tensor, x: Any, y: Any) -> Tensor:
    numbers = [value if isinstance(value, Tensor) else torch.scalar_tensor(value, dtype=torch.result_type(value, value)) for value in (x, y)]
    return torch.where(condition, numbers[0], numbers[1])


def _threshold(x: Tensor, threshold: float, value: float) -> Tensor:
    return torch.relu(x) if threshold == 0 == value else torch.where(x > threshold, x, torch.scalar_tensor(value))


def _windows(x: Tensor, dimension: int, size: int, step: int) -> Tensor:
    """Parts of an axis that may overlap, as a new last axis."""
    axis, length = dimension % x.dim(), x.shape[dimension]
    if not isinstance(length, int):
        return NotImplemented
    starts = torch.arange(0, length - size + 1, step)
    places = (starts.unsqueeze(1) + torch.arange(size)).reshape(-1)
    apart = x.index_select(axis, places).unflatten(axis, (len(starts), size))
    return apart.movedim(axis + 1, -1)


def _differs(x: Tensor, y: Tensor) -> Tensor:
    if x.dtype == torch.bool == y.dtype:
        return x != y
    return torch.bitwise_and(torch.bitwise_or(x, y), torch.bitwise_not(torch.bitwise_and(x, y)))


def _bilinear(x: Tensor, y: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """One matrix product for all results, and a sum over the other operand."""
    made, first, second = weight.shape
    products = torch.matmul(x, weight.permute(1, 0, 2).reshape(first, made * second)).unflatten(-1, (made, second))
    result = torch.sum(products * y.unsqueeze(-2), -1)
    return result if bias is None else result + bias


def _cosine(x: Tensor, y: Tensor, dim: int = 1, eps: float = 1e-8) -> Tensor:
    lengths = [torch.clamp_min(torch.sqrt(torch.sum(one * one, dim, keepdim=True)), eps) for one in (x, y)]
    return torch.sum((x / lengths[0]) * (y / lengths[1]), dim)


def _folded(x: Tensor, output_size: Any, kernel_size: Any, dilation: Any, padding: Any, stride: Any) -> Tensor:
    """Patches that lie side by side, neither over one another nor apart, put in their places."""
    (height, width), (rows, columns) = output_size, kernel_size
    if x.dim() != 3 or tuple(dilation) != (1, 1) or any(padding) or tuple(stride) != tuple(kernel_size) or height % rows or width % columns:
        return NotImplemented
    parts = x.unflatten(2, (height // rows, width // columns)).unflatten(1, (-1, rows, columns))
    return parts.permute(0, 1, 4, 2, 5, 3).flatten(4, 5).flatten(2, 3)


# Operator -> what it is made of, in torch's words.
OURS: Mapping[Any, Callable[..., Any]] = {
    aten.acos.default: lambda x: math.pi / 2 - _inverse_sine(x),
    aten.acosh.default: lambda x: torch.log(x + torch.sqrt(x * x - 1)),
    aten.all.default: _all,
    aten.all.dim: _all,
    aten.any.default: _any,
    aten.any.dim: _any,
    aten.asin.default: _inverse_sine,
    aten.asinh.default: lambda x: torch.sign(x) * torch.log(torch.abs(x) + torch.sqrt(x * x + 1)),
    aten.atan2.default: _angle,
    aten.atanh.default: lambda x: 0.5 * torch.log((1 + x) / (1 - x)),
    aten.bilinear.default: _bilinear,
    aten.bitwise_xor.Tensor: _differs,
    aten.bucketize.Tensor: lambda x, row, **how: _places(row, x, **how),
    aten.col2im.default: _folded,
    aten.cosh.default: lambda x: 0.5 * (torch.exp(x) + torch.exp(-x)),
    aten.cosine_similarity.default: _cosine,
    aten.cumprod.default: _running_product,
    aten.div.Scalar_mode: _quotient,
    aten.div.Tensor_mode: _quotient,
    aten.erfc.default: lambda x: 1 - torch.erf(x),
    aten.exp2.default: lambda x: torch.exp(x * math.log(2)),
    aten.expm1.default: lambda x: torch.exp(x) - 1,
    aten.floor_divide.default: lambda x, y: _quotient(x, y, rounding_mode="floor"),
    aten.fmod.Scalar: _modulo,
    aten.fmod.Tensor: _modulo,
    aten.frac.default: lambda x: x - _truncated(x),
    aten.isinf.default: lambda x: torch.abs(x) == math.inf,
    aten.isnan.default: lambda x: x != x,  # NaN alone differs from itself
    aten.isneginf.default: lambda x: x == -math.inf,
    aten.isposinf.default: lambda x: x == math.inf,
    aten.log10.default: lambda x: torch.log(x) * (1 / math.log(10)),
    aten.log1p.default: lambda x: torch.log(1 + x),
    aten.log2.default: lambda x: torch.log(x) * (1 / math.log(2)),
    aten.logaddexp.default: lambda x, y: torch.maximum(x, y) + torch.log(1 + torch.exp(-torch.abs(x - y))),
    aten.logical_xor.default: lambda x, y: (x != 0) != (y != 0),
    aten.min.dim: lambda x, dim, keepdim=False: (torch.amin(x, dim, keepdim), torch.argmin(x, dim, keepdim)),
    aten.remainder.Scalar: _remainder,
    aten.remainder.Tensor: _remainder,
    aten.searchsorted.Tensor: _places,
    aten.sinh.default: lambda x: 0.5 * (torch.exp(x) - torch.exp(-x)),
    aten.sort.default: _sorted,
    aten.sort.stable: _stable,
    aten.tan.default: lambda x: torch.sin(x) / torch.cos(x),
    aten.threshold.default: _threshold,
    aten.trunc.default: _truncated,
    aten.unfold.default: _windows,
    aten.var_mean.correction: lambda x, dim=None, *, correction=1, keepdim=False: (
        torch.var(x, dim, correction=correction, keepdim=keepdim),
        torch.mean(x, dim, keepdim),
    ),
    aten.where.Scalar: _chosen,
    aten.where.ScalarSelf: _chosen,
}
