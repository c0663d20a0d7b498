"""Sentences of the capability tables in Chinese, for `docs/operators.zh.md`. A test compares: every sentence of a table is here, and no other."""

from __future__ import annotations

from collections.abc import Mapping

CHINESE: Mapping[str, str] = {
    # why an operator stays in float
    "onnxruntime's CPU kernels have no integer ConvTranspose": "onnxruntime 的 CPU 内核没有整数的 ConvTranspose",
    "onnxruntime has integer kernels for sums and products, not for differences": "onnxruntime 有求和与乘积的整数内核，没有求差的",
    "onnxruntime has integer kernels for sums and products, not for quotients": "onnxruntime 有求和与乘积的整数内核，没有求商的",
    "onnxruntime's integer Resize cuts fractions off instead of rounding them": "onnxruntime 的整数 Resize 直接舍去小数，而不是四舍五入",
    "LiteRT has no layer norm: it is composed of means and products, which lose too much in int8": (
        "LiteRT 没有 layer norm：它由求平均与乘积组合而成，用 int8 计算损失过大"
    ),
    "LiteRT has no group norm: it is composed of means and products, which lose too much in int8": (
        "LiteRT 没有 group norm：它由求平均与乘积组合而成，用 int8 计算损失过大"
    ),
    "the interpreter for microcontrollers has no GELU": "微控制器的解释器没有 GELU",
    "the interpreter for microcontrollers has no TILE": "微控制器的解释器没有 TILE",
    "its steps would be written out in floats, and microcontrollers run integers alone": "它的各步会以浮点展开，而微控制器只执行整数",
    "the interpreter for microcontrollers runs LSTMs of int8 weights on integer states alone, which plans do not speak of yet": (
        "微控制器的解释器只在整数状态上执行 int8 权重的 LSTM，目前的量化方案还不能表达它"
    ),
    "ExecuTorch hands it to XNNPACK in float alone": "ExecuTorch 只以浮点把它交给 XNNPACK",
    "XNNPACK does not take it: it runs in float on ExecuTorch's portable kernel": "XNNPACK 不接受它：它以浮点在 ExecuTorch 的可移植内核上执行",
    "ExecuTorch has no recurrent operator: each step is written out, in float": "ExecuTorch 没有循环算子：每一步都以浮点展开",
    "ExecuTorch's kernels convolve over one or two axes": "ExecuTorch 的内核只在一个或两个轴上做卷积",
    # limits worth knowing
    "input and state are quantized anew at each product; no projection": "输入与状态在每次乘积时重新量化；不支持投影",
    "weights are kept in 8 bits and the arithmetic is in floats": "权重以 8 位保存，计算用浮点",
    "to one value a channel; other sizes run in float": "每个通道归为一个值；其他尺寸以浮点执行",
    "to 1x1; other sizes run in float": "归为 1x1；其他尺寸以浮点执行",
    "one group, no dilation": "只有一组，没有空洞",
    "each row of input and state is quantized anew at each step; from a given state, or with its last cell state read, as for gru": (
        "输入与状态的每一行在每一步重新量化；给定初始状态，或读取最后的单元状态时，与 gru 相同"
    ),
    "each step is written out; weights are kept in 8 bits and the arithmetic is in floats": "每一步都展开；权重以 8 位保存，计算用浮点",
    "as a depthwise convolution": "写作深度卷积",
    "strides up to the size of the window": "步长不超过窗口大小",
    "steps other than one: rows and columns of images alone": "步长不为一时，只限图像的行与列",
}
