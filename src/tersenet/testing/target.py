"""What every target must do. A stranger's target passes or fails by one line: ``check_target(target, folder)``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from tersenet.capabilities import Capabilities
from tersenet.data.parts import Data
from tersenet.errors import TersenetError
from tersenet.graph.operators import ACTIVATIONS, KINDS
from tersenet.graph.simulate import simulate
from tersenet.model import Model
from tersenet.step import Context
from tersenet.steps.quantize import Quantize
from tersenet.target import Artifact, Export, Exporter, ExportOptions, Runner, Target
from tersenet.targets import table
from tersenet.testing.networks import samples, small_convolutional
from tersenet.testing.step import BrokenPromise, must

FUSABLE = ACTIVATIONS | {"clamp[-1,1]"}
# An integer kernel may round a value the other way than floats do; one step of the output, and a little of the next.
STEPS_APART = 2.5


def check_target(target: Target, folder: Path) -> None:
    """Hold a target to its contract on a small convolutional network.

    Checks: the table speaks of known kinds; float and int8 files are written, run, and compute what the network and the
    simulation compute; the same export gives the same bytes; integer input and output work; a damaged file is refused with
    an error of ours.

    Args:
        target: the row of the table, or a stranger's own.
        folder: an empty one.

    Raises:
        BrokenPromise: which promise, and how it was broken.
    """
    exporter, runner = table.exporter(target), table.runner(target)
    capabilities = exporter.capabilities("")
    check_capabilities(capabilities)
    model = small_convolutional()
    x = samples(16, 9)
    data = Data.from_arrays(calibration=samples(64, 7), evaluation=x)
    quantized = Quantize().apply(model, Context((capabilities,), data.without_evaluation())).model
    if capabilities.floats != frozenset():
        _check_float(target, exporter, runner, model, folder, x)
    _check_integers(target, exporter, runner, quantized, folder, x, capabilities.arithmetic)
    _check_damage(target, runner, folder)


def check_capabilities(capabilities: Capabilities) -> None:
    """A table's kinds and fused activations are ones that exist."""
    unknown = (set(capabilities.kernels) | set(capabilities.reasons) | set(capabilities.floats or ())) - KINDS
    must(not unknown, f"{capabilities.name}: its table speaks of unknown kinds: {sorted(unknown)}")
    fused = {kind for kernel in capabilities.kernels.values() for kind in kernel.fuses}
    must(fused <= FUSABLE, f"{capabilities.name}: it fuses what is no activation: {sorted(fused - FUSABLE)}")


def _check_float(target: Target, exporter: Exporter, runner: Runner, model: Model, folder: Path, x: np.ndarray) -> None:
    export = exporter.export(model, folder / f"float{target.extension}", ExportOptions())
    difference = np.abs(_run(runner, export, target, x) - model(x)).max()
    must(bool(difference < 1e-3), f"{target.name}: the float file is {difference} away from the network")


def _check_integers(
    target: Target, exporter: Exporter, runner: Runner, quantized: Model, folder: Path, x: np.ndarray, arithmetic: Mapping[str, str]
) -> None:
    plan = quantized.plan_for(target.name)
    if plan is None:
        raise BrokenPromise(f"{target.name}: its capabilities are named otherwise than itself")
    expected = simulate(quantized, plan, arithmetic)(x)
    step = list(plan.values.values())[-1].scale[0]
    exports = [exporter.export(quantized, folder / f"{name}{target.extension}", ExportOptions()) for name in ("first", "second")]
    must(exports[0].path.read_bytes() == exports[1].path.read_bytes(), f"{target.name}: the same export gave other bytes")
    difference = np.abs(_run(runner, exports[0], target, x) - expected).max() / step
    must(bool(difference < STEPS_APART), f"{target.name}: the file is {difference:.1f} output steps away from the simulation")
    integers = exporter.export(quantized, folder / f"integers{target.extension}", ExportOptions(integer_io=True))
    must(all("int8" in port.dtype and port.scale for port in (*integers.inputs, *integers.outputs)), f"{target.name}: integer_io gave no integers")
    difference = np.abs(_run(runner, integers, target, x) - expected).max() / step
    must(bool(difference < STEPS_APART), f"{target.name}: with integer input and output, {difference:.1f} output steps away")
    placement = runner.load(exports[0].path).operators()
    memory = runner.load(exports[0].path).memory()
    must(memory is None or (memory[0] > 0 and bool(memory[1])), f"{target.name}: memory must be bytes and what they are, got {memory}")
    must(bool(placement.operators) and 0 <= placement.delegated <= 1, f"{target.name}: it cannot say which operators run where")


def _check_damage(target: Target, runner: Runner, folder: Path) -> None:
    whole = (folder / f"first{target.extension}").read_bytes()
    for name, content in (("empty", b""), ("half", whole[: len(whole) // 2]), ("noise", bytes(range(256)) * 8)):
        path = folder / f"{name}{target.extension}"
        path.write_bytes(content)
        try:
            runner.load(path)
        except TersenetError:
            continue
        except Exception as error:
            raise BrokenPromise(f"{target.name}: a damaged file ({name}) ends in {type(error).__name__}, no error of ours: {error}") from error
        must(False, f"{target.name}: a damaged file ({name}) loads without an error")


def _run(runner: Runner, export: Export, target: Target, x: np.ndarray) -> np.ndarray:
    artifact = Artifact(export.path, target.name, runner.load(export.path), export.inputs, export.outputs)
    result = artifact(x)
    must(isinstance(result, np.ndarray), f"{target.name}: one output must come as one array")
    return result  # type: ignore[return-value]
