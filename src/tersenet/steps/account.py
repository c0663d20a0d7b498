"""What quantization did to a network and what it left, in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, fx

from tersenet.annotations import Annotations
from tersenet.capabilities import Capabilities
from tersenet.graph.fold import beside_weight, source_weight
from tersenet.graph.narrow import clipped_values
from tersenet.graph.operators import WEIGHT_AXIS, kind_of
from tersenet.graph.walk import bind, calls, constant, layer_of
from tersenet.model import Model
from tersenet.numerics.affine import quantize
from tersenet.plan import QuantizationPlan, Unit
from tersenet.schemes import INTEGERS, Encoding
from tersenet.step import Change
from tersenet.steps.bits import Bits
from tersenet.words import several

if TYPE_CHECKING:
    from tersenet.steps.quantize import Quantize

# How files hold weights of fewer bits than a kernel computes with (`tersenet.capabilities.Kernel.four_bits`); None where nothing is lost.
STORED = {
    "always": None,
    "one row": "they are stored two a byte where it multiplies one row, else each in a byte",
    "one scale": "they are stored two a byte where all channels share a scale, else each in a byte",
    "on request": "each is stored in a byte, two only on request",
    "": "each is stored in a byte, and the file is as large as with 8 bits",
}
# What becomes of the inputs of an operator whose weights alone are integers, in words.
DYNAMIC = {
    "whole": "its kernel puts input and state on a grid of 8 bits anew at each product",
    "rows": "its kernel puts each row of input and state on a grid of 8 bits anew at each step",
    "never": "they become floats again as it runs, and its arithmetic is in floats",
}


def changes(module: fx.GraphModule, plans: list[QuantizationPlan]) -> Iterator[Change]:
    """What runs in integers now, plan by plan."""
    layers = {node.name: layer_of(node) for node in calls(module)}
    for plan in plans:
        serves = ", ".join(plan.serves)
        alone = [unit for unit in plan.units.values() if unit.dynamic]
        counts = f"{several(len(plan.units) - len(alone), 'operator')} in integers, {several(len(plan.values), 'quantized value')}"
        weights = f"{several(len(alone), 'operator')} with weights alone in integers, " if alone else ""
        yield Change(serves, f"{counts}, {weights}{several(len(plan.float_operators), 'operator')} in float")
        if plan.offsets:
            yield Change(f"biases ({serves})", f"{len(plan.offsets)} take out what rounded weights add to the mean of their channels")
        bits = Counter(encoding.scheme.bits for encoding in plan.values.values() if encoding.scheme.bits < 8)
        for width, count in sorted(bits.items()):
            yield Change(f"values of {width} bits ({serves})", f"{count} of {len(plan.values)}, each in a byte of its own")
        for unit in alone:
            yield Change(f"{layers[unit.anchor]} ({serves})", f"weights in {_bits(unit)} bits; {DYNAMIC[unit.dynamic]}")


def _bits(unit: Unit) -> int:
    return max(encoding.scheme.bits for encoding in unit.weights.values())


def source_grid(node: fx.Node, grids: Mapping[str, Encoding]) -> Encoding | None:
    """The grid that the source had for an operator's weight; None also where a batch norm was folded in: its products are on no grid."""
    return grids.get(source_weight(node)) if kind_of(node) in WEIGHT_AXIS and "batch_norm" not in node.meta else None


def taken_over(plans: list[QuantizationPlan], source: Annotations, module: fx.GraphModule) -> Iterator[Change]:
    """What kept the grid that the source had."""
    for plan in plans:
        values = [name for name, encoding in plan.values.items() if name in source.values and encoding.scheme.bits >= source.values[name].scheme.bits]
        weights = []
        for node in calls(module):
            unit, grid = plan.units.get(node.name), source_grid(node, source.weights) if node.name in plan.units else None
            if unit is not None and grid is not None and "weight" in unit.weights and set(unit.weights["weight"].scale) == set(grid.scale):
                weights.append(node.name)
        if values or weights:
            listed = ", ".join([*values, *weights])
            yield Change(f"grids of the source ({', '.join(plan.serves)})", f"{len(values)} values and {len(weights)} weights keep them: {listed}")


