"""What a network costs to run once: parameters, multiply-accumulates, bytes moved. Counted from shapes; nothing is run."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from tersenet.graph.walk import argument, bind, calls
from tersenet.model import Model
from tersenet.plan import QuantizationPlan


@dataclass(frozen=True)
class NodeCost:
    """One operator's share.

    Args:
        macs: multiply-accumulates for one sample; operators without products (additions, activations, pooling) count none.
        bytes_moved: read and written, every operand once, in the graph's own types; a view moves nothing.
        parameters: numbers in the constants that it reads.
    """

    macs: int
    bytes_moved: int
    parameters: int


@dataclass(frozen=True)
class Cost:
    """What a network costs for one sample.

    Args:
        parameters: numbers in all its float tensors: weights, biases, and the statistics of batch norm; what is shared counts once.
        macs: multiply-accumulates.
        float_bytes: of those tensors.
        bytes_moved: the sum over the operators.
        nodes: the shares by the name of the node.
    """

    parameters: int
    macs: int
    float_bytes: int
    bytes_moved: int
    nodes: Mapping[str, NodeCost]


def cost(model: Model) -> Cost:
    """Count a model's cost with a batch of 1 and every other open size as in the example that it was traced with."""
    graph = model.graph
    sizes = _Sizes(graph)
    fixed = 1 if sizes.open_batch else max(1, sizes.batch)
    tensors = {id(tensor): tensor for tensor in graph.state_dict(keep_vars=True).values() if tensor.is_floating_point()}
    nodes = {node.name: _node_cost(node, sizes, fixed) for node in calls(graph) if _is_operator(node)}
    return Cost(
        parameters=sum(tensor.numel() for tensor in tensors.values()),
        macs=sum(share.macs for share in nodes.values()),
        float_bytes=sum(tensor.numel() * tensor.element_size() for tensor in tensors.values()),
        bytes_moved=sum(share.bytes_moved for share in nodes.values()),
        nodes=nodes,
    )


class _Sizes:
    """Shapes as numbers: the batch is 1 where it is open, other open sizes are those of the example."""

    def __init__(self, graph: fx.GraphModule) -> None:
        self.known: dict[Any, int] = {}
        self.open_batch, self.batch = False, 1
        for node in graph.graph.nodes:
            if node.op != "placeholder":
                continue
            for axis, size in enumerate(node.meta["val"].shape):
                if isinstance(size, torch.SymInt):
                    self.open_batch |= axis == 0
                    self.known[size.node.expr] = 1 if axis == 0 else self.known.get(size.node.expr, size.node.hint)
                elif axis == 0 and self.batch == 1:
                    self.batch = size

    def shape(self, node: fx.Node) -> tuple[int, ...]:
        return tuple(self.number(size) for size in node.meta["val"].shape)

    def number(self, size: Any) -> int:
        if not isinstance(size, torch.SymInt):
            return int(size)
        found = size.node.expr.subs(self.known)
        return int(found) if found.is_number else int(size.node.hint)

    def bytes(self, value: Any) -> int:
        if isinstance(value, tuple | list):
            return sum(self.bytes(part) for part in value)
        if not isinstance(value, torch.Tensor):
            return 0
        return math.prod(self.number(size) for size in value.shape) * value.element_size()


def _is_operator(node: fx.Node) -> bool:
    return isinstance(node.target, torch._ops.OpOverload)


def _node_cost(node: fx.Node, sizes: _Sizes, batch: int) -> NodeCost:
    name = node.target._schema.name.removeprefix("aten::")  # type: ignore[union-attr]
    constants = [child for child in node.all_input_nodes if child.op == "get_attr"]
    held = 0 if name == "embedding" else sum(sizes.bytes(child.meta["val"]) for child in constants)  # only rows of the table are read
    moved = 0
    if not _is_view(node, name):
        flowing = sum(sizes.bytes(child.meta.get("val")) for child in node.all_input_nodes if child.op != "get_attr")
        moved = held + (flowing + sizes.bytes(node.meta.get("val"))) // batch
    count = MACS.get(name)
    macs = count(bind(node), node, sizes) // batch if count is not None else 0
    return NodeCost(macs, moved, sum(math.prod(sizes.shape(child)) for child in constants))


def _is_view(node: fx.Node, name: str) -> bool:
    arguments = node.target._schema.arguments  # type: ignore[union-attr]
    alias = arguments[0].alias_info if arguments else None
    return name in {"reshape", "flatten", "contiguous", "dropout", "sym_size"} or (alias is not None and not alias.is_write)


def _convolution(arguments: Mapping[str, Any], node: fx.Node, sizes: _Sizes) -> int:
    """Each value of the result (of the input, for a transposed one) meets one filter."""
    per_value = math.prod(sizes.shape(arguments["weight"])[1:])
    transposed = arguments.get("transposed", "transpose" in node.target._schema.name)  # type: ignore[union-attr]
    return math.prod(sizes.shape(arguments["input"] if transposed else node)) * per_value


