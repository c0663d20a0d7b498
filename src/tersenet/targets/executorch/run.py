"""Runs .pte files in ExecuTorch's own runtime. That runtime imports torch, and takes and returns its tensors."""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from tersenet.errors import DataError, MissingDependencyError, ModelError
from tersenet.target import Placement, contents
from tersenet.targets.executorch.program import Program, read_program
from tersenet.targets.executorch.silence import native_quiet, quiet
from tersenet.tensors import Port


class ExecuTorchRunner:
    """The runner of the `executorch` target."""

    def load(self, path: Path, threads: int = 1) -> ExecuTorchSession:
        return ExecuTorchSession(path, threads)

    def inner(self, path: Path, arrays: Sequence[np.ndarray]) -> Mapping[str, np.ndarray] | None:
        """None: XNNPACK hides what lies between the operators that it took."""
        return None


class ExecuTorchSession:
    """One loaded program."""

    def __init__(self, path: Path, threads: int) -> None:
        self.path = path
        self.threads = threads
        self.program = _checked(path)
        self.inputs = _ports("input", self.program.inputs)
        self.outputs = _ports("output", self.program.outputs)
        self.method: Any = None
        self.fresh = True
        self._ready()

    def run(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        import torch

        self._ready()
        for array, port in zip(arrays, self.inputs, strict=True):
            if array.shape != port.shape or array.dtype != port.dtype:
                raise DataError(f"{port.name} of {self.path.name} takes {port.dtype}{list(port.shape)}, got {array.dtype}{list(array.shape)}.")
        with native_quiet() if self.fresh else nullcontext():
            results = self.method.execute([torch.from_numpy(np.asarray(array, order="C")) for array in arrays])
        self.fresh = False
        return [result.numpy().copy() for result in results]

    def memory(self) -> tuple[int, str] | None:
        """None: the planner's figure in the file covers inputs, outputs and what portable kernels exchange, and nothing of what
        XNNPACK allocates for packed weights and its own values, which is nearly all. The process's growth says more."""
        return None

    def operators(self) -> Placement:
        counts = Counter(name for part in self.program.delegates for name in part) + Counter(self.program.kernels)
        total = self.program.delegated + len(self.program.kernels)
        why = "XNNPACK did not take it: it runs on ExecuTorch's portable kernel"
        declined = tuple({"op": name, "name": "", "why": why} for name in self.program.kernels)
        return Placement(dict(sorted(counts.items())), self.program.delegated / total if total else 1.0, declined)

    def _ready(self) -> None:
        """Load the method, anew where another session asked for another number of threads in between."""
        _use_threads(self.threads)
        if self.method is None:
            self.method = _load(self.path)
            self.fresh = True
            _loaded.add(self)


# The runtime has one pool of threads for the process, and a method keeps a pointer to the pool that it was loaded with:
# the pool may only be replaced while no method is loaded.
_loaded: weakref.WeakSet[ExecuTorchSession] = weakref.WeakSet()


def _use_threads(count: int) -> None:
    with quiet(), native_quiet():
        from executorch.extension.pybindings import portable_lib

        if portable_lib._threadpool_get_thread_count() == count:
            return
        for session in list(_loaded):
            session.method = None
        _loaded.clear()
        portable_lib._unsafe_reset_threadpool(count)


def _load(path: Path) -> Any:
    with quiet(), native_quiet():
        from executorch.runtime import Runtime

        try:
            return Runtime.get().load_program(path).load_method("forward")
        except (RuntimeError, KeyError) as error:
            raise ModelError(f"{path} is not a program that ExecuTorch runs: {str(error).splitlines()[0]}") from error


def _checked(path: Path) -> Program:
    if find_spec("executorch") is None:
        raise MissingDependencyError("running .pte files needs executorch: pip install 'tersenet[executorch]'")
    try:
        return read_program(contents(path))
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error


def _ports(kind: str, tensors: Sequence[tuple[tuple[int, ...], str]]) -> tuple[Port, ...]:
    return tuple(Port(f"{kind}_{number}", shape, dtype) for number, (shape, dtype) in enumerate(tensors))
