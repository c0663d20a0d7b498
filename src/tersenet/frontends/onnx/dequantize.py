"""The operators of quantized files, each as the float operator that it stands for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch

from tersenet.errors import ModelError
from tersenet.frontends.onnx import dequantize_transformers
from tersenet.frontends.onnx.linear import blocks, readers
from tersenet.frontends.onnx.node import Node
from tersenet.frontends.onnx.program import Block, Operation, Program
from tersenet.frontends.onnx.quantized import Grid, Opener, Rule, at
from tersenet.frontends.onnx.tensors import Constant

MICROSOFT = "com.microsoft"
# What can read numbers that are scaled as they come, as floats: in which places -> where it takes their scale (-1: nowhere) and zero point.
INTEGER_READERS: Mapping[str, Mapping[int, tuple[int, int]]] = {
    "ConvInteger": {0: (-1, 2), 1: (-1, 3)},
    "DequantizeLinear": {0: (1, 2)},
    "MatMulInteger": {0: (-1, 2), 1: (-1, 3)},
    "MatMulIntegerToFloat": {0: (2, 4), 1: (3, 5)},
}


def open_quantized(program: Program) -> None:
    """A quantized program as a float one, in place: weights as floats beside their grids, grids of activations marked."""
    opener = Opener(program, RULES)
    for block in list(blocks(program))[::-1]:
        opener.block(block)


def scale_weights(program: Program) -> None:
    """Scales that are multiplied in after a product of integers go into its weights: ``MatMulInteger``, ``Cast``, ``Mul``."""
    for block in blocks(program):
        _scale_weights(program, block)


def _quantize(opener: Opener, operation: Operation) -> bool:
    source = operation.inputs[0]
    if opener.constant(source) is not None or source in opener.grids:
        return False
    return opener.quantize(operation.node, source, Grid(operation.inputs[1], at(operation, 2), ""), operation.outputs[0])


def _dequantize(opener: Opener, operation: Operation) -> bool:
    """Real already, where the grids are one; else from the integers."""
    name = operation.inputs[0]
    if name not in opener.grids:
        return False
    grid = opener.grids[name]
    if grid is not None and not _same(opener, grid, Grid(operation.inputs[1], at(operation, 2), "")):
        return False
    opener.emit(Node("Identity", "", 13, operation.node.name), (name,), operation.outputs[0])
    return True


def _same(opener: Opener, one: Grid, other: Grid) -> bool:
    def numbers(name: str) -> list[float]:
        constant = opener.constant(name)
        return constant.value.double().reshape(-1).tolist() if constant is not None else [0.0]

    return numbers(one.scale) == numbers(other.scale) and numbers(one.zero) == numbers(other.zero)


def _dynamic(opener: Opener, operation: Operation) -> bool:
    """Numbers scaled as they come: the floats themselves, in steps of 1 from 0, where nothing looks at the integers."""
    name, *numbers = operation.outputs
    if name in opener.results or not all(_centres(reader, place, numbers) for reader, place in opener.readers.get(name, ())):
        return False
    opener.emit(Node("Identity", "", 13, operation.node.name), operation.inputs[:1], operation.outputs[0])
    opener.grids[operation.outputs[0]] = None
    for place, value in ((1, torch.tensor(1.0)), (2, torch.tensor(0, dtype=torch.uint8))):
        if place < len(operation.outputs) and operation.outputs[place]:
            opener.program.constants[operation.outputs[place]] = Constant(value, str(value.dtype).removeprefix("torch."))
    return True


def _result(opener: Opener, operation: Operation, node: Node, inputs: tuple[str, ...], scale: int) -> bool:
    """A float operator, its result on the grid that the inputs from `scale` on name."""
    made, output = opener.fresh(operation.outputs[0]), operation.outputs[0]
    opener.emit(node, inputs, made)
    marked, grid = Node("QuantizeLinear", "", 13, f"{node.name}_grid"), Grid(operation.inputs[scale], at(operation, scale + 1), "")
    if not opener.quantize(marked, made, grid, output):
        opener.emit(marked, tuple(filter(None, (made, grid.scale, grid.zero))), output)
    return True


def _centres(reader: Operation, place: int, numbers: Sequence[str]) -> bool:
    """Whether an operator takes integers with the scale and the zero point that were found for them: the floats themselves, then."""
    places = INTEGER_READERS.get(reader.node.kind, {}).get(place)
    if places is None or len(numbers) < len(places):
        return False
    return all(number and at(reader, own) == number for own, number in zip(places, numbers, strict=True) if own >= 0)


def _float(operation: Operation, kind: str, opset: int = 13) -> Node:
    return replace(operation.node, kind=kind, domain="", opset=opset)


def _bias(opener: Opener, name: str, source: str, weight: str) -> str:
    """An int32 bias, in steps of input times weight."""
    bias, one, other = (opener.constant(entry) for entry in (name, source, weight))
    if bias is not None and one is not None and other is not None:
        return opener.hold(name, Constant(bias.value.float() * (one.value.float() * other.value.float()).reshape(-1), "float32", True))
    floats, steps, made = opener.fresh(name), opener.fresh(name), opener.fresh(name)
    opener.emit(Node("Cast", "", 13, f"{name}_float", {"to": 1}), (name,), floats)
    opener.emit(Node("Mul", "", 13, f"{name}_steps"), (source, weight), steps)
    opener.emit(Node("Mul", "", 13, f"{name}_real"), (floats, steps), made)
    return made


def _convolution(opener: Opener, operation: Operation) -> bool:
    inputs = [opener.real(operation, 0, 1, 2), opener.real(operation, 3, 4, 5, axis=0)]
    if at(operation, 8):
        inputs.append(_bias(opener, operation.inputs[8], operation.inputs[1], operation.inputs[4]))
    return _result(opener, operation, _float(operation, "Conv"), tuple(inputs), 6)


def _product(opener: Opener, operation: Operation) -> bool:
    inputs = opener.real(operation, 0, 1, 2, axis=-1), opener.real(operation, 3, 4, 5, axis=-1)
    return _result(opener, operation, _float(operation, "MatMul"), inputs, 6)


def _gemm(opener: Opener, operation: Operation) -> bool:
    """com.microsoft.QGemm: without a scale of its own the result is float."""
    by_column = 0 if operation.node.get("transB", 0) else 1
    inputs = [opener.real(operation, 0, 1, 2), opener.real(operation, 3, 4, 5, axis=by_column)]
    if at(operation, 6):
        inputs.append(_bias(opener, operation.inputs[6], operation.inputs[1], operation.inputs[4]))
    if at(operation, 7):
        return _result(opener, operation, _float(operation, "Gemm"), tuple(inputs), 7)
    opener.emit(_float(operation, "Gemm"), tuple(inputs), operation.outputs[0])
    return True


def _binary(kind: str) -> Rule:
    def rule(opener: Opener, operation: Operation) -> bool:
        return _result(opener, operation, _float(operation, kind), (opener.real(operation, 0, 1, 2), opener.real(operation, 3, 4, 5)), 6)

    return rule


def _unary(kind: str, opset: int = 13) -> Rule:
    def rule(opener: Opener, operation: Operation) -> bool:
        if operation.node.get("channels_last", 0):
            raise ModelError(f"the node {operation.node.name} ({operation.node.kind}) has channels last, which is not read.")
        return _result(opener, operation, _float(operation, kind, opset), (opener.real(operation, 0, 1, 2),), 3)

    return rule


def _concat(opener: Opener, operation: Operation) -> bool:
    """com.microsoft.QLinearConcat: the result's numbers first, then three inputs for each part."""
    parts = tuple(opener.real(operation, place, place + 1, place + 2) for place in range(2, len(operation.inputs), 3))
    return _result(opener, operation, _float(operation, "Concat"), parts, 0)


