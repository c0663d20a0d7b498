"""Affine quantization against its definition in numpy, and its laws by property."""

from __future__ import annotations

import numpy
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tersenet.errors import DataError, RecipeError
from tersenet.numerics.affine import (
    LARGEST_BIAS,
    bias_encoding,
    dequantize,
    encode,
    fake_quantize,
    fit_bias,
    middle,
    power_of_two,
    q_format,
    quantize,
)
from tersenet.schemes import Encoding, Scheme

torch.set_num_threads(1)

ends = st.floats(-1e4, 1e4, allow_nan=False, width=32)
schemes = st.builds(
    Scheme,
    dtype=st.sampled_from(["int4", "int8", "uint8", "int16"]),
    symmetric=st.booleans(),
    restricted=st.booleans(),
    power_of_two=st.booleans(),
)


def reference(tensor: torch.Tensor, encoding: Encoding) -> numpy.ndarray:
    """Quantization as the equation says it, per tensor."""
    steps = numpy.rint(tensor.numpy() / numpy.float32(encoding.scale[0])) + encoding.zero_point[0]
    return numpy.clip(steps, encoding.scheme.lowest, encoding.scheme.highest).astype(numpy.int64)


@given(ends, ends, schemes)
def test_encoding_is_legal_and_holds_zero(first: float, second: float, scheme: Scheme) -> None:
    encoding = encode(min(first, second), max(first, second), scheme)
    (scale,), (zero,) = encoding.scale, encoding.zero_point
    assert scale > 0 and numpy.float32(scale) == scale
    assert scheme.lowest <= zero <= scheme.highest
    assert dequantize(quantize(torch.zeros(1), encoding), encoding).item() == 0.0
    if scheme.symmetric or scheme.dtype == "int16":
        assert zero == middle(scheme)
    if scheme.power_of_two:
        assert numpy.frexp(scale)[0] == 0.5


@given(ends, ends, schemes, st.integers(0, 2**32 - 1))
def test_error_is_at_most_half_a_step_in_range(first: float, second: float, scheme: Scheme, seed: int) -> None:
    low, high = min(first, second), max(first, second)
    encoding = encode(low, high, scheme)
    points = torch.rand(64, generator=torch.Generator().manual_seed(seed)) * (high - low) + low
    points = torch.cat([points, torch.tensor([low, high, 0.0])])
    inside = points.clamp(*encoding.range)
    error = (dequantize(quantize(inside, encoding), encoding) - inside).abs().max().item()
    half = encoding.scale[0] * 0.5 + 2.0**-22 * points.abs().max().item()  # float32 itself rounds, which 16 bits can see
    assert error <= half
    # Ends themselves may lie outside by the rounding of the zero point, never by more than half a step.
    assert (points - inside).abs().max().item() <= half


@given(ends, ends, schemes)
def test_grid_is_kept(first: float, second: float, scheme: Scheme) -> None:
    encoding = encode(min(first, second), max(first, second), scheme)
    grid = torch.arange(scheme.lowest, scheme.highest + 1, max(1, 2 ** (scheme.bits - 10)))
    assert torch.equal(quantize(dequantize(grid, encoding), encoding).long(), grid)


@given(ends, ends, schemes, st.integers(0, 2**32 - 1))
def test_quantize_is_the_equation_and_monotonic(first: float, second: float, scheme: Scheme, seed: int) -> None:
    encoding = encode(min(first, second), max(first, second), scheme)
    width = max(abs(first), abs(second), 1e-3)
    points = (torch.randn(256, generator=torch.Generator().manual_seed(seed)) * width).sort().values
    integers = quantize(points, encoding)
    assert numpy.array_equal(integers.numpy().astype(numpy.int64), reference(points, encoding))
    assert bool((integers.long().diff() >= 0).all())
    assert torch.equal(fake_quantize(points, encoding), dequantize(integers, encoding))


@given(ends, ends, st.integers(0, 2**32 - 1))
def test_int8_and_uint8_are_the_same_grid(first: float, second: float, seed: int) -> None:
    signed = encode(min(first, second), max(first, second), Scheme("int8"))
    unsigned = signed.stored_as("uint8")
    assert unsigned == encode(min(first, second), max(first, second), Scheme("uint8"))
    points = torch.randn(64, generator=torch.Generator().manual_seed(seed)) * max(abs(first), abs(second))
    assert torch.equal(quantize(points, signed).int() + 128, quantize(points, unsigned).int())
    assert torch.equal(fake_quantize(points, signed), fake_quantize(points, unsigned))


def test_fake_quantize_matches_torch_where_a_reciprocal_is_exact() -> None:
    points = torch.randn(4096, generator=torch.Generator().manual_seed(0)) * 3
    for zero in (-128, 0, 5):
        encoding = Encoding(Scheme("int8"), (0.03125,), (zero,))
        assert torch.equal(fake_quantize(points, encoding), torch.fake_quantize_per_tensor_affine(points, 0.03125, zero, -128, 127))


def test_storage_types_and_rounding_half_to_even() -> None:
    points = torch.tensor([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5])
    for dtype, storage in (("int4", torch.int8), ("int8", torch.int8), ("int16", torch.int16), ("int32", torch.int32)):
        integers = quantize(points, Encoding(Scheme(dtype), (1.0,), (0,)))
        assert integers.dtype == storage and integers.tolist() == [-2, -2, 0, 0, 2, 2]
    assert quantize(points, Encoding(Scheme("uint8"), (1.0,), (128,))).dtype == torch.uint8


