"""Whether a network whose source was made for one batch size keeps its samples apart at others."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tersenet.errors import DataError
from tersenet.tensors import TensorSpec

if TYPE_CHECKING:
    from tersenet.model import Model

# Of the largest output: what another order of sums may make of it.
TOLERANCE = 1e-3


def mixes_samples(model: Model) -> bool:
    """Whether two samples side by side give something else than each alone, seen on random samples; the batch must be open.

    A reshape that folds the batch into another axis can be right for one sample and wrong for two.
    """
    generator = np.random.default_rng(0)
    pair = [_samples(spec, generator) for spec in model.inputs]
    try:
        together = _tuple(model(*pair))
        alone = [_tuple(model(*(_only(array, spec, sample) for array, spec in zip(pair, model.inputs, strict=True)))) for sample in (0, 1)]
    except DataError:
        return True
    for place, both in enumerate(together):
        parts = [single[place] for single in alone]
        if any(part.shape[:1] != (1,) for part in parts) or both.shape[0] != 2:
            return True
        wanted = np.concatenate(parts)
        largest = float(np.abs(wanted.astype(np.float64)).max(initial=1e-6))
        if both.shape != wanted.shape or not np.allclose(both, wanted, atol=TOLERANCE * largest, rtol=0, equal_nan=True):
            return True
    return False


def _samples(spec: TensorSpec, generator: np.random.Generator) -> np.ndarray:
    """Two samples; whole numbers stay small enough for any table of tokens."""
    shape = [2 if axis == 0 and size is None else size or 8 for axis, size in enumerate(spec.shape)]
    if np.dtype(spec.dtype).kind == "f":
        return generator.random(shape).astype(spec.dtype)
    return generator.integers(0, 2, shape).astype(spec.dtype)


def _only(array: np.ndarray, spec: TensorSpec, sample: int) -> np.ndarray:
    return array[sample : sample + 1] if spec.shape and spec.shape[0] is None else array


def _tuple(value: np.ndarray | tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
    return value if isinstance(value, tuple) else (value,)
