"""A file's graph as plain data: operators in order, constants apart, functions opened, every name used once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tersenet.errors import ModelError
from tersenet.frontends.onnx.node import Node
from tersenet.frontends.onnx.tensors import Constant, Folder, constant
from tersenet.frontends.onnx.unroll import Turns, loop, loop_turns, scan, scan_length
from tersenet.frontends.onnx.wire import Cut

MOST_OPERATIONS = 200_000
FIRST_SCAN = 9  # the opset from which a Scan has no batch of its own
DEEPEST = 40  # functions in functions, branches in branches
# AttributeProto.AttributeType -> field of an AttributeProto.
_PLAIN: Mapping[int, str] = {1: "f", 2: "i", 3: "s", 6: "floats", 7: "ints", 8: "strings"}


@dataclass
class Operation:
    """An operator with the names of what it reads ("" for an input that is left out) and makes, and the branches of an If."""

    node: Node
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    branches: dict[str, Block] = field(default_factory=dict)


@dataclass
class Block:
    """Operations in the order in which they run, and the names of what they are there for."""

    operations: list[Operation]
    outputs: tuple[str, ...]


@dataclass(frozen=True)
class Input:
    """An input of the network: its sizes are numbers, names of open ones, or None for those that nothing is known of."""

    name: str
    dtype: str
    shape: tuple[int | str | None, ...] | None


@dataclass
class Program:
    """A network.

    Args:
        inputs: what it takes.
        block: what it computes; its outputs are the network's.
        constants: by name.
        results: the outputs' names in the file, in order.
        opsets: domain -> version.
        room: bytes that may still be computed from constants; -1 before any were.
    """

    inputs: list[Input]
    block: Block
    constants: dict[str, Constant]
    results: tuple[str, ...]
    opsets: dict[str, int]
    room: int = -1

    def operations(self) -> Iterator[Operation]:
        """All of them, those of branches too."""
        pending = [self.block]
        while pending:
            for operation in pending.pop().operations:
                yield operation
                pending.extend(operation.branches.values())


class Builder:
    """Builds the program of one ModelProto.

    Args:
        model: parsed.
        raw: bytes of tensors that were cut out before it was parsed.
        folder: where external data may lie.
    """

    def __init__(self, model: Any, raw: Cut, folder: Folder) -> None:
        self.model = model
        self.raw = raw
        self.folder = folder
        self.constants: dict[str, Constant] = {}
        self.taken: set[str] = set()
        self.numbers: dict[str, int] = {}  # the last number that was given to a name: a function may be opened thousands of times
        self.functions = {(function.domain, function.name, function.overload): function for function in model.functions}
        self.count = 0

    def build(self, inputs: Sequence[Input]) -> Program:
        graph, scope = self.model.graph, {"": ""}
        for given in inputs:
            scope[given.name] = self._fresh(given.name)
        block = self._graph(graph, scope, _opsets(self.model.opset_import), 0)
        results = tuple(value.name for value in graph.output)
        return Program(list(inputs), block, self.constants, results, _opsets(self.model.opset_import))

    def _fresh(self, name: str) -> str:
        """The name, or one like it where another block has it already."""
        made, number = name, self.numbers.get(name, 1)
        while made in self.taken:
            number += 1
            made = f"{name}_{number}"
        self.taken.add(made)
        self.numbers[name] = number
        return made

    def _graph(self, graph: Any, scope: dict[str, str], opsets: Mapping[str, int], depth: int) -> Block:
        cut = self.raw.initializers if depth == 0 else [None] * len(graph.initializer)
        if graph.sparse_initializer:
            raise ModelError("the file holds sparse tensors; store them in full.")
        for tensor, raw in zip(graph.initializer, cut, strict=True):
            if tensor.name in scope and depth == 0 and scope[tensor.name] in self.constants:
                raise ModelError(f"two initializers are called {tensor.name}.")
            scope[tensor.name] = self._fresh(tensor.name)
            self.constants[scope[tensor.name]] = constant(tensor, self.folder, raw, weight=True)
        operations = self._nodes(graph.node, scope, opsets, depth, {})
        return Block(operations, tuple(_resolved(scope, value.name, "the output") for value in graph.output))

    def _nodes(self, nodes: Any, scope: dict[str, str], opsets: Mapping[str, int], depth: int, given: Mapping[str, Any]) -> list[Operation]:
        if depth > DEEPEST:
            raise ModelError(f"functions and branches lie in one another more than {DEEPEST} deep.")
        operations: list[Operation] = []
        for proto in nodes:
            self.count += 1
            if self.count > MOST_OPERATIONS:
                raise ModelError(f"the network has more than {MOST_OPERATIONS} operators once its functions are opened.")
            operations += self._node(proto, scope, opsets, depth, given)
        return operations

    def _node(self, proto: Any, scope: dict[str, str], opsets: Mapping[str, int], depth: int, given: Mapping[str, Any]) -> list[Operation]:
        domain = "" if proto.domain == "ai.onnx" else proto.domain
        attributes = _resolved_attributes(proto, given)
        inputs = tuple(_resolved(scope, name, f"the node {proto.name or proto.op_type}") for name in proto.input)
        function = self.functions.get((proto.domain, proto.op_type, proto.overload))
        if function is not None:
            return self._opened(function, proto, inputs, scope, attributes, depth)
        if not domain and proto.op_type in ("Loop", "Scan"):
            written = self._written_out(proto, inputs, scope, opsets, depth)
            if written is not None:
                return written
        inner = attributes if proto.op_type == "If" else {}  # what lies in other loops is not read: they are refused
        branches = {name: self._graph(value.g, dict(scope), opsets, depth + 1) for name, value in inner.items() if value.type == 5}
        raw = self.raw.constants.get(proto.output[0]) if depth == 0 and len(proto.output) == 1 else None
        plain = {name: self._attribute(value, raw) for name, value in attributes.items() if value.type not in (5, 13)}
        if proto.op_type != "Constant":
            plain = {name: _as_array(value) for name, value in plain.items()}
        outputs = tuple(self._fresh(name) if name else "" for name in proto.output)
        scope.update(zip(proto.output, outputs, strict=True))
        scope[""] = ""
        if proto.op_type == "Constant" and not domain:
            self.constants[outputs[0]] = self._constant(plain)
            return []
        used = max((place + 1 for place, name in enumerate(outputs) if name), default=0)
        name = proto.name or next((name for name in outputs if name), proto.op_type)
        return [Operation(Node(proto.op_type, domain, opsets.get(domain, 1), name, plain, used), inputs, outputs, branches)]

    def _written_out(
        self, proto: Any, inputs: tuple[str, ...], scope: dict[str, str], opsets: Mapping[str, int], depth: int
    ) -> list[Operation] | None:
        """A loop as its turns one after another; None where their number is not in the file."""
        plain = {entry.name: self._attribute(entry) for entry in proto.attribute if entry.type != 5}
        body = next((entry.g for entry in proto.attribute if entry.name == "body"), None)
        name = proto.name or proto.op_type
        if body is None or len(inputs) < 2 or opsets.get("", 1) < FIRST_SCAN:
            return None
        count = loop_turns(self.constants, inputs) if proto.op_type == "Loop" else scan_length(plain, proto.input, self._sizes)
        if count is None:
            return None
        operations: list[Operation] = []
        held = dict(scope)
        for tensor in body.initializer:  # once for all turns
            held[tensor.name] = self._fresh(tensor.name)
            self.constants[held[tensor.name]] = constant(tensor, self.folder, None, weight=True)

        def turn(given: dict[str, str]) -> tuple[str, ...]:
            inner = {**held, **given}
            operations.extend(self._nodes(body.node, inner, opsets, depth + 1, {}))
            return tuple(_resolved(inner, value.name, f"the body of {name}") for value in body.output)

        def emit(node: Node, given: tuple[str, ...]) -> str:
            made = self._fresh(node.name)
            operations.append(Operation(node, given, (made,)))
            return made

        def source(value: str) -> str:
            """What a chain of identities starts from."""
            makers = {operation.outputs[0]: operation for operation in operations if operation.node.kind == "Identity"}
            while value in makers:
                value = makers[value].inputs[0]
            return value

        turns = Turns(self.constants, self._fresh, turn, emit, source)
        made = loop(turns, body, inputs, count, name) if proto.op_type == "Loop" else scan(turns, body, inputs, count, name, plain)
        scope.update(zip(proto.output, made, strict=False))
        scope[""] = ""
        return operations

    def _sizes(self, name: str) -> list[int | None] | None:
        """The sizes that the file states of a value of its outermost graph."""
        graph = self.model.graph
        value = next((entry for entry in (*graph.input, *graph.value_info) if entry.name == name and entry.type.HasField("tensor_type")), None)
        if value is None or not value.type.tensor_type.HasField("shape"):
            return None
        return [dimension.dim_value or None for dimension in value.type.tensor_type.shape.dim]

    def _opened(
        self, function: Any, proto: Any, inputs: tuple[str, ...], scope: dict[str, str], attributes: Mapping[str, Any], depth: int
    ) -> list[Operation]:
        """A function of the file's own in place of its call."""
        if len(inputs) > len(function.input) or len(proto.output) > len(function.output):
            raise ModelError(f"the function {proto.op_type} is called with {len(inputs)} inputs and has {len(function.input)}.")
        inner = {"": "", **dict.fromkeys(function.input, ""), **dict(zip(function.input, inputs, strict=False))}
        given = {entry.name: entry for entry in function.attribute_proto} | dict(attributes)
        operations = self._nodes(function.node, inner, _opsets(function.opset_import), depth + 1, given)
        for outer, name in zip(proto.output, function.output, strict=False):
            scope[outer] = _resolved(inner, name, f"the function {proto.op_type}")
        return operations

    def _constant(self, attributes: Mapping[str, Any]) -> Constant:
        import torch

        (name, value), *more = attributes.items() or [("nothing", None)]
        if more or name not in ("value", "value_float", "value_floats", "value_int", "value_ints"):
            raise ModelError(f"a Constant holds {name}; numbers are what networks here compute with.")
        if isinstance(value, Constant):
            return value
        dtype = torch.float32 if name.startswith("value_float") else torch.int64
        return Constant(torch.tensor(value, dtype=dtype), str(dtype).removeprefix("torch."))

    def _attribute(self, proto: Any, raw: memoryview | None = None) -> Any:
        if proto.type == 4:
            return constant(proto.t, self.folder, raw)
        if proto.type not in _PLAIN:
            raise ModelError(f"the attribute {proto.name} is of type {proto.type}, which no network here computes with.")
        value = getattr(proto, _PLAIN[proto.type])
        if proto.type == 1:
            return _shortest(value)
        if proto.type == 6:
            return [_shortest(number) for number in value]
        if proto.type == 3:
            return value.decode("utf-8", "replace")
        return [text.decode("utf-8", "replace") for text in value] if proto.type == 8 else value if proto.type == 2 else list(value)


def _as_array(value: Any) -> Any:
    if not isinstance(value, Constant):
        return value
    return value.value.float().numpy() if value.dtype == "bfloat16" or value.dtype.startswith("float8") else value.value.numpy()


def _shortest(value: float) -> float:
    """The shortest decimal number that is this float32: 0.1, not 0.10000000149011612."""
    import numpy as np

    return float(str(np.float32(value)))


def _resolved(scope: Mapping[str, str], name: str, reader: str) -> str:
    if name not in scope:
        raise ModelError(f"{reader} reads {name!r}, which nothing before it makes.")
    return scope[name]


def _resolved_attributes(proto: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    """Attributes by name; in a function's body some are those of its call."""
    found = {}
    for attribute in proto.attribute:
        if not attribute.ref_attr_name:
            found[attribute.name] = attribute
        elif attribute.ref_attr_name in given:
            found[attribute.name] = given[attribute.ref_attr_name]
    return found


def _opsets(imports: Any) -> dict[str, int]:
    return {"" if entry.domain == "ai.onnx" else entry.domain: entry.version for entry in imports}
