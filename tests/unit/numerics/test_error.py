"""Measures of error by hand."""

from __future__ import annotations

import math

import pytest
import torch

from tersenet.errors import DataError
from tersenet.numerics.affine import encode, fake_quantize
from tersenet.numerics.error import range_use, sqnr_db
from tersenet.schemes import Scheme


def test_sqnr_of_a_uniform_signal_is_six_decibels_a_bit() -> None:
    points = torch.linspace(-1, 1, 100_001)
    for bits, dtype in ((4, "int4"), (8, "int8")):
        measured = sqnr_db(points, fake_quantize(points, encode(-1.0, 1.0, Scheme(dtype))))
        assert measured == pytest.approx(20 * math.log10(2**bits - 1), abs=0.05)


def test_sqnr_without_noise_or_without_signal() -> None:
    assert sqnr_db(torch.ones(3), torch.ones(3)) == math.inf
    assert sqnr_db(torch.zeros(3), torch.ones(3)) == -math.inf
    with pytest.raises(DataError, match="one shape"):
        sqnr_db(torch.zeros(3), torch.zeros(1, 3))


def test_range_use_counts_the_grid() -> None:
    encoding = encode(-1.0, 1.0, Scheme("int8"))
    assert range_use(-1.0, 1.0, encoding) == pytest.approx(1, abs=1 / 255)
    assert range_use(0.0, 0.5, encoding) == pytest.approx(0.25, abs=1 / 255)
    assert range_use(-9.0, 9.0, encoding) == 1
    assert range_use(5.0, 9.0, encoding) == 0
