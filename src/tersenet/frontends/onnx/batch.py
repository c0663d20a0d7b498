"""A batch that is written into a file as a number, opened: exact for one sample at a time, and proven on data before it is believed."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence, Set
from typing import Any

import numpy as np
import torch

from tersenet.errors import TersenetError
from tersenet.frontends.onnx.linear import OWN
from tersenet.frontends.onnx.node import Node
from tersenet.frontends.onnx.sizes import Sizes
from tersenet.model import Model

TOLERANCE = 1e-4  # of the largest number of an output
Value = torch.Tensor | Sizes | None
Given = tuple[list[Value], list[Sizes | None]]


def opened(node: Node, values: list[Value], known: list[Sizes | None], batch: int, count: Any) -> Given:
    """An operator's inputs with the open batch where the file has its own written: sizes, and states that are constants.

    Args:
        batch: the number that is written into the file.
        count: the open batch.
    """
    rule = RULES.get(node.kind)
    return rule(node, values, known, batch, count) if rule is not None and node.domain in ("", OWN) else (values, known)


def _reshape(node: Node, values: list[Value], known: list[Sizes | None], batch: int, count: Any) -> Given:
    """The axis that holds the batch, found in the wanted shape by what lies before it: ``(B, 8, 7, 7)`` to ``[1, -1]`` is to ``(B, -1)``."""
    data, wanted = values[0], known[1]
    if not isinstance(data, torch.Tensor) or wanted is None or not all(isinstance(size, int) for size in wanted.flat):
        return values, known
    open_axes = [axis for axis, size in enumerate(data.shape) if not isinstance(size, int)]
    if len(open_axes) != 1:
        return values, known
    axis = open_axes[0]
    sizes = [data.shape[place] if size == 0 and place < axis else size for place, size in enumerate(wanted.flat)]
    before = math.prod(data.shape[:axis])
    starts = [place for place in range(len(sizes)) if -1 not in sizes[:place] and math.prod(sizes[:place]) == before]
    size: Any = data.shape[axis]
    within = before * (size.node.hint // count.node.hint)  # an axis of 7 times the batch may have it inside: (7, B)
    prefixes = [math.prod(sizes[:place]) for place in range(len(sizes)) if -1 not in sizes[:place]]
    exact = [place for place, prefix in enumerate(prefixes) if sizes[place] == batch and before <= prefix <= within]
    if exact:
        chosen = min(exact, key=lambda place: abs(place - axis))
    elif starts:  # merged with what comes after it (heads), or before it where that is the last axis, which holds features
        chosen = starts[-1] - 1 if starts[-1] == len(sizes) - 1 and starts[-1] else starts[-1]
    if (not starts and not exact) or sizes[chosen] in (0, -1) or sizes[chosen] % batch:  # 0 keeps the axis open as it is
        return values, known
    made = Sizes.of([size // batch * count if place == chosen else size for place, size in enumerate(sizes)])
    return [data, made], [known[0], made]


def _recurrent(node: Node, values: list[Value], known: list[Sizes | None], batch: int, count: Any) -> Given:
    """Initial states, ``(directions, batch, size)``, that are constants of the file's batch."""
    made = list(values)
    first = 1 if node.domain else 5
    for place in range(first, min(len(values), first + 2)):
        state = values[place]
        if isinstance(state, torch.Tensor) and state.dim() == 3:
            axis = 0 if node.get("layout", 0) else 1
            if isinstance(state.shape[axis], int) and state.shape[axis] == 1:
                made[place] = state.narrow(axis, 0, 1).expand(*(count if index == axis else size for index, size in enumerate(state.shape)))
    return made, known


def _concat(node: Node, values: list[Value], known: list[Sizes | None], batch: int, count: Any) -> Given:
    """A constant of the file's batch (a class token) beside an open one."""
    tensors = [value for value in values if isinstance(value, torch.Tensor)]
    opens = [tensor for tensor in tensors if tensor.dim() and not isinstance(tensor.shape[0], int)]
    if batch != 1 or len(tensors) != len(values) or not opens or node.get("axis", 1) % opens[0].dim() == 0:
        return values, known
    return [tensor.expand(count, *tensor.shape[1:]) if tensor.shape[0] == 1 else tensor for tensor in tensors], known


# Operators in whose inputs exporters write the batch. Expand and broadcasting need no rule: a size of 1 gives way to any.
RULES: Mapping[str, Callable[[Node, list[Value], list[Sizes | None], int, Any], Given]] = {
    "Concat": _concat,
    "GRU": _recurrent,
    "LSTM": _recurrent,
    "RNN": _recurrent,
    "Reshape": _reshape,
}


def why_joined(model: Model, reference: Callable[..., Any], examples: Sequence[torch.Tensor], axes: Sequence[Set[int]]) -> str:
    """Why an opened batch does not give what the file gives for each part alone; "" where it does.

    Args:
        model: traced with an open batch.
        reference: the file's own network at its own batch, on tensors.
        examples: inputs of the file's own batch.
        axes: of each input, the one that holds the batch, if any.
    """
    parts = [[_drawn(tensor, part) for tensor in examples] for part in range(2)]
    joined = [torch.cat([one, other], min(held)) if held else one for one, other, held in zip(*parts, axes, strict=True)]
    shared = [[part[place] if held else parts[0][place] for place, held in enumerate(axes)] for part in parts]
    try:
        with torch.no_grad():
            wanted = [reference(*part) for part in shared]
        got = model(*(tensor.numpy() for tensor in joined))
    except (TersenetError, RuntimeError) as error:
        return f"two samples at once fail: {error}"
    for spec, result, *each in zip(model.outputs, got if isinstance(got, tuple) else (got,), *wanted, strict=True):
        axis = next((place for place, size in enumerate(spec.shape) if size is None), None)
        if axis is None:
            return f"the output {spec.name} has no batch"
        whole = np.concatenate([part.numpy() for part in each], axis)
        if whole.shape != result.shape or not np.allclose(
            whole, result, rtol=1e-3, atol=1e-4 * max(1.0, float(np.abs(whole[np.isfinite(whole)]).max(initial=0))), equal_nan=True
        ):
            return f"the output {spec.name} of a sample depends on the others beside it"
    return ""


def _drawn(tensor: torch.Tensor, part: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(part)
    if tensor.is_floating_point():
        return torch.randn(tensor.shape, generator=generator)
    return torch.randint(0, 2, tensor.shape, generator=generator).to(tensor.dtype)
