"""What LiteRT's interpreter with its XNNPACK delegate can do, and the interpreter for microcontrollers. `tests/parity` tries every row."""

from __future__ import annotations

from dataclasses import replace

from tersenet.capabilities import Capabilities, Kernel

ACTIVATIONS = ("relu", "relu6", "clamp[-1,1]")
BOTH = ("int8", "int16")
CHANNELS = ("per-channel", "per-tensor")
FREE = Kernel()
SAME = Kernel(shares="result")
SAME_BOTH = Kernel(activations=BOTH, shares="result")
ALL_SAME = Kernel(activations=BOTH, shares="all", arithmetic="xnnpack")
# XNNPACK takes weights of 4 bits for FULLY_CONNECTED alone: with one row it reads half the bytes in less time (AVX-512 with VNNI: 640 x 128 in 1.5 us
# for 1.9, 4096 x 1024 in 97 for 175), with more rows it takes up to three times as long. Convolutions run on the interpreter's own kernels then,
# which round twice: a network like ResNet-8 takes 0.45 ms for 0.22.
WEIGHTED = Kernel(("int8",), BOTH, CHANNELS, ACTIVATIONS, four_bits="on request")
TRANSPOSED = Kernel(("int8",), BOTH, CHANNELS, ACTIVATIONS, note="one group, no dilation")
WRITTEN_OUT = Kernel(
    ("int8",), ("float32",), CHANNELS, dynamic="never", note="each step is written out; weights are kept in 8 bits and the arithmetic is in floats"
)
ARITHMETIC = Kernel(activations=BOTH, fuses=ACTIVATIONS)

KERNELS = {
    **dict.fromkeys(("conv2d", "depthwise_conv2d", "conv1d", "depthwise_conv1d"), WEIGHTED),
    "linear": replace(WEIGHTED, four_bits="one row"),
    **dict.fromkeys(("conv_transpose2d", "conv_transpose1d"), TRANSPOSED),
    "lstm": Kernel(
        ("int8",),
        ("float32",),
        ("per-gate",),
        dynamic="rows",
        given_states=False,
        note="each row of input and state is quantized anew at each step; from a given state, or with its last cell state read, as for gru",
    ),
    **dict.fromkeys(("gru", "rnn_tanh", "rnn_relu"), WRITTEN_OUT),
    "matmul": Kernel(activations=("int8",)),
    "embedding": Kernel(("int8",), ("int8",), ("per-tensor",), shares="result"),
    **dict.fromkeys(("add", "sub"), replace(ARITHMETIC, arithmetic="xnnpack")),
    "mul": ARITHMETIC,
    **dict.fromkeys(("relu", "relu6", "prelu", "elu", "gelu"), FREE),
    **dict.fromkeys(("leaky_relu", "hardswish", "hardsigmoid", "silu", "clamp"), Kernel(arithmetic="xnnpack")),
    "sigmoid": Kernel(activations=BOTH, result=(1 / 256, -128)),
    "tanh": Kernel(activations=BOTH, result=(1 / 128, 0)),
    "softmax": Kernel(activations=BOTH, result=(1 / 256, -128)),
    **dict.fromkeys(("mean", "adaptive_avg_pool2d", "adaptive_avg_pool1d"), Kernel(arithmetic="xnnpack")),
    **dict.fromkeys(("max_pool2d", "max_pool1d"), SAME_BOTH),
    **dict.fromkeys(("avg_pool2d", "avg_pool1d"), Kernel(activations=BOTH, shares="result", halves="even", note="as a depthwise convolution")),
    **dict.fromkeys(("adaptive_max_pool2d", "amax", "amin"), SAME),
    **dict.fromkeys(("maximum", "minimum", "concat", "stack"), ALL_SAME),
    **dict.fromkeys(("reshape", "permute", "slice", "select", "split", "unbind", "getitem", "pad", "expand"), SAME_BOTH),
    **dict.fromkeys(("reflection_pad", "tile", "flip", "roll", "pixel_shuffle", "pixel_unshuffle", "channel_shuffle"), SAME),
    **dict.fromkeys(("gather", "index_select", "index", "resize_nearest"), SAME),
    "resize_bilinear": Kernel(shares="result", arithmetic="xnnpack"),
}

