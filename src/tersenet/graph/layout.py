"""What the axes of an input mean, told by the first convolution that it reaches."""

from __future__ import annotations

from typing import Any

from torch import fx

CHANNELS_FIRST = {3: "NCW", 4: "NCHW", 5: "NCDHW"}
_CONVOLUTIONS = {"conv1d", "conv2d", "conv3d", "convolution", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d"}
# Operators that leave the axes as they are.
_KEEP = (
    {"add", "sub", "mul", "div", "neg", "clamp", "relu", "sigmoid", "tanh", "to", "_to_copy", "contiguous", "clone", "dropout", "batch_norm"}
    | {"instance_norm", "pad", "constant_pad_nd", "slice", "max_pool1d", "max_pool2d", "avg_pool1d", "avg_pool2d"}
    | {"upsample_nearest2d", "upsample_bilinear2d", "fake_quantize_per_tensor_affine"}
)


def image_layout(placeholder: fx.Node) -> str:
    """``NCHW``, ``NHWC``, ``NCW`` ... of an input whose first consumer is a convolution, through arithmetic, padding and permutes; else ""."""
    rank = placeholder.meta["val"].dim()
    if rank not in CHANNELS_FIRST:
        return ""
    node: Any = placeholder
    axes = list(range(rank))
    while True:
        user: Any = next((reader for reader in node.users if _kind(reader) != "sym_size"), None)  # in the order of the graph
        kind = _kind(user)
        if user is None or not kind or not user.args or user.args[0] is not node:
            return ""
        if kind in _CONVOLUTIONS:
            letters = CHANNELS_FIRST[rank]
            return "".join(letters[axes.index(axis)] for axis in range(rank))
        if kind == "permute":
            axes = [axes[axis] for axis in user.args[1]]
        elif kind == "transpose":
            first, second = user.args[1], user.args[2]
            axes[first], axes[second] = axes[second], axes[first]
        elif kind not in _KEEP:
            return ""
        node = user


def _kind(node: fx.Node | None) -> str:
    return getattr(getattr(node.target, "overloadpacket", None), "__name__", "") if node is not None and node.op == "call_function" else ""