def _where(opener: Opener, operation: Operation) -> bool:
    inputs = operation.inputs[0], opener.real(operation, 1, 2, 3), opener.real(operation, 4, 5, 6)
    return _result(opener, operation, _float(operation, "Where"), inputs, 7)


def _integer(kind: str) -> Rule:
    """``ConvInteger`` and ``MatMulInteger``: sums of integers; of numbers scaled as they come, the sums of these."""

    def rule(opener: Opener, operation: Operation) -> bool:
        inputs, scaled = [], False
        for place in (0, 1):
            name, zero = operation.inputs[place], at(operation, place + 2)
            if opener.grids.get(name, "") is None:
                inputs.append(name)
                scaled = True
                continue
            if name in opener.grids:
                name = opener.integers(name)
            inputs.append(_centred(opener, name, zero, -1 if kind == "MatMul" else 0))
        made = operation.outputs[0] if scaled else opener.fresh(operation.outputs[0])
        opener.emit(_float(operation, kind), tuple(inputs), made)
        if not scaled:
            opener.emit(Node("Cast", "", 13, f"{operation.node.name}_whole", {"to": 6}), (made,), operation.outputs[0])
        return True

    return rule


def _centred(opener: Opener, name: str, zero: str, axis: int) -> str:
    """Integers less their zero point, as floats."""
    constant, offset = opener.constant(name), opener.constant(zero)
    if zero and offset is None:
        floats, shift_floats, made = opener.fresh(name), opener.fresh(zero), opener.fresh(name)
        opener.emit(Node("Cast", "", 13, f"{name}_float", {"to": 1}), (name,), floats)
        opener.emit(Node("Cast", "", 13, f"{zero}_float", {"to": 1}), (zero,), shift_floats)
        if constant is not None and axis == 0:  # one for each channel, which are the first axis of these weights and not the last
            sizes = opener.hold(f"{zero}_sizes", Constant(torch.tensor([-1, *[1] * (constant.value.dim() - 1)]), "int64"))
            along = opener.fresh(zero)
            opener.emit(Node("Reshape", "", 13, f"{zero}_along"), (shift_floats, sizes), along)
            shift_floats = along
        opener.emit(Node("Sub", "", 13, f"{name}_centred"), (floats, shift_floats), made)
        return made
    shift = torch.tensor(0.0) if offset is None else offset.value.float()
    if constant is not None:
        shape = [-1 if index == axis % constant.value.dim() else 1 for index in range(constant.value.dim())] if shift.numel() > 1 else []
        return opener.hold(name, Constant(constant.value.float() - shift.reshape(shape), "float32", constant.weight))
    floats, made = opener.fresh(name), opener.fresh(name)
    opener.emit(Node("Cast", "", 13, f"{name}_float", {"to": 1}), (name,), floats)
    opener.emit(Node("Sub", "", 13, f"{name}_centred"), (floats, opener.hold(f"{name}_zero", Constant(shift.reshape(-1)[0], "float32"))), made)
    return made


