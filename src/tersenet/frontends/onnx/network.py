"""A program as a torch module: parameters by readable names, and one part of the module for each layer, so that graphs name them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from tersenet.errors import ModelError
from tersenet.frontends.onnx.batch import opened
from tersenet.frontends.onnx.compute import Value, compute, key
from tersenet.frontends.onnx.fold import known_numbers
from tersenet.frontends.onnx.naming import constant_name, layer_name
from tersenet.frontends.onnx.node import Operator
from tersenet.frontends.onnx.program import Block, Operation, Program
from tersenet.frontends.onnx.sizes import Sizes
from tersenet.frontends.onnx.table import OPERATORS
from tersenet.frontends.onnx.tensors import Constant
from tersenet.frontends.onnx.tree import Part
from tersenet.schemes import Encoding

_PLAIN = Operator("", "")


class Layer(Part):
    """A part that computes an operator, so that the graph knows its name."""

    def __init__(self, operation: Operation) -> None:
        super().__init__()
        self.operation = operation

    def forward(self, values: list[Value], known: list[Sizes | None]) -> tuple[Value, ...]:
        operation = self.operation
        if self.training:
            operation = replace(operation, node=replace(operation.node, training=True))
        return compute(operation, values, known)


class Network(Part):
    """Runs a program. Called with its inputs in order; returns its outputs by name.

    Args:
        program: folded, every operator known.
        names: of the outputs.
        batch: the batch that is written into the file, which leaves none open; 0 where it does.
    """

    def __init__(self, program: Program, names: tuple[str, ...], batch: int) -> None:
        super().__init__()
        self.program = program
        self.names = names
        self.batch = batch
        self.held: dict[str, str] = {}  # constant -> path of its parameter or buffer
        self.layers: dict[int, str] = {}  # operation -> path of its layer
        self.known: dict[str, Sizes] = {}  # constant -> its numbers, where they are few
        self.grids: dict[str, Encoding] = {}  # parameter -> what the file had stored it on
        for operation in program.operations():
            self._hold_constants(operation)
            for branch in operation.branches.values():
                self._hold_results(branch)
        self._hold_results(program.block)
        for operation in program.operations():
            self._add_layer(operation)

    def _hold_constants(self, operation: Operation) -> None:
        row = OPERATORS.get(key(operation.node), _PLAIN)
        for place, name in enumerate(operation.inputs):
            constant = self.program.constants.get(name)
            if constant is None:
                continue
            numbers = known_numbers(constant)
            if numbers is not None:
                self.known[name] = numbers
            if name in self.held or (numbers is not None and place in (*row.sizes, *row.numbers)):
                continue
            self._hold(name, constant_name(name, operation.node, place), place not in row.statistics and _is_weight(constant))

    def _hold_results(self, block: Block) -> None:
        for name in block.outputs:
            if name in self.program.constants and name not in self.held:
                self._hold(name, "results.value", False)

    def _hold(self, name: str, wanted: str, trainable: bool) -> None:
        constant = self.program.constants[name]
        self.held[name] = self.hold(wanted, constant.value, trainable)
        if constant.grid is not None and trainable:
            self.grids[self.held[name]] = constant.grid

    def _add_layer(self, operation: Operation) -> None:
        """Beside its parameters where these have its name (``conv1.weight`` of the node ``conv1``), under one like it else."""
        parents, _, wanted = layer_name(operation.node).rpartition(".")
        part, names = self.place(parents)
        layer, name, number = Layer(operation), wanted, 1
        while not (part.is_free(name) or type(getattr(part, name)) is Part):
            number += 1
            name = f"{wanted}_{number}"
        beside = getattr(part, name, None)
        if isinstance(beside, Part):
            layer._modules.update(beside._modules)
            layer._parameters.update(beside._parameters)
            layer._buffers.update(beside._buffers)
        part._modules[name] = layer
        self.layers[id(operation)] = ".".join([*names, name])

    def forward(self, *tensors: torch.Tensor) -> dict[str, torch.Tensor]:
        values: dict[str, Value] = dict(zip((given.name for given in self.program.inputs), tensors, strict=True))
        count = next((tensor.shape[0] for tensor in tensors if tensor.dim()), 1) if self.batch else 1
        self._run(self.program.block, values, count)
        results = [self._value(values, name) for name in self.program.block.outputs]
        return {name: self._tensor(result) for name, result in zip(self.names, results, strict=True)}

    def _tensor(self, value: Value) -> torch.Tensor:
        if value is None:
            raise ModelError("an output of the network is left out.")
        return value.tensor() if isinstance(value, Sizes) else value

    def _value(self, values: dict[str, Value], name: str) -> Value:
        if name in values or not name:
            return values.get(name)
        if name in self.held:
            parents, _, last = self.held[name].rpartition(".")
            return getattr(self.get_submodule(parents), last)
        return self.known[name]

    def _known(self, values: dict[str, Value], name: str) -> Sizes | None:
        value = values.get(name)
        return value if isinstance(value, Sizes) else self.known.get(name)

    def _run(self, block: Block, values: dict[str, Value], count: Any) -> None:
        left = _last_readers(block)
        for place, operation in enumerate(block.operations):
            if operation.branches:
                self._branch(operation, values, count)
            else:
                given = [self._value(values, name) for name in operation.inputs]
                known = [self._known(values, name) for name in operation.inputs]
                if not isinstance(count, int):
                    given, known = opened(operation.node, given, known, self.batch, count)
                layer: Any = self.get_submodule(self.layers[id(operation)])
                made = layer(given, known)
                values.update((name, value) for name, value in zip(operation.outputs, made, strict=False) if name)
            for name in left.get(place, ()):
                values.pop(name, None)

    def _branch(self, operation: Operation, values: dict[str, Value], count: Any) -> None:
        """The branch that sizes choose; data cannot."""
        node = operation.node
        condition = self._known(values, operation.inputs[0])
        if node.kind != "If":
            raise ModelError(f"the node {node.name} ({node.kind}) loops; unroll it when exporting.")
        if condition is None:
            raise ModelError(
                f"the node {node.name} (If) branches on numbers in the data; a network must be one fixed sequence of operators. Where they are "
                "an input, give its value as a plain number among the example inputs."
            )
        taken = operation.branches["then_branch" if bool(condition.flat[0]) else "else_branch"]
        inner = dict(values)
        self._run(taken, inner, count)
        for name, result in zip(operation.outputs, taken.outputs, strict=False):
            values[name] = self._value(inner, result)


def _is_weight(constant: Constant) -> bool:
    """What training may change: floats of the file's initializers, or of two axes and more; a mask of infinities is none."""
    value = constant.value
    named = value.dim() > 1 or (value.dim() == 1 and constant.weight)
    return value.is_floating_point() and named and bool(torch.isfinite(value).all())


def _last_readers(block: Block) -> dict[int, list[str]]:
    """Place of an operation -> the values that nothing reads after it: real networks run in no more memory than they need."""
    last: dict[str, int] = {}
    for place, operation in enumerate(block.operations):
        inner = (name for branch in operation.branches.values() for name in _reads(branch))
        last.update(dict.fromkeys((*operation.inputs, *inner), place))
    freed: dict[int, list[str]] = {}
    for name, place in last.items():
        if name not in block.outputs:
            freed.setdefault(place, []).append(name)
    return freed


def _reads(block: Block) -> list[str]:
    """Every name that a branch reads; its own are among them, which does no harm."""
    found = list(block.outputs)
    for operation in block.operations:
        found += operation.inputs
        for branch in operation.branches.values():
            found += _reads(branch)
    return found
