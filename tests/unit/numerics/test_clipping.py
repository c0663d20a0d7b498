"""Clipping ranges against sampling, against numpy's quantiles and against relative entropy by its definition."""

from __future__ import annotations

import itertools

import numpy
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tersenet.numerics.affine import encode, fake_quantize, quantize
from tersenet.numerics.clipping import (
    SHRINK,
    STEPS,
    grids,
    least_entropy_range,
    least_error_range,
    percentile_range,
    relative_entropy,
    search,
    squared_error,
)
from tersenet.numerics.histogram import Histogram
from tersenet.schemes import Scheme

torch.set_num_threads(1)
SIGNED, SYMMETRIC = Scheme("int8"), Scheme("int8", symmetric=True)
SCHEMES = [SIGNED, SYMMETRIC, Scheme("uint8"), Scheme("int4"), Scheme("int4", symmetric=True), Scheme("int8", symmetric=True, power_of_two=True)]
KINDS = ["normal", "laplace", "relu", "hardswish", "uniform", "outlier"]


def sample(kind: str, seed: int, count: int = 20_000) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    normal = torch.randn(count, generator=generator)
    if kind == "laplace":
        return normal.sign() * -torch.log(torch.rand(count, generator=generator).clamp(min=1e-7))
    if kind == "outlier":
        return torch.cat([normal, torch.tensor([40.0, -15.0])])
    made = {"normal": normal, "relu": normal.relu(), "hardswish": torch.nn.functional.hardswish(normal * 4), "uniform": normal.sigmoid()}
    return made[kind]


def histogram_of(values: torch.Tensor) -> Histogram:
    histogram = Histogram()
    histogram.observe(values)
    return histogram


def error_of(values: torch.Tensor, low: float, high: float, scheme: Scheme) -> float:
    return (fake_quantize(values, encode(low, high, scheme)) - values).double().square().mean().item()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("percent", [99.0, 99.9])
def test_percentile_is_the_quantile_within_a_bin(kind: str, percent: float) -> None:
    values = sample(kind, 0).double()
    histogram = histogram_of(values)
    low, high = percentile_range(histogram, percent)
    tail, width = (100 - percent) / 200, histogram.width
    for ascending, end in ((values, low), (-values, -high)):
        below, up_to = (ascending < end - width).double().mean(), (ascending <= end + width).double().mean()
        assert below - 1e-9 <= tail <= up_to + 1e-9
    dense = torch.rand(100_000, generator=torch.Generator().manual_seed(1))
    wanted = numpy.quantile(dense.double().numpy(), [tail, 1 - tail])
    assert numpy.allclose(percentile_range(histogram_of(dense), percent), wanted, atol=1e-4)


@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_least_error_is_never_worse_than_the_extremes(kind: str, scheme: Scheme) -> None:
    values = sample(kind, 1)
    histogram = histogram_of(values)
    low, high = least_error_range(histogram, scheme)
    assert min(histogram.low, 0) <= low <= high <= max(histogram.high, 0)
    assert error_of(values, low, high, scheme) <= error_of(values, histogram.low, histogram.high, scheme) * 1.002


@pytest.mark.parametrize("scheme", [SIGNED, SYMMETRIC, Scheme("int4")], ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_least_error_is_near_the_best_of_all_pairs_of_ends(kind: str, scheme: Scheme) -> None:
    values = sample(kind, 2, 4000)
    low, high = min(values.min().item(), 0.0), max(values.max().item(), 0.0)
    ratios = [0.85**step for step in range(18)]
    best = min(error_of(values, low * first, high * second, scheme) for first in ratios for second in ratios)
    assert error_of(values, *least_error_range(histogram_of(values), scheme), scheme) <= 1.03 * best


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1), st.sampled_from(SCHEMES), st.floats(0.01, 1), st.floats(0.01, 1))
def test_the_integral_is_the_error_of_values_spread_over_bins(seed: int, scheme: Scheme, first: float, second: float) -> None:
    """Against many points within each bin."""
    histogram = Histogram()
    histogram.observe(torch.randn(40, generator=torch.Generator().manual_seed(seed)))
    low, high = histogram.low * first, histogram.high * second
    edges, counts = histogram.filled()
    occupied = counts.nonzero().reshape(-1)
    points = edges[occupied].unsqueeze(1) + histogram.width * (torch.arange(64, dtype=torch.float64) + 0.5) / 64
    encoding = encode(low, high, scheme)
    scale, zero = encoding.scale[0], encoding.zero_point[0]
    integers = (torch.round(points / scale) + zero).clamp(scheme.lowest, scheme.highest)
    sampled = (((integers - zero) * scale - points).square().mean(1) * counts[occupied]).sum()
    found = squared_error(edges, counts, *grids(torch.tensor([low]), torch.tensor([high]), scheme))
    assert float(found[0]) == pytest.approx(float(sampled), rel=2e-2, abs=1e-7)


