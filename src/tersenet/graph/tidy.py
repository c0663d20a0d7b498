"""From a raw exported graph to the one form that the rest of tersenet reads: functional ATen operators over named parameters."""

from __future__ import annotations

import keyword
import math
import operator
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx
from torch.fx.experimental.symbolic_shapes import free_unbacked_symbols

from tersenet.errors import ModelError
from tersenet.graph.explain import place_of_node
from tersenet.graph.writes import IDENTITIES, CallNode, make_functional, schema_name, writes

aten = torch.ops.aten

# Operators that only state what tracing found out about shapes and types; they compute nothing.
_CHECKS = {
    "aten::_assert_scalar",
    "aten::_assert_tensor_metadata",
    "aten::_assert_async",
    "aten::sym_constrain_range",
    "aten::sym_constrain_range_for_size",
}
_CASTS = {"aten::to", "aten::_to_copy", "aten::type_as"}
_WHOLE = sys.maxsize
_TAKEN = frozenset(dir(fx.GraphModule(torch.nn.Module(), fx.Graph())))


@dataclass(frozen=True)
class Lifted:
    """A parameter, buffer or constant that an exported graph takes as a placeholder."""

    target: str
    tensor: torch.Tensor


def assemble(
    graph: fx.Graph, lifted: Mapping[str, Lifted], inputs: Mapping[str, str], outputs: Sequence[Any], handed_over: bool = False
) -> fx.GraphModule:
    """A graph module in the form of `Model.graph`; `graph` itself stays as it is.

    Args:
        graph: an exported graph, parameters as placeholders.
        lifted: placeholder name -> the tensor behind it.
        inputs: placeholder name -> the input's name, for those that are the network's inputs. Other placeholders must be unused.
        outputs: the nodes of `graph` that the network returns.
        handed_over: the tensors are nobody else's; they go into the module as they are, and memory holds them once.

    Returns:
        Parameters as ``get_attr`` nodes named after them, one tuple of outputs, nothing that writes in place.

    Raises:
        ModelError: an operator that is not one of ATen's, or a parameter that the network writes to.
        AliasedWrite: an operator writes into a view.
    """
    new = fx.Graph()
    copies: dict[fx.Node, Any] = {}
    for node in graph.nodes:
        if node.op == "placeholder":
            copies[node] = _placeholder(new, node, lifted, inputs)
        elif node.op == "call_function":
            copies[node] = _call(new, node, copies)
        elif node.op == "call_module":
            raise ModelError(f"{place_of_node(node)}the network's graph calls {node.target!r}, which is not an operator; write its computation out.")
    new.output(tuple(_present(copies, node) for node in outputs))
    make_functional(new)
    _restore_batch_norm(new)
    _drop_noise(new)
    new.eliminate_dead_code()
    _drop_unused(new)
    state = _held({entry.target: entry.tensor for entry in lifted.values()}, handed_over)
    module = fx.GraphModule({node.target: state[node.target] for node in new.nodes if node.op == "get_attr"}, new, "Network")
    new.lint()
    _check_shapes(new)
    return module.eval()


def _check_shapes(graph: fx.Graph) -> None:
    """Sizes may depend on the sizes of inputs, not on their values."""
    for node in graph.nodes:
        value = node.meta.get("val")
        if isinstance(value, torch.Tensor) and free_unbacked_symbols(tuple(value.shape)):
            raise ModelError(
                f"{place_of_node(node)}the shape of {node.name} depends on the values of the data; "
                "use an operator whose result has a fixed shape, such as torch.where or torch.topk."
            )


def _present(copies: Mapping[fx.Node, Any], node: fx.Node) -> fx.Node:
    copied = copies.get(node)
    if copied is None:
        raise ModelError(f"{place_of_node(node)}an input that is not a tensor is computed with; make it an attribute of the module.")
    return copied


def _call(new: fx.Graph, node: CallNode, copies: Mapping[fx.Node, Any]) -> Any:
    """A copy of one operator; for a region under ``torch.enable_grad`` the copies of what it returns."""
    if isinstance(node.target, torch._ops.HigherOrderOperator):
        return _region(new, node, copies)
    if node.target is operator.getitem and isinstance(copies.get(node.args[0]), tuple):
        return copies[node.args[0]][node.args[1]]
    _check_operator(node)
    args, kwargs = fx.map_arg((node.args, node.kwargs), lambda old: _present(copies, old))
    name = schema_name(node).removeprefix("aten::").rstrip("_") if writes(node) else node.name  # relu, not relu_
    copied = new.create_node("call_function", node.target, args, kwargs, name=name)
    copied.meta = dict(node.meta)
    return copied


