"""Opens onnxruntime's sessions, on bytes: a file is then never held open, and never looks for others beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tersenet.errors import MissingDependencyError, ModelError

PROVIDERS = ["CPUExecutionProvider"]
FATAL_ONLY = 4  # of onnxruntime's log, which goes to the process's own stream: what matters is raised


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
        raise ModelError(f"{path} is not a model that onnxruntime {runtime.__version__} reads: {first_line(error)}") from error


def _runtime() -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingDependencyError("running .onnx files needs onnxruntime: pip install 'tersenet[onnxruntime]'") from error
    return onnxruntime


def first_line(error: Exception) -> str:
    """The line of a runtime's message that says what is wrong."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
