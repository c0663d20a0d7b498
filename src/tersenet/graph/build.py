"""Adding ATen operators to a graph, with the shape and type of their result worked out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import fx
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from tersenet.graph.walk import constant, copy

# of an open axis of which no example is known
LENGTH = 128


def call(module: fx.GraphModule, operator: Any, arguments: tuple[Any, ...], *, before: fx.Node, like: fx.Node | None = None) -> fx.Node:
    """Insert one call.

    Args:
        operator: an overload of ``torch.ops.aten``.
        arguments: nodes and plain values, in the schema's order.
        before: the node in front of which it goes.
        like: the node whose layer and source line the new one takes over.
    """
    with module.graph.inserting_before(before):
        node = module.graph.create_node("call_function", operator, arguments, {})
    if like is not None:
        node.meta.update({key: value for key, value in like.meta.items() if key in ("nn_module_stack", "stack_trace")})
    node.meta["val"] = infer(node)
    return node


def infer(node: fx.Node) -> Any:
    """The shape and type of a node's result, computed without data from those of its arguments."""
    values: list[Any] = []
    fx.node.map_arg((node.args, node.kwargs), lambda child: values.append(child.meta.get("val")))
    mode = next((value.fake_mode for value in values if isinstance(value, FakeTensor)), None) or FakeTensorMode(allow_non_fake_inputs=True)

    def fake(child: fx.Node) -> Any:
        value = child.meta["val"]
        return mode.from_tensor(value, static_shapes=True) if isinstance(value, torch.Tensor) and not isinstance(value, FakeTensor) else value

    arguments, keywords = fx.node.map_arg((node.args, node.kwargs), fake)
    with mode:
        return node.target(*arguments, **keywords)  # type: ignore[operator]


def fixed(module: fx.GraphModule, batch: int = 1) -> fx.GraphModule:
    """A copy whose every shape is known: batch `batch`, other open sizes (a sequence's length) as in the example that was traced.

    Sizes that the graph computes from its inputs become plain integers, and every node's ``meta["val"]`` is exact.
    """
    module = copy(module)
    mode = FakeTensorMode(allow_non_fake_inputs=True)

    def placeholder(node: fx.Node) -> torch.Tensor:
        value = node.meta["val"]
        with mode:
            return torch.empty([_size(size, axis, batch) for axis, size in enumerate(value.shape)], dtype=value.dtype)

    made = computed(module, mode, placeholder)
    for node, value in made.items():
        node.meta = {**node.meta, "val": value}
    numbers = {node: value for node, value in made.items() if isinstance(value, int | float | bool)}
    for node in module.graph.nodes:
        node.args, node.kwargs = fx.node.map_arg((node.args, node.kwargs), lambda child: numbers.get(child, child))
    module.graph.eliminate_dead_code()
    module.recompile()
    return module


def computed(module: fx.GraphModule, mode: FakeTensorMode, placeholder: Callable[[fx.Node], Any]) -> dict[fx.Node, Any]:
    """What every node but the output comes to, without numbers.

    Args:
        mode: of the tensors that stand for values.
        placeholder: what an input is.
    """
    made: dict[fx.Node, Any] = {}
    for node in module.graph.nodes:
        if node.op == "placeholder":
            made[node] = placeholder(node)
        elif node.op == "get_attr":
            made[node] = mode.from_tensor(constant(module, node), static_shapes=True)
        elif node.op == "call_function":
            arguments, keywords = fx.node.map_arg((node.args, node.kwargs), lambda child: made[child])
            with mode:
                made[node] = node.target(*arguments, **keywords)
    return made


def _size(size: Any, axis: int, batch: int) -> int:
    if isinstance(size, int):
        return size
    return batch if axis == 0 else int(size.node.hint or LENGTH)
