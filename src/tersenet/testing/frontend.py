"""What every frontend must keep: one line of a test tells whether it does."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from tersenet.graph.training import trainable
from tersenet.model import Model

_READABLE = re.compile(r"^\w+(\.\w+)*$")


def check_frontend(
    load: Callable[[Any], Model],
    source: Any,
    reference: Callable[..., Any],
    inputs: Sequence[np.ndarray],
    tolerance: float = 1e-4,
    training: Callable[..., Any] | None = None,
) -> Model:
    """Hold a frontend to its contract.

    Args:
        load: reads `source`.
        source: what the frontend reads.
        reference: the same network in its own framework: arrays in, an array or a tuple of arrays out.
        inputs: arrays, axis 0 the batch, of 2 samples or more.
        tolerance: largest difference allowed of any output, relative to the largest output, or absolute where that is below 1.
        training: the same network in training mode, dropout off: batch norm by the batch's own statistics. None where it has no such mode.

    Returns:
        The model, for further checks.

    Raises:
        AssertionError: names what does not hold.
    """
    model = load(source)
    _check_names(model)
    _check_batch(model, inputs)
    _check_outputs(model, model(*inputs), reference(*inputs), tolerance)
    if training is not None:
        _check_outputs(model, replace(model, graph=trainable(model, dropout=0.0))(*inputs), training(*inputs), tolerance)
    again = load(source)
    _require(again.fingerprint == model.fingerprint, "a second load of the same source has another fingerprint; names or order are not settled")
    return model


def _require(holds: bool, what: str) -> None:
    if not holds:
        raise AssertionError(what)


def _check_names(model: Model) -> None:
    names = [spec.name for spec in (*model.inputs, *model.outputs)]
    _require(len(set(names)) == len(names), f"names of inputs and outputs must differ: {names}")
    for name in model.graph.state_dict():
        _require(_READABLE.match(name) is not None, f"the parameter name {name!r} is not readable")
    placeholders = [node.name for node in model.graph.graph.nodes if node.op == "placeholder"]
    _require(len(placeholders) == len(model.inputs), f"{len(model.inputs)} inputs are described, the graph takes {placeholders}")
    for node in model.graph.graph.nodes:
        _require(node.op == "output" or "val" in node.meta, f"the node {node.name} has no shape (meta['val'])")


def _check_batch(model: Model, inputs: Sequence[np.ndarray]) -> None:
    batches = [spec.shape[0] for spec in model.inputs if spec.shape]
    if model.fixed_batch:
        _require(None not in batches[:1], f"fixed_batch says {model.fixed_batch!r}, and the batch is open")
    else:
        _require(None in batches, "the batch is fixed, and fixed_batch does not say why")
        one = _arrays(
            model(*(array[:1] if spec.shape and spec.shape[0] is None else array for array, spec in zip(inputs, model.inputs, strict=True)))
        )
        _require(len(one) == len(model.outputs), f"{len(one)} outputs come out, {len(model.outputs)} are described")
        for spec, array in zip(model.outputs, one, strict=True):
            _require(len(spec.shape) == array.ndim, f"output {spec.name} is described as {spec.shape}, and is {array.shape}")


def _check_outputs(model: Model, found: Any, asked: Any, tolerance: float) -> None:
    got, wanted = _arrays(found), _arrays(asked)
    _require(
        len(got) == len(wanted) == len(model.outputs), f"{len(wanted)} outputs are wanted, {len(got)} come out, {len(model.outputs)} are described"
    )
    for spec, here, there in zip(model.outputs, got, wanted, strict=True):
        _require(here.shape == there.shape, f"output {spec.name} has the shape {here.shape}, wanted {there.shape}")
        _require(str(here.dtype) == spec.dtype, f"output {spec.name} is {here.dtype}, described as {spec.dtype}")
        largest = max(1.0, float(np.abs(there).max(initial=0.0)))
        error = float(np.abs(here.astype(np.float64) - there.astype(np.float64)).max(initial=0.0))
        _require(error <= tolerance * largest, f"output {spec.name} differs by {error:.2e}, allowed {tolerance * largest:.2e}")


def _arrays(value: Any) -> tuple[np.ndarray, ...]:
    return tuple(np.asarray(part) for part in value) if isinstance(value, tuple | list) else (np.asarray(value),)
