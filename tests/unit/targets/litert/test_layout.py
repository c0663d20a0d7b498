"""Orders of axes: what a permute, a reshape and a reduction make of them, against numpy."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tersenet.targets.litert import layout

SIZES = st.lists(st.sampled_from([1, 2, 3]), min_size=1, max_size=5)


@st.composite
def arranged(draw):
    """A shape and an order of its axes."""
    shape = draw(SIZES)
    return tuple(shape), tuple(draw(st.permutations(range(len(shape)))))


def value_of(shape):
    return np.arange(int(np.prod(shape))).reshape(shape)


@given(arranged(), st.randoms())
def test_a_permute_moves_nothing(case, random):
    shape, order = case
    permutation = list(range(len(shape)))
    random.shuffle(permutation)
    value = value_of(shape)
    held = value.transpose(order)
    np.testing.assert_array_equal(held, value.transpose(permutation).transpose(layout.relabelled(order, permutation)))


@given(arranged())
def test_stored_shape_and_same_memory(case):
    shape, order = case
    value = value_of(shape)
    assert value.transpose(order).shape == layout.stored(shape, order)
    same = np.array_equal(value.transpose(order).reshape(-1), value.reshape(-1))
    assert layout.same_memory(shape, order, layout.identity(len(shape))) == same


@given(arranged(), st.data(), st.booleans())
def test_a_reshape_of_what_lies_right_is_a_reshape_of_memory(case, data, images):
    shape, order = case
    target = data.draw(targets(shape))
    wanted, result = layout.through_reshape(shape, order, target, images=images)
    assert sorted(wanted) == list(range(len(shape))) and sorted(result) == list(range(len(target)))
    value = value_of(shape)
    held = value.transpose(wanted).reshape(layout.stored(target, result))
    np.testing.assert_array_equal(held, value.reshape(target).transpose(result))


@st.composite
def targets(draw, shape):
    """A shape with as many elements: axes merged, and ones put in."""
    sizes = list(shape)
    while len(sizes) > 1 and draw(st.booleans()):
        place = draw(st.integers(0, len(sizes) - 2))
        sizes[place : place + 2] = [sizes[place] * sizes[place + 1]]
    if draw(st.booleans()) and sizes[0] == 6:
        sizes[:1] = draw(st.sampled_from([[2, 3], [3, 2]]))
    for _ in range(draw(st.integers(0, 2))):
        sizes.insert(draw(st.integers(0, len(sizes))), 1)
    return tuple(sizes)


@given(arranged(), st.data())
def test_axes_that_go(case, data):
    shape, order = case
    axis = data.draw(st.integers(0, len(shape) - 1))
    value = value_of(shape)
    held = value.transpose(order).sum(order.index(axis))
    np.testing.assert_array_equal(held, value.sum(axis).transpose(layout.without(order, [axis])))


@given(arranged(), st.data())
def test_axes_that_come(case, data):
    shape, order = case
    axis = data.draw(st.integers(0, len(shape)))
    value = value_of(shape)
    grown = layout.with_new(order, axis)
    held = np.stack([value.transpose(order)] * 2, grown.index(axis))
    np.testing.assert_array_equal(held, np.stack([value] * 2, axis).transpose(grown))


def test_an_image_flattened_over_its_positions_stays_where_it_is():
    order, result = layout.through_reshape((1, 8, 3, 5), layout.channels_last(4), (1, 8, 15), images=True)
    assert order == (0, 2, 3, 1)
    assert result == (0, 2, 1)


def test_an_image_flattened_whole_has_to_move():
    order, _ = layout.through_reshape((2, 8, 3, 5), layout.channels_last(4), (2, 120), images=True)
    assert order == (0, 1, 2, 3)
