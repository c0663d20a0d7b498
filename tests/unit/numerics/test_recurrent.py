"""Recurrent layers written out against torch's own, and the grids of kernels that quantize as they run."""

import pytest
import torch
from torch import nn

from tersenet.numerics.recurrent import GRIDS, Shape, on_rows, on_whole, recurrent

KINDS = {"lstm": (nn.LSTM, {}), "gru": (nn.GRU, {}), "rnn_tanh": (nn.RNN, {}), "rnn_relu": (nn.RNN, {"nonlinearity": "relu"})}


@pytest.mark.parametrize("options", [{}, {"bias": False}, {"batch_first": True}, {"num_layers": 2, "bidirectional": True}])
@pytest.mark.parametrize("kind", sorted(KINDS))
def test_written_out_it_is_torchs_layer(kind: str, options: dict) -> None:
    torch.manual_seed(0)
    make, own = KINDS[kind]
    layer = make(5, 6, **own, **options)
    count = layer.num_layers * (2 if layer.bidirectional else 1)
    states = [torch.randn(count, 3, 6) for _ in range(2 if kind == "lstm" else 1)]
    data = torch.randn(3, 7, 5) if layer.batch_first else torch.randn(7, 3, 5)
    expected, last = layer(data, tuple(states) if kind == "lstm" else states[0])
    shape = Shape(kind, layer.bias, layer.num_layers, layer.bidirectional, layer.batch_first)
    result, *ends = recurrent(data, states, layer._flat_weights, shape)
    torch.testing.assert_close(result, expected)
    for end, other in zip(ends, last if isinstance(last, tuple) else (last,), strict=True):
        torch.testing.assert_close(end, other)


@pytest.mark.parametrize("grid", ["rows", "whole"])
def test_a_grid_is_near_the_numbers_and_has_no_more_values_than_bits(grid: str) -> None:
    tensor = torch.randn(4, 300, generator=torch.Generator().manual_seed(0))
    result = GRIDS[grid](tensor)
    assert len(result.unique()) <= (4 * 255 if grid == "rows" else 256)
    assert float((result - tensor).abs().max()) <= float(tensor.abs().max()) / (254 if grid == "rows" else 127)


def test_rows_have_scales_of_their_own_and_a_row_of_zeros_stays() -> None:
    tensor = torch.tensor([[1.0, 0.4], [100.0, 0.4], [0.0, 0.0]])
    assert on_rows(tensor)[1, 1] == 100 / 127 * 1
    assert on_rows(tensor)[0, 1] == pytest.approx(51 / 127)
    assert not on_rows(tensor)[2].any()


def test_one_grid_holds_zero_exactly() -> None:
    assert on_whole(torch.tensor([3.0, 5.1])).tolist() == pytest.approx([150 * 5.1 / 255, 5.1])
    assert on_whole(torch.tensor([-0.7, 0.0, 1.3]))[1] == 0
    assert not on_whole(torch.zeros(3)).any()
