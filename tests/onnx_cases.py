"""ONNX's own node tests, as networks that the frontend reads: shared by the tests of its operators."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

import tersenet
from tersenet.frontends.onnx.compute import compute
from tersenet.frontends.onnx.node import Node
from tersenet.frontends.onnx.program import Operation
from tersenet.frontends.onnx.sizes import Sizes, from_tensor
from tersenet.frontends.onnx.table import OPERATORS

# What the frontend computes with, for the types of a file.
NARROWED: Mapping[str, str] = {
    "float16": "float32",
    "bfloat16": "float32",
    "float64": "float32",
    "uint16": "int32",
    "uint32": "int64",
    "uint64": "int64",
}
# Relative and absolute tolerance of results that the reference rounds to fewer digits than float32 has.
COARSE: Mapping[str, tuple[float, float]] = {"float16": (5e-3, 1e-2), "bfloat16": (2e-2, 1e-2)}
# Inputs that integer operators have as constants in networks: weights, scales and zero points.
CONSTANTS: Mapping[str, tuple[int, ...]] = {
    "ConvInteger": (1, 2, 3),
    "MatMulInteger": (1, 2, 3),
    "QLinearConv": (1, 2, 3, 4, 5, 6, 7, 8),
    "QLinearMatMul": (1, 2, 3, 4, 5, 6, 7),
}
LEAST = 1e-6  # absolute tolerance: the order of summation differs


@dataclass(frozen=True)
class Case:
    """A node test: a network, what goes in and what must come out."""

    name: str
    model: onnx.ModelProto
    inputs: tuple[Any, ...]
    outputs: tuple[Any, ...]
    rtol: float
    atol: float

    @property
    def operators(self) -> tuple[str, ...]:
        """The names of its nodes, as the table has them."""
        return tuple(f"{node.domain}.{node.op_type}" if node.domain not in ("", "ai.onnx") else node.op_type for node in self.model.graph.node)


@cache
def cases() -> tuple[Case, ...]:
    """All of them. They are computed by numpy, which takes some seconds."""
    from onnx.backend.test.loader import load_model_tests

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numpy overflows where a test wants it to
        found = load_model_tests(kind="node")
    return tuple(
        Case(case.name, case.model, tuple(map(_array, inputs)), tuple(map(_array, outputs)), case.rtol, case.atol)
        for case in found
        for inputs, outputs in case.data_sets[:1]
    )


def _array(value: Any) -> Any:
    value = numpy_helper.to_array(value) if isinstance(value, TensorProto) else value
    # What was computed by broadcasting cannot be written to, and numpy's own scalars are no arrays.
    return np.array(value) if isinstance(value, np.ndarray | np.generic) else value


def with_constants(case: Case) -> tuple[onnx.ModelProto, tuple[Any, ...]]:
    """The network with those inputs as constants that sizes follow from (shapes, axes, pads), as they are in networks; and the other inputs."""
    fixed = _sizes(case.model.graph)
    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    del model.graph.input[:]
    left = []
    for given, value in zip(case.model.graph.input, case.inputs, strict=True):
        if given.name in fixed:
            model.graph.initializer.append(numpy_helper.from_array(value, given.name))
        else:
            model.graph.input.append(given)
            left.append(value)
    if not left:  # all of it is constants, and a network takes something
        _add_bystander(model.graph)
        left.append(np.ones(2, np.float32))
    return model, tuple(left)


def _add_bystander(graph: onnx.GraphProto) -> None:
    """An input that goes through a node of its own to a last output."""
    graph.input.append(helper.make_tensor_value_info("bystander", TensorProto.FLOAT, [2]))
    graph.output.append(helper.make_tensor_value_info("passed", TensorProto.FLOAT, [2]))
    graph.node.append(helper.make_node("Relu", ["bystander"], ["passed"]))


def _sizes(graph: onnx.GraphProto) -> set[str]:
    """What an operator must know before it runs, and all that it is computed from, short of the shapes of tensors."""
    makers = {name: node for node in graph.node for name in node.output}
    pending = [name for node in graph.node for name in _known_inputs(node)]
    found: set[str] = set()
    while pending:
        name = pending.pop()
        if name in found:
            continue
        found.add(name)
        if name in makers and makers[name].op_type not in ("Shape", "Size"):
            pending += makers[name].input
    return found


def _known_inputs(node: onnx.NodeProto) -> Iterator[str]:
    row = OPERATORS.get(f"{node.domain}.{node.op_type}" if node.domain else node.op_type)
    for place in CONSTANTS.get(node.op_type, row.sizes if row else ()):
        if place < len(node.input) and node.input[place]:
            yield node.input[place]


def check(case: Case, folder: Path) -> None:
    """Read the case as a file, and compare what the traced network gives.

    Raises:
        AssertionError: a shape, a type or a number differs.
    """
    model, inputs = with_constants(case)
    path = folder / "case.onnx"
    path.write_bytes(model.SerializeToString())
    loaded = tersenet.load(path)
    assert len(loaded.outputs) >= len(case.outputs)
    got = loaded(*inputs)
    results = got if isinstance(got, tuple) else (got,)
    for spec, here, there in zip(loaded.outputs, results[: len(case.outputs)], case.outputs, strict=False):
        _compare(case, spec.name, here, np.asarray(there))


def check_alone(case: Case) -> None:
    """Compute a case of one operator by the table's function alone, without a file or a graph, and compare.

    Raises:
        AssertionError: a shape, a type or a number differs.
    """
    (proto,) = case.model.graph.node
    opsets = {entry.domain: entry.version for entry in case.model.opset_import}
    names = {given.name: value for given, value in zip(case.model.graph.input, case.inputs, strict=True)}
    attributes = {attribute.name: _attribute(attribute) for attribute in proto.attribute}
    node = Node(proto.op_type, proto.domain, opsets.get(proto.domain, 1), "node", attributes, len(proto.output))
    known = [None if name not in names else from_tensor(_tensor(names[name])) for name in proto.input]
    values = [None if name not in names else _tensor(names[name]) for name in proto.input]
    row = OPERATORS[case.operators[0]]
    given = [known[place] if place in (*row.sizes, *row.numbers, *row.scalars) else None for place in range(len(values))]
    results = compute(Operation(node, tuple(proto.input), tuple(proto.output)), values, given)
    made = {name: result for name, result in zip(proto.output, results, strict=False) if name}
    for value, wanted in zip(case.model.graph.output, case.outputs, strict=True):
        result = made[value.name]
        result = result.tensor() if isinstance(result, Sizes) else result
        assert isinstance(result, torch.Tensor)
        _compare(case, value.name, result.detach().numpy(), np.asarray(wanted))


def _tensor(value: np.ndarray) -> torch.Tensor:
    kind = NARROWED.get(value.dtype.name, value.dtype.name)
    return torch.from_numpy(np.array(value, dtype=kind))


def _attribute(proto: onnx.AttributeProto) -> Any:
    value = helper.get_attribute_value(proto)
    if isinstance(value, TensorProto):
        return numpy_helper.to_array(value)
    if isinstance(value, bytes):
        return value.decode()
    return [part.decode() if isinstance(part, bytes) else part for part in value] if isinstance(value, Sequence) else value


def _compare(case: Case, name: str, here: np.ndarray, there: np.ndarray) -> None:
    kind = there.dtype.name
    assert here.shape == there.shape, f"{case.name}: {name} has the shape {here.shape}, wanted {there.shape}"
    assert here.dtype.name == NARROWED.get(kind, kind), f"{case.name}: {name} is {here.dtype}, wanted {kind}"
    coarse = {COARSE[each] for each in ("float16", "bfloat16") if each in types(case)}
    rtol, atol = max(coarse, default=(case.rtol, max(case.atol, LEAST)))
    np.testing.assert_allclose(here.astype(np.float64), there.astype(np.float64), rtol=rtol, atol=atol, err_msg=case.name)


def types(case: Case) -> set[str]:
    """The types of its inputs and outputs."""
    found = set()
    for value in (*case.model.graph.input, *case.model.graph.output):
        if value.type.HasField("tensor_type"):
            found.add(helper.tensor_dtype_to_string(value.type.tensor_type.elem_type).removeprefix("TensorProto.").lower())
        else:
            found.add(value.type.WhichOneof("value").removesuffix("_type"))
    return found
