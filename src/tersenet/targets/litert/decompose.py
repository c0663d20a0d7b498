"""Operators that no lowering knows, written as ones that it does, by torch's own decompositions."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch
from torch import fx

from tersenet.graph import normalize
from tersenet.graph.gates import keeps_states_to_itself, shape_of_layer, states_of
from tersenet.graph.operators import kind_of
from tersenet.graph.walk import add_constant, bind, calls, layer_of, shape_of
from tersenet.numerics.recurrent import CELLS, recurrent

aten = torch.ops.aten
# Spellings that decompositions leave, brought to those that lowerings know.
TIDY = (
    normalize.functionalize,
    normalize.views_to_reshapes,
    normalize.drop_identities,
    normalize.fold_constants,
    normalize.spell_products,
    normalize.scalars_to_constants,
    normalize.fold_constants,
)
IN_PLACE = {aten.transpose_.default: aten.transpose.int}  # whose twin is called otherwise
LARGEST = 20_000  # nodes; a layer unrolled into more is no file that anybody wants


def decompose(module: fx.GraphModule, known: Collection[str]) -> tuple[str, ...]:
    """Replace every operator whose kind is not known by what it is composed of, in place; names of results stay.

    Args:
        module: a graph whose shapes are all known.
        known: kinds that have a lowering. An operator that has no decomposition is left for the lowering to refuse.

    Returns:
        a sentence for each operator that was written out.
    """
    normalize.open_attention(module)
    found = [node for node in calls(module) if isinstance(node.target, torch._ops.OpOverload) and not _is_known(module, node, known)]
    notes = []
    for node in found:
        before, kind, layer = len(module.graph.nodes), kind_of(node), layer_of(node)
        if _replace(module, node):
            notes.append(f"{kind} of layer {layer} is written out as {len(module.graph.nodes) - before} operators, for lack of one of its own")
    if notes:
        for rewrite in TIDY:
            rewrite(module)
            module.graph.eliminate_dead_code()
        module.recompile()
    return tuple(notes)


def _is_known(module: fx.GraphModule, node: fx.Node, known: Collection[str]) -> bool:
    """The operator for LSTMs starts from zeros and does not return the last cell state."""
    return kind_of(node) in known and (kind_of(node) != "lstm" or keeps_states_to_itself(module, node))


def _replace(module: fx.GraphModule, node: fx.Node) -> bool:
    traced = _traced(node)
    if traced is None or len(traced.graph.nodes) > LARGEST:
        return False
    sources = list(node.all_input_nodes)
    places = iter(sources)
    made: dict[fx.Node, Any] = {}
    for inner in traced.graph.nodes:
        if inner.op == "placeholder":
            made[inner] = next(places)
        elif inner.op == "get_attr":
            made[inner] = add_constant(module, f"{node.name}.{inner.target}", getattr(traced, str(inner.target)), node, node)
        elif inner.op == "call_function":
            with module.graph.inserting_before(node):
                made[inner] = module.graph.node_copy(inner, lambda old: made[old])
            made[inner].target = IN_PLACE.get(inner.target, inner.target)
            made[inner].meta = {**inner.meta, **{key: value for key, value in node.meta.items() if key == "nn_module_stack"}}
    outputs = next(inner for inner in traced.graph.nodes if inner.op == "output").args[0]
    _take_over(node, fx.node.map_arg(outputs, lambda old: made[old]))
    if not node.users and node.target is not aten.permute.default:
        module.graph.erase_node(node)
    return True


def _traced(node: fx.Node) -> fx.GraphModule | None:
    """The operator traced below its composition; None where that is the operator itself."""
    from torch._decomp import core_aten_decompositions
    from torch.fx.experimental.proxy_tensor import make_fx

    sources = list(node.all_input_nodes)
    examples = [torch.zeros(source.meta["val"].shape, dtype=source.meta["val"].dtype) for source in sources]

    def call(*tensors: torch.Tensor) -> Any:
        held = dict(zip(sources, tensors, strict=True))
        arguments, keywords = fx.node.map_arg((node.args, node.kwargs), lambda child: held[child])
        return node.target(*arguments, **keywords)  # type: ignore[operator]

    def steps(*tensors: torch.Tensor) -> Any:
        held: Any = dict(zip(sources, tensors, strict=True))
        states, weights = [held[state] for state in states_of(node)], [held[weight] for weight in bind(node)["params"]]
        return recurrent(held[bind(node)["input"]], states, weights, shape_of_layer(node))

    if kind_of(node) in CELLS:  # torch's own way with them leaves other operators that are composed, or transposes of weights
        if len(shape_of(bind(node)["input"])) != 3:
            return None
        with torch.no_grad():
            return make_fx(steps, tracing_mode="fake", pre_dispatch=True)(*examples)
    table: Any = core_aten_decompositions()
    traced = make_fx(call, table, tracing_mode="fake")(*examples)
    targets = [inner.target for inner in traced.graph.nodes if inner.op == "call_function"]
    return None if node.target in targets else traced


def _take_over(node: fx.Node, results: Any) -> None:
    """Give a node, or the nodes that take its parts, the new value: as a permute of nothing, which costs nothing and keeps its name."""
    if isinstance(results, fx.Node):
        pairs = [(node, results)]
    else:
        pairs = [(reader, results[reader.args[1]]) for reader in list(node.users)]
    for old, new in pairs:
        old.target, old.args, old.kwargs = aten.permute.default, (new, list(range(old.meta["val"].dim()))), {}