def entropy_by_definition(counts: numpy.ndarray, borders: numpy.ndarray) -> float:
    """P and Q bin by bin, as the paper has them."""
    start, stop = borders[0], borders[-1]
    reference = counts[start:stop].astype(float).copy()
    reference[0] += counts[:start].sum()
    reference[-1] += counts[stop:].sum()
    model = numpy.zeros_like(reference)
    for first, last in itertools.pairwise(borders):
        inside = counts[first:last]
        occupied = inside > 0
        if occupied.any():
            model[first - start : last - start][occupied] = inside.sum() / occupied.sum()
    model[(model == 0) & (reference > 0)] = 0.5
    filled = reference > 0
    total = counts.sum()
    return float((reference[filled] / total * numpy.log(reference[filled] / model[filled])).sum())


@given(st.integers(0, 2**32 - 1), st.integers(2, 12), st.floats(0.2, 1))
def test_relative_entropy_is_its_definition(seed: int, levels: int, occupied: float) -> None:
    generator = numpy.random.default_rng(seed)
    counts = generator.integers(1, 50, 60) * (generator.random(60) < occupied)
    counts[30] = 7
    borders = numpy.sort(generator.choice(61, levels + 1, replace=False))
    if borders[-1] - borders[0] < 2:
        return
    found = relative_entropy(torch.from_numpy(counts).double(), torch.from_numpy(borders).unsqueeze(0))
    assert float(found[0]) == pytest.approx(entropy_by_definition(counts, borders), abs=1e-9)


def test_entropy_cuts_a_lone_outlier_and_keeps_what_is_dense() -> None:
    values = torch.cat([sample("normal", 3), torch.tensor([200.0])])
    low, high = least_entropy_range(histogram_of(values), SIGNED)
    assert high < 40 and low < -2.5
    uniform = sample("uniform", 4, 200_000)
    low, high = least_entropy_range(histogram_of(uniform.clamp(0.2, 0.8)), SIGNED)
    assert high == pytest.approx(0.8, rel=1e-3)


def test_zeros_do_not_decide() -> None:
    """A ReLU's spike at zero leaves both criteria where they are without it."""
    positive = sample("normal", 5).abs()
    spiked = torch.cat([positive, torch.zeros(500_000)])
    for criterion in (least_entropy_range, least_error_range):
        alone, with_spike = criterion(histogram_of(positive), SIGNED), criterion(histogram_of(spiked), SIGNED)
        assert with_spike == pytest.approx(alone, rel=0.02)


def test_one_sided_data_keep_zero_as_their_end() -> None:
    values = sample("relu", 6)
    for criterion in (least_entropy_range, least_error_range):
        low, high = criterion(histogram_of(values), SIGNED)
        assert low == 0 and 2.5 < high <= values.max().item()
        low, high = criterion(histogram_of(-values), SIGNED)
        assert high == 0 and -values.max().item() <= low < -2.5
        assert quantize(torch.zeros(1), encode(low, high, SIGNED)).item() == 127


def test_fine_grids_and_constants_keep_their_extremes() -> None:
    values = sample("normal", 7)
    histogram = histogram_of(values)
    for criterion in (least_entropy_range, least_error_range):
        assert criterion(histogram, Scheme("int16", symmetric=True)) == (histogram.low, histogram.high)
        assert encode(*criterion(histogram_of(torch.full((9,), 3.0)), SIGNED), SIGNED).range[1] == pytest.approx(3.0)
        assert criterion(histogram_of(torch.zeros(9)), SIGNED) == (0.0, 0.0)


def test_search_finds_both_ends_of_a_convex_cost() -> None:
    def cost(low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
        return (low + 1.7).square() + (high - 0.3).square()

    low, high = search(-4.0, 5.0, SIGNED, cost)
    assert low == pytest.approx(-1.7, rel=0.03) and high == pytest.approx(0.3, rel=0.03)
    assert search(-4.0, 5.0, SIGNED, lambda low, high: -high) == (-4.0, 5.0)
    narrowest = search(0.0, 1.0, SIGNED, lambda low, high: high)
    assert narrowest[1] <= SHRINK ** (STEPS - 1) and narrowest[0] == 0
