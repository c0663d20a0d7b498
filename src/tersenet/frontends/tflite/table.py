"""Every operator of the LiteRT schema: read, or refused by name with the reason."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch.nn import functional as F

from tersenet.frontends.tflite.operators import convolution, elementwise, movement, pooling, recurrent
from tersenet.frontends.tflite.site import Part, Site

_unary, _binary, _reduction = elementwise.unary, elementwise.binary, pooling.reduction

OPERATORS: Mapping[str, Callable[[Site], Part]] = {
    # with weights
    "CONV_2D": convolution.convolution,
    "CONV_3D": convolution.convolution_of_volumes,
    "DEPTHWISE_CONV_2D": convolution.depthwise_convolution,
    "TRANSPOSE_CONV": convolution.transposed_convolution,
    "FULLY_CONNECTED": convolution.linear,
    "BATCH_MATMUL": convolution.matmul,
    "GATHER": movement.gather,
    "EMBEDDING_LOOKUP": movement.embedding_lookup,
    "UNIDIRECTIONAL_SEQUENCE_LSTM": recurrent.lstm,
    "BIDIRECTIONAL_SEQUENCE_LSTM": recurrent.bidirectional_lstm,
    # two tensors
    "ADD": _binary(torch.add),
    "SUB": _binary(torch.sub),
    "MUL": _binary(torch.mul),
    "DIV": _binary(torch.div),
    "POW": _binary(torch.pow),
    "MAXIMUM": _binary(torch.maximum),
    "MINIMUM": _binary(torch.minimum),
    "SQUARED_DIFFERENCE": _binary(lambda one, other: (one - other).square()),
    "FLOOR_DIV": _binary(lambda one, other: torch.div(one, other, rounding_mode="floor")),
    "FLOOR_MOD": _binary(torch.remainder),
    "EQUAL": _binary(torch.eq),
    "NOT_EQUAL": _binary(torch.ne),
    "LESS": _binary(torch.lt),
    "LESS_EQUAL": _binary(torch.le),
    "GREATER": _binary(torch.gt),
    "GREATER_EQUAL": _binary(torch.ge),
    "LOGICAL_AND": _binary(torch.logical_and),
    "LOGICAL_OR": _binary(torch.logical_or),
    "ATAN2": _binary(torch.atan2),
    "ADD_N": elementwise.add_many,
    "SELECT": elementwise.select,
    "SELECT_V2": elementwise.select,
    # one tensor
    "RELU": _unary(torch.relu),
    "RELU6": _unary(F.relu6),
    "RELU_N1_TO_1": _unary(lambda value: value.clamp(-1, 1)),
    "RELU_0_TO_1": _unary(lambda value: value.clamp(0, 1)),
    "LEAKY_RELU": elementwise.leaky_relu,
    "PRELU": elementwise.prelu,
    "ELU": _unary(F.elu),
    "GELU": elementwise.gelu,
    "HARD_SWISH": _unary(F.hardswish),
    "LOGISTIC": _unary(torch.sigmoid),
    "TANH": _unary(torch.tanh),
    "SOFTMAX": elementwise.softmax,
    "LOG_SOFTMAX": _unary(lambda value: torch.log_softmax(value, -1)),
    "ABS": _unary(torch.abs),
    "NEG": _unary(torch.neg),
    "EXP": _unary(torch.exp),
    "LOG": _unary(torch.log),
    "SQRT": _unary(torch.sqrt),
    "RSQRT": _unary(torch.rsqrt),
    "SQUARE": _unary(torch.square),
    "SIN": _unary(torch.sin),
    "COS": _unary(torch.cos),
    "FLOOR": _unary(torch.floor),
    "CEIL": _unary(torch.ceil),
    "ROUND": _unary(torch.round),
    "SIGN": _unary(torch.sign),
    "LOGICAL_NOT": _unary(torch.logical_not),
    "ZEROS_LIKE": _unary(torch.zeros_like),
    "CAST": elementwise.cast,
    "DEQUANTIZE": elementwise.cast,
    "QUANTIZE": elementwise.cast,
    "CUMSUM": elementwise.cumulative_sum,
    "L2_NORMALIZATION": elementwise.l2_normalization,
    "LOCAL_RESPONSE_NORMALIZATION": elementwise.local_response,
    # windows and reductions
    "AVERAGE_POOL_2D": pooling.average_pool,
    "MAX_POOL_2D": pooling.max_pool,
    "L2_POOL_2D": pooling.l2_pool,
    "MEAN": _reduction(pooling.mean),
    "SUM": _reduction(pooling.total),
    "REDUCE_MAX": _reduction(pooling.largest),
    "REDUCE_MIN": _reduction(pooling.smallest),
    "REDUCE_PROD": _reduction(pooling.product),
    "REDUCE_ANY": _reduction(pooling.any_of),
    "REDUCE_ALL": _reduction(pooling.all_of),
    "ARG_MAX": pooling.largest_index(torch.argmax),
    "ARG_MIN": pooling.largest_index(torch.argmin),
    "RESIZE_BILINEAR": pooling.resize("bilinear"),
    "RESIZE_NEAREST_NEIGHBOR": pooling.resize("nearest"),
    # places
    "RESHAPE": movement.reshape,
    "SQUEEZE": movement.reshape,
    "EXPAND_DIMS": movement.reshape,
    "TRANSPOSE": movement.transpose,
    "CONCATENATION": movement.concat,
    "PACK": movement.pack,
    "UNPACK": movement.unpack,
    "SPLIT": movement.split,
    "SPLIT_V": movement.split_by_sizes,
    "PAD": movement.pad,
    "PADV2": movement.pad,
    "MIRROR_PAD": movement.mirror_pad,
    "SLICE": movement.cut,
    "STRIDED_SLICE": movement.strided_slice,
    "TILE": movement.tile,
    "BROADCAST_TO": movement.broadcast,
    "REVERSE_V2": movement.reverse,
    "DEPTH_TO_SPACE": movement.depth_to_space,
    "SPACE_TO_DEPTH": movement.space_to_depth,
    "SPACE_TO_BATCH_ND": movement.space_to_batch,
    "BATCH_TO_SPACE_ND": movement.batch_to_space,
    "ONE_HOT": movement.one_hot,
}

_DATA = "the sizes of its result depend on the data"
_STATE = "it keeps state from one run to the next"
_CONTROL = "control flow is not read; convert the network with its loops unrolled, or name the framework's own file"
_STRINGS = "it works on strings or tables of strings"
_RANDOM = "it draws random numbers"
_COMPLEX = "it makes complex numbers"
_OLD = "old recurrent form; convert the network again with a converter of this decade"
_RARE = "no network that we know of needs it; write to us with one that does"
_INTEGERS = "it works on bits of integers"
_STABLEHLO = "a form between two compilers, that no finished file should hold"

REFUSED: Mapping[str, str] = {
    **dict.fromkeys(("WHERE", "UNIQUE", "NON_MAX_SUPPRESSION_V4", "NON_MAX_SUPPRESSION_V5", "TOPK_V2", "SPARSE_TO_DENSE"), _DATA),
    **dict.fromkeys(("VAR_HANDLE", "READ_VARIABLE", "ASSIGN_VARIABLE", "CALL_ONCE", "SVDF", "DYNAMIC_UPDATE_SLICE"), _STATE),
    **dict.fromkeys(("IF", "WHILE", "CALL"), _CONTROL),
    **dict.fromkeys(
        ("HASHTABLE", "HASHTABLE_FIND", "HASHTABLE_IMPORT", "HASHTABLE_SIZE", "HASHTABLE_LOOKUP", "SKIP_GRAM", "LSH_PROJECTION"), _STRINGS
    ),
    **dict.fromkeys(("RANDOM_STANDARD_NORMAL", "RANDOM_UNIFORM", "MULTINOMIAL"), _RANDOM),
    **dict.fromkeys(("RFFT2D", "IMAG", "REAL", "COMPLEX_ABS"), _COMPLEX),
    **dict.fromkeys(("LSTM", "RNN", "UNIDIRECTIONAL_SEQUENCE_RNN", "BIDIRECTIONAL_SEQUENCE_RNN"), _OLD),
    **dict.fromkeys(("BITCAST", "BITWISE_XOR", "RIGHT_SHIFT"), _INTEGERS),
    **dict.fromkeys(
        ("CONCAT_EMBEDDINGS", "EMBEDDING_LOOKUP_SPARSE", "MATRIX_DIAG", "MATRIX_SET_DIAG", "BUCKETIZE", "DILATE", "REDUCE_WINDOW"), _RARE
    ),
    **dict.fromkeys(("SEGMENT_SUM", "UNSORTED_SEGMENT_PROD", "UNSORTED_SEGMENT_MAX", "UNSORTED_SEGMENT_SUM", "UNSORTED_SEGMENT_MIN"), _RARE),
    **dict.fromkeys(("SCATTER_ND", "GATHER_ND", "REVERSE_SEQUENCE", "FAKE_QUANT", "CONV_3D_TRANSPOSE"), _RARE),
    **dict.fromkeys(("SHAPE", "RANK", "RANGE", "FILL", "BROADCAST_ARGS"), "sizes that are computed while the network runs are not read"),
    "DENSIFY": "what it makes whole is not a constant of the file",
    "DELEGATE": "it is made while a file is loaded, and no file holds it",
    "CUSTOM": "it is an operator of the file's maker",
    "PLACEHOLDER_FOR_GREATER_OP_CODES": "it is no operator",
    "STABLEHLO_*": _STABLEHLO,
}


def why_refused(code: str) -> str:
    """Why an operator is not read."""
    return _STABLEHLO if code.startswith("STABLEHLO_") else REFUSED.get(code, "it is newer than this version")
