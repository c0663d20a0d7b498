"""What LiteRT's interpreter with its XNNPACK delegate can do. Every row was tried; `tests/parity` tries them again."""

from __future__ import annotations

from tersenet.capabilities import Capabilities, Kernel

ACTIVATIONS = ("relu", "relu6", "clamp[-1,1]")
BOTH = ("int8", "int16")
WEIGHTED = Kernel(("int8",), BOTH, ("per-channel", "per-tensor"), ACTIVATIONS)
FREE = Kernel()
SAME = Kernel(shares="result")
ALL_SAME = Kernel(shares="all")

KERNELS = {
    "conv2d": WEIGHTED,
    "depthwise_conv2d": WEIGHTED,
    "conv1d": WEIGHTED,
    "depthwise_conv1d": WEIGHTED,
    "conv_transpose2d": Kernel(("int8",), BOTH, ("per-channel", "per-tensor"), note="one group, no dilation"),
    "conv_transpose1d": Kernel(("int8",), BOTH, ("per-channel", "per-tensor"), note="one group, no dilation"),
    "linear": WEIGHTED,
    "matmul": Kernel(activations=("int8",)),
    "embedding": Kernel(("int8",), ("int8",), ("per-tensor",)),
    "add": Kernel(activations=BOTH, fuses=ACTIVATIONS),
    "sub": Kernel(activations=BOTH, fuses=ACTIVATIONS),
    "mul": Kernel(activations=BOTH, fuses=ACTIVATIONS),
    "relu": FREE,
    "relu6": FREE,
    "leaky_relu": FREE,
    "prelu": FREE,
    "hardswish": FREE,
    "hardsigmoid": FREE,
    "silu": FREE,
    "elu": FREE,
    "gelu": FREE,
    "sigmoid": Kernel(result=(1 / 256, -128)),
    "tanh": Kernel(result=(1 / 128, 0)),
    "softmax": Kernel(result=(1 / 256, -128)),
    "mean": FREE,
    "adaptive_avg_pool2d": FREE,
    "adaptive_avg_pool1d": FREE,
    "avg_pool2d": SAME,
    "avg_pool1d": SAME,
    "max_pool2d": SAME,
    "max_pool1d": SAME,
    "adaptive_max_pool2d": SAME,
    "amax": SAME,
    "amin": SAME,
    "maximum": ALL_SAME,
    "minimum": ALL_SAME,
    "clamp": SAME,
    "concat": ALL_SAME,
    "stack": ALL_SAME,
    **dict.fromkeys(
        ("reshape", "permute", "slice", "select", "split", "unbind", "getitem", "pad", "reflection_pad", "expand", "tile", "flip", "roll"), SAME
    ),
    **dict.fromkeys(("pixel_shuffle", "pixel_unshuffle", "channel_shuffle", "gather", "index_select", "index", "resize_nearest", "resize_bilinear"), SAME),
}

LITERT = Capabilities(
    name="litert",
    kernels=KERNELS,
    float_fuses={kind: ACTIVATIONS for kind in ("conv2d", "depthwise_conv2d", "conv1d", "depthwise_conv1d", "linear", "add", "sub", "mul", "div")},
    reasons={
        "layer_norm": "LiteRT has no layer norm: it is composed of means and products, which lose too much in int8",
        "group_norm": "LiteRT has no group norm: it is composed of means and products, which lose too much in int8",
        "lstm": "the integer LSTM of LiteRT needs a calibration of its gates; it runs in float with int8 weights",
    },
)


def capabilities(cpu: str = "") -> Capabilities:
    """LiteRT's table; the same on every instruction set."""
    return LITERT
