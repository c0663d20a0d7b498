"""Runs .onnx files in onnxruntime; numpy and the runtime alone (looking inside a file needs the onnx package too)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tersenet.errors import ModelError
from tersenet.target import Placement, contents
from tersenet.targets.onnxruntime.session import first_line, open_session
from tersenet.tensors import Port

TYPES = {
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(float16)": "float16",
    "tensor(bool)": "bool",
    **{f"tensor({sign}int{bits})": f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)},
}


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
        self.session = open_session(contents(path), path, threads)
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
            raise ModelError(f"onnxruntime could not run {self.path} on these arrays: {first_line(error)}") from error

    def memory(self) -> tuple[int, str] | None:
        """None: onnxruntime's Python package has no figure of its arena."""
        return None

    def operators(self) -> Placement:
        from tersenet.targets.onnxruntime.inside import placement

        return placement(self.path)


def _port(value: Any) -> Port:
    if value.type not in TYPES:
        raise ModelError(f"{value.name} is a {value.type}; files whose inputs and outputs are tensors of numbers can be run.")
    shape = tuple(size if isinstance(size, int) else None for size in value.shape)
    return Port(value.name, shape, TYPES[value.type], source=value.name)
