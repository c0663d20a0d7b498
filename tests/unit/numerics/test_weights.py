"""Encodings of weights: extremes, searched ends, and pairs that 16 bits can add."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tersenet.errors import DataError, RecipeError
from tersenet.numerics.affine import fake_quantize, quantize
from tersenet.numerics.weights import pairs_fit, reduction_rows, weight_encoding
from tersenet.schemes import Encoding, Scheme

torch.set_num_threads(1)
PER_CHANNEL = Scheme("int8", symmetric=True, granularity="per-channel", restricted=True)
PER_TENSOR = Scheme("int8", symmetric=True, restricted=True)


def random_weight(seed: int, *shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator) * torch.rand(shape[0], *[1] * (len(shape) - 1), generator=generator)


def error(weight: torch.Tensor, encoding: Encoding) -> float:
    return (fake_quantize(weight, encoding) - weight).double().square().sum().item()


def vpmaddubsw_saturates(integers: torch.Tensor) -> bool:
    """The instruction's own arithmetic, over the activations that drive a pair furthest."""
    rows = integers.permute(0, *range(2, integers.dim()), 1).flatten(1).tolist()
    for row in rows:
        for first, second in zip(row[0::2], row[1::2], strict=False):
            sums = [first * x + second * y for x, y in itertools.product((0, 255), repeat=2)]
            if max(sums) > 32767 or min(sums) < -32768:
                return True
    return False


def test_minmax_puts_the_largest_magnitude_on_the_last_integer() -> None:
    weight = random_weight(0, 4, 3, 3, 3)
    encoding = weight_encoding(weight, PER_CHANNEL)
    assert encoding.axis == 0 and encoding.role == "weight" and encoding.zero_point == (0, 0, 0, 0)
    for channel, scale in enumerate(encoding.scale):
        assert scale == pytest.approx(weight[channel].abs().max().item() / 127, rel=1e-6)
    single = weight_encoding(weight, PER_TENSOR)
    assert single.axis is None and single.scale == (max(encoding.scale),)


@pytest.mark.parametrize("scheme", [PER_CHANNEL, PER_TENSOR, Scheme("int4", symmetric=True, granularity="per-channel"), Scheme("uint8")])
def test_mse_is_never_worse_and_at_low_precision_better(scheme: Scheme) -> None:
    weight = random_weight(1, 6, 64)
    searched, spanned = error(weight, weight_encoding(weight, scheme, method="mse")), error(weight, weight_encoding(weight, scheme))
    assert searched <= spanned
    if scheme.bits == 4:
        assert searched < 0.85 * spanned


def test_mse_finds_the_best_ratio_of_each_channel() -> None:
    weight = random_weight(2, 5, 100)
    scheme = Scheme("int4", symmetric=True, granularity="per-channel", restricted=True)
    encoding = weight_encoding(weight, scheme, method="mse")
    for channel in range(5):
        row, bound = weight[channel], weight[channel].abs().max().item()
        errors = [error(row, Encoding(Scheme("int4", restricted=True), (bound * ratio / 700,), (0,))) for ratio in range(30, 101)]
        assert error(row, Encoding(Scheme("int4", restricted=True), (encoding.scale[channel],), (0,))) <= min(errors) * (1 + 1e-6)


def test_the_full_range_is_used_to_its_lowest_integer() -> None:
    weight = torch.tensor([[-1.28, 0.5, 1.0], [0.3, -0.2, 1.27]])
    scheme = Scheme("int8", symmetric=True, granularity="per-channel")
    encoding = weight_encoding(weight, scheme)
    assert encoding.scale == pytest.approx((0.01, 0.01)), "128 steps down, 127 up"
    assert quantize(weight, encoding).amin().item() == -128 and quantize(weight, encoding).amax().item() == 127


def test_groups_along_the_input() -> None:
    weight = random_weight(3, 4, 8)
    scheme = Scheme("int4", symmetric=True, granularity="per-group", group_size=4, restricted=True)
    encoding = weight_encoding(weight, scheme)
    assert torch.allclose(torch.tensor(encoding.scale).reshape(4, 2), weight.reshape(4, 2, 4).abs().amax(2) / 7)
    assert error(weight, weight_encoding(weight, scheme, method="mse")) <= error(weight, encoding)


