"""The deployable form of a network: what runs, and nothing that only training needs.

Batch norm is folded, dropout and other identities are gone, operators have one spelling, constants are computed. The
result computes the same function in evaluation mode; plans speak of its nodes, and simulation and every exporter start
from it. The model itself keeps its batch norm (slimming, re-estimation and training need it).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING

from torch import fx

from tersenet.graph import normalize
from tersenet.graph.fold import fold_batch_norm
from tersenet.graph.permutes import cancel_permutes
from tersenet.graph.rare import open_rare
from tersenet.graph.slices import sink_slices
from tersenet.graph.walk import copy

if TYPE_CHECKING:
    from tersenet.model import Model

# In order; each is exact up to rounding, and has a parity test.
PASSES: tuple[Callable[[fx.GraphModule], None], ...] = (
    normalize.functionalize,
    normalize.views_to_reshapes,
    normalize.drop_identities,
    open_rare,
    normalize.fold_constants,
    cancel_permutes,
    normalize.spell_activations,
    normalize.spell_pooling,
    normalize.spell_convolutions,
    normalize.spell_products,
    normalize.open_attention,
    sink_slices,
    fold_batch_norm,
    normalize.scalars_to_constants,
    normalize.fold_constants,
)


def deployable(model: Model) -> fx.GraphModule:
    """The deployable graph of a model: a copy, so that the caller may change it.

    Names of nodes are the same at every call: a plan made on one copy holds for every other.
    """
    return copy(_deployable(model.graph))


@lru_cache(maxsize=4)
def _deployable(graph: fx.GraphModule) -> fx.GraphModule:
    module = copy(graph)
    for rewrite in PASSES:
        rewrite(module)
        module.graph.eliminate_dead_code()
    module.graph.lint()
    module.recompile()
    module.eval()
    return module
