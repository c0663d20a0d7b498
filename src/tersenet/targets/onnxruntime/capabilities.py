"""What onnxruntime's CPU kernels do in integers. Found by looking at the graph as version 1.32 runs it, operator by operator."""

from __future__ import annotations

import platform
from pathlib import Path

from tersenet.capabilities import Capabilities, Kernel
from tersenet.errors import RecipeError, unknown

# The instruction sets that its integer kernels are written for -> whether they add pairs of products in 16 bits.
SATURATES = {"x86-avx2": True, "x86-avx512": True, "x86-avx-vnni": False, "x86-avx512-vnni": False, "arm64": False}

CLIPS = ("relu", "relu6", "clamp", "clamp[-1,1]")
MOVES = Kernel(shares="result")
WEIGHTED = Kernel(weights=("int8",), granularities=("per-channel", "per-tensor"), fuses=CLIPS)
KERNELS = {
    "conv1d": WEIGHTED,
    "depthwise_conv1d": WEIGHTED,
    "conv2d": WEIGHTED,
    "depthwise_conv2d": WEIGHTED,
    "conv3d": WEIGHTED,
    "linear": WEIGHTED,
    "matmul": Kernel(fuses=CLIPS),
    "add": Kernel(fuses=CLIPS),
    "mul": Kernel(fuses=CLIPS),
    "concat": Kernel(shares="all"),
    "sigmoid": Kernel(result=(1 / 256, -128)),
    "softmax": Kernel(result=(1 / 256, -128)),
    "leaky_relu": Kernel(),
    "relu": MOVES,
    "avg_pool1d": MOVES,
    "avg_pool2d": MOVES,
    "adaptive_avg_pool2d": Kernel(),
    "max_pool1d": MOVES,
    "max_pool2d": MOVES,
    "amax": MOVES,
    "amin": MOVES,
    "reshape": MOVES,
    "permute": MOVES,
    "expand": MOVES,
    "tile": MOVES,
    "flip": MOVES,
    "roll": MOVES,
    "slice": MOVES,
    "select": MOVES,
    "split": MOVES,
    "getitem": MOVES,
    "pad": MOVES,
    "reflection_pad": MOVES,
    "resize_nearest": MOVES,
    "pixel_shuffle": MOVES,
    "gather": MOVES,
    "index_select": MOVES,
}


def capabilities(cpu: str = "") -> Capabilities:
    """The table for an instruction set; "" is this machine's.

    Raises:
        RecipeError: the instruction set is not one of `SATURATES`.
    """
    name = cpu or this_cpu()
    if name not in SATURATES:
        raise RecipeError(unknown("instruction set of onnxruntime", name, SATURATES))
    return Capabilities("onnxruntime", KERNELS, saturating_pairs=SATURATES[name])


def this_cpu() -> str:
    """The instruction set that onnxruntime chooses its kernels for on this machine."""
    if platform.machine().lower() in ("arm64", "aarch64"):
        return "arm64"
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return "x86-avx2"
    flags = set(next((line for line in text.splitlines() if line.startswith("flags")), "").split())
    if "avx512_vnni" in flags:
        return "x86-avx512-vnni"
    if "avx_vnni" in flags:
        return "x86-avx-vnni"
    return "x86-avx512" if "avx512bw" in flags else "x86-avx2"