@settings(max_examples=25)
@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.sampled_from([1, 3]), st.sampled_from(["minmax", "mse"]), st.booleans())
def test_limited_pairs_never_saturate(seed: int, inputs: int, kernel: int, method: str, per_tensor: bool) -> None:
    weight = random_weight(seed, 3, inputs, kernel, kernel)
    encoding = weight_encoding(weight, PER_TENSOR if per_tensor else PER_CHANNEL, method=method, saturating_pairs=True)
    integers = quantize(weight, encoding)
    assert not vpmaddubsw_saturates(integers)
    assert bool(pairs_fit(reduction_rows(integers, 0, 1)).all())


def test_limit_is_the_largest_that_fits() -> None:
    weight = random_weight(4, 8, 6, 3, 3)
    encoding = weight_encoding(weight, PER_CHANNEL, saturating_pairs=True)
    for channel in range(8):
        row = weight[channel : channel + 1]
        bound = row.abs().max().item()
        fitting = [limit for limit in range(64, 128) if not vpmaddubsw_saturates(quantize(row, Encoding(PER_TENSOR, (bound / limit,), (0,))))]
        assert round(bound / encoding.scale[channel]) == max(fitting)


def test_a_channel_without_heavy_neighbours_keeps_its_grid() -> None:
    weight = torch.tensor([[1.0, 0.0, -1.0, 0.0], [1.0, 1.0, 0.0, 0.0], [1.0, -1.0, 0.0, 1.0]])
    encoding = weight_encoding(weight, PER_CHANNEL, saturating_pairs=True)
    assert quantize(weight, encoding).abs().amax(1).tolist() == [127, 64, 127]
    # The same numbers, neighbours along the other axis: a constant matrix (reduction, output).
    turned = weight_encoding(weight.T, PER_CHANNEL, axis=1, saturating_pairs=True, pair_axis=0)
    assert turned.scale == encoding.scale and turned.axis == 1


def test_neighbours_are_input_channels_of_one_kernel_position() -> None:
    weight = torch.zeros(1, 2, 1, 2)
    weight[0, :, 0, 0] = 1.0  # both input channels at the first position: neighbours
    assert quantize(weight, weight_encoding(weight, PER_CHANNEL, saturating_pairs=True)).max() == 64
    weight = torch.zeros(1, 2, 1, 2)
    weight[0, 0, 0, :] = 1.0  # one input channel at both positions: not neighbours
    assert quantize(weight, weight_encoding(weight, PER_CHANNEL, saturating_pairs=True)).max() == 127


def test_vectors_and_other_axes() -> None:
    assert weight_encoding(torch.tensor([127.0, -254.0]), PER_CHANNEL).scale == (1.0, 2.0)
    assert weight_encoding(torch.tensor([[1.0, 3.0], [2.0, 127.0]]), PER_CHANNEL, axis=-1).scale[1] == 1.0


def test_powers_of_two_fit_too() -> None:
    scheme = Scheme("int8", symmetric=True, granularity="per-channel", power_of_two=True)
    weight = random_weight(5, 16, 8)
    assert bool(pairs_fit(quantize(weight, weight_encoding(weight, scheme, saturating_pairs=True))).all())


def test_bad_input_is_refused() -> None:
    with pytest.raises(RecipeError, match="did you mean 'minmax'"):
        weight_encoding(torch.zeros(2, 2), PER_CHANNEL, method="minmaks")
    with pytest.raises(RecipeError, match="symmetric int8"):
        weight_encoding(torch.zeros(2, 2), Scheme("uint8"), saturating_pairs=True)
    with pytest.raises(RecipeError, match="different axes"):
        weight_encoding(torch.zeros(2, 2), PER_CHANNEL, axis=1, saturating_pairs=True)
    with pytest.raises(DataError, match="finite"):
        weight_encoding(torch.tensor([[1.0, float("nan")]]), PER_CHANNEL)
