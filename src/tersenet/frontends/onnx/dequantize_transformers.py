"""onnxruntime's quantized operators of transformers, each as the float operator that it stands for: attention, embeddings, weights in blocks."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from tersenet.errors import ModelError
from tersenet.frontends.onnx.node import Node
from tersenet.frontends.onnx.program import Operation
from tersenet.frontends.onnx.quantized import Grid, Opener, Rule, at
from tersenet.frontends.onnx.tensors import Constant

MICROSOFT = "com.microsoft"
_BITS = (2, 4, 8)


def _attention(opener: Opener, operation: Operation) -> bool:
    """QAttention: the product that makes queries, keys and values is of integers."""
    source, weight = opener.real(operation, 0, 3, 6), opener.real(operation, 1, 4, 7, axis=1)
    node = operation.node
    if at(operation, 8) or node.get("past_present_share_buffer", 0) or node.get("do_rotary", 0):
        raise ModelError(f"the node {node.name} (QAttention) keeps keys and values of earlier steps, or turns them; export without that.")
    made = Node("Attention", MICROSOFT, 1, node.name, node.attributes, node.outputs)
    operation.node, operation.inputs = made, (source, weight, *operation.inputs[2:3], *([at(operation, 5)] if at(operation, 5) else []))
    opener.made.append(operation)
    return True


def _embedding(opener: Opener, operation: Operation) -> bool:
    """QEmbedLayerNormalization: tables and factors are integers."""
    held = [_table(opener, operation, place, place + 6) for place in range(2, 7)]
    node = Node("EmbedLayerNormalization", MICROSOFT, 1, operation.node.name, operation.node.attributes, operation.node.outputs)
    operation.node, operation.inputs = node, (*operation.inputs[:2], *held, *([at(operation, 7)] if at(operation, 7) else []))
    opener.made.append(operation)
    return True


def _table(opener: Opener, operation: Operation, place: int, scale: int) -> str:
    name, grid = at(operation, place), Grid(at(operation, scale), at(operation, scale + 5), "")
    if not name:
        return ""
    if opener.constant(name) is None or opener.constant(grid.scale) is None:
        raise ModelError(f"the node {operation.node.name} ({operation.node.kind}): its tables and their scales must be constants.")
    return opener.dequantized(name, grid, 0)


def _blocks(opener: Opener, operation: Operation) -> bool:
    """MatMulNBits: a matrix of N rows of K numbers of few bits, each block of a row with a scale and a zero point; the first number lies in the
    lowest bits of a byte."""
    node = operation.node
    bits, block, rows, columns = (int(node.get(name, 0)) for name in ("bits", "block_size", "N", "K"))
    weight, scales, zeros = (opener.constant(at(operation, place)) for place in (1, 2, 3))
    if weight is None or scales is None or (at(operation, 3) and zeros is None) or at(operation, 4) or bits not in _BITS or block < 1:
        raise ModelError(f"the node {node.name} (MatMulNBits) must have {_BITS} bits, constants for weights and scales, and no g_idx.")
    count = -(-columns // block)
    if weight.value.numel() * 8 != rows * count * block * bits or scales.value.numel() != rows * count:
        raise ModelError(f"the node {node.name} (MatMulNBits) has weights and scales that do not fit N, K and block_size.")
    offset: torch.Tensor | float = float(1 << (bits - 1))
    if zeros is not None and zeros.value.is_floating_point():
        offset = zeros.value.float().reshape(rows, count, 1)
    elif zeros is not None:
        offset = _unpacked(zeros.value.reshape(rows, -1), bits)[:, :count].unsqueeze(-1)
    numbers = _unpacked(weight.value.reshape(rows, -1), bits).reshape(rows, count, block)
    matrix = ((numbers - offset) * scales.value.float().reshape(rows, count, 1)).reshape(rows, -1)[:, :columns].t().contiguous()
    held = opener.hold(operation.inputs[1], Constant(matrix, "float32", True))
    made = opener.fresh(operation.outputs[0]) if at(operation, 5) else operation.outputs[0]
    opener.emit(Node("MatMul", "", 13, node.name), (operation.inputs[0], held), made)
    if at(operation, 5):
        opener.emit(Node("Add", "", 13, f"{node.name}_bias"), (made, operation.inputs[5]), operation.outputs[0])
    return True


def _unpacked(packed: torch.Tensor, bits: int) -> torch.Tensor:
    """Bytes as the numbers in them, lowest bits first; the last axis grows."""
    shifts = torch.arange(0, 8, bits)
    parts = (packed.int().unsqueeze(-1) >> shifts) & ((1 << bits) - 1)
    return parts.reshape(*packed.shape[:-1], -1).float()


RULES: Mapping[tuple[str, str], Rule] = {
    (MICROSOFT, "MatMulNBits"): _blocks,
    (MICROSOFT, "QAttention"): _attention,
    (MICROSOFT, "QEmbedLayerNormalization"): _embedding,
}
