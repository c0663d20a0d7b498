"""The streaming histogram equals numpy's of everything at once."""

from __future__ import annotations

import numpy
import torch
from hypothesis import given
from hypothesis import strategies as st

from tersenet.numerics.histogram import BINS, BLOCK, Histogram

torch.set_num_threads(1)

scales = st.floats(1e-6, 1e6)
streams = st.lists(st.tuples(scales, st.floats(-3, 3), st.sampled_from(["normal", "positive", "constant"])), min_size=1, max_size=6)


def batches(stream: list[tuple[float, float, str]], seed: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    made = []
    for scale, shift, kind in stream:
        values = torch.full((50,), shift) if kind == "constant" else torch.randn(50, generator=generator) + shift
        made.append((values.relu() if kind == "positive" else values) * scale)
    return made


def observed(parts: list[torch.Tensor]) -> Histogram:
    histogram = Histogram()
    for part in parts:
        histogram.observe(part)
    return histogram


@given(streams, st.integers(0, 2**32 - 1))
def test_stream_equals_numpy_at_once(stream: list[tuple[float, float, str]], seed: int) -> None:
    parts = batches(stream, seed)
    histogram, everything = observed(parts), torch.cat(parts)
    edges, counts = histogram.filled()
    assert (histogram.low, histogram.high) == (everything.min().item(), everything.max().item())
    assert counts.sum() == everything.numel() == histogram.counts.sum()
    # numpy closes its last bin on the right: give it one more.
    more = numpy.append(edges.numpy(), edges[-1].item() + histogram.width)
    assert numpy.array_equal(numpy.histogram(everything.double().numpy(), more)[0][:-1], counts.numpy())


@given(streams, st.integers(0, 2**32 - 1))
def test_order_and_grouping_do_not_matter(stream: list[tuple[float, float, str]], seed: int) -> None:
    parts = batches(stream, seed)
    turned = [part.flip(0) for part in reversed(parts)]
    for other in ([torch.cat(parts)], turned):
        first, second = observed(parts), observed(other)
        assert first.exponent == second.exponent
        for ours, theirs in zip(first.filled(), second.filled(), strict=True):
            assert torch.equal(ours, theirs)


@given(streams, st.integers(0, 2**32 - 1))
def test_at_least_half_the_bins_are_in_use(stream: list[tuple[float, float, str]], seed: int) -> None:
    histogram = observed(batches(stream, seed))
    low, high = min(histogram.low, 0.0), max(histogram.high, 0.0)
    if high > low:
        assert BINS / 2 - 1 <= (high - low) / histogram.width <= BINS


def test_zeros_alone_and_other_types() -> None:
    histogram = observed([torch.zeros(3, 2), torch.zeros(1)])
    assert histogram.filled()[1].tolist() == [7.0]
    histogram.observe(torch.tensor([1.0, -2.0], dtype=torch.float16))
    assert histogram.counts.sum() == 9 and (histogram.low, histogram.high) == (-2.0, 1.0)
    # Doubles that float32 rounds up into the next bin.
    histogram.observe(torch.tensor([4.0 - 1e-12, 1.0], dtype=torch.float64))
    assert histogram.counts.sum() == 11 and histogram.high == 4.0


def test_more_values_than_a_block() -> None:
    values = torch.rand(2 * BLOCK + 5, generator=torch.Generator().manual_seed(0))
    at_once, streamed = observed([values]), observed(list(values.split(10_000)))
    assert torch.equal(at_once.counts, streamed.counts) and at_once.counts.sum() == values.numel()