def codebooks(module: fx.GraphModule, plans: list[QuantizationPlan], shared: Mapping[str, Tensor]) -> Iterator[tuple[bool, Change]]:
    """Of each layer whose weights share a few values whether equal ones became equal integers, and how many there are, for each plan.

    Args:
        shared: the weights as they were before anything was folded into them, by name.
    """
    for plan in plans:
        for node in calls(module):
            unit, source = plan.units.get(node.name), beside_weight(node, shared) if kind_of(node) in WEIGHT_AXIS else None
            if unit is None or source is None or "weight" not in unit.weights:
                continue
            integers = quantize(constant(module, bind(node)["weight"]), unit.weights["weight"])
            # a channel whose factor is negative has its integers negated
            different, values = len(torch.unique(integers.abs() * source.sign())), len(torch.unique(source))
            kept, what = different <= values, f"{layer_of(node)} ({', '.join(plan.serves)})"
            yield kept, Change(what, f"{values} values became {different} integers" + ("" if kept else ": its kernel has one scale for all channels"))


def skipped(module: fx.GraphModule, plans: list[QuantizationPlan]) -> Iterator[Change]:
    """What stays in float, and why."""
    layers = {node.name: layer_of(node) for node in calls(module)}
    for plan in plans:
        for name, why in plan.float_operators.items():
            yield Change(f"{layers[name]} ({', '.join(plan.serves)})", why)


def lost(model: Model, source: Annotations, module: fx.GraphModule) -> Iterator[Change]:
    """Grids of values that the deployable graph does not have any more; a permute's is that of what it permutes too."""
    there = {node.name for node in module.graph.nodes}
    before = {node.name: node for node in model.graph.graph.nodes}
    for name in source.values:
        node = before.get(name)
        if name not in there and (node is None or kind_of(node) != "permute"):
            layer = f" ({layer_of(node)})" if node is not None else ""
            yield Change(
                f"the source's grid of {name}{layer}",
                "this value is not in the network that runs, for its operator was folded or written as others; what stands there was calibrated",
            )


def not_followed(step: Quantize, plans: list[QuantizationPlan], tables: Sequence[Capabilities]) -> Iterator[Change]:
    """What was asked of weights and could not be had of a runtime's kernels, kind by kind."""
    for table in tables:
        plan = next(plan for plan in plans if table.name in plan.serves)
        for kind in sorted({unit.kind for unit in plan.units.values() if unit.weights}):
            kernel = table.kernels[kind]
            if step.granularity not in kernel.granularities:
                yield Change(f"{step.granularity} scales of {kind} ({table.name})", f"its kernel takes {' or '.join(kernel.granularities)} scales")
            for dtype in _widths(plan, kind):
                why = STORED[kernel.four_bits if INTEGERS[dtype][0] <= 4 else ""]
                if dtype not in kernel.weights and why:
                    yield Change(f"{dtype} weights of {kind} ({table.name})", f"its kernel computes with {', '.join(kernel.weights)}: {why}")
        if step.full_range and table.restricted_weights:
            yield Change(f"the full range of weights ({table.name})", "its kernels ask for [-127, 127]")


def narrow(module: fx.GraphModule, plans: list[QuantizationPlan], bits: Bits) -> Iterator[Change]:
    """What values of fewer than 8 bits cost and do not bring, and which keep 8."""
    for plan in plans:
        if not plan.narrow:
            continue
        slower = ", or slower: some are clipped by an operator of their own" if clipped_values(module, plan) else ""
        why = f"kernels compute with 8 bits, and each value takes a byte: a file is as large as with 8 bits, and as fast{slower}"
        yield Change(f"bytes and time by values of fewer bits ({', '.join(plan.serves)})", why)
    for why in dict.fromkeys(bits.kept.values()):
        yield Change(f"fewer bits of {', '.join(name for name, own in bits.kept.items() if own == why)}", why)


def _widths(plan: QuantizationPlan, kind: str) -> list[str]:
    """The integers that weights of a kind of operator become."""
    encodings = [encoding for unit in plan.units.values() if unit.kind == kind for encoding in unit.weights.values()]
    return sorted({encoding.scheme.dtype for encoding in encodings if encoding.role == "weight"})
