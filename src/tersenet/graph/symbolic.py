"""The shapes of a graph's values worked out anew, open axes as symbols."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import fx
from torch._dispatch.python import enable_python_dispatcher
from torch._dynamo.source import LocalSource
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.symbolic_shapes import DimDynamic, ShapeEnv, StatelessSymbolicContext

from tersenet.graph.build import LENGTH, computed
from tersenet.graph.recurrent import shapes_only
from tersenet.tensors import TensorSpec

SAMPLES = 2  # of the example that stands behind an open batch: one sample would be taken for a constant


def symbolic(module: fx.GraphModule, specs: Sequence[TensorSpec]) -> fx.GraphModule:
    """Give every node of a graph the shape and type of its value (``meta["val"]``), in place.

    Args:
        module: operators over named parameters.
        specs: of its inputs, in order; sizes that are None become symbols.

    Returns:
        The module.
    """
    mode = FakeTensorMode(shape_env=ShapeEnv(), allow_non_fake_inputs=True)
    waiting = iter(specs)
    with shapes_only(), enable_python_dispatcher(), torch.no_grad():
        for node, value in computed(module, mode, lambda node: _input(mode, next(waiting), node.name)).items():
            node.meta["val"] = value
    return module


def _input(mode: FakeTensorMode, spec: TensorSpec, name: str) -> torch.Tensor:
    sizes = [size if size is not None else SAMPLES if axis == 0 else LENGTH for axis, size in enumerate(spec.shape)]
    kinds = [DimDynamic.STATIC if size is not None else DimDynamic.DYNAMIC for size in spec.shape]
    example = torch.empty(sizes, dtype=getattr(torch, spec.dtype))
    return mode.from_tensor(example, source=LocalSource(name), symbolic_context=StatelessSymbolicContext(dynamic_sizes=kinds))
