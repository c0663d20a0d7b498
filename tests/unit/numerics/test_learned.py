"""Learned step sizes and offsets against the formulas of the papers, element by element."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tersenet.numerics.affine import fake_quantize
from tersenet.numerics.learned import gradient_share, rounded, step_size, times_base, zero_point
from tersenet.schemes import Encoding, Scheme


def paper(value: float, scale: float, lowest: int, highest: int) -> tuple[float, float, float]:
    """Esser et al. 2020, equations 1 to 3 and 5: result, its derivative by the value, and by the step size; on a grid with zero point 0."""
    ratio = value / scale
    if ratio <= lowest:
        return scale * lowest, 0.0, float(lowest)
    if ratio >= highest:
        return scale * highest, 0.0, float(highest)
    nearest = float(torch.tensor(ratio).round())
    return scale * nearest, 1.0, nearest - ratio


def test_a_row_by_hand() -> None:
    tensor = torch.tensor([-1.3, -0.3, 0.1, 0.62, 5.0], requires_grad=True)
    scale = torch.tensor(0.25, requires_grad=True)
    made = rounded(tensor, scale, torch.tensor(0.0), -4, 3)
    made.sum().backward()
    assert made.tolist() == [-1.0, -0.25, 0.0, 0.5, 0.75]
    assert tensor.grad.tolist() == [0, 1, 1, 1, 0]
    by_hand = -4 + (-1 + 1.2) + (0 - 0.4) + (2 - 2.48) + 3
    assert float(scale.grad) == pytest.approx(by_hand, rel=1e-5)


@given(
    st.lists(st.integers(-2000, 2000), min_size=1, max_size=20),
    st.floats(0.0078125, 3, width=32),
    st.sampled_from([2, 3, 4, 8, 15]),
    st.booleans(),
)
def test_gradients_are_those_of_the_paper(values: list[int], step: float, bits: int, signed: bool) -> None:
    lowest, highest = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)
    tensor = torch.tensor(values) / 97
    # half a step beyond an end, both the paper's clipping and ours round to the end; only the derivative there is a matter of taste
    ratio = tensor / step
    tensor = tensor[((ratio - lowest).abs() > 0.51) & ((ratio - highest).abs() > 0.51)].requires_grad_()
    scale = torch.tensor(step, requires_grad=True)
    made = rounded(tensor, scale, torch.tensor(0.0), lowest, highest)
    weights = torch.arange(1.0, 1 + len(tensor))
    (made * weights).sum().backward()
    expected = [paper(value, step, lowest, highest) for value in tensor.tolist()]
    assert made.tolist() == pytest.approx([row[0] for row in expected], rel=1e-5, abs=1e-6)
    assert tensor.grad.tolist() == [row[1] * float(weight) for row, weight in zip(expected, weights, strict=True)]
    total = sum(row[2] * float(weight) for row, weight in zip(expected, weights, strict=True))
    size = sum(abs(float(weight)) * (abs(row[2]) + abs(value / step)) for row, weight, value in zip(expected, weights, tensor.tolist(), strict=True))
    assert float(scale.grad) == pytest.approx(total, rel=1e-4, abs=1e-5 * size + 1e-5)


@pytest.mark.parametrize("axis", [0, 1])
def test_scales_of_channels_are_so_many_grids_of_one(axis: int) -> None:
    generator = torch.Generator().manual_seed(3)
    weight = torch.randn(3, 3, 5, generator=generator)
    scales = torch.tensor([0.02, 0.3, 0.07])
    shape = [1, 1, 1]
    shape[axis] = 3
    together = scales.clone().requires_grad_()
    rounded(weight, together.reshape(shape), torch.zeros(shape), -8, 7).square().sum().backward()
    for place, part in enumerate(weight.unbind(axis)):
        alone = scales[place].clone().requires_grad_()
        rounded(part.contiguous(), alone, torch.tensor(0.0), -8, 7).square().sum().backward()
        assert float(together.grad[place]) == pytest.approx(float(alone.grad), rel=1e-4)


def test_offsets_have_the_derivatives_of_lsq_plus() -> None:
    """Bhalgat et al. 2020, equations 5 and 6, where the offset is the grid's lower end: 0 within the grid, 1 beyond it."""
    low, span, scale = torch.tensor([-1.0]), torch.tensor([2.55]), torch.tensor([0.01], requires_grad=True)
    shift = torch.zeros(1, requires_grad=True)
    zero = zero_point(shift, low, span, scale, -128, 127)
    assert zero.tolist() == [-28]
    made = rounded(torch.tensor([-3.0, 0.204, 0.5, 9.0]), scale, zero, -128, 127)
    made.backward(torch.tensor([2.0, 10.0, 100.0, 5.0]))
    # times_base divides by the span, so that a step of SGD moves the end itself
    assert float(shift.grad) * 2.55 == pytest.approx(2.0 + 5.0, rel=1e-5)
    by_hand = 2.0 * 0 + 10.0 * (20 - 20.4) + 100.0 * 0 + 5.0 * 255  # n = 0 and p = 255 counted from the lower end
    assert float(scale.grad) == pytest.approx(by_hand, rel=1e-3)


def test_a_ratio_learns_under_sgd_as_the_number_itself() -> None:
    number, base = torch.tensor(0.03, requires_grad=True), torch.tensor(0.02)
    ratio = torch.tensor(1.5, requires_grad=True)
    for value, parameter in ((number, number), (times_base(ratio, base), ratio)):
        (value * 7).backward()
        torch.optim.SGD([parameter], 1e-4).step()
    assert (ratio * base).item() == pytest.approx(number.item(), rel=1e-6)


def test_powers_of_two_stay_such_and_do_not_leave_at_the_first_move() -> None:
    base = torch.tensor([0.25, 0.25, 0.25])
    ratio = torch.tensor([0.99, 1.01, 1.9], requires_grad=True)
    made = step_size(ratio, base, power_of_two=True)
    assert made.tolist() == [0.25, 0.25, 0.5]
    made.sum().backward()
    assert ratio.grad.tolist() == [4.0] * 3


def test_the_share_of_the_gradient() -> None:
    assert gradient_share(100, 7) == 1 / math.sqrt(700)


@given(st.floats(2.0**-12, 2, width=32), st.integers(-128, 127))
def test_it_rounds_to_the_same_bits_as_the_plans_own_grid(scale: float, zero: int) -> None:
    tensor = torch.randn(200, generator=torch.Generator().manual_seed(zero + 128)) * 3
    encoding = Encoding(Scheme("int8"), (scale,), (zero,))
    made = rounded(tensor, torch.tensor([scale]), torch.tensor([float(zero)]), -128, 127)
    assert torch.equal(made, fake_quantize(tensor, encoding))
