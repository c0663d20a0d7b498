"""The contract of a target: an exporter that writes a file, and a runner that runs that very file.

The two halves do not import one another. A runner imports numpy and its runtime, never torch (save ExecuTorch's, whose
own runtime does), so that a file can be measured on a small device.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from tersenet.errors import DataError, InputError, ModelError, RecipeError, check_known
from tersenet.plain import check_fields
from tersenet.tensors import Port

if TYPE_CHECKING:  # an exporter sees the graph; whoever only runs a file must not need torch
    from tersenet.capabilities import Capabilities
    from tersenet.model import Model

LARGEST_BATCH = 2**16
# What `--cpu` may name; which of them a runtime's kernels tell apart is up to its table.
INSTRUCTION_SETS = ("x86-avx2", "x86-avx512", "x86-avx-vnni", "x86-avx512-vnni", "arm64")


@dataclass(frozen=True)
class ExportOptions:
    """What the user may ask of a file, whatever the runtime.

    Args:
        integer_io: the file takes and returns 8-bit integers; None: as the runtime's capabilities say.
        layout: layout of image inputs in the file: ``NHWC``, ``NCHW``, or "" for the runtime's own.
        batch: the batch size of files that fix one.
        cpu: the instruction set that kernels are chosen for.
        format: options of one format alone, by name (``{"qoperator": True}`` for onnxruntime).
        inside: where the runtime hides a file's inner values, write a second file that returns them (`Export.debug`).
    """

    integer_io: bool | None = None
    layout: str = ""
    batch: int = 1
    cpu: str = ""
    format: Mapping[str, bool | str] = field(default_factory=dict)
    inside: bool = False

    def __post_init__(self) -> None:
        check_fields(self, "options of a file")
        if not isinstance(self.batch, int) or isinstance(self.batch, bool) or not 1 <= self.batch <= LARGEST_BATCH:
            raise InputError(f"a file's batch must be a whole number from 1 to {LARGEST_BATCH}, got {self.batch!r}.")
        if self.layout not in ("", "NHWC", "NCHW"):
            raise InputError(f"the layout of a file's images must be NHWC or NCHW, got {self.layout!r}.")
        check_cpu(self.cpu)


def check_cpu(name: str) -> None:
    """Hold the name of an instruction set to the known ones; "" is this machine's.

    Raises:
        RecipeError: it is unknown, also to runtimes whose files are the same on every processor.
    """
    if not isinstance(name, str) or name:
        check_known("instruction set", name, INSTRUCTION_SETS, RecipeError)


@dataclass(frozen=True)
class Export:
    """What an exporter wrote.

    Args:
        path: the file that ships.
        inputs, outputs: what it takes and returns, in the network's order.
        names: the graph's node names -> the file's tensor names, for every value that the file still has.
        axes: of those that lie otherwise than in the source: node name -> the source's axes in the file's order.
        extra: other files written beside it (a C source, a map).
        notes: sentences for the report: what was converted, split or kept in float, and why.
        runtime: what to install to run the file, where that is more than the target's own says (`Target.runtime`).
        debug: a file of the same graph and plan whose outputs are its inner values too, behind the network's own; it does not ship.
        stateful: it keeps the state of recurrent layers from one run to the next, until whoever runs it resets it.
    """

    path: Path
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    names: Mapping[str, str] = field(default_factory=dict)
    axes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    extra: tuple[Path, ...] = ()
    notes: tuple[str, ...] = ()
    runtime: str = ""
    debug: Export | None = None
    stateful: bool = False


class Exporter(Protocol):
    """Graph and plan in, file out. At most these two methods."""

    def capabilities(self, cpu: str) -> Capabilities:
        """What the runtime can do on an instruction set."""

    def export(self, model: Model, path: Path, options: ExportOptions) -> Export:
        """Write one file for `model`: integer where `model.plan_for(...)` says so, float where there is no plan.

        Raises:
            UnsupportedError: an operator that the runtime cannot run, named, with what to do.
        """


class Session(Protocol):
    """One loaded file."""

    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]

    def run(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Exactly what the file takes (one batch, its dtypes and layout) to exactly what it returns."""

    def memory(self) -> tuple[int, str] | None:
        """Peak bytes of the runtime's own arena or planner, and ``arena`` or ``planner``; None where it has no figure."""

    def operators(self) -> Placement:
        """Which operators the file has and who runs them."""


