"""The shapes of a graph's values worked out anew, open axes as symbols."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import fx
from torch._dispatch.python import enable_python_dispatcher
from torch._dynamo.source import LocalSource
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.symbolic_shapes import DimDynamic, ShapeEnv, StatelessSymbolicContext

from tersenet.graph.build import LENGTH
from tersenet.graph.recurrent import shapes_only
from tersenet.graph.walk import constant
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
    waiting = list(specs)
    values: dict[fx.Node, Any] = {}
    with shapes_only(), enable_python_dispatcher(), torch.no_grad():
        for node in module.graph.nodes:
            if node.op == "placeholder":
                values[node] = _input(mode, waiting.pop(0), node.name)
            elif node.op == "get_attr":
                values[node] = mode.from_tensor(constant(module, node), static_shapes=True)
            elif node.op == "call_function":
                arguments, keywords = fx.node.map_arg((node.args, node.kwargs), lambda child: values[child])
                with mode:
                    values[node] = node.target(*arguments, **keywords)
            if node in values:
                node.meta["val"] = values[node]
    return module


def _input(mode: FakeTensorMode, spec: TensorSpec, name: str) -> torch.Tensor:
    sizes = [size if size is not None else SAMPLES if axis == 0 else LENGTH for axis, size in enumerate(spec.shape)]
    kinds = [DimDynamic.STATIC if size is not None else DimDynamic.DYNAMIC for size in spec.shape]
    example = torch.empty(sizes, dtype=getattr(torch, spec.dtype))
    return mode.from_tensor(example, source=LocalSource(name), symbolic_context=StatelessSymbolicContext(dynamic_sizes=kinds))