def test_per_channel_is_each_channel_alone() -> None:
    tensor = torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(1))
    for axis in (0, 1, 2, -1):
        rows = tensor.movedim(axis, 0).flatten(1)
        encoding = encode(rows.amin(1), rows.amax(1), Scheme("int8", granularity="per-channel"), axis)
        for index in range(tensor.shape[axis]):
            alone = Encoding(Scheme("int8"), (encoding.scale[index],), (encoding.zero_point[index],))
            assert torch.equal(quantize(tensor, encoding).select(axis, index), quantize(tensor.select(axis, index), alone))
            assert torch.equal(fake_quantize(tensor, encoding).select(axis, index), fake_quantize(tensor.select(axis, index), alone))


def test_per_group_is_each_group_alone() -> None:
    tensor = torch.randn(6, 4, generator=torch.Generator().manual_seed(2))
    scheme = Scheme("int4", symmetric=True, granularity="per-group", group_size=2)
    for axis, matrix in ((0, tensor), (1, tensor.T)):
        bound = tensor.reshape(6, 2, 2).abs().amax(2)
        encoding = encode(-bound, bound, scheme, axis)
        assert len(encoding.scale) == 12
        result = fake_quantize(matrix, encoding)
        result = result if axis == 0 else result.T
        for row in range(6):
            for group in range(2):
                alone = Encoding(Scheme("int4", symmetric=True), (encoding.scale[row * 2 + group],), (0,))
                part = slice(group * 2, group * 2 + 2)
                assert torch.equal(result[row, part], fake_quantize(tensor[row, part], alone))
    with pytest.raises(RecipeError, match="group_size must divide"):
        quantize(torch.zeros(2, 3), Encoding(scheme, (1.0,) * 4, (0,) * 4, 0))


def test_no_width_borrows_the_largest_scale() -> None:
    encoding = encode(torch.tensor([-1.0, 0.0, -4.0]), torch.tensor([1.0, 0.0, 4.0]), Scheme("int8", symmetric=True, granularity="per-channel"), 0)
    assert encoding.scale[1] == encoding.scale[2] == max(encoding.scale)
    assert encode(0.0, 0.0, Scheme("int8")).scale == (1.0,)


def test_gradient_is_one_inside_and_nothing_outside() -> None:
    for scheme in (Scheme("int8"), Scheme("int8", power_of_two=True)):
        encoding = Encoding(scheme, (0.5,), (0,))
        points = torch.tensor([-65.0, -64.0, 0.2, 63.5, 64.0], requires_grad=True)
        result = fake_quantize(points, encoding)
        result.sum().backward()
        assert points.grad is not None and points.grad.tolist() == [0.0, 1.0, 1.0, 1.0, 0.0]
        assert torch.equal(result.detach(), dequantize(quantize(points, encoding), encoding))


def test_powers_of_two_round_up() -> None:
    scale = torch.tensor([1.0, 1.0001, 0.75, 0.5, 3e-5], dtype=torch.float64)
    assert power_of_two(scale).tolist() == [1.0, 2.0, 1.0, 0.5, 2.0**-15]


def test_q_format_counts_bits() -> None:
    scheme = Scheme("int8", symmetric=True, power_of_two=True)
    assert q_format(encode(-1.0, 1.0, scheme)) == "Q1.6"  # 1.0 itself needs the integer bit: 127 * 2^-7 < 1
    assert q_format(Encoding(scheme, (2.0,), (0,))) == "Q8.-1"
    with pytest.raises(RecipeError, match="Q format"):
        q_format(Encoding(scheme, (0.3,), (0,)))


def test_bias_grid_is_the_float32_product() -> None:
    input = encode(-1.0, 2.0, Scheme("int8"))
    weight = encode(torch.tensor([-1.0, -0.3]), torch.tensor([0.7, 0.1]), Scheme("int8", symmetric=True, granularity="per-channel"), 0, "weight")
    encoding = bias_encoding(input, weight)
    assert encoding.axis == 0 and encoding.role == "bias" and encoding.scheme.dtype == "int32"
    for scale, factor in zip(encoding.scale, weight.scale, strict=True):
        assert scale == float(numpy.float32(factor) * numpy.float32(input.scale[0]))
    bias = torch.tensor([0.123456, -7.5])
    assert torch.allclose(fake_quantize(bias, encoding), bias, atol=max(encoding.scale) / 2)


def test_large_bias_raises_the_weight_scale_of_its_channel_alone() -> None:
    input = encode(0.0, 1.0, Scheme("int8"))
    bound = torch.tensor([0.5, 1e-9])
    weight = encode(-bound, bound, Scheme("int8", symmetric=True, granularity="per-channel"), 0, "weight")
    bias = torch.tensor([1.0, 2.0])
    assert quantize(bias, bias_encoding(input, weight))[1] == 2**31 - 1  # clipped
    fitted = fit_bias(bias, input, weight)
    assert fitted.scale[0] == weight.scale[0] and fitted.scale[1] > weight.scale[1]
    encoding = bias_encoding(input, fitted)
    assert quantize(bias, encoding).abs().max() <= 2**30 + 128
    assert torch.allclose(fake_quantize(bias, encoding), bias, atol=1e-6)
    assert fit_bias(torch.zeros(2), input, weight) is weight
    barely = LARGEST_BIAS * weight.scale[1] * input.scale[0] * 1.001
    assert fit_bias(torch.tensor([1.0, barely]), input, weight).scale == (weight.scale[0], 2 * weight.scale[1])


def test_bad_ranges_are_refused() -> None:
    with pytest.raises(DataError, match="finite"):
        encode(0.0, float("nan"), Scheme("int8"))
    with pytest.raises(DataError, match="end before"):
        encode(1.0, 0.0, Scheme("int8"))
    with pytest.raises(RecipeError, match="needs 3 scales"):
        quantize(torch.zeros(3, 2), Encoding(Scheme("int8", granularity="per-channel"), (1.0, 1.0), (0, 0), 0))
