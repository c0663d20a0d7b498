import numpy as np
import pytest

from tersenet.measure.agreement import sqnr_db
from tersenet.measure.layers import LayerMeter, weight_range
from tersenet.schemes import Encoding, Scheme


def test_batches_give_what_all_samples_at_once_give() -> None:
    generator = np.random.default_rng(0)
    reference = generator.uniform(-1, 5, (4, 100)).astype(np.float32)
    simulated = np.clip(np.round(reference / 0.02) * 0.02, -1, 4)
    meter = LayerMeter("conv", (-1.0, 4.0), "conv2d", bins=12)
    for first, second in zip(reference, simulated, strict=True):
        meter.add(first, second)
    layer = meter.layer(agreement_db=60.0)
    assert layer.sqnr_db == pytest.approx(sqnr_db(reference, simulated), abs=1e-3)
    assert sum(layer.histogram) == 400
    assert layer.clipped == pytest.approx((reference > 4.0 + 5 / 255).mean())
    assert layer.used == pytest.approx((4 - reference.min()) / 5, abs=0.01)
    assert layer.histogram_range == pytest.approx((-1.0, reference[0].max()))
    assert layer.agreement_db == 60.0


def test_an_outlier_uses_up_a_range() -> None:
    values = np.append(np.random.default_rng(0).uniform(0, 1, 9999), 10.0)
    meter = LayerMeter("outlier", (0.0, 10.0))
    meter.add(values, values)
    assert meter.layer().used == pytest.approx(0.1, abs=0.01)


def test_a_value_that_is_always_zero() -> None:
    meter = LayerMeter("dead", (0.0, 0.0))
    meter.add(np.zeros(3), np.zeros(3))
    layer = meter.layer()
    assert layer.sqnr_db == 200
    assert layer.used == 1.0
    assert sum(layer.histogram) == 3
    assert LayerMeter("never run", (0.0, 1.0)).layer().sqnr_db is None


def test_what_is_not_finite_is_noise() -> None:
    meter = LayerMeter("broken", (0.0, 1.0))
    meter.add(np.array([0.5, np.inf]), np.array([0.5, 1.0]))
    layer = meter.layer()
    assert layer.sqnr_db == -200
    assert sum(layer.histogram) == 1


def test_weights_beside_their_grid() -> None:
    encoding = Encoding(Scheme(symmetric=True, granularity="per-channel", restricted=True), (0.01, 0.02), (0, 0), axis=0, role="weight")
    found = weight_range(np.linspace(-1, 2, 30).reshape(2, 15), encoding, bins=3)
    assert found.histogram == (10, 10, 10)
    assert found.histogram_range == (-1.0, 2.0)
    assert found.range == pytest.approx((-2.54, 2.54))
    assert (found.dtype, found.scales) == ("int8", 2)