ABSENT = frozenset({"avg_pool3d", "conv_transpose3d", "grid_sample", "max_pool3d", "resize_bicubic", "scatter"})

# XNNPACK's integer matrix kernels make 16 channels at once on AVX-512 and with ARM's dot products (its kernels are named 16c4), 8 on AVX2 (8c8), of
# which 16 is a multiple; the file chooses at run time. Measured on AVX-512 with VNNI (`benchmarks/channels.py`): 18 to 32 channels take 35 to 36 us,
# 36 to 48 take 43 to 45, 52 to 64 take 52 to 54.
TILE = 16

LITERT = Capabilities(
    name="litert",
    quantizing="xnnpack",
    channel_multiple=TILE,
    absent=ABSENT,
    kernels=KERNELS,
    float_fuses={
        kind: ACTIVATIONS
        for kind in ("conv2d", "depthwise_conv2d", "conv1d", "depthwise_conv1d", "conv_transpose2d", "linear", "add", "sub", "mul", "div")
    },
    reasons={
        "layer_norm": "LiteRT has no layer norm: it is composed of means and products, which lose too much in int8",
        "group_norm": "LiteRT has no group norm: it is composed of means and products, which lose too much in int8",
    },
)


def capabilities(cpu: str = "") -> Capabilities:
    """LiteRT's table; the same on every instruction set."""
    return LITERT


