"""Observing a network's values on calibration data, one batch at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import fx

from tersenet.errors import DataError
from tersenet.model import as_tensors, fails_on
from tersenet.numerics.means import Mean
from tersenet.numerics.ranges import Estimator


class Observer(fx.Interpreter):
    """Runs a graph and shows each chosen value to its estimator and its mean; values are freed after their last reader."""

    def __init__(self, module: fx.GraphModule, estimators: Mapping[str, Estimator], means: Mapping[str, Mean]) -> None:
        super().__init__(module)
        self.extra_traceback = False  # fx would write the graph's own traceback into our messages
        self.estimators = estimators
        self.means = means

    def run_node(self, node: fx.Node) -> Any:
        value = super().run_node(node)
        for watching in (self.estimators, self.means):
            if node.name in watching:
                watching[node.name].observe(value)
        return value


def calibrate(
    module: fx.GraphModule,
    estimators: Mapping[str, Estimator],
    batches: Iterable[tuple[np.ndarray, ...]],
    progress: Callable[[int], None] = lambda count: None,
    means: Mapping[str, Mean] | None = None,
) -> int:
    """Run batches through a deployable graph and let the estimators see the values that they are named for.

    Memory does not grow with the number of batches.

    Args:
        module: the deployable graph.
        estimators: by the names of the nodes whose values they observe.
        batches: tuples of arrays, one for each input of the network.
        progress: called with the number of samples seen so far.
        means: the same as estimators, for means.

    Returns:
        The number of samples seen.

    Raises:
        DataError: samples that the network fails on (a token beyond its table); a value that is NaN or infinite, with the
            name of the operator that made it; or no samples at all.
    """
    observer, seen = Observer(module, estimators, means or {}), 0
    with torch.no_grad():
        for arrays in batches:
            tensors = as_tensors(arrays)
            try:
                observer.run(*tensors)
            except (IndexError, RuntimeError, ValueError) as error:
                raise DataError(fails_on("the calibration samples", error)) from error
            seen += len(arrays[0])
            progress(seen)
    if not seen:
        raise DataError("calibration needs at least one sample; the calibration part is empty.")
    return seen
