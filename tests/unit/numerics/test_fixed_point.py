"""Kernels' fixed point, against plain Python integers written as the reference kernels of TensorFlow Lite are."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tersenet.numerics import fixed_point

Pair = tuple[int, int]
whole = st.integers(-(2**30), 2**30)
small = st.integers(-255, 255)
scales = st.floats(1e-4, 2).map(lambda value: float(np.float32(value)))
rows = st.lists(small, min_size=1, max_size=12)


def cut(a: int, b: int) -> int:
    """C's division of integers."""
    return abs(a) // b * (1 if a >= 0 else -1)


def quantize_multiplier(real: float) -> Pair:
    fraction, shift = math.frexp(real)
    fixed = math.floor(fraction * 2**31 + 0.5)
    if fixed == 2**31:
        fixed, shift = fixed // 2, shift + 1
    return (0, 0) if shift < -31 else (fixed, shift)


def high_multiply(a: int, b: int, bits: int = 31) -> int:
    product = a * b
    return cut(product + (1 << (bits - 1) if product >= 0 else 1 - (1 << (bits - 1))), 1 << bits)


def divide_by_power(x: int, exponent: int) -> int:
    mask = (1 << exponent) - 1
    return (x >> exponent) + int((x & mask) > (mask >> 1) + (x < 0))


def multiply(x: int, by: Pair) -> int:
    fixed, shift = by
    return divide_by_power(high_multiply(x * (1 << max(shift, 0)), fixed), max(-shift, 0))


def grid(integers: Sequence[int], scale: float) -> torch.Tensor:
    return torch.tensor(integers, dtype=torch.float32) * scale


def found(result: torch.Tensor, scale: float) -> list[int]:
    return torch.div(result, scale).round().to(torch.int64).reshape(-1).tolist()


def clipped(integers: Sequence[int]) -> list[int]:
    """Beyond a grid's ends float32 need not hold every integer."""
    return [min(max(value, -256), 256) for value in integers]


@given(st.floats(1e-12, 1e6))
def test_multipliers(real):
    by = fixed_point.multiplier(real)
    assert (int(by.significand), int(by.exponent)) == quantize_multiplier(real)


@given(st.lists(whole, min_size=1), st.floats(1e-9, 1))
def test_a_product_is_rounded_twice(values, real):
    assert fixed_point.rescaled(torch.tensor(values), fixed_point.multiplier(real)).tolist() == [
        multiply(v, quantize_multiplier(real)) for v in values
    ]


@given(st.lists(st.integers(-(2**15), 2**15), min_size=1), st.floats(1, 2**14))
def test_multipliers_above_one_shift_first(values, real):
    assert fixed_point.rescaled(torch.tensor(values), fixed_point.multiplier(real)).tolist() == [
        multiply(v, quantize_multiplier(real)) for v in values
    ]


def test_twice_is_not_once():
    """A value just below a half: the first rounding makes it one, the second takes it away from zero."""
    assert [round(v * 0.49999999999 * 2**-7) for v in (-128, 128)] == [0, 0]
    assert fixed_point.rescaled(torch.tensor([-128, 128]), fixed_point.multiplier(0.49999999999 * 2**-7)).tolist() == [-1, 1]


@given(st.lists(st.integers(-(2**40), 2**40), min_size=1), st.floats(1e-9, 1e-4))
def test_wide_accumulators_have_short_multipliers(values, real):
    fixed, shift = quantize_multiplier(real)
    short = 0x7FFF if fixed >= 0x7FFF0000 else (fixed + (1 << 15)) >> 16
    expected = [(v * short + (1 << (14 - shift))) >> (15 - shift) for v in values]
    assert fixed_point.rescaled_wide(torch.tensor(values), fixed_point.multiplier(real)).tolist() == expected


@given(rows, rows, scales, scales, scales, st.sampled_from((8, 16)), st.booleans())
def test_sums(left, right, one, other, result, bits, minus):
    count, finer = min(len(left), len(right)), {8: 20, 16: 15}[bits]
    kind = np.float32 if minus else np.float64
    first, second, last = kind(one), kind(other), kind(result)
    twice = 2 * max(first, second)
    ratios = [quantize_multiplier(float(ratio)) for ratio in (first / twice, second / twice, twice / (kind(1 << finer) * last))]
    sign = -1 if minus else 1
    pairs = zip(left[:count], right[:count], strict=True)
    expected = [multiply(multiply(a << finer, ratios[0]) + sign * multiply(b << finer, ratios[1]), ratios[2]) for a, b in pairs]
    total = fixed_point.total(grid(left[:count], one), grid(right[:count], other), (one, other, result), bits, minus)
    assert clipped(found(total, result)) == clipped(expected)


@given(rows, rows, scales, scales, scales)
def test_products(left, right, one, other, result):
    count = min(len(left), len(right))
    by = quantize_multiplier(one * other / result)
    expected = [multiply(a * b, by) for a, b in zip(left[:count], right[:count], strict=True)]
    assert clipped(found(fixed_point.product(grid(left[:count], one), grid(right[:count], other), (one, other, result)), result)) == clipped(expected)


@given(rows, scales, scales)
def test_other_grids(values, one, other):
    for single, ratio in ((False, one / other), (True, float(np.float32(one) / np.float32(other)))):
        expected = [multiply(v, quantize_multiplier(ratio)) for v in values]
        assert clipped(found(fixed_point.requantized(grid(values, one), (one, other), single), other)) == clipped(expected)