@dataclass(frozen=True)
class Placement:
    """Which operators a runtime really runs, and on which kernels.

    Args:
        operators: name -> how many, of the graph as the runtime runs it.
        delegated: share (0 to 1) of operators that the fast kernels took (a delegate, or fused integer kernels).
        declined: what they did not take: ``{"op": ..., "name": ..., "why": ...}``.
    """

    operators: Mapping[str, int]
    delegated: float
    declined: tuple[Mapping[str, str], ...] = ()


class Runner(Protocol):
    """Loads a file in its own runtime. At most these two methods."""

    def load(self, path: Path, threads: int = 1) -> Session:
        """Raises ModelError where the file is not one that the runtime reads."""

    def inner(self, path: Path, arrays: Sequence[np.ndarray]) -> Mapping[str, np.ndarray] | None:
        """Every inner tensor by its name in the file, for one input; None where the runtime hides them."""


@dataclass(frozen=True)
class Target:
    """A row of `tersenet.targets.table`.

    Args:
        name: as `--to` names it.
        extension: of its files, with the dot.
        exporter, runner: ``"module:class"``, imported on first use.
        requires: modules that running a file needs.
        writes: modules that exporting needs beside them.
        fragile: a damaged file can crash its runtime: a stranger's file is tried in a process of its own first.
        extra: the optional extra that installs them.
        float_twin: the target that runs this one's float file (itself, save for microcontrollers).
        times: whether this machine's time says anything about the target's.
        about: one line.
        runtime: what to install to run a file, with its least version.
        example: lines of code that run a file; ``{file}``, ``{inputs}``, ``{outputs}`` (how many there are) and ``{reset}`` are filled in.
        reset: a line of code that sets the state of a file that keeps one to zero.
        capabilities: ``"module:function"`` that answers an instruction set with its `Capabilities`; needs no torch.
        format_options: names of the options that this format alone has (`ExportOptions.format`).
    """

    name: str
    extension: str
    exporter: str
    runner: str
    requires: tuple[str, ...]
    extra: str
    float_twin: str
    times: bool
    about: str
    runtime: str = ""
    example: str = ""
    reset: str = ""
    format_options: tuple[str, ...] = ()
    capabilities: str = ""
    writes: tuple[str, ...] = ()
    fragile: bool = False


