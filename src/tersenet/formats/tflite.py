"""Files of the published LiteRT (TensorFlow Lite) schema: a flat graph as plain records, written and read.

One writer serves every program that makes such files. It shares whatever a flatbuffer may share (equal shapes, scales,
zero points, option tables, buffers), leaves out what a runtime does not need, and aligns buffers to 16 bytes, which the
schema asks for (``force_align``) and Python's own vectors do not give.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tersenet.errors import ModelError
from tersenet.formats import nibbles
from tersenet.formats.tflite_sparsity import Sparsity, packed, read_table, unpacked, write_table
from tersenet.formats.tflite_versions import version_of

IDENTIFIER = b"TFL3"
ALIGNMENT = 16
FOUR_BITS = "int4"  # no type of numpy's: two lie in a byte of the file

# numpy's name -> the schema's
TYPES = {
    "float32": schema.TensorType.FLOAT32,
    "float16": schema.TensorType.FLOAT16,
    "float64": schema.TensorType.FLOAT64,
    FOUR_BITS: schema.TensorType.INT4,
    "int8": schema.TensorType.INT8,
    "uint8": schema.TensorType.UINT8,
    "int16": schema.TensorType.INT16,
    "int32": schema.TensorType.INT32,
    "int64": schema.TensorType.INT64,
    "bool": schema.TensorType.BOOL,
}
NAMES_OF_TYPES = {code: name for name, code in TYPES.items()}
CODES = {name: code for name, code in vars(schema.BuiltinOperator).items() if isinstance(code, int)}
NAMES_OF_CODES = {code: name for name, code in CODES.items()}
NAMES_OF_OPTIONS = {code: name for name, code in vars(schema.BuiltinOptions).items() if isinstance(code, int) and code}
# Operators whose table of options is not called after them.
OPTION_TABLES = {
    "ADD": "AddOptions",
    "ARG_MAX": "ArgMaxOptions",
    "ARG_MIN": "ArgMinOptions",
    "AVERAGE_POOL_2D": "Pool2DOptions",
    "BATCH_MATMUL": "BatchMatMulOptions",
    "CAST": "CastOptions",
    "CONCATENATION": "ConcatenationOptions",
    "CONV_2D": "Conv2DOptions",
    "CONV_3D": "Conv3DOptions",
    "CUMSUM": "CumsumOptions",
    "DEPTHWISE_CONV_2D": "DepthwiseConv2DOptions",
    "DEPTH_TO_SPACE": "DepthToSpaceOptions",
    "DIV": "DivOptions",
    "FULLY_CONNECTED": "FullyConnectedOptions",
    "GATHER": "GatherOptions",
    "GELU": "GeluOptions",
    "LEAKY_RELU": "LeakyReluOptions",
    "MAX_POOL_2D": "Pool2DOptions",
    "MEAN": "ReducerOptions",
    "MIRROR_PAD": "MirrorPadOptions",
    "MUL": "MulOptions",
    "PACK": "PackOptions",
    "REDUCE_MAX": "ReducerOptions",
    "REDUCE_MIN": "ReducerOptions",
    "REDUCE_PROD": "ReducerOptions",
    "RESHAPE": "ReshapeOptions",
    "RESIZE_BILINEAR": "ResizeBilinearOptions",
    "RESIZE_NEAREST_NEIGHBOR": "ResizeNearestNeighborOptions",
    "SOFTMAX": "SoftmaxOptions",
    "SPACE_TO_DEPTH": "SpaceToDepthOptions",
    "SPLIT": "SplitOptions",
    "SPLIT_V": "SplitVOptions",
    "STRIDED_SLICE": "StridedSliceOptions",
    "SUB": "SubOptions",
    "SUM": "ReducerOptions",
    "TRANSPOSE_CONV": "TransposeConvOptions",
    "UNIDIRECTIONAL_SEQUENCE_LSTM": "UnidirectionalSequenceLSTMOptions",
    "UNPACK": "UnpackOptions",
}


@dataclass(frozen=True)
class Numbers:
    """Scales and zero points of a tensor: as many of the one as of the other, which the interpreter insists on.

    Args:
        axis: the dimension that they run along; 0 where there is one.
    """

    scale: tuple[float, ...]
    zero_point: tuple[int, ...]
    axis: int = 0


@dataclass(frozen=True)
class Tensor:
    """One tensor of the file.

    Args:
        name: "" for constants, which need none.
        dtype: numpy's name, or int4.
        data: what the file holds of it (int4, two a byte there, is int8 here); None for what is computed.
        variable: state that stays from one run to the next.
        sparsity: how the data lie where their zeros are left out; None: as they are. An operator DENSIFY makes such a constant whole.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    numbers: Numbers | None = None
    data: np.ndarray | None = None
    variable: bool = False
    sparsity: Sparsity | None = None


