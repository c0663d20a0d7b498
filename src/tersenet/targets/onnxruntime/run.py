"""Runs .onnx files in onnxruntime; numpy and the runtime alone (looking inside a file needs the onnx package too)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tersenet.errors import MissingDependencyError, ModelError
from tersenet.target import Placement
from tersenet.tensors import Port

TYPES = {
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(float16)": "float16",
    "tensor(bool)": "bool",
    **{f"tensor({sign}int{bits})": f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)},
}
PROVIDERS = ["CPUExecutionProvider"]
FATAL_ONLY = 4  # of onnxruntime's log, which goes to the process's own stream: what matters is raised


class OnnxRunner:
    """The runner of the `onnxruntime` target."""

    def load(self, path: Path, threads: int = 1) -> OnnxSession:
        return OnnxSession(Path(path), threads)

    def inner(self, path: Path, arrays: Sequence[np.ndarray]) -> Mapping[str, np.ndarray] | None:
        from tersenet.targets.onnxruntime.inside import inner_values

        return inner_values(Path(path), arrays)


class OnnxSession:
    """One file, loaded."""

    def __init__(self, path: Path, threads: int = 1) -> None:
        self.path = path
        self.session = open_session(read(path), path, threads)
        try:
            self.inputs = tuple(_port(value) for value in self.session.get_inputs())
            self.outputs = tuple(_port(value) for value in self.session.get_outputs())
        except UnicodeDecodeError as error:  # the runtime takes any bytes for a name
            raise ModelError(f"{path} is not a model that can be run: a name in it is not text.") from error

    def run(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        fed = {port.name: array for port, array in zip(self.inputs, arrays, strict=True)}
        try:
            return [np.asarray(result) for result in self.session.run(None, fed)]
        except Exception as error:
            raise ModelError(f"onnxruntime could not run {self.path} on these arrays: {_first_line(error)}") from error

    def memory(self) -> tuple[int, str] | None:
        """None: onnxruntime's Python package has no figure of its arena."""
        return None

    def operators(self) -> Placement:
        from tersenet.targets.onnxruntime.inside import placement

        return placement(self.path)


def read(path: Path) -> bytes:
    """The file's bytes, which a session is made from: a file is then never held open, and never looks for others beside it."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror or error}.") from error


def open_session(model: bytes, path: Path, threads: int, optimized: Path | None = None) -> Any:
    """A session on bytes.

    Args:
        model: the bytes.
        path: where they come from, for the message.
        threads: that operators may use.
        optimized: where the runtime writes the graph as it will run it.

    Raises:
        ModelError: they are no model that the runtime reads.
    """
    runtime = _runtime()
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = FATAL_ONLY
    if optimized is not None:
        options.optimized_model_filepath = str(optimized)
    try:
        return runtime.InferenceSession(model, options, providers=PROVIDERS, enable_fallback=0)  # which would print on stdout
    except Exception as error:
        raise ModelError(f"{path} is not a model that onnxruntime {runtime.__version__} reads: {_first_line(error)}") from error


def _runtime() -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingDependencyError("running .onnx files needs onnxruntime: pip install 'tersenet[onnxruntime]'") from error
    return onnxruntime


def _port(value: Any) -> Port:
    if value.type not in TYPES:
        raise ModelError(f"{value.name} is a {value.type}; files whose inputs and outputs are tensors of numbers can be run.")
    shape = tuple(size if isinstance(size, int) else None for size in value.shape)
    return Port(value.name, shape, TYPES[value.type], source=value.name)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
