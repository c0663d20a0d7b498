"""The version that a LiteRT operator asks of a runtime, by the types of its tensors (LiteRT, ``versioning/op_version.cc``).

A runtime refuses an operator of a later version than it knows, instead of running it wrongly.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tersenet.formats.tflite import Operator, Tensor

# operator -> (input that decides, version by that input's type); 1 for every other type
BY_TYPE: dict[str, tuple[int, dict[str, int]]] = {
    "CONV_2D": (0, {"int8": 3, "int16": 4}),
    "DEPTHWISE_CONV_2D": (0, {"int8": 3, "int16": 5}),
    "TRANSPOSE_CONV": (1, {"int8": 2}),
    "MAX_POOL_2D": (0, {"int8": 2, "int16": 3}),
    "AVERAGE_POOL_2D": (0, {"int8": 2, "int16": 3}),
    "ADD": (0, {"int8": 2, "int16": 3, "int64": 4}),
    "SUB": (0, {"int8": 2, "int16": 5, "int64": 4}),
    "MUL": (0, {"int8": 2, "int16": 4, "int64": 5}),
    "MAXIMUM": (0, {"int8": 2, "int16": 4}),
    "MINIMUM": (0, {"int8": 2, "int16": 4}),
    "RELU": (0, {"int8": 2, "int16": 3}),
    "LEAKY_RELU": (0, {"int16": 2}),
    "TANH": (0, {"int8": 2, "int16": 3}),
    "LOGISTIC": (0, {"int8": 2, "int16": 3}),
    "GELU": (0, {"int8": 2}),
    "GATHER": (0, {"int8": 2, "bool": 3, "int16": 4}),
    "GATHER_ND": (0, {"int16": 3, "bool": 5}),
    "TRANSPOSE": (0, {"int8": 2, "bool": 3, "int16": 5}),
    "SPLIT": (1, {"int8": 2, "int32": 3, "int16": 4}),
    "SLICE": (0, {"int8": 2, "int16": 4}),
    "STRIDED_SLICE": (0, {"int8": 2, "bool": 3}),
    "UNPACK": (0, {"int8": 2, "bool": 3, "int16": 4}),
    "PACK": (0, {"int8": 2, "int16": 3}),
    "TILE": (0, {"int8": 3}),
    "REVERSE_V2": (0, {"bool": 2, "int8": 3}),
    "PAD": (0, {"int8": 2, "int16": 3, "bool": 5}),
    "PADV2": (0, {"int8": 2, "int16": 3, "bool": 5}),
    "CONCATENATION": (0, {"int8": 2, "int16": 3}),
    "DEQUANTIZE": (0, {"int8": 2, "int16": 3}),
    "ABS": (0, {"int8": 2, "int16": 3, "int32": 5}),
    "BATCH_MATMUL": (0, {"int8": 2, "int16": 3}),
    "RESIZE_BILINEAR": (0, {"int8": 2, "int16": 4}),
    "RESIZE_NEAREST_NEIGHBOR": (0, {"int8": 2, "int16": 4}),
    "ARG_MAX": (0, {"int8": 2, "bool": 3}),
    "ARG_MIN": (0, {"int8": 2, "bool": 3}),
    "CAST": (0, {"int8": 3}),
    "FILL": (1, {"bool": 2, "int8": 3, "int16": 3}),
    "EQUAL": (0, {"int8": 2, "int16": 5}),
    "NOT_EQUAL": (0, {"int8": 2, "int16": 4}),
    "LESS": (0, {"int8": 2, "int16": 3}),
    "GREATER_EQUAL": (0, {"int8": 2, "int16": 3}),
    "UNIDIRECTIONAL_SEQUENCE_LSTM": (2, {"int8": 2}),
    **{name: (0, {"int8": 2, "int16": 3}) for name in ("SOFTMAX", "MEAN", "MIRROR_PAD", "REDUCE_MAX", "REDUCE_MIN", "RELU6", "RSQRT")},
    **{name: (0, {"int8": 2}) for name in ("SPACE_TO_DEPTH", "SPLIT_V", "SUM", "LOG_SOFTMAX", "GREATER", "LESS_EQUAL", "SQUARED_DIFFERENCE")},
    **{name: (0, {"int8": 2}) for name in ("DEPTH_TO_SPACE", "EXP", "LOG", "REDUCE_PROD", "SQRT")},
}
# operator -> version from which it takes tensors of more than four dimensions
BEYOND_FOUR_DIMENSIONS = {"TRANSPOSE": 4, "SLICE": 5, "STRIDED_SLICE": 4, "PAD": 4, "PADV2": 4, "SUB": 3, "DIV": 2, "MAXIMUM": 3, "MINIMUM": 3}


def version_of(operator: Operator, tensors: Sequence[Tensor]) -> int:
    """The least version whose kernel takes these tensors with these options."""
    read = [tensors[index] if index >= 0 else None for index in operator.inputs]
    position, versions = BY_TYPE.get(operator.code, (0, {}))
    decider = read[position] if position < len(read) else None
    version = versions.get(decider.dtype, 1) if decider is not None else 1
    special = _special(operator, read, tensors)
    if decider is not None and len(decider.shape) > 4:
        version = max(version, BEYOND_FOUR_DIMENSIONS.get(operator.code, 1))
    return max(version, special)


def _special(operator: Operator, read: Sequence[Tensor | None], tensors: Sequence[Tensor]) -> int:
    """Versions that options or several tensors decide."""
    options, types = operator.options, [tensor.dtype if tensor is not None else "" for tensor in read]
    if operator.code == "FULLY_CONNECTED":
        return _fully_connected(operator, types)
    if operator.code in ("CONV_2D", "DEPTHWISE_CONV_2D") and types[1] == "int4":
        return 7
    if operator.code == "CONV_2D" and read[0] is not None and read[1] is not None:
        return 6 if read[0].shape[3] != read[1].shape[3] else 1
    if operator.code == "DEPTHWISE_CONV_2D" and (options.get("dilationWFactor", 1), options.get("dilationHFactor", 1)) != (1, 1):
        return 2
    if operator.code == "TRANSPOSE_CONV":
        return 4 if options.get("fusedActivationFunction") else 3 if len(types) == 4 else 1
    if operator.code in ("RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR"):
        centred = options.get("halfPixelCenters") or (operator.code == "RESIZE_NEAREST_NEIGHBOR" and options.get("alignCorners"))
        return 3 if centred else 1
    if operator.code == "QUANTIZE":
        return 2 if tensors[operator.outputs[0]].dtype == "int16" else 1
    if operator.code == "BROADCAST_TO":
        return 3 if types[0] in ("int8", "int16") else 2
    if operator.code == "CAST":
        return 3 if tensors[operator.outputs[0]].dtype == "int8" else 1
    if operator.code == "GATHER":
        return 5 if options.get("batchDims") else 1
    return _product(operator, read, tensors) if operator.code == "MUL" else 1


def _fully_connected(operator: Operator, types: Sequence[str]) -> int:
    version = {("int8", "int8"): 4, ("int8", "int4"): 10, ("float32", "int8"): 3, ("int16", "int8"): 7}.get((types[0], types[1]), 1)
    if len(types) == 2:
        version = max(version, 6)
    return max(version, 5) if operator.options.get("keepNumDims") else version


def _product(operator: Operator, read: Sequence[Tensor | None], tensors: Sequence[Tensor]) -> int:
    """A product of scales of at least one result step needs a later multiplication."""
    numbers = [tensor.numbers for tensor in (*read, tensors[operator.outputs[0]]) if tensor is not None and tensor.numbers is not None]
    if len(numbers) != 3:
        return 1
    return 3 if numbers[0].scale[0] * numbers[1].scale[0] / numbers[2].scale[0] >= 1 else 1
