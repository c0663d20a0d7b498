import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tersenet.errors import DataError
from tersenet.measure.agreement import agreement, sqnr_db


@given(st.floats(-60, 60))
def test_sqnr_of_a_known_noise(decibels: float) -> None:
    reference = np.ones(1000)
    noise = np.where(np.arange(1000) % 2, 1.0, -1.0) * 10 ** (-decibels / 20)
    assert sqnr_db(reference, reference + noise) == pytest.approx(decibels, abs=1e-6)


def test_sqnr_at_its_ends() -> None:
    assert sqnr_db(np.zeros(3), np.zeros(3)) == 200
    assert sqnr_db(np.zeros(3), np.ones(3)) == -200
    assert sqnr_db(np.ones(3), np.full(3, np.nan)) == -200
    with pytest.raises(DataError):
        sqnr_db(np.zeros(3), np.zeros(4))


def test_ties_are_left_out_and_counted() -> None:
    step = 0.1
    simulated = np.array([[0.5, 0.4, 0.0], [0.9, 0.1, 0.0], [0.2, 0.3, 0.9], [0.1, 0.7, 0.2]], np.float32)
    measured = simulated.copy()
    measured[0] = [0.4, 0.5, 0.0]  # another winner, but of two that lay one step apart
    measured[3] = [0.9, 0.1, 0.2]  # another winner indeed
    found = agreement(simulated, measured, step)
    assert found.ties == 1
    assert found.top1 == pytest.approx(2 / 3)
    assert found.max_abs == pytest.approx(0.8)
    assert found.n == 4


def test_exact_ties_of_float_outputs() -> None:
    found = agreement(np.array([[1.0, 1.0], [2.0, 0.0]]), np.array([[0.9, 1.0], [2.0, 0.0]]))
    assert (found.top1, found.ties) == (1.0, 1)


def test_only_ties_leave_nothing_to_agree_on() -> None:
    found = agreement(np.zeros((3, 2)), np.zeros((3, 2)), 0.1)
    assert (found.top1, found.ties) == (None, 3)


def test_several_outputs_and_no_classes() -> None:
    simulated = [np.ones((2, 3)), np.zeros((2, 1))]
    found = agreement(simulated, [simulated[0], simulated[1] + 0.25], classes=False)
    assert (found.top1, found.ties, found.max_abs) == (None, 0, 0.25)


def test_shapes_must_be_equal() -> None:
    with pytest.raises(DataError, match="equal shapes"):
        agreement(np.zeros((3, 2)), np.zeros((3, 3)))


def test_classes_of_dense_outputs() -> None:
    generator = np.random.default_rng(0)
    simulated = generator.normal(size=(4, 3, 16, 16))
    measured = simulated + 0.2 * generator.normal(size=simulated.shape)
    wanted = (simulated.argmax(1) == measured.argmax(1)).mean()
    assert agreement(simulated, measured).top1 == pytest.approx(wanted)
    assert agreement(np.moveaxis(simulated, 1, -1), np.moveaxis(measured, 1, -1)).top1 == pytest.approx(wanted)
    assert agreement(simulated, measured, layout="NHWC").top1 == pytest.approx((simulated.argmax(-1) == measured.argmax(-1)).mean())
    assert agreement(simulated[:, :1], measured[:, :1]).top1 is None
