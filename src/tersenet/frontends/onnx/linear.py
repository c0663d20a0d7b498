"""Products with a constant matrix as linear layers, their weight lying as torch has it, so that all that looks for weights finds them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import torch

from tersenet.frontends.onnx.node import Node
from tersenet.frontends.onnx.program import Block, Operation, Program
from tersenet.frontends.onnx.tensors import Constant

# The domain of what files are rewritten into; no file may use it.
OWN = "tersenet"


def blocks(program: Program) -> Iterator[Block]:
    """The network's own block and those of its branches, outer ones first."""
    pending = [program.block]
    while pending:
        block = pending.pop()
        yield block
        for operation in block.operations:
            pending.extend(operation.branches.values())


def readers(program: Program) -> Counter[str]:
    """How often each value is read; an output counts."""
    counts: Counter[str] = Counter()
    for block in blocks(program):
        counts.update(block.outputs)
        for operation in block.operations:
            counts.update(operation.inputs)
    return counts


def spell_linear(program: Program) -> None:
    """``MatMul`` and ``Gemm`` with a constant matrix that nothing else reads become linear layers; a vector that is added next is their bias."""
    counts = readers(program)
    for block in blocks(program):
        for operation in block.operations:
            if operation.node.kind == "MatMul" and not operation.node.domain:
                _from_product(program, operation, counts)
            elif operation.node.kind == "Gemm" and not operation.node.domain:
                _from_gemm(program, operation, counts)
        _take_bias(program, block, counts)


def _linear(operation: Operation, inputs: tuple[str, ...]) -> None:
    operation.node = replace(operation.node, kind="Linear", domain=OWN, attributes={})
    operation.inputs = inputs


def _is_matrix(program: Program, name: str, counts: Counter[str]) -> bool:
    constant = program.constants.get(name)
    return constant is not None and constant.value.dim() == 2 and constant.value.is_floating_point() and counts[name] == 1


def _turned(constant: Constant, factor: float = 1.0) -> Constant:
    """Transposed, over the same memory; the grid's axis goes with it."""
    grid = constant.grid
    if grid is not None and grid.axis is not None:
        grid = replace(grid, axis=1 - grid.axis)
    return replace(_scaled(constant, factor), value=_scaled(constant, factor).value.t(), grid=grid if factor == 1 else None)


def _scaled(constant: Constant, factor: float) -> Constant:
    return constant if factor == 1 else replace(constant, value=constant.value * factor, grid=None)


def _from_product(program: Program, operation: Operation, counts: Counter[str]) -> None:
    source, weight = operation.inputs[:2]
    if source not in program.constants and _is_matrix(program, weight, counts):
        program.constants[weight] = _turned(program.constants[weight])
        _linear(operation, (source, weight))


def _from_gemm(program: Program, operation: Operation, counts: Counter[str]) -> None:
    """alpha A' B' + beta C; a C that is no vector of the outputs stays an addend."""
    node, (source, weight, *rest) = operation.node, operation.inputs
    if node.get("transA", 0) or source in program.constants or not _is_matrix(program, weight, counts):
        return
    matrix, bias = program.constants[weight], rest[0] if rest else ""
    outputs = matrix.value.shape[0 if node.get("transB", 0) else 1]
    alpha, beta = node.get("alpha", 1.0), node.get("beta", 1.0)
    if bias:
        addend = program.constants.get(bias)
        if addend is None or addend.value.numel() != outputs or addend.value.shape[-1:] != (outputs,) or (beta != 1 and counts[bias] > 1):
            return
        program.constants[bias] = _scaled(replace(addend, value=addend.value.reshape(outputs)), beta)
    program.constants[weight] = _scaled(matrix, alpha) if node.get("transB", 0) else _turned(matrix, alpha)
    _linear(operation, (source, weight, bias) if bias else (source, weight))


def _take_bias(program: Program, block: Block, counts: Counter[str]) -> None:
    makers = {operation.outputs[0]: operation for operation in block.operations if operation.node.domain == OWN and operation.node.kind == "Linear"}
    kept: list[Operation] = []
    for operation in block.operations:
        found = _addition(program, operation, makers, counts)
        if found is None:
            kept.append(operation)
            continue
        layer, bias = found
        layer.inputs = (*layer.inputs, bias)
        layer.outputs = operation.outputs
        makers.pop(next(name for name, maker in makers.items() if maker is layer))
    block.operations = kept


def _addition(program: Program, operation: Operation, makers: dict[str, Operation], counts: Counter[str]) -> tuple[Operation, str] | None:
    """The layer and the vector that an addition adds to its result."""
    if operation.node.kind != "Add" or operation.node.domain:
        return None
    for value, bias in (operation.inputs, operation.inputs[::-1]):
        layer, constant = makers.get(value), program.constants.get(bias)
        if layer is None or constant is None or len(layer.inputs) > 2 or counts[value] > 1:
            continue
        if constant.value.shape == program.constants[layer.inputs[1]].value.shape[:1] and constant.value.dtype is torch.float32:
            return layer, bias
    return None


def own(kind: str, name: str, **attributes: object) -> Node:
    """A node of the frontend's own."""
    return Node(kind, OWN, 1, name, attributes)
