"""An ONNX graph as plain data, and its bytes: what exporters fill and the published schema stores.

Nothing here decides anything: names, types and attributes come out as they were put in, in the same order, so that the same
graph gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tersenet.errors import UnsupportedError
from tersenet.formats import nibbles

# ONNX 1.16: 16-bit and 4-bit QuantizeLinear, and the newest that nothing here goes beyond.
OPSET = 21
IR_VERSION = 10
# The domain of ONNX Runtime's own operators, and its only version.
MICROSOFT = "com.microsoft"
# Of the messages that the format is made of, less some room for everything but constants.
LARGEST = (1 << 31) - (1 << 24)


@dataclass
class Operator:
    """One operator.

    Args:
        kind: ONNX's name (``Conv``).
        inputs: names of tensors; "" for one that is left out.
        outputs: names of the tensors that it makes.
        attributes: numbers, strings, lists of them, or one small array.
        domain: "" for ONNX's own.
    """

    kind: str
    inputs: list[str]
    outputs: list[str]
    attributes: dict[str, Any] = field(default_factory=dict)
    domain: str = ""


@dataclass(frozen=True)
class Value:
    """An input or output of the graph: sizes are numbers, or names of sizes that are open."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]


@dataclass
class Graph:
    """Operators in the order in which they run, and the constants that they read; those named in `four_bits` are INT4 in the file, int8 here."""

    inputs: list[Value] = field(default_factory=list)
    outputs: list[Value] = field(default_factory=list)
    operators: list[Operator] = field(default_factory=list)
    constants: dict[str, np.ndarray] = field(default_factory=dict)
    four_bits: set[str] = field(default_factory=set)

    def rename(self, names: Mapping[str, str]) -> None:
        """Give tensors other names; those that the mapping does not have keep theirs."""
        self.inputs = [Value(names.get(value.name, value.name), value.dtype, value.shape) for value in self.inputs]
        self.outputs = [Value(names.get(value.name, value.name), value.dtype, value.shape) for value in self.outputs]
        for operator in self.operators:
            operator.inputs = [names.get(name, name) for name in operator.inputs]
            operator.outputs = [names.get(name, name) for name in operator.outputs]
        self.constants = {names.get(name, name): array for name, array in self.constants.items()}
        self.four_bits = {names.get(name, name) for name in self.four_bits}


def encode(graph: Graph) -> bytes:
    """The file's bytes: no documentation, no shapes of inner tensors, no names of operators, constants inside.

    Raises:
        UnsupportedError: the constants are more than one such file can hold.
    """
    import onnx
    from onnx import helper

    held = sum(array.nbytes for array in graph.constants.values())
    if held >= LARGEST:
        raise UnsupportedError(f"an ONNX file holds less than 2 GiB, and this network has {held} bytes of constants.")
    made = helper.make_graph(
        [_node(operator) for operator in graph.operators],
        "g",
        [_value(value) for value in graph.inputs],
        [_value(value) for value in graph.outputs],
        [_tensor_of_four_bits(name, array) if name in graph.four_bits else _tensor(name, array) for name, array in graph.constants.items()],
    )
    domains = sorted({operator.domain for operator in graph.operators if operator.domain})
    opsets = [helper.make_opsetid("", OPSET), *(helper.make_opsetid(domain, 1) for domain in domains)]
    model = onnx.ModelProto(ir_version=IR_VERSION, graph=made, opset_import=opsets, producer_name="tersenet")
    return model.SerializeToString(deterministic=True)


def _node(operator: Operator) -> Any:
    from onnx import helper

    attributes = {name: _attribute(value) for name, value in operator.attributes.items()}
    return helper.make_node(operator.kind, operator.inputs, operator.outputs, domain=operator.domain or None, **attributes)


def _attribute(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return _tensor("", value)
    return [item for item in value] if isinstance(value, Sequence) and not isinstance(value, str) else value


def _value(value: Value) -> Any:
    from onnx import helper

    return helper.make_tensor_value_info(value.name, helper.np_dtype_to_tensor_dtype(np.dtype(value.dtype)), value.shape)


def _tensor(name: str, array: np.ndarray) -> Any:
    from onnx import TensorProto, helper

    element = helper.np_dtype_to_tensor_dtype(array.dtype)
    return TensorProto(
        name=name, dims=array.shape, data_type=element, raw_data=np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<")).tobytes()
    )


def _tensor_of_four_bits(name: str, array: np.ndarray) -> Any:
    from onnx import TensorProto

    return TensorProto(name=name, dims=array.shape, data_type=TensorProto.INT4, raw_data=nibbles.packed(array))
