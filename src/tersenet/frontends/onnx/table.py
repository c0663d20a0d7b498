"""Every operator of ONNX by name: the function that computes it, or the reason why it is refused.

Names of other domains than ONNX's own have the domain before them (``com.microsoft.FusedConv``).
"""

from __future__ import annotations

from collections.abc import Mapping

from tersenet.frontends.onnx.node import Operator

OPERATORS: Mapping[str, Operator] = {
    # convolution.py
    "Conv": Operator("convolution", "conv"),
    "ConvTranspose": Operator("convolution", "conv_transpose"),
}
# Name -> why there is no way to run it as a fixed sequence of tensor operators.
REFUSED: Mapping[str, str] = {
    "Loop": "it loops on the data; unroll it when exporting",
    "Scan": "it loops on the data; unroll it when exporting",
}