def _region(new: fx.Graph, node: CallNode, copies: Mapping[fx.Node, Any]) -> tuple[Any, ...]:
    name = getattr(node.target, "__name__", str(node.target))
    if name == "wrap_with_autocast":
        raise ModelError(
            f"{place_of_node(node)}the network computes under torch.autocast; take it out, so that what is compressed is the float32 network."
        )
    if name != "wrap_with_set_grad_enabled":
        raise ModelError(
            f"{place_of_node(node)}the network calls {name}, which branches or loops on the data; a network must be one fixed sequence of operators."
        )
    inside = getattr(node.graph.owning_module, node.args[1].target).graph
    places = dict(zip([part for part in inside.nodes if part.op == "placeholder"], node.args[2:], strict=True))
    within: dict[fx.Node, Any] = {part: _present(copies, outer) for part, outer in places.items()}
    for part in inside.nodes:
        if part.op == "call_function":
            within[part] = _call(new, part, within)
    results = next(part for part in inside.nodes if part.op == "output").args[0]
    return tuple(_present(within, part) for part in results)


def _placeholder(new: fx.Graph, node: fx.Node, lifted: Mapping[str, Lifted], inputs: Mapping[str, str]) -> fx.Node | None:
    if node.name in lifted:
        target = lifted[node.name].target
        name = identifier(target)
        taken = name in {identifier(other) for other in inputs.values()}  # inputs keep their names
        copied = new.create_node("get_attr", target, name=f"{name}_" if taken else name)
    elif node.name in inputs:
        name = identifier(inputs[node.name])
        copied = new.create_node("placeholder", name, name=name)
        copied.target = copied.name  # two names may make the same identifier; arguments must differ
    else:
        return None
    copied.meta = dict(node.meta)
    return copied


def identifier(name: str) -> str:
    """A name as a Python identifier: ``layer1.0.weight`` -> ``layer1_0_weight``."""
    cleaned = re.sub(r"\W", "_", name)
    return cleaned if not cleaned[:1].isdigit() else f"_{cleaned}"


def attribute_name(name: str) -> str:
    """A parameter's name as a graph module can hold it: a part that is a keyword of Python, or a first part that graph modules use
    themselves, gets an underscore (``graph.weight`` -> ``graph_.weight``)."""
    first, *rest = name.split(".")
    first = f"{first}_" if first in _TAKEN else first
    return ".".join(f"{part}_" if keyword.iskeyword(part) else part for part in (first, *rest))


def _check_operator(node: CallNode) -> None:
    """Only ATen's operators and arithmetic on sizes may be in a graph."""
    target = node.target
    if schema_name(node).startswith("aten::"):
        return
    if isinstance(target, torch._ops.OpOverload):
        raise ModelError(f"{place_of_node(node)}the operator {target} is not one of ATen's; write it with plain torch operators.")
    module = getattr(target, "__module__", "")
    if module not in {operator.__name__, "_operator", math.__name__, "builtins"} and not getattr(target, "__name__", "").startswith("sym_"):
        raise ModelError(f"{place_of_node(node)}the function {target} is not one of ATen's operators; write it with plain torch operators.")


def _drop_noise(graph: fx.Graph) -> None:
    node: CallNode
    for node in list(graph.nodes):
        name = schema_name(node)
        if name in _CHECKS:
            graph.erase_node(node)
        elif name in IDENTITIES or _changes_nothing(node, name):
            node.replace_all_uses_with(node.args[0])
            graph.erase_node(node)


def _changes_nothing(node: CallNode, name: str) -> bool:
    """A slice of everything, or a cast to the type that the tensor has."""
    if name == "aten::slice":
        return tuple(node.args[2:4]) in {(0, _WHOLE), (None, _WHOLE), (0, None), (None, None)} and (len(node.args) < 5 or node.args[4] == 1)
    if name in _CASTS:
        return bool(node.args[0].meta["val"].dtype == node.meta["val"].dtype)
    return False


def _drop_unused(graph: fx.Graph) -> None:
    for node in list(graph.nodes):
        if node.op == "get_attr" and not node.users:
            graph.erase_node(node)


def _held(state: Mapping[str, torch.Tensor], handed_over: bool) -> dict[str, torch.Tensor]:
    """All tensors, copies unless they are handed over; what is shared by two names stays shared."""
    held: dict[int, torch.Tensor] = {}
    result = {}
    for name, tensor in state.items():
        if id(tensor) not in held:
            fresh = tensor.detach().contiguous() if handed_over else tensor.detach().clone(memory_format=torch.contiguous_format)
            held[id(tensor)] = torch.nn.Parameter(fresh, fresh.is_floating_point()) if isinstance(tensor, torch.nn.Parameter) else fresh
        result[name] = held[id(tensor)]
    return result


def _restore_batch_norm(graph: fx.Graph) -> None:
    """Put ``batch_norm`` back where torch's decompositions left ``_native_batch_norm_legit_no_training``; only its first result is used."""
    for node in list(graph.nodes):
        if schema_name(node) == "aten::_native_batch_norm_legit_no_training":
            values, weight, bias, mean, variance, momentum, eps = node.args
            with graph.inserting_before(node):
                restored = graph.call_function(aten.batch_norm.default, (values, weight, bias, mean, variance, False, momentum, eps, False))
            restored.meta = {**node.meta, "val": node.meta["val"][0]}
            for part in list(node.users):
                part.replace_all_uses_with(restored)
                graph.erase_node(part)
            graph.erase_node(node)
