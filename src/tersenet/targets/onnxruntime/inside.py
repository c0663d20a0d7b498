"""Looks inside an .onnx file: which kernels onnxruntime runs it on, and the values of its inner tensors."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tersenet.errors import MissingDependencyError, ModelError
from tersenet.target import Placement, contents
from tersenet.targets.onnxruntime.session import open_session

QUANTIZE, DEQUANTIZE = "QuantizeLinear", "DequantizeLinear"
# What only carries values over, or works on sizes and indices: nothing that an integer kernel could take.
CARRIES = frozenset(
    {"Cast", "Concat", "Constant", "ConstantOfShape", "DepthToSpace", "Expand", "Flatten", "Gather", "GatherElements", "GatherND", "Identity", "Pad"}
    | {
        "And",
        "Not",
        "Or",
        "Range",
        "ReorderInput",
        "ReorderOutput",
        "Reshape",
        "Resize",
        "Shape",
        "Slice",
        "Split",
        "Squeeze",
        "Tile",
        "Transpose",
        "Unsqueeze",
    }
)
INTEGER_KERNELS = ("QLinear", "QGemm", "QAttention", "MatMulInteger", "ConvInteger", "DynamicQuantize", "MatMulNBits", "QEmbed")


def placement(path: Path) -> Placement:
    """Which operators a file has as onnxruntime runs it: its own optimizer writes them down.

    `delegated` is the share of computing operators that integer kernels took; 1 for a file in which nothing is quantized.
    """
    with tempfile.TemporaryDirectory(prefix="tersenet-onnx-") as folder:
        optimized = Path(folder) / "optimized.onnx"
        open_session(contents(path), path, 1, optimized)
        nodes = list(_parse(optimized.read_bytes(), path).graph.node)
    counts = dict(sorted(Counter(node.op_type for node in nodes).items()))
    if not any(_is_integer_kernel(node) or node.op_type in (QUANTIZE, DEQUANTIZE) for node in nodes):
        return Placement(counts, 1.0)
    integers = _integer_tensors(nodes)
    computing = [node for node in nodes if node.op_type not in CARRIES and node.op_type not in (QUANTIZE, DEQUANTIZE)]
    floats = [node for node in computing if not (_is_integer_kernel(node) or (node.input and node.input[0] in integers))]
    declined = tuple({"op": node.op_type, "name": node.output[0].removesuffix("_pre_q"), "why": "onnxruntime runs it in float"} for node in floats)
    return Placement(counts, 1 - len(floats) / len(computing) if computing else 1.0, declined)


def _is_integer_kernel(node: Any) -> bool:
    return bool(node.op_type.startswith(INTEGER_KERNELS))


def _integer_tensors(nodes: Iterable[Any]) -> set[str]:
    """Names of tensors that hold quantized integers."""
    found: set[str] = set()
    for node in nodes:
        made = node.op_type == QUANTIZE or node.op_type.startswith(("QLinear", "QGemm"))
        carried = node.op_type != DEQUANTIZE and bool(node.input) and node.input[0] in found
        if made or carried:
            found.update(node.output)
    return found


def inner_values(path: Path, arrays: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """Every inner tensor for one input, in floats, by its name in the file.

    Of quantized values the integers are read and brought back to floats here, so that the same kernels run as in the file
    itself; a float that only exists inside an integer kernel is not shown.
    """
    model = _parse(contents(path), path)
    graph = model.graph
    given, returned = [value.name for value in graph.input], {value.name for value in graph.output}
    numbers = _numbers(graph)
    converted = {node.output[0]: node.input[0] for node in graph.node if node.op_type == DEQUANTIZE and node.input[0] in numbers}
    wanted = (_floats(graph) | set(numbers)) - set(converted)
    for name in sorted(wanted - set(given) - returned):
        graph.output.add().name = name
    session = open_session(model.SerializeToString(), path, 1)
    fetched = sorted(wanted - set(given))
    values = dict(zip(fetched, session.run(fetched, dict(zip(given, arrays, strict=True))), strict=True))
    values |= dict(zip(given, arrays, strict=True))
    found = {name: _reals(values[name], numbers.get(name)) for name in wanted}
    return found | {name: found[source] for name, source in converted.items()}


def _floats(graph: Any) -> set[str]:
    """Float tensors that can be looked at without changing how the file runs: those that no conversion stands behind."""
    constants = {tensor.name for tensor in graph.initializer}
    quantized = {node.input[0] for node in graph.node if node.op_type == QUANTIZE}
    constant_reals = {node.output[0] for node in graph.node if node.op_type == DEQUANTIZE and node.input[0] in constants}
    return {name for node in graph.node for name in node.output if name} - quantized - constant_reals


Numbers = tuple[np.ndarray, np.ndarray]
# Where an integer operator has its result's scale and zero point; the others have them last.
PLACES = {"QLinearConv": 6, "QLinearConcat": 0}


def _numbers(graph: Any) -> dict[str, Numbers]:
    """Scale and zero point of every tensor of quantized integers that is no constant."""
    from onnx import numpy_helper

    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    readers = {node.input[0]: node for node in graph.node if node.op_type == DEQUANTIZE and node.input[0] not in constants}
    found = {name: _pair(constants, node.input[1:3]) for name, node in readers.items()}
    for node in graph.node:
        if node.op_type == QUANTIZE:
            found[node.output[0]] = _pair(constants, node.input[1:3])
        elif node.op_type.startswith(("QLinear", "QGemm")):
            place = PLACES.get(node.op_type, len(node.input) - 2)
            found[node.output[0]] = _pair(constants, node.input[place : place + 2])
        elif node.op_type != DEQUANTIZE and node.input and node.input[0] in found:
            found.update(dict.fromkeys(node.output, found[node.input[0]]))
    return found


def _pair(constants: Mapping[str, np.ndarray], names: Sequence[str]) -> Numbers:
    return constants[names[0]], constants[names[1]] if len(names) > 1 and names[1] else np.zeros((), np.int32)


def _reals(array: np.ndarray, numbers: Numbers | None) -> np.ndarray:
    if numbers is None or not np.issubdtype(array.dtype, np.integer):
        return array
    return ((array.astype(np.int32) - numbers[1].astype(np.int32)) * numbers[0]).astype(np.float32)


def _parse(raw: bytes, path: Path) -> Any:
    try:
        import onnx
        from google.protobuf.message import DecodeError
    except ImportError as error:
        raise MissingDependencyError("looking inside .onnx files needs onnx: pip install 'tersenet[onnxruntime]'") from error
    try:
        return onnx.load_model_from_string(raw)
    except (DecodeError, UnicodeDecodeError) as error:
        raise ModelError(f"{path} is not an ONNX model: {error}") from error