@dataclass(frozen=True)
class Operator:
    """One operator: indices of tensors (-1 for an input left out) and the fields of its table of options, as the schema names them."""

    code: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    intermediates: tuple[int, ...] = ()


@dataclass(frozen=True)
class Graph:
    """Tensors, the operators in the order in which they run, and which tensors go in and come out."""

    tensors: tuple[Tensor, ...]
    operators: tuple[Operator, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


SIGNATURE = "serving_default"  # the one that readers take where they are asked for none


@dataclass(frozen=True)
class Signature:
    """By which names a caller may feed a file and find its results, one for each input and output, all different."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def write(graph: Graph, signature: Signature | None = None) -> bytes:
    """The bytes of a file. Equal graphs and signatures give equal bytes."""
    return _Writer(graph, signature).write()


class _Writer:
    def __init__(self, graph: Graph, signature: Signature | None = None) -> None:
        self.graph = graph
        self.signature = signature
        size = sum(tensor.data.nbytes for tensor in graph.tensors if tensor.data is not None)
        self.builder = flatbuffers.Builder(size + 512 * (len(graph.tensors) + len(graph.operators)) + 1024)
        self.written: dict[Any, int] = {}
        self.versions: dict[str, int] = {}
        for operator in graph.operators:
            version = version_of(operator, graph.tensors)
            self.versions[operator.code] = max(self.versions.get(operator.code, 1), version)
        self.buffers: dict[bytes, int] = {b"": 0}

    def write(self) -> bytes:
        builder = self.builder
        tensors = self._table_vector([self._tensor(tensor) for tensor in self.graph.tensors])
        operators = self._table_vector([self._operator(operator) for operator in self.graph.operators])
        inputs, outputs = self._numbers(self.graph.inputs, np.int32), self._numbers(self.graph.outputs, np.int32)
        schema.SubGraphStart(builder)
        schema.SubGraphAddTensors(builder, tensors)
        schema.SubGraphAddInputs(builder, inputs)
        schema.SubGraphAddOutputs(builder, outputs)
        schema.SubGraphAddOperators(builder, operators)
        subgraphs = self._table_vector([schema.SubGraphEnd(builder)])
        codes = self._table_vector([self._code(code, version) for code, version in self.versions.items()])
        buffers = self._table_vector([self._buffer(data) for data in self.buffers])
        signatures = self._table_vector([self._signature(self.signature)]) if self.signature else 0
        schema.ModelStart(builder)
        schema.ModelAddVersion(builder, 3)
        schema.ModelAddOperatorCodes(builder, codes)
        schema.ModelAddSubgraphs(builder, subgraphs)
        schema.ModelAddBuffers(builder, buffers)
        schema.ModelAddSignatureDefs(builder, signatures)
        builder.Finish(schema.ModelEnd(builder), IDENTIFIER)
        return bytes(builder.Output())

    def _table_vector(self, offsets: list[int]) -> int:
        self.builder.StartVector(4, len(offsets), 4)
        for offset in reversed(offsets):
            self.builder.PrependUOffsetTRelative(offset)
        return self.builder.EndVector()

    def _numbers(self, values: Any, dtype: Any) -> int:
        """A vector of numbers; one for all equal ones."""
        array = np.asarray(values, dtype)
        key = (array.dtype.str, array.tobytes())
        if key not in self.written:
            self.written[key] = self.builder.CreateNumpyVector(array)
        return self.written[key]

    def _text(self, text: str) -> int:
        """A string; one for all equal ones."""
        if text not in self.written:
            self.written[text] = self.builder.CreateString(text)
        return self.written[text]

    def _signature(self, signature: Signature) -> int:
        inputs = self._table_vector([self._named(*pair) for pair in zip(signature.inputs, self.graph.inputs, strict=True)])
        outputs = self._table_vector([self._named(*pair) for pair in zip(signature.outputs, self.graph.outputs, strict=True)])
        key = self._text(SIGNATURE)
        schema.SignatureDefStart(self.builder)
        schema.SignatureDefAddInputs(self.builder, inputs)
        schema.SignatureDefAddOutputs(self.builder, outputs)
        schema.SignatureDefAddSignatureKey(self.builder, key)
        return int(schema.SignatureDefEnd(self.builder))

    def _named(self, name: str, tensor: int) -> int:
        text = self._text(name)
        schema.TensorMapStart(self.builder)
        schema.TensorMapAddName(self.builder, text)
        schema.TensorMapAddTensorIndex(self.builder, tensor)
        return int(schema.TensorMapEnd(self.builder))

    def _tensor(self, tensor: Tensor) -> int:
        shape = self._numbers(tensor.shape, np.int32)
        name = self._text(tensor.name) if tensor.name else 0
        quantization = self._quantization(tensor.numbers) if tensor.numbers is not None else 0
        buffer = sparsity = 0
        if tensor.data is not None:
            values = np.ascontiguousarray(tensor.data)
            if tensor.sparsity is not None:
                values, levels = packed(tensor.data, tensor.sparsity)
                sparsity = write_table(self.builder, self._numbers, tensor.sparsity, levels)
            content = nibbles.packed(values) if tensor.dtype == FOUR_BITS else values.tobytes()
            buffer = self.buffers.setdefault(content, len(self.buffers))
        schema.TensorStart(self.builder)
        schema.TensorAddShape(self.builder, shape)
        schema.TensorAddType(self.builder, TYPES[tensor.dtype])
        schema.TensorAddBuffer(self.builder, buffer)
        schema.TensorAddName(self.builder, name)
        schema.TensorAddQuantization(self.builder, quantization)
        schema.TensorAddIsVariable(self.builder, tensor.variable)
        schema.TensorAddSparsity(self.builder, sparsity)
        return int(schema.TensorEnd(self.builder))

    def _quantization(self, numbers: Numbers) -> int:
        if numbers not in self.written:
            scale, zero_point = self._numbers(numbers.scale, np.float32), self._numbers(numbers.zero_point, np.int64)
            schema.QuantizationParametersStart(self.builder)
            schema.QuantizationParametersAddScale(self.builder, scale)
            schema.QuantizationParametersAddZeroPoint(self.builder, zero_point)
            schema.QuantizationParametersAddQuantizedDimension(self.builder, numbers.axis)
            self.written[numbers] = schema.QuantizationParametersEnd(self.builder)
        return self.written[numbers]

    def _operator(self, operator: Operator) -> int:
        inputs, outputs = self._numbers(operator.inputs, np.int32), self._numbers(operator.outputs, np.int32)
        intermediates = self._numbers(operator.intermediates, np.int32) if operator.intermediates else 0
        table = OPTION_TABLES.get(operator.code, "") if operator.options else ""
        options = self._options(table, operator.options) if table else 0
        schema.OperatorStart(self.builder)
        schema.OperatorAddOpcodeIndex(self.builder, list(self.versions).index(operator.code))
        schema.OperatorAddInputs(self.builder, inputs)
        schema.OperatorAddOutputs(self.builder, outputs)
        if table:
            schema.OperatorAddBuiltinOptionsType(self.builder, getattr(schema.BuiltinOptions, table))
        schema.OperatorAddBuiltinOptions(self.builder, options)
        schema.OperatorAddIntermediates(self.builder, intermediates)
        return int(schema.OperatorEnd(self.builder))

    def _options(self, table: str, options: Mapping[str, Any]) -> int:
        key = (table, repr(sorted(options.items())))
        if key not in self.written:
            self.written[key] = getattr(schema, f"{table}T")(**options).Pack(self.builder)
        return self.written[key]

    def _code(self, code: str, version: int) -> int:
        number = CODES[code]
        schema.OperatorCodeStart(self.builder)
        # Readers from before operator 127 know only this field.
        schema.OperatorCodeAddDeprecatedBuiltinCode(self.builder, min(number, CODES["PLACEHOLDER_FOR_GREATER_OP_CODES"]))
        schema.OperatorCodeAddVersion(self.builder, version)
        schema.OperatorCodeAddBuiltinCode(self.builder, number)
        return int(schema.OperatorCodeEnd(self.builder))

    def _buffer(self, data: bytes) -> int:
        vector = self._aligned(data) if data else 0
        schema.BufferStart(self.builder)
        schema.BufferAddData(self.builder, vector)
        return int(schema.BufferEnd(self.builder))

    def _aligned(self, data: bytes) -> int:
        builder = self.builder
        builder.StartVector(1, len(data), ALIGNMENT)
        builder.head = int(builder.Head() - len(data))
        builder.Bytes[builder.Head() : builder.Head() + len(data)] = data
        return builder.EndVector()


def read(data: bytes | memoryview) -> Graph:
    """The graph of a file (its first subgraph), every index and size checked.

    Raises:
        ModelError: not such a file, cut short, or inconsistent.
    """
    if len(data) < 16 or data[4:8] != IDENTIFIER:
        raise ModelError(f"a LiteRT file must carry the identifier TFL3 at byte 4, got {bytes(data[4:8])!r}; it is no .tflite file, or cut short.")
    try:
        return _graph(schema.Model.GetRootAs(data, 0), data)
    except ModelError:
        raise
    except (struct.error, IndexError, KeyError, ValueError, TypeError, AttributeError, OverflowError, MemoryError) as error:
        raise ModelError(f"the .tflite file does not hold together ({error}); it is damaged or cut short, make it anew.") from error


def _graph(model: Any, data: bytes | memoryview) -> Graph:
    if model.SubgraphsLength() < 1:
        raise ModelError("the .tflite file holds no subgraph; it is damaged, make it anew.")
    subgraph = model.Subgraphs(0)
    buffers = [_buffer_of(model.Buffers(index), data) for index in range(model.BuffersLength())]
    tensors = tuple(_tensor_of(subgraph.Tensors(index), buffers) for index in range(subgraph.TensorsLength()))
    codes = [model.OperatorCodes(index) for index in range(model.OperatorCodesLength())]
    names = [NAMES_OF_CODES[max(code.BuiltinCode(), code.DeprecatedBuiltinCode())] for code in codes]
    operators = tuple(_operator_of(subgraph.Operators(index), names) for index in range(subgraph.OperatorsLength()))
    graph = Graph(tensors, operators, _indices(subgraph, "Inputs"), _indices(subgraph, "Outputs"))
    used = [graph.inputs, graph.outputs, *(operator.inputs for operator in operators), *(operator.outputs for operator in operators)]
    if any(not -1 <= index < len(tensors) for indices in used for index in indices):
        raise ModelError("an operator of the .tflite file names a tensor that it does not have; the file is damaged, make it anew.")
    return graph


def _buffer_of(buffer: Any, data: bytes | memoryview) -> np.ndarray:
    length = buffer.DataLength()
    if length > len(data):
        raise ModelError(f"a buffer of the .tflite file claims {length} bytes of {len(data)}; the file is damaged or cut short, make it anew.")
    return buffer.DataAsNumpy() if length else np.empty(0, np.uint8)


def _tensor_of(tensor: Any, buffers: list[np.ndarray]) -> Tensor:
    shape = tuple(int(size) for size in tensor.ShapeAsNumpy()) if tensor.ShapeLength() else ()
    dtype = NAMES_OF_TYPES.get(tensor.Type(), f"type {tensor.Type()}")
    raw = buffers[tensor.Buffer()]
    values, sparsity = None, None
    if tensor.Sparsity() is not None and dtype in TYPES:
        sparsity, levels = read_table(tensor.Sparsity(), shape)
        values = unpacked(raw.view(dtype), levels, shape, sparsity)
    elif raw.size and dtype in TYPES:
        values = _values_of(raw, dtype, shape)
    quantization, numbers = tensor.Quantization(), None
    if quantization is not None and quantization.ScaleLength():
        scales = tuple(float(value) for value in quantization.ScaleAsNumpy())
        zeros = tuple(int(value) for value in quantization.ZeroPointAsNumpy()) if quantization.ZeroPointLength() else (0,) * len(scales)
        numbers = Numbers(scales, zeros, quantization.QuantizedDimension())
        _check_numbers(numbers, dtype)
    return Tensor((tensor.Name() or b"").decode(), shape, dtype, numbers, values, bool(tensor.IsVariable()), sparsity)


def _values_of(raw: np.ndarray, dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    """A constant of its bytes."""
    count = math.prod(shape)
    wanted = -(-count // 2) if dtype == FOUR_BITS else count * np.dtype(dtype).itemsize
    if raw.size != wanted:
        raise ModelError(f"a constant of the .tflite file holds {raw.size} bytes where its shape {shape} asks for {wanted}; the file is damaged.")
    return (nibbles.unpacked(raw, count) if dtype == FOUR_BITS else raw.view(dtype)).reshape(shape)


def _check_numbers(numbers: Numbers, dtype: str) -> None:
    """A zero point beyond its integers makes native kernels write where they must not."""
    low, high = _limits(dtype)
    within = all(low <= zero <= high for zero in numbers.zero_point)
    if not within or not all(0 <= scale < math.inf for scale in numbers.scale) or len(numbers.scale) != len(numbers.zero_point):
        raise ModelError(f"a tensor of the .tflite file has scales or zero points that no {dtype} can have; the file is damaged, make it anew.")


def _limits(dtype: str) -> tuple[float, float]:
    """The smallest and largest number of an integer type; no limits for others."""
    if dtype == FOUR_BITS:
        return -8, 7
    if dtype not in TYPES or np.dtype(dtype).kind not in "iu":
        return -math.inf, math.inf
    return np.iinfo(dtype).min, np.iinfo(dtype).max


def _operator_of(operator: Any, names: list[str]) -> Operator:
    code = names[operator.OpcodeIndex()]
    table, union, options = NAMES_OF_OPTIONS.get(operator.BuiltinOptionsType()) or OPTION_TABLES.get(code, ""), operator.BuiltinOptions(), {}
    if table:
        form = getattr(schema, f"{table}T")
        options = vars(form.InitFromBuf(union.Bytes, union.Pos) if union is not None else form())
    return Operator(code, _indices(operator, "Inputs"), _indices(operator, "Outputs"), options, _indices(operator, "Intermediates"))


def _indices(table: Any, name: str) -> tuple[int, ...]:
    return tuple(int(index) for index in getattr(table, f"{name}AsNumpy")()) if getattr(table, f"{name}Length")() else ()
