"""Readable names for layers and parameters, made from those of the file."""

from __future__ import annotations

import re
from collections.abc import Mapping

from tersenet.frontends.onnx.node import Node

# What exporters call a tensor that had no name: onnx::Conv_123, val_7, 42, const_fold_opt__12.
_MADE_UP = re.compile(r"^(onnx::\w*|val_\d+|_?v?_?\d+|const\w*?_*\d*|\w*constant\w*|.*_quantized|.*_output_\d+|.*Output\w*|t\d+)$", re.IGNORECASE)
# Operator -> what its constants are called where the file has no name for them, by position.
ROLES: Mapping[str, tuple[str, ...]] = {
    "BatchNormalization": ("", "weight", "bias", "running_mean", "running_var"),
    "GRU": ("", "weight_ih", "weight_hh", "bias"),
    "InstanceNormalization": ("", "weight", "bias"),
    "LSTM": ("", "weight_ih", "weight_hh", "bias"),
    "RNN": ("", "weight_ih", "weight_hh", "bias"),
    "Gather": ("weight",),
}
_WEIGHTED = ("", "weight", "bias")
# What the frontend calls otherwise than the file.
_WRITTEN: Mapping[str, tuple[str, ...]] = {"Linear": ("MatMul", "Gemm", "MatMulInteger", "QLinearMatMul", "QGemm")}


def readable(name: str) -> str:
    """A name as a module path: ``/layer1/layer1.0/Conv`` -> ``layer1.layer1.0.Conv``."""
    dotted = re.sub(r"[^\w.]+", "_", re.sub(r"[/:]+", ".", name))
    return ".".join(part for part in dotted.split(".") if part) or "unnamed"


def layer_name(node: Node) -> str:
    """Of the part of the module that computes a node."""
    return readable(node.name)


def constant_name(name: str, node: Node, place: int) -> str:
    """A constant's own name, or one made from the layer that reads it."""
    if not _MADE_UP.match(name):
        return readable(name)
    roles = ROLES.get(node.kind, _WEIGHTED)
    role = roles[place] if place < len(roles) and roles[place] else "value"
    layer = layer_name(node)
    parts = layer.split(".")
    if len(parts) > 1 and re.sub(r"_\d+$", "", parts[-1]) in (
        node.kind,
        *_WRITTEN.get(node.kind, ()),
    ):  # torch: layer1.conv1.Conv
        layer = ".".join(parts[:-1])
    return f"{layer}.{role}"
