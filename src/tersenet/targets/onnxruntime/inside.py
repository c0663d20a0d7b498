"""Looks inside an .onnx file: which kernels onnxruntime runs it on, and the values of its inner tensors."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tersenet.errors import MissingDependencyError, ModelError
from tersenet.target import Placement
from tersenet.targets.onnxruntime.run import open_session, read

QUANTIZE, DEQUANTIZE = "QuantizeLinear", "DequantizeLinear"
# What only carries values over, or works on sizes and indices: nothing that an integer kernel could take.
CARRIES = frozenset(
    {"Cast", "Concat", "Constant", "ConstantOfShape", "DepthToSpace", "Expand", "Flatten", "Gather", "GatherElements", "GatherND", "Identity", "Pad"}
    | {"Range", "ReorderInput", "ReorderOutput", "Reshape", "Resize", "Shape", "Slice", "Split", "Squeeze", "Tile", "Transpose", "Unsqueeze"}
)
INTEGER_KERNELS = ("QLinear", "QGemm", "QAttention", "MatMulInteger", "ConvInteger", "DynamicQuantize", "MatMulNBits", "QEmbed")


def placement(path: Path) -> Placement:
    """Which operators a file has as onnxruntime runs it: its own optimizer writes them down.

    `delegated` is the share of computing operators that integer kernels took; 1 for a file in which nothing is quantized.
    """
    with tempfile.TemporaryDirectory(prefix="tersenet-onnx-") as folder:
        optimized = Path(folder) / "optimized.onnx"
        open_session(read(path), path, 1, optimized)
        nodes = list(_parse(optimized.read_bytes(), path).graph.node)
    counts = dict(sorted(Counter(node.op_type for node in nodes).items()))
    if not any(_is_integer_kernel(node) or node.op_type in (QUANTIZE, DEQUANTIZE) for node in nodes):
        return Placement(counts, 1.0)
    integers = _integer_tensors(nodes)
    computing = [node for node in nodes if node.op_type not in CARRIES and node.op_type not in (QUANTIZE, DEQUANTIZE)]
    floats = [node for node in computing if not (_is_integer_kernel(node) or node.input and node.input[0] in integers)]
    declined = tuple({"op": node.op_type, "name": node.output[0], "why": "onnxruntime runs it in float"} for node in floats)
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
    """Every inner tensor of floats for one input, by its name in the file.

    Of quantized values the integers are read and brought back to floats here, so that the same kernels run as in the file
    itself; a value that only exists inside an integer kernel is not shown.
    """
    model = _parse(read(path), path)
    graph = model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    conversions = {node.output[0]: node for node in graph.node if node.op_type == DEQUANTIZE and node.input[0] not in constants}
    wanted = _visible(graph, constants)
    given, returned = [value.name for value in graph.input], [value.name for value in graph.output]
    seen = {node.input[0] for node in conversions.values()} | wanted
    for name in sorted(seen - set(given) - set(returned)):
        graph.output.add().name = name
    session = open_session(model.SerializeToString(), path, 1)
    fetched = [value.name for value in session.get_outputs()]
    values = dict(zip(fetched, session.run(fetched, dict(zip(given, arrays, strict=True))), strict=True))
    values |= dict(zip(given, arrays, strict=True))
    found = {name: values[name] for name in wanted if name in values}
    return found | {name: _dequantized(node, values[node.input[0]], constants) for name, node in conversions.items()}


def _visible(graph: Any, constants: Mapping[str, Any]) -> set[str]:
    """Float tensors that can be looked at without changing how the file runs: those no conversion stands on either side of."""
    quantized = {node.input[0] for node in graph.node if node.op_type == QUANTIZE}
    conversions = {name for node in graph.node if node.op_type in (QUANTIZE, DEQUANTIZE) for name in node.output}
    made = {name for node in graph.node for name in node.output if name}
    return made - quantized - conversions - set(constants)


def _dequantized(node: Any, integers: np.ndarray, constants: Mapping[str, Any]) -> np.ndarray:
    from onnx import numpy_helper

    scale = numpy_helper.to_array(constants[node.input[1]])
    zero = numpy_helper.to_array(constants[node.input[2]]) if len(node.input) > 2 else np.zeros((), integers.dtype)
    return ((integers.astype(np.int32) - zero.astype(np.int32)) * scale).astype(np.float32)


def _parse(raw: bytes, path: Path) -> Any:
    try:
        import onnx
        from google.protobuf.message import DecodeError
    except ImportError as error:
        raise MissingDependencyError("looking inside .onnx files needs onnx: pip install 'tersenet[onnxruntime]'") from error
    try:
        return onnx.load_model_from_string(raw)
    except DecodeError as error:
        raise ModelError(f"{path} is not an ONNX model: {error}") from error
