"""The deployable form of a network: what runs, and nothing that only training needs.

Batch norm is folded, dropout and other identities are gone, operators have one spelling, constants are computed. The
result computes the same function in evaluation mode; plans speak of its nodes, and simulation and every exporter start
from it. The model itself keeps its batch norm (slimming, re-estimation and training need it).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING

import torch
from torch import fx

from tersenet.graph import normalize
from tersenet.graph.cells import open_cells
from tersenet.graph.fold import fold_batch_norm
from tersenet.graph.permutes import cancel_permutes
from tersenet.graph.rare import open_rare
from tersenet.graph.slices import sink_slices
from tersenet.graph.walk import add_constant, bind, constant, copy, set_argument

if TYPE_CHECKING:
    from tersenet.model import Model
    from tersenet.plan import QuantizationPlan

# In order; each is exact up to rounding, and has a parity test.
PASSES: tuple[Callable[[fx.GraphModule], None], ...] = (
    normalize.functionalize,
    normalize.views_to_reshapes,
    normalize.drop_identities,
    open_cells,
    open_rare,
    normalize.fold_constants,
    cancel_permutes,
    normalize.spell_activations,
    normalize.drop_idle_activations,
    normalize.spell_pooling,
    normalize.spell_convolutions,
    normalize.spell_products,
    normalize.open_attention,
    sink_slices,
    fold_batch_norm,
    normalize.scalars_to_constants,
    normalize.fold_constants,
)


def deployable(model: Model, plan: QuantizationPlan | None = None) -> fx.GraphModule:
    """The deployable graph of a model: a copy, so that the caller may change it.

    Names of nodes are the same at every call: a plan made on one copy holds for every other.

    Args:
        model: the network.
        plan: whose offsets are added to the biases; nothing else of it is put into the graph. None: the network as it is.
    """
    module = copy(_deployable(model.graph))
    if plan is not None and plan.offsets:
        _add_offsets(module, plan)
    return module


def rewritten(graph: fx.GraphModule) -> fx.GraphModule:
    """A copy of a model's graph after all `PASSES`; what they computed is held in it, and what they left is there still."""
    module = copy(graph)
    for rewrite in PASSES:
        rewrite(module)
        module.graph.eliminate_dead_code()
    module.graph.lint()
    module.recompile()
    module.eval()
    return module


_deployable = lru_cache(maxsize=4)(rewritten)


def _add_offsets(module: fx.GraphModule, plan: QuantizationPlan) -> None:
    """Biases moved as the plan says; an operator that had none gets one."""
    nodes = {node.name: node for node in module.graph.nodes}
    for anchor, numbers in plan.offsets.items():
        node, offset = nodes[anchor], torch.tensor(numbers, dtype=torch.float32)
        arguments = bind(node)
        bias = arguments["bias"]
        moved = offset if bias is None else constant(module, bias) + offset
        set_argument(node, "bias", add_constant(module, f"corrected.{anchor}.bias", moved, node, bias or arguments["weight"]))
        if bias is not None and not bias.users:
            module.graph.erase_node(bias)
    module.recompile()