class Artifact:
    """A file that ships, with its runner: a callable of the network's own inputs, in floats and in the source's layout.

    Args:
        path: the file.
        target: the runtime's name.
        session: the file, loaded.
        inputs, outputs: ports from the exporter or the manifest, where known; else the session's own.
    """

    def __init__(self, path: Path, target: str, session: Session, inputs: Sequence[Port] = (), outputs: Sequence[Port] = ()) -> None:
        self.path = path
        self.target = target
        self.session = session
        self.inputs = tuple(inputs) or session.inputs
        self.outputs = tuple(outputs) or session.outputs

    def __call__(self, *inputs: Any) -> np.ndarray | tuple[np.ndarray, ...]:
        """Run samples, a batch at a time as the file takes them.

        Args:
            inputs: arrays in the network's order and layout (batch first), or one dict of arrays by name, or one tuple.

        Returns:
            One array of floats, or a tuple where there are several outputs.

        Raises:
            DataError: too many or too few arrays, none of numbers, none at all in a batch, or of another shape than the file takes.
        """
        arrays = self._ordered(inputs)
        size = self.inputs[0].shape[self._file_axis(self.inputs[0])] if self.inputs[0].shape else None
        count = len(arrays[0])
        if size is None or count == size:
            results = self._run(arrays)
        else:
            pieces = [self._run(self._batch(arrays, start, size)) for start in range(0, count, size)]
            results = [np.concatenate(parts)[:count] for parts in zip(*pieces, strict=True)]
        return results[0] if len(results) == 1 else tuple(results)

    def _ordered(self, inputs: tuple[Any, ...]) -> list[np.ndarray]:
        if len(inputs) == 1 and isinstance(inputs[0], Mapping):
            lacking = [name for name in self._names() if name not in inputs[0]]
            if lacking:
                raise DataError(f"{self.path.name} takes {', '.join(self._names())}; missing: {', '.join(lacking)}.")
            inputs = tuple(inputs[0][name] for name in self._names())
        elif len(inputs) == 1 and (isinstance(inputs[0], tuple) or (isinstance(inputs[0], list) and len(self.inputs) > 1)):
            inputs = tuple(inputs[0])
        if len(inputs) != len(self.inputs):
            raise DataError(f"{self.path.name} takes {len(self.inputs)} arrays ({', '.join(self._names())}), got {len(inputs)}.")
        arrays = [self._checked(value, port) for value, port in zip(inputs, self.inputs, strict=True)]
        if len({len(array) for array in arrays if array.ndim}) > 1:
            raise DataError(f"all inputs of {self.path.name} must have equally many samples, got {', '.join(str(len(array)) for array in arrays)}.")
        return arrays

    def _names(self) -> list[str]:
        return [port.source or port.name for port in self.inputs]

    def _checked(self, value: Any, port: Port) -> np.ndarray:
        """A value as an array of the shape that the network takes, any number of samples."""
        try:
            array = np.asarray(value.detach().cpu() if hasattr(value, "detach") else value)
        except (TypeError, ValueError, RuntimeError) as error:
            raise DataError(f"{port.source or port.name} cannot be made an array: {error}.") from error
        wanted = [port.shape[port.axes.index(axis)] for axis in range(len(port.shape))] if port.axes else list(port.shape)
        fits = array.ndim == len(wanted) and all(want in (None, got) for want, got in zip(wanted[1:], array.shape[1:], strict=True))
        if array.dtype.kind not in "biuf" or not fits or not array.size:
            shape = ", ".join(["samples", *("any" if size is None else str(size) for size in wanted[1:])])
            raise DataError(f"{port.source or port.name} takes numbers of shape ({shape}), got {array.dtype} of shape {array.shape}.")
        return array

    @staticmethod
    def _file_axis(port: Port) -> int:
        return port.axes.index(0) if port.axes else 0

    @staticmethod
    def _batch(arrays: list[np.ndarray], start: int, size: int) -> list[np.ndarray]:
        """`size` samples; the last one is repeated where there are too few. A scalar is no sample, and goes with all of them."""
        return [array[np.minimum(np.arange(start, start + size), len(array) - 1)] if array.ndim else array for array in arrays]

    def _run(self, arrays: list[np.ndarray]) -> list[np.ndarray]:
        fed = [feed(array, port) for array, port in zip(arrays, self.inputs, strict=True)]
        return [read(array, port) for array, port in zip(self.session.run(fed), self.outputs, strict=True)]


def contents(path: Path) -> bytes:
    """The bytes of a file that a runtime is to load.

    Raises:
        ModelError: it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror or error}.") from error


def as_batch(array: np.ndarray, port: Port) -> np.ndarray:
    """One sample (1, ...) in the source's layout, as many times as the file's batch asks."""
    size = port.shape[port.axes.index(0) if port.axes else 0] if port.shape else None
    return np.repeat(array, size, 0) if size else array


def feed(array: np.ndarray, port: Port) -> np.ndarray:
    """Lay an array of the source out as the file takes it: axes in its order, quantized where it takes integers."""
    if port.axes and port.axes != tuple(range(array.ndim)):
        array = array.transpose(port.axes)
    if port.scale is not None and np.issubdtype(np.dtype(port.dtype), np.integer) and np.issubdtype(array.dtype, np.floating):
        limits = np.iinfo(port.dtype)
        array = np.clip(np.round(array / np.float32(port.scale)) + (port.zero_point or 0), limits.min, limits.max)
    return np.asarray(array, dtype=port.dtype, order="C")


def read(array: np.ndarray, port: Port) -> np.ndarray:
    """The inverse of `feed` for an output: floats, in the source's layout."""
    if port.scale is not None and np.issubdtype(array.dtype, np.integer):
        array = (array.astype(np.float32) - np.float32(port.zero_point or 0)) * np.float32(port.scale)
    if port.axes and port.axes != tuple(range(array.ndim)):
        array = array.transpose(np.argsort(port.axes))
    return np.asarray(array, order="C")
