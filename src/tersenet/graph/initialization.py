"""Weights as they are before anything was learned: seeded, each drawn as its operator asks for."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, fx

from tersenet.graph.operators import MOVEMENTS, aten_name, kind_of
from tersenet.graph.training import learned, trainable
from tersenet.graph.walk import bind
from tersenet.model import Model

_CONVOLUTIONS = {"conv1d", "conv2d", "conv3d", "depthwise_conv1d", "depthwise_conv2d", "conv_transpose1d", "conv_transpose2d"}
_NORMS = {"batch_norm", "layer_norm", "group_norm", "instance_norm", "rms_norm"}
_RECURRENT = {"lstm", "gru", "rnn_tanh", "rnn_relu"}
_OTHER = 0.02  # deviation of tables of positions and the like (Radford et al. 2018)


def initialized(model: Model, seed: int = 0) -> Model:
    """The same network with random weights.

    Convolutions: normal, deviation ``sqrt(2 / fan_in)`` (He et al. 2015, equation 10). Linear layers, recurrent ones and all
    their biases: uniform in ``+-1 / sqrt(fan_in)`` (of recurrent ones the size of the state), biases of convolutions zero. Norms:
    weight 1, bias 0, running mean 0 and variance 1. Embeddings: normal. A prelu's slopes: 0.25. Other parameters: normal, deviation 0.02.

    Args:
        model: stays as it is.
        seed: of the numbers.
    """
    module = trainable(model)
    generator = torch.Generator().manual_seed(seed)
    done: set[int] = set()
    state = {**dict(module.named_buffers()), **dict(module.named_parameters(remove_duplicate=False))}
    with torch.no_grad():
        for node in module.graph.nodes:
            tensor = state.get(str(node.target)) if node.op == "get_attr" else None
            if tensor is None or id(tensor) in done or not tensor.is_floating_point():
                continue
            reader, role = next(_uses(node), (None, ""))
            if isinstance(tensor, torch.nn.Parameter) or role in ("running_mean", "running_var"):
                done.add(id(tensor))
                _draw(tensor, reader, role, generator)
        for name, places in model.annotations.codebooks.items():
            state[name].copy_(state[name].reshape(-1)[: int(places.max()) + 1][torch.from_numpy(places.astype(np.int64))])
        for name, mask in model.annotations.masks.items():
            state[name].mul_(torch.from_numpy(mask))
    return replace(learned(model, module), provenance={**model.provenance, "initialized": seed})


def _uses(node: fx.Node) -> Iterator[tuple[fx.Node, str]]:
    """The operators that read a tensor, behind those that only move it, and the name of the argument that it is."""
    for user in node.users:
        if kind_of(user) in MOVEMENTS - {"embedding"}:
            yield from _uses(user)
        elif user.op == "call_function" and hasattr(user.target, "_schema"):
            for name, value in bind(user).items():
                if value is node or (isinstance(value, list | tuple) and node in value):
                    yield user, name


def _draw(tensor: Tensor, reader: fx.Node | None, role: str, generator: torch.Generator) -> None:
    kind = kind_of(reader) if reader is not None else ""
    if kind in _NORMS:
        tensor.fill_(1.0 if role in ("weight", "running_var") else 0.0)
    elif kind in _CONVOLUTIONS:
        if role == "weight":
            tensor.normal_(0.0, math.sqrt(2.0 / _fan_in(tensor, kind)), generator=generator)
        else:
            tensor.zero_()
    elif kind in ("linear", "matmul") or (reader is not None and aten_name(reader).startswith("addmm")):
        bound = 1.0 / math.sqrt(max(_fan_in(tensor, kind) if tensor.dim() > 1 else tensor.numel(), 1))
        tensor.uniform_(-bound, bound, generator=generator)
    elif kind in _RECURRENT:
        gates = {"lstm": 4, "gru": 3}.get(kind, 1)
        bound = 1.0 / math.sqrt(max(tensor.shape[0] // gates, 1))
        tensor.uniform_(-bound, bound, generator=generator)
    elif kind == "embedding":
        tensor.normal_(0.0, 1.0, generator=generator)
    elif kind == "prelu":
        tensor.fill_(0.25)
    elif tensor.dim() == 1 and kind == "add":
        tensor.zero_()
    elif tensor.dim() == 1 and kind == "mul":
        tensor.fill_(1.0)
    else:
        tensor.normal_(0.0, _OTHER, generator=generator)


def _fan_in(tensor: Tensor, kind: str) -> int:
    """How many numbers go into one result. A transposed convolution's weight is (in, out, ...); of others the first axis is that of results."""
    if kind == "matmul":
        return tensor.shape[-2]
    first = tensor.shape[0] if kind.startswith("conv_transpose") else tensor.shape[1]
    return first * math.prod(tensor.shape[2:])
