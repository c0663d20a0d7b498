"""Quantized files as float networks: integers become the real numbers that they stand for, and their grids are marked.

A value that is an integer in the file is, from here on, the float ``scale * (q - zero_point)`` under the same name. Where an operator needs the
integer itself, it is quantized in front of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch

from tersenet.errors import ModelError
from tersenet.frontends.onnx.fold import stored_grid
from tersenet.frontends.onnx.linear import blocks, own
from tersenet.frontends.onnx.node import Node
from tersenet.frontends.onnx.program import Block, Operation, Program
from tersenet.frontends.onnx.tensors import Constant

ENDS: Mapping[str, tuple[int, int]] = {
    "int8": (-128, 127),
    "uint8": (0, 255),
    "int16": (-32768, 32767),
    "uint16": (0, 65535),
    "int4": (-8, 7),
    "uint4": (0, 15),
    "int2": (-2, 1),
    "uint2": (0, 3),
}
# What moves numbers and changes none: its result lies on the grid of its first input.
MOVES = frozenset(
    {
        "Reshape",
        "Transpose",
        "Flatten",
        "Squeeze",
        "Unsqueeze",
        "Slice",
        "Gather",
        "MaxPool",
        "Split",
        "Expand",
        "Tile",
        "DepthToSpace",
        "SpaceToDepth",
    }
)


@dataclass(frozen=True)
class Grid:
    """Names of the constants that hold a scale and a zero point ("" for none), and the type; None of them where numbers are scaled as they come."""

    scale: str
    zero: str
    dtype: str


Rule = Callable[["Opener", Operation], bool]


class Opener:
    """Rewrites one program.

    Args:
        program: changed in place.
        rules: (domain, operator) -> what rewrites it; answers False where it leaves it.
    """

    def __init__(self, program: Program, rules: Mapping[tuple[str, str], Rule]) -> None:
        self.program = program
        self.rules = rules
        self.grids: dict[str, Grid | None] = {}  # value that stands for integers -> its grid; None where it has none of its own
        self.made: list[Operation] = []
        self.results = {name for block in blocks(program) for name in block.outputs}
        self.readers: dict[str, list[tuple[Operation, int]]] = {}  # value -> what reads it, and in which place
        for operation in program.operations():
            for place, name in enumerate(operation.inputs):
                self.readers.setdefault(name, []).append((operation, place))
        self.count = 0

    def block(self, block: Block) -> None:
        operations, self.made = block.operations, []
        for operation in operations:
            rule = self.rules.get((operation.node.domain, operation.node.kind))
            if rule is not None and rule(self, operation):
                continue
            self._plain(operation)
        block.outputs = tuple(self.integers(name) if name in self.grids else name for name in block.outputs)
        block.operations, self.made = self.made, []

    def fresh(self, name: str) -> str:
        self.count += 1
        return f"{name}__{self.count}"

    def emit(self, node: Node, inputs: tuple[str, ...], output: str) -> None:
        self.made.append(Operation(node, inputs, (output,)))

    def constant(self, name: str) -> Constant | None:
        return self.program.constants.get(name) if name else None

    def hold(self, name: str, constant: Constant) -> str:
        made = self.fresh(name)
        self.program.constants[made] = constant
        return made

    def real(self, operation: Operation, place: int, scale: int, zero: int, axis: int = 0) -> str:
        """The real numbers behind an input of integers: a value's own, a constant's dequantized, an input's converted."""
        name, grid = operation.inputs[place], Grid(at(operation, scale), at(operation, zero), "")
        if name in self.grids:
            return name
        constant, steps = self.constant(name), self.constant(grid.scale)
        if constant is not None and steps is not None:
            return self.dequantized(name, grid, axis)
        made = self.fresh(name)
        node = Node("DequantizeLinear", "", 13, f"{operation.node.name}_input", {"axis": axis})
        self.emit(node, tuple(filter(None, (name, grid.scale, grid.zero))), made)
        return made

    def dequantized(self, name: str, grid: Grid, axis: int) -> str:
        """A constant of integers as floats, its grid kept beside it."""
        constant, scale, zero = self.program.constants[name], self.program.constants[grid.scale], self.constant(grid.zero)
        value = constant.value.float()
        shape = [-1 if index == axis % value.dim() else 1 for index in range(value.dim())] if scale.value.numel() > 1 else []
        if zero is not None:
            value = value - zero.value.float().reshape(shape if zero.value.numel() > 1 else [])
        value = value * scale.value.float().reshape(shape)
        return self.hold(name, Constant(value, "float32", constant.weight, stored_grid(constant, scale, zero, axis, 0)))

    def quantize(self, node: Node, value: str, grid: Grid, output: str) -> bool:
        """Mark the grid of a value, and let its integers' name stand for it."""
        scale, zero = self.constant(grid.scale), self.constant(grid.zero)
        dtype = grid.dtype or (zero.dtype if zero is not None else "uint8")
        if scale is None or (grid.zero and zero is None) or dtype not in ENDS:
            return False
        if scale.value.numel() == 1:
            low, high = ENDS[dtype]
            offset = int(zero.value.reshape(-1)[0]) if zero is not None else 0
            marked = own("FakeQuantize", node.name, scale=float(scale.value.reshape(-1)[0]), zero_point=offset, low=low, high=high)
            self.emit(marked, (value,), output)
        else:  # no runtime has a scale for each channel of an activation
            self.emit(Node("Identity", "", 13, node.name), (value,), output)
        self.grids[output] = replace(grid, dtype=dtype)
        return True

    def integers(self, name: str) -> str:
        """The integers of a value, for a reader that computes with them."""
        grid = self.grids[name]
        if grid is None:
            raise ModelError(f"the integers of {name}, whose scale is found while the network runs, are read by an operator that is not opened.")
        made, zero = self.fresh(name), grid.zero
        if not zero:
            zero = self.hold(name, Constant(torch.zeros((), dtype=torch.uint8), "uint8"))
        self.emit(Node("QuantizeLinear", "", 13, f"{name}_integers"), (name, grid.scale, zero), made)
        return made

    def _plain(self, operation: Operation) -> None:
        """An operator that is not about quantization: what moves numbers moves real ones, the rest reads the integers."""
        node = operation.node
        moved = node.kind in MOVES and not node.domain and operation.inputs[0] in self.grids and node.outputs == 1
        if node.kind == "Concat" and not node.domain and all(name in self.grids for name in operation.inputs):
            moved = True
        if moved:
            self.grids[operation.outputs[0]] = self.grids[operation.inputs[0]]
        else:
            operation.inputs = tuple(self.integers(name) if name in self.grids else name for name in operation.inputs)
        self.made.append(operation)


def at(operation: Operation, place: int) -> str:
    """The name of an input, "" where it is left out."""
    return operation.inputs[place] if 0 <= place < len(operation.inputs) else ""
