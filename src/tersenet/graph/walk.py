"""Reading and copying an exported graph: arguments by name, constants, shapes, where a node comes from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import fx

# The tracer holds the user's module under this name; it is no part of a layer's own.
TRACED = "inner"


def copy(module: fx.GraphModule) -> fx.GraphModule:
    """A graph of its own over the same tensors; names of nodes and metadata stay."""
    graph = fx.Graph()
    made: dict[fx.Node, fx.Node] = {}
    for node in module.graph.nodes:
        made[node] = graph.node_copy(node, lambda old: made[old])
    return fx.GraphModule(module, graph, class_name="Network")


def bind(node: fx.Node) -> dict[str, Any]:
    """Every argument of an ATen node by the name that its schema gives it, defaults filled in.

    ``conv2d`` answers ``{"input": node, "weight": node, "bias": None, "stride": [1, 1], ...}``.
    """
    arguments = node.target._schema.arguments  # type: ignore[union-attr]
    bound = {}
    for position, argument in enumerate(arguments):
        if position < len(node.args):
            bound[argument.name] = node.args[position]
        elif argument.name in node.kwargs:
            bound[argument.name] = node.kwargs[argument.name]
        else:
            bound[argument.name] = argument.default_value
    return bound


def rebind(node: fx.Node, **changes: Any) -> None:
    """Give some arguments of an ATen node new values, by name; the rest stay."""
    names = [argument.name for argument in node.target._schema.arguments]  # type: ignore[union-attr]
    bound = bind(node)
    bound.update(changes)
    last = max(names.index(name) for name in names if name in changes or names.index(name) < len(node.args))
    keyword_only = {argument.name for argument in node.target._schema.arguments if argument.kwarg_only}  # type: ignore[union-attr]
    node.args = tuple(bound[name] for name in names[: last + 1] if name not in keyword_only)
    node.kwargs = {name: bound[name] for name in names if name in keyword_only and (name in node.kwargs or name in changes)}


def argument(node: fx.Node, name: str) -> Any:
    """One argument of an ATen node by its name in the schema; ``params.3`` is the fourth of a list."""
    first, _, position = name.partition(".")
    held = bind(node)[first]
    return held[int(position)] if position else held


def set_argument(node: fx.Node, name: str, value: Any) -> None:
    """Give an argument, named as in `argument`, a new value; the rest stay."""
    first, _, position = name.partition(".")
    if position:
        whole = list(bind(node)[first])
        whole[int(position)] = value
        value = whole
    rebind(node, **{first: value})


def calls(module: fx.GraphModule) -> Iterator[fx.Node]:
    """The operators, in the order in which they run."""
    return (node for node in module.graph.nodes if node.op == "call_function")


def is_constant(node: Any) -> bool:
    """Whether an argument is a tensor that the file will hold."""
    return isinstance(node, fx.Node) and node.op == "get_attr"


def constant(module: fx.GraphModule, node: fx.Node) -> torch.Tensor:
    """The tensor behind a ``get_attr`` node."""
    found: Any = module
    for part in str(node.target).split("."):
        found = getattr(found, part)
    return found.detach()


def shape_of(node: fx.Node) -> tuple[Any, ...]:
    """Sizes of a node's value; symbolic ones stay `torch.SymInt`."""
    return tuple(node.meta["val"].shape)


def dtype_of(node: Any) -> torch.dtype | None:
    """The type of a node's tensor; None where it makes no single tensor."""
    value = node.meta.get("val") if isinstance(node, fx.Node) else None
    return value.dtype if isinstance(value, torch.Tensor) else None


def is_float(node: Any) -> bool:
    """Whether an argument is a node that makes one tensor of floats."""
    kind = dtype_of(node)
    return kind is not None and kind.is_floating_point


def tensor_inputs(node: fx.Node) -> list[fx.Node]:
    """The tensors that an operator reads, in order, lists of tensors opened (a concatenation's)."""
    return list(node.all_input_nodes) if not _repeats(node) else _all_inputs(node)


def _repeats(node: fx.Node) -> bool:
    return len(_all_inputs(node)) != len(node.all_input_nodes)


def _all_inputs(node: fx.Node) -> list[fx.Node]:
    found: list[fx.Node] = []
    fx.node.map_arg((node.args, node.kwargs), lambda child: found.append(child))
    return found


def outputs(module: fx.GraphModule) -> list[fx.Node]:
    """The nodes whose values the network returns, in order."""
    result = next(node for node in reversed(module.graph.nodes) if node.op == "output").args[0]
    return [result] if isinstance(result, fx.Node) else list(result)


def inputs(module: fx.GraphModule) -> list[fx.Node]:
    """The placeholders, in order."""
    return [node for node in module.graph.nodes if node.op == "placeholder"]


def layer_of(node: fx.Node) -> str:
    """The name of the module that a node comes from (``layer1.0.conv1``), or the node's own name.

    Taken from the node's weight where it has one, else from the stack of modules that the tracer kept.
    """
    for child in node.all_input_nodes:
        if child.op == "get_attr" and str(child.target).rpartition(".")[2] == "weight":
            return str(child.target).rpartition(".")[0] or node.name
    stack = node.meta.get("nn_module_stack") or {}
    paths = [path.removeprefix(f"{TRACED}.") for path, _ in stack.values() if path and not path.startswith("_empty") and path != TRACED]
    return paths[-1] if paths else node.name


def add_constant(module: fx.GraphModule, name: str, value: torch.Tensor, before: fx.Node, like: fx.Node | None = None) -> fx.Node:
    """Hold a tensor in the module under a fresh name near `name` and return the node that reads it, placed before `before`."""
    flat = name.replace(".", "_")
    fresh, count = flat, 0
    while hasattr(module, fresh):
        count += 1
        fresh = f"{flat}_{count}"
    module.register_buffer(fresh, value)
    with module.graph.inserting_before(before):
        node = module.graph.create_node("get_attr", fresh)
    source = like.meta.get("val") if like is not None else None
    mode = getattr(source, "fake_mode", None)
    node.meta["val"] = mode.from_tensor(value, static_shapes=True) if mode is not None else value
    return node