# Operators of the interpreter for microcontrollers -> the call that registers one (MicroMutableOpResolver).
MICRO_OPERATORS = {
    "ABS": "AddAbs",
    "ADD": "AddAdd",
    "ARG_MAX": "AddArgMax",
    "ARG_MIN": "AddArgMin",
    "AVERAGE_POOL_2D": "AddAveragePool2D",
    "BATCH_MATMUL": "AddBatchMatMul",
    "BROADCAST_TO": "AddBroadcastTo",
    "CAST": "AddCast",
    "CEIL": "AddCeil",
    "CONCATENATION": "AddConcatenation",
    "CONV_2D": "AddConv2D",
    "COS": "AddCos",
    "CUMSUM": "AddCumSum",
    "DEPTHWISE_CONV_2D": "AddDepthwiseConv2D",
    "DEPTH_TO_SPACE": "AddDepthToSpace",
    "DEQUANTIZE": "AddDequantize",
    "DIV": "AddDiv",
    "ELU": "AddElu",
    "EQUAL": "AddEqual",
    "EXP": "AddExp",
    "FLOOR": "AddFloor",
    "FULLY_CONNECTED": "AddFullyConnected",
    "GATHER": "AddGather",
    "GREATER": "AddGreater",
    "GREATER_EQUAL": "AddGreaterEqual",
    "HARD_SWISH": "AddHardSwish",
    "LEAKY_RELU": "AddLeakyRelu",
    "LESS": "AddLess",
    "LESS_EQUAL": "AddLessEqual",
    "LOG": "AddLog",
    "LOGICAL_AND": "AddLogicalAnd",
    "LOGICAL_NOT": "AddLogicalNot",
    "LOGICAL_OR": "AddLogicalOr",
    "LOGISTIC": "AddLogistic",
    "LOG_SOFTMAX": "AddLogSoftmax",
    "MAXIMUM": "AddMaximum",
    "MAX_POOL_2D": "AddMaxPool2D",
    "MEAN": "AddMean",
    "MINIMUM": "AddMinimum",
    "MIRROR_PAD": "AddMirrorPad",
    "MUL": "AddMul",
    "NEG": "AddNeg",
    "NOT_EQUAL": "AddNotEqual",
    "PACK": "AddPack",
    "PAD": "AddPad",
    "PADV2": "AddPadV2",
    "PRELU": "AddPrelu",
    "QUANTIZE": "AddQuantize",
    "REDUCE_MAX": "AddReduceMax",
    "REDUCE_MIN": "AddReduceMin",
    "RELU": "AddRelu",
    "RELU6": "AddRelu6",
    "RESHAPE": "AddReshape",
    "RESIZE_BILINEAR": "AddResizeBilinear",
    "RESIZE_NEAREST_NEIGHBOR": "AddResizeNearestNeighbor",
    "REVERSE_V2": "AddReverseV2",
    "ROUND": "AddRound",
    "RSQRT": "AddRsqrt",
    "SELECT_V2": "AddSelectV2",
    "SIN": "AddSin",
    "SLICE": "AddSlice",
    "SOFTMAX": "AddSoftmax",
    "SPACE_TO_DEPTH": "AddSpaceToDepth",
    "SPLIT": "AddSplit",
    "SPLIT_V": "AddSplitV",
    "SQRT": "AddSqrt",
    "SQUARE": "AddSquare",
    "SQUARED_DIFFERENCE": "AddSquaredDifference",
    "STRIDED_SLICE": "AddStridedSlice",
    "SUB": "AddSub",
    "SUM": "AddSum",
    "TANH": "AddTanh",
    "TILE": "AddTile",
    "TRANSPOSE": "AddTranspose",
    "TRANSPOSE_CONV": "AddTransposeConv",
    "UNIDIRECTIONAL_SEQUENCE_LSTM": "AddUnidirectionalSequenceLSTM",
    "UNPACK": "AddUnpack",
}
MICRO_REASONS = {
    "gelu": "the interpreter for microcontrollers has no GELU",
    **dict.fromkeys(("gru", "rnn_tanh", "rnn_relu"), "its steps would be written out in floats, and microcontrollers run integers alone"),
    "lstm": "the interpreter for microcontrollers runs LSTMs of int8 weights on integer states alone, which plans do not speak of yet",
    "tile": "the interpreter for microcontrollers has no TILE",
}
MICRO_MEAN = Kernel(activations=BOTH, shares="result", halves="away")
# What it computes in fixed point; all else moves integers, or looks them up in tables.
ROUND_TWICE = frozenset(
    {"conv2d", "depthwise_conv2d", "conv1d", "depthwise_conv1d", "conv_transpose2d", "conv_transpose1d", "linear", "matmul", "add", "sub", "mul"}
    | {"relu", "relu6", "clamp", "leaky_relu", "prelu", "hardswish", "hardsigmoid", "silu", "mean", "adaptive_avg_pool2d", "adaptive_avg_pool1d"}
    | {"resize_bilinear", "maximum", "minimum", "concat", "stack"}  # inputs of the last four are brought to one grid
)
# Its convolutions open each layer's weights of 4 bits in the arena as they run; FULLY_CONNECTED takes such weights with one scale alone.
MICRO_FOUR_BITS = {**dict.fromkeys(("conv2d", "depthwise_conv2d", "conv1d", "depthwise_conv1d"), "always"), "linear": "one scale"}
MICRO_KERNELS = {
    kind: replace(kernel, rounding="twice", arithmetic="", four_bits=MICRO_FOUR_BITS.get(kind, "")) if kind in ROUND_TWICE else kernel
    for kind, kernel in KERNELS.items()
    if kind not in MICRO_REASONS
}
LITERT_MICRO = Capabilities(
    name="litert-micro",
    channel_multiple=4,  # CMSIS-NN multiplies four neighbouring int8 at a time; not measured here
    kernels=MICRO_KERNELS | dict.fromkeys(("avg_pool2d", "avg_pool1d"), MICRO_MEAN),
    floats=frozenset(),
    reasons=MICRO_REASONS,
    integer_io=True,
)


def micro_capabilities(cpu: str = "") -> Capabilities:
    """The table of the interpreter for microcontrollers; it does not ask for the instruction set."""
    return LITERT_MICRO
