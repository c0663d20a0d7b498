"""Runs .tflite files in the interpreter for microcontrollers; numpy and the runtime alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tersenet.errors import MissingDependencyError, ModelError
from tersenet.target import Placement
from tersenet.targets.litert.arena import smallest_arena
from tersenet.targets.litert.capabilities import MICRO_OPERATORS
from tersenet.targets.litert.run import as_floats, checked, first_line
from tersenet.tensors import Port

# More than any microcontroller has; the exact need is found by `arena`.
ROOMY = 64 << 20


class MicroRunner:
    """The runner of the `litert-micro` target."""

    def load(self, path: Path, threads: int = 1) -> MicroSession:
        """One core runs it, whatever `threads` says."""
        return MicroSession(Path(path))

    def inner(self, path: Path, arrays: Sequence[np.ndarray]) -> Mapping[str, np.ndarray] | None:
        """Every computed tensor, integers brought back to floats."""
        graph = checked(Path(path))
        interpreter = _interpreter(Path(path), inner=True)
        _invoke(interpreter, arrays, Path(path))
        found = {}
        for index, tensor in enumerate(graph.tensors):
            if tensor.data is None and tensor.name and not tensor.variable:
                found[tensor.name] = as_floats(np.asarray(interpreter.GetTensor(index, 0)["tensor_data"]).reshape(tensor.shape), tensor.numbers)
        return found


class MicroSession:
    """One file, loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.graph = checked(path)
        lacking = sorted({operator.code for operator in self.graph.operators} - set(MICRO_OPERATORS))
        if lacking:
            raise ModelError(f"{path} has operators that the interpreter for microcontrollers lacks: {', '.join(lacking)}.")
        self.interpreter = _interpreter(path)
        self.inputs = tuple(_port(self.graph.tensors[index]) for index in self.graph.inputs)
        self.outputs = tuple(_port(self.graph.tensors[index]) for index in self.graph.outputs)

    def run(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        _invoke(self.interpreter, arrays, self.path)
        return [np.asarray(self.interpreter.get_output(index)) for index in range(len(self.outputs))]

    def memory(self) -> tuple[int, str] | None:
        """The smallest arena in which the file runs, exact on this machine."""
        return smallest_arena(self.path)["bytes"], "arena"

    def operators(self) -> Placement:
        """All of them run on the interpreter's reference kernels, which are all that it has."""
        counts = dict(sorted(Counter(operator.code for operator in self.graph.operators).items()))
        return Placement(counts, 1.0)


def _interpreter(path: Path, *, inner: bool = False) -> Any:
    try:
        from tflite_micro.python.tflite_micro import runtime
    except ImportError as error:
        raise MissingDependencyError("running files for microcontrollers needs tflite-micro: pip install 'tersenet[litert-micro]'") from error
    config = runtime.InterpreterConfig.kPreserveAllTensors if inner else runtime.InterpreterConfig.kAllocationRecording
    try:
        return runtime.Interpreter.from_file(str(path), arena_size=ROOMY, intrepreter_config=config)
    except (RuntimeError, ValueError) as error:
        raise ModelError(f"{path} is not a model that the interpreter for microcontrollers runs: {first_line(error)}") from error


def _invoke(interpreter: Any, arrays: Sequence[np.ndarray], path: Path) -> None:
    try:
        for index, array in enumerate(arrays):
            interpreter.set_input(array, index)
        interpreter.invoke()
    except (RuntimeError, ValueError) as error:
        raise ModelError(f"the interpreter for microcontrollers could not run {path} on these arrays: {first_line(error)}") from error


def _port(tensor: Any) -> Port:
    numbers = {} if tensor.numbers is None else {"scale": tensor.numbers.scale[0], "zero_point": tensor.numbers.zero_point[0]}
    return Port(tensor.name, tensor.shape, tensor.dtype, source=tensor.name, **numbers)
