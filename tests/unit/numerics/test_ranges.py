"""Range estimators against torch's observers, numpy and their own laws."""

from __future__ import annotations

import pytest
import torch

from tersenet.errors import DataError, RecipeError
from tersenet.numerics.ranges import ESTIMATORS, MinMax, MovingAverage, estimator
from tersenet.schemes import Scheme

torch.set_num_threads(1)
SIGNED = Scheme("int8")


def batches(seed: int, count: int = 5) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(2, 3, 8, generator=generator) * (index + 1) for index in range(count)]


def test_minmax_is_the_minmax_of_everything() -> None:
    watcher = MinMax()
    for batch in batches(0):
        watcher.observe(batch)
    everything = torch.cat(batches(0))
    assert watcher.range(SIGNED) == (everything.min().item(), everything.max().item())


def test_moving_average_by_hand() -> None:
    watcher = MovingAverage(momentum=0.75)
    for low, high in ((-1.0, 1.0), (-2.0, 5.0), (0.0, 1.0)):
        watcher.observe(torch.tensor([low, high]))
    assert watcher.range(SIGNED) == (-0.9375, 1.75)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_every_estimator_refuses_nothing_and_nan(name: str) -> None:
    watcher = estimator(name)
    with pytest.raises(DataError, match="without data"):
        watcher.range(SIGNED)
    watcher.observe(torch.empty(0, 3))
    with pytest.raises(DataError, match="without data"):
        watcher.range(SIGNED)
    for bad in (float("nan"), float("inf")):
        with pytest.raises(DataError, match="NaN or infinity"):
            estimator(name).observe(torch.tensor([1.0, bad, 0.0]))


def test_names_and_numbers_are_checked() -> None:
    assert estimator("moving-average", momentum=0.5) == MovingAverage(0.5)
    with pytest.raises(RecipeError, match="did you mean 'minmax'"):
        estimator("minmaks")
    with pytest.raises(RecipeError, match="takes momentum, got 'percent'"):
        estimator("moving-average", percent=1.0)
    with pytest.raises(RecipeError, match="takes no numbers"):
        estimator("minmax", percent=1.0)
    with pytest.raises(RecipeError, match="momentum must be"):
        MovingAverage(1.0)
