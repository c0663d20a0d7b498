"""What onnxruntime's CPU kernels do in integers. Found by looking at the graph as version 1.32 runs it, operator by operator."""

from __future__ import annotations

import platform

from tersenet.capabilities import Capabilities, Kernel
from tersenet.errors import RecipeError, unknown
from tersenet.measure.cpu import instruction_sets

# The instruction sets that its integer kernels are written for -> whether they add pairs of products in 16 bits.
SATURATES = {"x86-avx2": True, "x86-avx512": True, "x86-avx-vnni": False, "x86-avx512-vnni": False, "arm64": False}
# How many columns MLAS's integer matrix kernels make at once. On AVX2 sixteen, and eight where no more are left (QgemmU8X8KernelAvx2.S). On AVX-512
# measured (`benchmarks/channels.py`, VNNI): 17 to 32 channels take 32 to 35 us, 33 to 48 take 40 to 43, 49 to 64 take 49 to 51; counts that are no
# multiple of four take half as much again, for products are packed in fours. ARM's were not measured.
COLUMNS = {"x86-avx512": 16, "x86-avx512-vnni": 16}

CLIPS = ("relu", "relu6", "clamp", "clamp[-1,1]")
FREE = Kernel()
SAME = Kernel(shares="result")
ALL_SAME = Kernel(shares="all")
UNSIGNED = Kernel(result=(1 / 256, -128))
CHANNELS = ("per-channel", "per-tensor")
# Weights of 4 bits become such of 8 when the file is loaded (`four_bits`): the kernels are the same.
WEIGHTED = Kernel(weights=("int8",), granularities=CHANNELS, fuses=CLIPS, four_bits="always")
STORED = Kernel(
    ("int8",), ("float32",), CHANNELS, dynamic="never", four_bits="always", note="weights are kept in 8 bits and the arithmetic is in floats"
)
KERNELS = {
    **dict.fromkeys(("conv1d", "depthwise_conv1d", "conv2d", "depthwise_conv2d", "conv3d", "linear"), WEIGHTED),
    "lstm": Kernel(("int8",), ("float32",), CHANNELS, dynamic="whole", note="input and state are quantized anew at each product; no projection"),
    **dict.fromkeys(("gru", "rnn_tanh", "rnn_relu"), STORED),
    "embedding": SAME,
    "matmul": Kernel(fuses=CLIPS),
    "add": Kernel(fuses=CLIPS, arithmetic="mlas"),
    "mul": Kernel(fuses=CLIPS),
    "where": FREE,
    "relu": FREE,
    "leaky_relu": FREE,
    "sigmoid": UNSIGNED,
    "softmax": UNSIGNED,
    "adaptive_avg_pool1d": Kernel(note="to one value a channel; other sizes run in float"),
    "adaptive_avg_pool2d": Kernel(arithmetic="mlas", note="to 1x1; other sizes run in float"),
    "concat": ALL_SAME,
    "stack": ALL_SAME,
    "maximum": ALL_SAME,
    "minimum": ALL_SAME,
    **dict.fromkeys(("relu6", "clamp", "max_pool1d", "max_pool2d", "adaptive_max_pool2d", "amax", "amin"), SAME),
    **dict.fromkeys(("avg_pool1d", "avg_pool2d"), Kernel(shares="result", arithmetic="mlas")),
    **dict.fromkeys(("reshape", "permute", "expand", "tile", "flip", "roll", "slice", "select", "split", "unbind", "getitem", "pad"), SAME),
    **dict.fromkeys(("reflection_pad", "pixel_shuffle", "pixel_unshuffle", "channel_shuffle", "gather", "index_select", "index"), SAME),
    "resize_nearest": SAME,
}
REASONS = {
    "conv_transpose1d": "onnxruntime's CPU kernels have no integer ConvTranspose",
    "conv_transpose2d": "onnxruntime's CPU kernels have no integer ConvTranspose",
    "sub": "onnxruntime has integer kernels for sums and products, not for differences",
    "div": "onnxruntime has integer kernels for sums and products, not for quotients",
    "resize_bilinear": "onnxruntime's integer Resize cuts fractions off instead of rounding them",
}


def capabilities(cpu: str = "") -> Capabilities:
    """The table for an instruction set; "" is this machine's.

    Raises:
        RecipeError: the instruction set is not one of `SATURATES`.
    """
    name = cpu or this_cpu()
    if name not in SATURATES:
        raise RecipeError(unknown("instruction set of onnxruntime", name, SATURATES))
    return Capabilities(
        "onnxruntime",
        KERNELS,
        restricted_weights=False,
        saturating_pairs=SATURATES[name],
        reasons=REASONS,
        channel_multiple=COLUMNS.get(name, 8),
    )


def this_cpu() -> str:
    """The instruction set that onnxruntime chooses its kernels for on this machine."""
    if platform.machine().lower() in ("arm64", "aarch64"):
        return "arm64"
    found = instruction_sets()
    return next((f"x86-{name}" for name in ("avx512-vnni", "avx-vnni", "avx512") if name in found), "x86-avx2")
