"""Range estimators against torch's observers, numpy and their own laws."""

from __future__ import annotations

import warnings

import pytest
import torch

from tersenet.errors import DataError, RecipeError
from tersenet.numerics.affine import encode, fake_quantize
from tersenet.numerics.histogram import BINS
from tersenet.numerics.ranges import ESTIMATORS, Entropy, Estimator, MeanSquaredError, MinMax, MovingAverage, Percentile, estimator
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
    with pytest.raises(RecipeError, match="percent must be"):
        Percentile(50.0)


def test_a_hundred_percent_is_minmax() -> None:
    everything, extremes = Percentile(100.0), MinMax()
    for batch in batches(1):
        everything.observe(batch)
        extremes.observe(batch)
    assert everything.range(SIGNED) == extremes.range(SIGNED)


@pytest.mark.parametrize("name", ["minmax", "percentile", "mse", "entropy"])
def test_grouping_and_order_of_batches_do_not_matter(name: str) -> None:
    streamed, turned, at_once = estimator(name), estimator(name), estimator(name)
    for batch in batches(2):
        streamed.observe(batch)
    for batch in reversed(batches(2)):
        turned.observe(batch)
    at_once.observe(torch.cat(batches(2)))
    assert streamed.range(SIGNED) == turned.range(SIGNED) == at_once.range(SIGNED)


def test_minmax_and_average_match_torchs_observers() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        from torch.ao.quantization.observer import MinMaxObserver, MovingAverageMinMaxObserver

        theirs = [MinMaxObserver(), MovingAverageMinMaxObserver(averaging_constant=0.1)]
    ours: list[Estimator] = [MinMax(), MovingAverage(0.9)]
    for batch in batches(3):
        for watcher in theirs:
            watcher(batch)
        for own in ours:
            own.observe(batch)
    for own, watcher in zip(ours, theirs, strict=True):
        assert own.range(SIGNED) == pytest.approx((watcher.min_val.item(), watcher.max_val.item()), rel=1e-6)


def test_mse_matches_or_beats_torchs_histogram_observer() -> None:
    """Torch searches the same criterion greedily over 2048 bins that it interpolates."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        from torch.ao.quantization.observer import HistogramObserver

        theirs = HistogramObserver(dtype=torch.qint8, quant_min=-128, quant_max=127)
    own = MeanSquaredError()
    values = torch.randn(50_000, generator=torch.Generator().manual_seed(4)) ** 3
    theirs(values)
    own.observe(values)
    scale, zero_point = theirs.calculate_qparams()
    reference = torch.fake_quantize_per_tensor_affine(values, float(scale), int(zero_point), -128, 127)
    ours = fake_quantize(values, encode(*own.range(SIGNED), SIGNED))
    assert (ours - values).square().mean() <= (reference - values).square().mean() * 1.001


def test_a_histogram_is_small_whatever_comes() -> None:
    watcher = Entropy()
    for batch in batches(5, 20):
        watcher.observe(batch.repeat(50, 1, 1))
    assert watcher.histogram.counts.numel() == BINS
