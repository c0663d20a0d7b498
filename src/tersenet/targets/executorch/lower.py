"""From a model to the graph that the XNNPACK delegate reads: fixed shapes, quantize and dequantize pairs in the form it matches.

The delegate takes an operator in integers where each of its inputs comes from a dequantize of its own and its only
reader is a quantize. One quantize per value, one dequantize per reader is the form that leaves no cycle between partitions.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import fx

from tersenet.errors import UnsupportedError
from tersenet.graph.build import fixed
from tersenet.graph.deploy import deployable
from tersenet.graph.narrow import clip_narrow_values
from tersenet.graph.operators import kind_of
from tersenet.graph.rewrite import QuantizeDequantize, apply_plan
from tersenet.graph.walk import calls, constant, inputs, layer_of, outputs
from tersenet.model import Model
from tersenet.plan import QuantizationPlan
from tersenet.targets.executorch.capabilities import KERNELS
from tersenet.targets.executorch.spell import SPELLINGS, is_dequantize, is_quantize

# Kinds whose operator the runtime has and whose kernel refuses them when it runs.
CANNOT_RUN = {"conv3d": "ExecuTorch's kernels convolve over one or two axes"}


def lowered(model: Model, plan: QuantizationPlan | None, batch: int, integer_io: bool, shown: Sequence[str] = ()) -> fx.GraphModule:
    """The graph to export, holding the tensors that it reads and no others.

    Args:
        model: the network.
        plan: what is quantized; None for the float twin.
        batch: of every input.
        integer_io: inputs and outputs that the plan quantizes are int8 at the file's border.
        shown: quantized values that are returned too, as integers, behind the network's own outputs.

    Raises:
        UnsupportedError: an operator that the runtime cannot run.
    """
    module = deployable(model, plan)
    plan = None if plan is None else clip_narrow_values(module, plan, KERNELS)
    module = fixed(module, batch)
    _check_kinds(module)
    if plan is not None:
        apply_plan(module, plan, QuantizeDequantize("int8", bias=False))
    _show(module, shown)
    for rewrite in SPELLINGS:
        rewrite(module)
    if integer_io:
        _open_borders(module)
    _one_dequantize_each(module)
    module.graph.eliminate_dead_code()
    held = {str(node.target): constant(module, node) for node in module.graph.nodes if node.op == "get_attr"}
    result = fx.GraphModule(held, module.graph, class_name="Network")
    result.graph.lint()
    return result


def _check_kinds(module: fx.GraphModule) -> None:
    for node in calls(module):
        if kind_of(node) in CANNOT_RUN:
            raise UnsupportedError(
                f"{layer_of(node)} is a {kind_of(node)}: {CANNOT_RUN[kind_of(node)]}; replace it, or write the file for another runtime."
            )


def inner_values(module: fx.GraphModule, plan: QuantizationPlan) -> tuple[str, ...]:
    """Names of a deployable graph's quantized values, constants left out."""
    return tuple(node.name for node in module.graph.nodes if node.name in plan.values and node.op != "get_attr")


def _show(module: fx.GraphModule, names: Sequence[str]) -> None:
    """Return the integers of some values: the operators and their kernels stay what they are."""
    if not names:
        return
    nodes = {node.name: node for node in module.graph.nodes}
    integers = [next(reader for reader in nodes[name].users if is_quantize(reader)) for name in names]
    end = next(node for node in module.graph.nodes if node.op == "output")
    end.args = ((*outputs(module), *integers),)


def _one_dequantize_each(module: fx.GraphModule) -> None:
    """Readers that share a dequantize get one each."""
    for node in list(calls(module)):
        if not is_dequantize(node):
            continue
        for reader in list(node.users)[1:]:
            with module.graph.inserting_after(node):
                own = module.graph.node_copy(node)
            reader.replace_input_with(node, own)


def _open_borders(module: fx.GraphModule) -> None:
    """Drop the quantize behind each input and the dequantize in front of each output."""
    for node in list(module.graph.nodes):
        if node.op == "placeholder" and len(node.users) == 1 and is_quantize(next(iter(node.users))):
            quantize = next(iter(node.users))
            node.meta["val"] = quantize.meta["val"]
            quantize.replace_all_uses_with(node)
            module.graph.erase_node(quantize)
    end = next(node for node in module.graph.nodes if node.op == "output")
    for node in dict.fromkeys(outputs(module)):
        if is_dequantize(node):
            end.replace_input_with(node, node.args[0])


def border_grids(module: fx.GraphModule) -> dict[fx.Node, tuple[float, int]]:
    """Scale and zero point of every input and output of a lowered graph that is an integer."""
    found: dict[fx.Node, tuple[float, int]] = {}
    for node in (*inputs(module), *outputs(module)):
        pair = node if is_quantize(node) else next((reader for reader in node.users if is_dequantize(reader)), None)
        if pair is not None and node.meta["val"].dtype == torch.int8:
            found[node] = (float(pair.args[1]), int(pair.args[2]))  # type: ignore[arg-type]
    return found
