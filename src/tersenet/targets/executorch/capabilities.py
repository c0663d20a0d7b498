"""What ExecuTorch's XNNPACK delegate does in integers. Found by exporting, running and reading back each kind (executorch 1.5.1)."""

from __future__ import annotations

from tersenet.capabilities import Capabilities, Kernel

CLIPS = ("relu", "relu6", "clamp", "clamp[-1,1]")
FREE = Kernel()
SAME = Kernel(shares="result")
WEIGHTED = Kernel(weights=("int8",), granularities=("per-channel", "per-tensor"), fuses=CLIPS)
KERNELS = {
    **dict.fromkeys(("conv1d", "depthwise_conv1d", "conv2d", "depthwise_conv2d", "conv_transpose2d", "linear"), WEIGHTED),
    "add": Kernel(fuses=("relu",), arithmetic="xnnpack"),
    "sub": Kernel(arithmetic="xnnpack"),
    "mul": FREE,
    "adaptive_avg_pool2d": Kernel(arithmetic="xnnpack", note="to 1x1; other sizes run in float"),
    "concat": Kernel(shares="all", arithmetic="xnnpack"),
    "max_pool2d": Kernel(shares="result", note="strides up to the size of the window"),
    **dict.fromkeys(("relu", "relu6", "clamp", "reshape", "permute", "pad"), SAME),
    "slice": Kernel(shares="result", note="steps other than one: rows and columns of images alone"),
    **dict.fromkeys(("split", "getitem"), SAME),
}
FLOAT_ONLY = "ExecuTorch hands it to XNNPACK in float alone"
PORTABLE = "XNNPACK does not take it: it runs in float on ExecuTorch's portable kernel"
WRITTEN_OUT = "ExecuTorch has no recurrent operator: each step is written out, in float"
REASONS = {
    **dict.fromkeys(("sigmoid", "tanh", "hardsigmoid", "hardswish", "silu", "gelu", "leaky_relu", "prelu", "softmax", "matmul", "div"), FLOAT_ONLY),
    **dict.fromkeys(
        ("maximum", "minimum", "avg_pool2d", "adaptive_max_pool2d", "max_pool1d", "resize_bilinear", "select", "stack", "pixel_shuffle"), FLOAT_ONLY
    ),
    **dict.fromkeys(("channel_shuffle", "conv_transpose1d", "abs", "neg", "exp", "log", "sqrt", "rsqrt", "square"), FLOAT_ONLY),
    **dict.fromkeys(("layer_norm", "group_norm", "embedding", "log_softmax", "elu", "mean", "sum", "expand", "resize_nearest"), PORTABLE),
    **dict.fromkeys(("lstm", "gru", "rnn_tanh", "rnn_relu"), WRITTEN_OUT),
    "conv3d": "ExecuTorch's kernels convolve over one or two axes",
}


def capabilities(cpu: str = "") -> Capabilities:
    """The table, the same for every instruction set: XNNPACK chooses its kernels when a file is loaded."""
    # As LiteRT, which runs the same kernels; here a run's own cost of about 150 us hides most of the steps.
    return Capabilities("executorch", KERNELS, reasons=REASONS, quantizing="xnnpack", channel_multiple=16)