def _product_to_float(scale: int, zero: int, bias: int, source: tuple[int, int] | None) -> Rule:
    """com.microsoft.DynamicQuantizeMatMul and MatMulIntegerToFloat: a float times a matrix of integers."""

    def rule(opener: Opener, operation: Operation) -> bool:
        left = operation.inputs[0] if source is None else opener.real(operation, 0, *source)
        right = opener.real(operation, 1, scale, zero, axis=-1)
        made = operation.outputs[0] if not at(operation, bias) else opener.fresh(operation.outputs[0])
        opener.emit(_float(operation, "MatMul"), (left, right), made)
        if at(operation, bias):
            opener.emit(Node("Add", "", 13, f"{operation.node.name}_bias"), (made, operation.inputs[bias]), operation.outputs[0])
        return True

    return rule


def _lstm(opener: Opener, operation: Operation) -> bool:
    """com.microsoft.DynamicQuantizeLSTM: weights are (directions, inputs, 4 * size), turned against ONNX's own."""
    made = list(operation.inputs[:8])
    for place, scale in ((1, 8), (2, 10)):
        weight, steps, zero = (opener.constant(at(operation, index)) for index in (place, scale, scale + 1))
        if weight is None or steps is None:
            raise ModelError(f"the node {operation.node.name} ({operation.node.kind}): weights and scales must be constants.")
        value = weight.value.float()
        if zero is not None:
            value = value - _by_direction(zero.value.float())
        value = (value * _by_direction(steps.value.float())).transpose(1, 2)
        made[place] = opener.hold(operation.inputs[place], Constant(value, "float32", weight.weight))
    operation.node, operation.inputs = _float(operation, "LSTM", 14), tuple(made)
    opener.made.append(operation)
    return True