def _product(first: str) -> Callable[[Mapping[str, Any], fx.Node, _Sizes], int]:
    """A matrix product: each value of the result is a sum over the last axis of the operand `first`."""

    def count(arguments: Mapping[str, Any], node: fx.Node, sizes: _Sizes) -> int:
        return math.prod(sizes.shape(node)) * sizes.shape(arguments[first])[-1]

    return count


def _recurrent(arguments: Mapping[str, Any], node: fx.Node, sizes: _Sizes) -> int:
    """At each step of each sequence every number of every weight matrix is used once."""
    steps = math.prod(sizes.shape(arguments["input"])[:-1])
    return steps * sum(math.prod(sizes.shape(weight)) for weight in arguments["params"] if weight.meta["val"].dim() == 2)


def _cell(arguments: Mapping[str, Any], node: fx.Node, sizes: _Sizes) -> int:
    """One step of a recurrent layer."""
    samples = math.prod(sizes.shape(arguments["input"])[:-1])
    return samples * sum(math.prod(sizes.shape(arguments[name])) for name in ("w_ih", "w_hh"))


def _tensordot(arguments: Mapping[str, Any], node: fx.Node, sizes: _Sizes) -> int:
    """Each value of the result is a sum over all pairs of axes."""
    shape = sizes.shape(arguments["self"])
    return math.prod(sizes.shape(node)) * math.prod(shape[dim] for dim in arguments["dims_self"])


def _bilinear(arguments: Mapping[str, Any], node: fx.Node, sizes: _Sizes) -> int:
    return math.prod(sizes.shape(node)) * math.prod(sizes.shape(arguments["weight"])[1:])


def _attention(arguments: Mapping[str, Any], node: fx.Node, sizes: _Sizes) -> int:
    """Queries times keys, and the result times values."""
    query, value = sizes.shape(arguments["query"]), sizes.shape(arguments["value"])
    pairs = math.prod(query[:-1]) * value[-2]
    return pairs * (query[-1] + value[-1])


def _einsum(arguments: Mapping[str, Any], node: fx.Node, sizes: _Sizes) -> int:
    """One product for each combination of all letters."""
    letters: dict[str, int] = {}
    for term, operand in zip(arguments["equation"].replace(" ", "").split("->")[0].split(","), arguments["tensors"], strict=True):
        head, dots, tail = term.partition("...")
        shape = sizes.shape(operand)
        named = dict(zip(head, shape, strict=False)) | dict(zip(reversed(tail), reversed(shape), strict=False))
        rest = math.prod(shape[len(head) : len(shape) - len(tail)]) if dots else 1
        letters |= named | {"...": max(rest, letters.get("...", 1))}
    return math.prod(letters.values())


_Count = Callable[[Mapping[str, Any], fx.Node, _Sizes], int]
MACS: Mapping[str, _Count] = {
    **dict.fromkeys(("conv1d", "conv2d", "conv3d", "convolution", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d"), _convolution),
    "linear": _product("input"),
    "addmm": _product("mat1"),
    "baddbmm": _product("batch1"),
    **dict.fromkeys(("mm", "bmm", "matmul", "mv", "dot"), _product("self")),
    **dict.fromkeys(("lstm", "gru", "rnn_tanh", "rnn_relu"), _recurrent),
    **dict.fromkeys(("lstm_cell", "gru_cell", "rnn_tanh_cell", "rnn_relu_cell"), _cell),
    "tensordot": _tensordot,
    "bilinear": _bilinear,
    "scaled_dot_product_attention": _attention,
    "einsum": _einsum,
}


def bytes_moved(module: fx.GraphModule, plan: QuantizationPlan | None = None) -> int:
    """Bytes read and written in one run of one sample: every operand and result once, in the types that a file keeps them in.

    Args:
        module: the deployable graph.
        plan: whose values and weights are integers; None for floats.
    """
    units = plan.units if plan is not None else {}
    nodes = {node.name: node for node in module.graph.nodes}
    encodings = dict(plan.in_bytes().values) if plan is not None else {}
    for anchor, unit in units.items():
        encodings |= {argument(nodes[anchor], name).name: encoding for name, encoding in unit.weights.items()}
    inner = {name for unit in units.values() for name in unit.nodes[:-1]}  # never leaves the kernel
    sizes, bits = _Sizes(module), 0
    for node in calls(module):
        if not _is_operator(node) or _is_view(node, node.target._schema.name.removeprefix("aten::")):  # type: ignore[union-attr]
            continue
        for value in {*node.all_input_nodes, node}:
            if value.name not in inner:
                width = encodings[value.name].scheme.bits if value.name in encodings else 32
                bits += sizes.bytes(value.meta.get("val")) // 4 * width
    return bits // 8