@given(rows, scales, scales)
def test_means(values, one, other):
    fixed, shift = quantize_multiplier(one / other)
    places = min(len(values).bit_length() - 1, 32, 31 + shift)
    expected = multiply(sum(values), ((fixed << places) // len(values), shift - places))
    result = fixed_point.mean(grid([values], one).reshape(1, -1), [1], False, (one, other))
    assert clipped(found(result, other)) == clipped([expected])


@given(rows, st.floats(0.01, 1.5), scales, scales)
def test_leaky_relu(values, slope, one, other):
    first, second = np.float32(one), np.float32(other)
    above, below = (quantize_multiplier(float(ratio)) for ratio in (first / second, first * np.float32(slope) / second))
    expected = [multiply(v, above if v >= 0 else below) for v in values]
    result = fixed_point.leaky_relu(grid(values, one), slope, (one, other))
    assert clipped(found(result, other)) == clipped(expected)


@given(rows, st.integers(-128, 127), scales, scales, scales)
def test_prelu(values, slope, one, factor, other):
    above, below = quantize_multiplier(one / other), quantize_multiplier(one * factor / other)
    expected = [multiply(v, above) if v >= 0 else multiply(v * slope, below) for v in values]
    result = fixed_point.prelu(grid(values, one).reshape(-1, 1), grid([slope], factor), (one, factor, other))
    assert clipped(found(result, other)) == clipped(expected)


def hard_swish(value: int, one: float, other: float) -> int:
    def short(x: int) -> int:
        return min(max(x, -32768), 32767)

    finer = np.float32(1 / 128) * np.float32(one)
    (scale, shift), (inner, places) = (quantize_multiplier(float(finer / by)) for by in (np.float32(other), np.float32(3) / np.float32(32768)))
    scale, inner = (min((fixed + (1 << 15)) >> 16, 0x7FFF) for fixed in (scale, inner))
    value *= 128
    gate = high_multiply(short(value * (1 << (places - 1))) if places > 0 else value, inner, 15)
    gate = short(gate * 2) if places > 0 else divide_by_power(gate, -places)
    gate = (gate + (1 << 15)) >> 1
    return divide_by_power(cut(gate * high_multiply(value, scale, 15), 1 << 15), -shift)


@given(rows, scales, st.floats(0.05, 1))
def test_hardswish(values, one, ratio):
    other = float(np.float32(one * ratio))
    expected = [hard_swish(v, one, other) for v in values]
    assert clipped(found(fixed_point.hardswish(grid(values, one), (one, other)), other)) == clipped(expected)


@pytest.mark.parametrize("bits", [8, 16])
def test_convolutions_count_in_whole_numbers(bits):
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(-255, 256, (2, 6, 5, 5), generator=generator)
    weight = torch.randint(-127, 128, (4, 6, 3, 3), generator=generator)
    bias = torch.randint(-20000, 20000, (4,), generator=generator)
    weight_scale = torch.tensor([0.01, 0.02, 0.003, 0.017], dtype=torch.float64)
    rest = ([1, 1], [1, 1], [1, 1], 1)
    result = fixed_point.product_of_weights(
        torch.ops.aten.conv2d.default, (x.float() * 0.037, weight.float(), bias), rest, weight_scale, (0.037, 0.5), bits
    )
    sums = torch.nn.functional.conv2d(x.double(), weight.double(), bias.double(), padding=1).to(torch.int64)
    by = [quantize_multiplier(0.037 * float(scale) / 0.5) for scale in weight_scale]
    if bits == 8:
        expected = [multiply(int(v), by[channel]) for image in sums for channel, plane in enumerate(image) for v in plane.reshape(-1)]
    else:
        shorts = [((fixed + (1 << 15)) >> 16, shift) for fixed, shift in by]
        expected = [
            (int(v) * shorts[c][0] + (1 << (14 - shorts[c][1]))) >> (15 - shorts[c][1])
            for image in sums
            for c, plane in enumerate(image)
            for v in plane.reshape(-1)
        ]
    assert found(result, 0.5) == expected


@pytest.mark.parametrize(("corners", "sizes"), [(False, (6, 10)), (False, (4, 3)), (True, (7, 9)), (True, (1, 5))])
def test_interpolation(corners, sizes):
    generator = torch.Generator().manual_seed(0)
    stored = torch.randint(-128, 128, (1, 1, 3, 5), generator=generator)
    result = fixed_point.resize_bilinear((stored.float() - 7) * 0.25, corners, sizes, 0.25, 7)
    assert [value + 7 for value in found(result, 0.25)] == interpolated(stored[0, 0].tolist(), corners, sizes)


def interpolated(image: list[list[int]], corners: bool, sizes: Sequence[int]) -> list[int]:
    def places(value: int, count: int, size: int) -> tuple[int, int, int]:
        scale = (1024 * count + size // 2) // size
        if corners and size > 1:
            scale = (1024 * (count - 1) + (size - 1) // 2) // (size - 1)
        at = value * scale if corners else value * scale + scale // 2 - 512
        return at, max(cut(at, 1024), 0), min(cut(at + 1023, 1024), count - 1)

    results = []
    for row in range(sizes[0]):
        y, top, bottom = places(row, len(image), sizes[0])
        for column in range(sizes[1]):
            x, left, right = places(column, len(image[0]), sizes[1])
            down, across = y - 1024 * top, x - 1024 * left
            upper = image[top][left] * (1024 - across) + image[top][right] * across
            lower = image[bottom][left] * (1024 - across) + image[bottom][right] * across
            total = upper * (1024 - down) + lower * down
            results.append(cut(total + (1 << 19 if total > 0 else -(1 << 19)), 1 << 20))
    return results