def _by_direction(numbers: torch.Tensor) -> torch.Tensor:
    """(directions) or (directions, 4 * size) beside weights of (directions, inputs, 4 * size)."""
    return numbers.reshape(numbers.shape[0], 1, -1) if numbers.dim() else numbers


RULES: Mapping[tuple[str, str], Rule] = {
    **dequantize_transformers.RULES,
    ("", "QuantizeLinear"): _quantize,
    ("", "DequantizeLinear"): _dequantize,
    ("", "DynamicQuantizeLinear"): _dynamic,
    ("", "QLinearConv"): _convolution,
    ("", "QLinearMatMul"): _product,
    ("", "ConvInteger"): _integer("Conv"),
    ("", "MatMulInteger"): _integer("MatMul"),
    (MICROSOFT, "QuantizeLinear"): _quantize,
    (MICROSOFT, "DequantizeLinear"): _dequantize,
    (MICROSOFT, "DynamicQuantizeLSTM"): _lstm,
    (MICROSOFT, "DynamicQuantizeMatMul"): _product_to_float(2, 3, 4, None),
    (MICROSOFT, "MatMulIntegerToFloat"): _product_to_float(3, 5, 6, (2, 4)),
    (MICROSOFT, "QGemm"): _gemm,
    (MICROSOFT, "QLinearAdd"): _binary("Add"),
    (MICROSOFT, "QLinearAveragePool"): _unary("AveragePool", 19),
    (MICROSOFT, "QLinearConcat"): _concat,
    (MICROSOFT, "QLinearConv"): _convolution,
    (MICROSOFT, "QLinearGlobalAveragePool"): _unary("GlobalAveragePool"),
    (MICROSOFT, "QLinearLeakyRelu"): _unary("LeakyRelu", 16),
    (MICROSOFT, "QLinearMul"): _binary("Mul"),
    (MICROSOFT, "QLinearReduceMean"): _unary("ReduceMean"),
    (MICROSOFT, "QLinearSigmoid"): _unary("Sigmoid"),
    (MICROSOFT, "QLinearSoftmax"): _unary("Softmax"),
    (MICROSOFT, "QLinearWhere"): _where,
}


def _scale_weights(program: Program, block: Block) -> None:
    counts = readers(program)
    makers = {operation.outputs[0]: operation for operation in block.operations if operation.outputs}
    for operation in list(block.operations):
        if operation.node.kind != "Mul" or operation.node.domain:
            continue
        for value, factor in (operation.inputs, operation.inputs[::-1]):
            cast, scale = makers.get(value), program.constants.get(factor)
            product = makers.get(cast.inputs[0]) if cast is not None and cast.node.kind == "Cast" else None
            if product is None or scale is None or counts[value] > 1 or counts[product.outputs[0]] > 1:
                continue
            if _take_scale(program, product, scale.value, counts[product.inputs[1]]):
                operation.node, operation.inputs = Node("Identity", "", 13, operation.node.name), (product.outputs[0],)
                break


def _take_scale(program: Program, product: Operation, scale: torch.Tensor, read: int) -> bool:
    weight = program.constants.get(product.inputs[1])
    if weight is None or read > 1 or product.node.kind not in ("Conv", "MatMul") or len(product.inputs) > 2:
        return False
    outputs = weight.value.shape[0 if product.node.kind == "Conv" else -1]
    if scale.numel() not in (1, outputs) or not scale.is_floating_point():
        return False
    shape: list[int] = [-1, *[1] * (weight.value.dim() - 1)] if product.node.kind == "Conv" else [-1]
    program.constants[product.inputs[1]] = replace(weight, value=weight.value * scale.float().reshape(shape), grid=None)
    return True
