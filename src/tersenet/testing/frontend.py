"""What every frontend must keep: one line of a test tells whether it does."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from tersenet.errors import UnsupportedError
from tersenet.graph.operators import HEAVY, kind_of
from tersenet.graph.training import trainable
from tersenet.graph.walk import calls, is_constant, is_float
from tersenet.model import Model
from tersenet.target import Artifact, ExportOptions, Target
from tersenet.targets import table

Arrays = Sequence[np.ndarray]

_PLAIN = re.compile(r"^\w+(\.\w+)*$")
# What tracers and hashes call a parameter whose own name they lost.
_GENERATED = re.compile(r"(^|\.)(_*(lifted|tensor_constant|param_constant)\w*|[bcp]_\d+|arg\d+\w*|[0-9a-f]{8,})(\.|$)")
# Of a file against the network that it was written from: runtimes have approximations of their own for exp, tanh and their like.
_OF_FILES = 1e-3
# Errors may be this many times the tolerance where they are measured against all of an output: 60 dB for 1e-4.
_RELATIVE = 10.0
# What is left of numbers of size one that cancel in float32: an output as small as this says nothing.
_ROUNDING = 2.0**-22
_PROMISES = ("training", "parameters", "export")


def check_frontend(
    load: Callable[[Any], Model],
    source: Any,
    reference: Callable[..., Any],
    inputs: Sequence[Arrays],
    training: Callable[..., Any] | None = None,
    tolerance: float = 1e-4,
    excused: Mapping[str, str] | None = None,
) -> Model:
    """Hold a frontend to its contract.

    Checks: outputs equal the source framework's own, for all samples at once, for one alone, and in training mode; the batch is
    open, or `fixed_batch` says why not; inputs, outputs and parameters have readable names; weights are parameters, which can learn; a second
    load gives the same fingerprint; every runtime that is installed and has the operators runs the float network, and one of them at least has.

    Args:
        load: reads `source`.
        source: what the frontend reads.
        reference: the same network in its own framework: arrays in, an array or a tuple of arrays out.
        inputs: sets of arrays, random and real ones; axis 0 the batch, of 2 samples or more.
        training: the same network in training mode, dropout off: batch norm by the batch's own statistics.
        tolerance: of every number, relative to its own size, or absolute where that is below 1. The root mean square of an output's errors may
            be 10 times as much of the root mean square of the output, so that small outputs are held too.
        excused: what cannot be kept, and the reason in words: ``training`` (the source has no such mode), ``parameters`` (it has none),
            ``export`` (no file is written), or the name of a runtime.

    Returns:
        The model, for further checks.

    Raises:
        AssertionError: names what does not hold.
    """
    reasons = dict(excused or {})
    _check_reasons(reasons, training)
    model = load(source)
    _check_names(model)
    _check_parameters(model, reasons)
    _check_batch(model)
    for arrays in inputs:
        one = _one(model, arrays)
        _compare(model, model(*arrays), reference(*arrays), tolerance, "")
        _compare(model, model(*one), reference(*one), tolerance, " for one sample")
    again = load(source)
    _require(again.fingerprint == model.fingerprint, "a second load of the same source has another fingerprint; names or order are not settled")
    if "export" not in reasons:
        _check_exports(model, inputs, max(tolerance, _OF_FILES), reasons)
    if training is not None:  # last: the source's own statistics may move
        learning = replace(model, graph=trainable(model, dropout=0.0, source=False))
        for arrays in inputs:
            _compare(model, learning(*arrays), training(*arrays), tolerance, " in training mode")
    return model


def _require(holds: bool, what: str) -> None:
    if not holds:
        raise AssertionError(what)


def _is_reason(text: str) -> bool:
    return len(text.split()) > 2


def _check_reasons(reasons: Mapping[str, str], training: Callable[..., Any] | None) -> None:
    for promise, reason in reasons.items():
        _require(promise in (*_PROMISES, *table.TARGETS), f"{promise!r} is nothing to be excused from: {', '.join((*_PROMISES, *table.TARGETS))}")
        _require(_is_reason(reason), f"{reason!r} is no reason in words to be excused from {promise!r}")
    _require((training is None) == ("training" in reasons), "`training` must be the source in training mode, or `excused` say why there is none")


def _check_names(model: Model) -> None:
    names = [spec.name for spec in (*model.inputs, *model.outputs)]
    _require(len(set(names)) == len(names), f"names of inputs and outputs must differ: {names}")
    for name in model.graph.state_dict():
        _require(_PLAIN.match(name) is not None, f"the parameter name {name!r} is not readable")
    for name, _ in model.graph.named_parameters():
        _require(_GENERATED.search(name) is None, f"the parameter name {name!r} is none that a person gave")
    placeholders = [node.name for node in model.graph.graph.nodes if node.op == "placeholder"]
    _require(len(placeholders) == len(model.inputs), f"{len(model.inputs)} inputs are described, the graph takes {placeholders}")
    for node in model.graph.graph.nodes:
        _require(node.op == "output" or "val" in node.meta, f"the node {node.name} has no shape (meta['val'])")


def _check_parameters(model: Model, reasons: Mapping[str, str]) -> None:
    parameters = {name for name, held in model.graph.named_parameters(remove_duplicate=False) if held.is_floating_point()}
    _require(bool(parameters) or "parameters" in reasons, "nothing can be trained: no tensor is a parameter")
    for node in calls(model.graph):
        if kind_of(node) in HEAVY:
            for held in node.all_input_nodes:
                fixed = is_constant(held) and is_float(held) and str(held.target) not in parameters
                _require(not fixed, f"{node.name} cannot be trained: its {held.target} is no parameter")


def _check_batch(model: Model) -> None:
    batches = [spec.shape[0] for spec in model.inputs if spec.shape]
    if not model.fixed_batch:
        _require(None in batches, "the batch is fixed, and fixed_batch does not say why")
        return
    _require(None not in batches[:1], f"fixed_batch says {model.fixed_batch!r}, and the batch is open")
    _require(_is_reason(model.fixed_batch), f"fixed_batch says {model.fixed_batch!r}, which is no reason in words")


def _one(model: Model, arrays: Arrays) -> list[np.ndarray]:
    """The first sample alone; what has no open batch stays whole."""
    return [array[:1] if spec.shape and spec.shape[0] is None else array for array, spec in zip(arrays, model.inputs, strict=True)]


def _check_exports(model: Model, inputs: Sequence[Arrays], tolerance: float, reasons: Mapping[str, str]) -> None:
    """Every runtime that is installed and takes networks in float runs the file of this one, or refuses it; one at least runs it."""
    installed = [target for target in table.TARGETS.values() if not table.missing((*target.requires, *target.writes))]
    runtimes = [target for target in installed if target.float_twin == target.name and target.name not in reasons]
    refused = []
    for target in runtimes:
        try:
            _check_export(model, target, inputs, tolerance)
        except UnsupportedError as error:
            refused.append(str(error))
    _require(not runtimes or len(refused) < len(runtimes), f"no runtime takes the network: {' '.join(refused)}")


def _check_export(model: Model, target: Target, inputs: Sequence[Arrays], tolerance: float) -> None:
    with TemporaryDirectory() as folder:
        options = ExportOptions(batch=model.batches_of(len(inputs[0][0])))  # all samples at once: an output's batch need not be its first axis
        export = table.exporter(target).export(model, Path(folder) / f"model{target.extension}", options)
        artifact = Artifact(export.path, target.name, table.runner(target).load(export.path), export.inputs, export.outputs)
        for arrays in inputs:
            _compare(model, artifact(*arrays), model(*arrays), tolerance, f" in {target.name}", described=False)


def _compare(model: Model, found: Any, asked: Any, tolerance: float, where: str, described: bool = True) -> None:
    """Hold outputs to those that are asked for; `described`: their types to the model's description."""
    got, wanted = _arrays(found), _arrays(asked)
    counts = f"{len(wanted)} outputs are wanted, {len(got)} come out{where}, {len(model.outputs)} are described"
    _require(len(got) == len(wanted) == len(model.outputs), counts)
    for spec, here, there in zip(model.outputs, got, wanted, strict=True):
        _require(len(spec.shape) == here.ndim, f"output {spec.name} is described as {spec.shape}, and is {here.shape}{where}")
        _require(here.shape == there.shape, f"output {spec.name} has the shape {here.shape}{where}, wanted {there.shape}")
        _require(not described or str(here.dtype) == spec.dtype, f"output {spec.name} is {here.dtype}{where}, described as {spec.dtype}")
        _check_numbers(here.astype(np.float64), there.astype(np.float64), tolerance if there.dtype.kind == "f" else 0.0, f"output {spec.name}{where}")


def _check_numbers(here: np.ndarray, there: np.ndarray, tolerance: float, what: str) -> None:
    if not there.size:
        return
    error, size = np.abs(here - there), np.abs(there)
    worst = np.unravel_index(np.argmax(error / np.maximum(1.0, size)), error.shape)
    most = tolerance * max(1.0, float(size[worst]))
    _require(bool(error[worst] <= most), f"{what} differs by {error[worst]:.2e} where {there[worst]:.4g} is wanted, allowed {most:.2e}")
    noise, signal = (float(np.sqrt(np.mean(values**2))) for values in (error, size))
    most = _RELATIVE * tolerance * signal + _ROUNDING
    _require(noise <= most, f"{what} is small, {signal:.2e}, and differs by {noise:.2e} (root mean squares), allowed {most:.2e}")


def _arrays(value: Any) -> tuple[np.ndarray, ...]:
    return tuple(np.asarray(part) for part in value) if isinstance(value, tuple | list) else (np.asarray(value),)
