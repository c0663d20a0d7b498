"""What follows from constants alone, computed once; branches whose condition is a constant take the place of their If."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from tersenet.errors import ModelError
from tersenet.frontends.onnx.compute import compute, is_known
from tersenet.frontends.onnx.program import Block, Operation, Program
from tersenet.frontends.onnx.sizes import LARGEST, Sizes, from_tensor
from tersenet.frontends.onnx.tensors import Constant
from tersenet.schemes import Encoding, Scheme

LARGEST_RESULT = 64_000_000  # bytes; beyond that only what grows no more than int8 does when it becomes float32
_GROWTH = 4
# Of all that is computed: so many bytes, or so many times what the file holds. A chain that doubles its constant fills any memory else.
MOST_RESULTS, _MOST_GROWTH = 1 << 29, 8
_UNKNOWN = (torch._subclasses.fake_tensor.DataDependentOutputException, torch._subclasses.fake_tensor.DynamicOutputShapeException)


def fold(program: Program) -> None:
    """Compute what can be, in place; constants that nothing reads any more are let go."""
    renamed: dict[str, str] = {}
    if program.room < 0:
        program.room = max(MOST_RESULTS, _MOST_GROWTH * sum(entry.value.nbytes for entry in program.constants.values()))
    _fold(program, program.block, renamed)
    program.block.outputs = tuple(_last(renamed, name) for name in program.block.outputs)
    drop_unused(program)


def drop_unused(program: Program) -> None:
    """Operations and constants that no output needs."""
    needed = _needed(program.block)
    program.constants = {name: value for name, value in program.constants.items() if name in needed}


def _needed(block: Block) -> set[str]:
    needed = set(block.outputs)
    kept: list[Operation] = []
    for operation in reversed(block.operations):
        if needed & set(operation.outputs) - {""}:
            needed |= set(operation.inputs)
            for branch in operation.branches.values():
                needed |= _needed(branch)
            kept.append(operation)
    block.operations = kept[::-1]
    return needed


def _last(renamed: Mapping[str, str], name: str) -> str:
    while name in renamed:
        name = renamed[name]
    return name


def _fold(program: Program, block: Block, renamed: dict[str, str]) -> None:
    pending, kept = block.operations[::-1], []
    while pending:
        operation = pending.pop()
        operation.inputs = tuple(_last(renamed, name) for name in operation.inputs)
        if operation.branches:
            taken = _taken(program, operation)
            if taken is not None:
                pending += taken.operations[::-1]
                renamed.update((name, inner) for name, inner in zip(operation.outputs, taken.outputs, strict=False) if name)
                continue
            for branch in operation.branches.values():
                _fold(program, branch, renamed)
                branch.outputs = tuple(_last(renamed, name) for name in branch.outputs)
        elif operation.node.kind == "Identity" and not operation.node.domain:
            renamed[operation.outputs[0]] = operation.inputs[0]
            continue
        elif _is_constant(program, operation) and _computed(program, operation):
            continue
        kept.append(operation)
    block.operations = kept


def _taken(program: Program, operation: Operation) -> Block | None:
    """The branch of an If whose condition is known."""
    condition = program.constants.get(operation.inputs[0]) if operation.node.kind == "If" and operation.inputs else None
    if condition is None or condition.value.numel() != 1:
        return None
    return operation.branches.get("then_branch" if bool(condition.value) else "else_branch")


def _is_constant(program: Program, operation: Operation) -> bool:
    given = [name for name in operation.inputs if name]
    return is_known(operation.node) and all(name in program.constants for name in given)


def _computed(program: Program, operation: Operation) -> bool:
    """Whether the results are constants now."""
    inputs = [program.constants[name] if name else None for name in operation.inputs]
    values = [entry.value if entry else None for entry in inputs]
    known = [known_numbers(entry) if entry else None for entry in inputs]
    held = sum(value.nbytes for value in values if value is not None)
    with torch.no_grad():
        size = _size(operation, values, known)
        if size > min(max(LARGEST_RESULT, _GROWTH * held), program.room):
            return False
        program.room -= size
        results = compute(operation, values, known)
    weight = any(entry is not None and entry.weight for entry in inputs)
    for name, result in zip(operation.outputs, results, strict=False):
        if name and isinstance(result, Sizes):
            result = result.tensor()
        if name and isinstance(result, torch.Tensor):
            grid = _grid(operation, inputs) if result.is_floating_point() else None
            program.constants[name] = Constant(result, str(result.dtype).removeprefix("torch."), weight, grid)
    return True


def known_numbers(constant: Constant) -> Sizes | None:
    """A constant of few numbers as these, for what must be known while tracing."""
    return from_tensor(constant.value) if constant.value.numel() <= LARGEST and not constant.value.is_complex() else None


def _size(operation: Operation, values: list[torch.Tensor | None], known: list[Sizes | None]) -> int:
    """Bytes of the results, found without computing them; 0 where that cannot be found, and is bounded by the inputs."""
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        shapes = [mode.from_tensor(value) if value is not None else None for value in values]
        try:
            results = compute(operation, shapes, known)
        except ModelError as error:
            if isinstance(error.__cause__, _UNKNOWN):
                return 0
            raise
    return sum(result.nbytes for result in results if isinstance(result, torch.Tensor))


def _grid(operation: Operation, inputs: list[Constant | None]) -> Encoding | None:
    """The grid that a constant was stored on, found where it is dequantized, and kept when its axes change places."""
    source, kind = inputs[0] if inputs else None, operation.node.kind
    if source is None:
        return None
    if kind == "DequantizeLinear" and len(inputs) > 1 and inputs[1] is not None:
        return stored_grid(
            source, inputs[1], inputs[2] if len(inputs) > 2 else None, operation.node.get("axis", 1), operation.node.get("block_size", 0)
        )
    if kind == "Transpose" and source.grid is not None and source.grid.axis is not None:
        order = list(operation.node.get("perm", range(source.value.dim())[::-1]))
        return replace(source.grid, axis=order.index(source.grid.axis))
    return source.grid if kind == "Transpose" else None


def stored_grid(source: Constant, scale: Constant, zero: Constant | None, axis: int, block: int) -> Encoding | None:
    """The encoding of a dequantized constant; None for a type or grouping that encodings have no word for."""
    if source.dtype not in ("int2", "int4", "int8", "uint8", "int16", "int32") or block:
        return None
    scales = tuple(scale.value.double().reshape(-1).tolist())
    zeros = tuple(zero.value.long().reshape(-1).tolist()) if zero is not None else (0,) * len(scales)
    if len(zeros) != len(scales) or not all(number > 0 for number in scales):
        return None
    many = scale.value.dim() > 0 and len(scales) > 1
    scheme = Scheme(source.dtype, symmetric=not any(zeros), granularity="per-channel" if many else "per-tensor")
    return Encoding(scheme, scales, zeros, axis % source.value.dim() if many else None, role="weight")
