"""Disjoint, stratified, seeded cuts, and samples that two parts share."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tersenet.data import cuts

PARTS = ("evaluation", "selection", "calibration")


@given(st.integers(5, 3000), st.integers(1, 12), st.integers(0, 9), st.booleans())
def test_a_cut_is_a_partition(total: int, number: int, seed: int, labelled: bool) -> None:
    labels = np.random.default_rng(seed).integers(0, number, total) if labelled else None
    x = [np.arange(total)]
    chosen = cuts.cut(x, labels, seed, PARTS)
    assert sorted(np.concatenate(list(chosen.values())).tolist()) == list(range(total))
    assert all(len(index) for index in chosen.values())
    assert len(chosen["evaluation"]) == max(1, round(0.2 * total)) and len(chosen["selection"]) == max(1, round(0.1 * total))
    assert len(chosen["calibration"]) <= min(512, len(chosen["train"]))
    again = cuts.cut(x, labels, seed, PARTS)
    assert all(np.array_equal(again[part], index) for part, index in chosen.items())


@given(st.integers(1, 2000), st.integers(1, 20), st.floats(0, 1), st.integers(0, 9))
def test_each_class_has_its_share(total: int, number: int, share: float, seed: int) -> None:
    labels = np.random.default_rng(seed).integers(0, number, total) ** 2
    count = round(share * total)
    index = cuts.pick(labels, count, np.random.default_rng(seed), total)
    assert len(set(index.tolist())) == count
    for value in np.unique(labels):
        assert abs((labels[index] == value).sum() - (labels == value).sum() * count / total) <= 1 + 1e-9


@given(st.integers(5, 60), st.integers(1, 40), st.integers(0, 9))
def test_copies_of_a_sample_stay_in_one_part(different: int, more: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    values = generator.permutation(np.concatenate([np.arange(different), generator.integers(0, different, more)]))
    chosen = cuts.cut([values[:, None], values], values % 3, seed, PARTS)
    assert sorted(np.concatenate(list(chosen.values())).tolist()) == list(range(len(values)))
    held = [set(values[index].tolist()) for index in chosen.values()]
    assert sum(map(len, held)) == len(set.union(*held)) == different and all(held)


def test_a_handful_of_different_samples_is_cut_all_the_same() -> None:
    chosen = cuts.cut([np.arange(100) % 4], None, 0, PARTS)
    assert {part: len(index) for part, index in chosen.items()} == {"evaluation": 20, "selection": 10, "calibration": 35, "train": 35}


def test_calibration_keeps_its_limit_whatever_the_copies() -> None:
    chosen = cuts.cut([np.arange(4000) % 1000], None, 0, PARTS)
    assert len(chosen["calibration"]) == 512 and len(chosen["evaluation"]) == 800


def test_another_seed_is_another_cut() -> None:
    one, other = (cuts.cut([np.arange(500)], None, seed, PARTS) for seed in (0, 1))
    assert set(one["evaluation"].tolist()) != set(other["evaluation"].tolist())


def test_a_source_with_a_test_part_keeps_its_samples() -> None:
    chosen = cuts.cut([np.arange(1000)], None, 0, ("selection", "calibration"))
    assert {part: len(index) for part, index in chosen.items()} == {"selection": 100, "calibration": 450, "train": 450}


def test_shared_samples_are_counted() -> None:
    x = np.random.default_rng(0).random((100, 3)).astype(np.float32)
    assert cuts.also_in([x[:60]], [x[60:]]).sum() == 0
    assert cuts.also_in([x[:60]], [x[50:]]).sum() == 10
    assert cuts.also_in([x[:60], x[:60]], [x[50:], x[49:99]]).sum() == 0  # both inputs must be the same
    assert cuts.also_in([x[:60]], [x[:60, :2]]).sum() == 0
    texts = np.array(["a", "b", "天"], dtype=object)
    assert cuts.also_in([texts], [texts[1:]]).sum() == 2


def test_shapes_and_types_hide_nothing_and_make_nothing_up() -> None:
    x = np.random.default_rng(0).standard_normal((20, 1, 4, 4)).astype(np.float32)
    assert cuts.also_in([x[:10].reshape(10, 16)], [x]).all()
    whole, parts = np.zeros((5, 3), np.int64), np.random.default_rng(0).random((5, 3), np.float32)
    assert not cuts.also_in([parts], [whole]).any() and not cuts.also_in([whole], [parts]).any()
    texts = np.array(["a text", "another"])
    assert cuts.also_in([texts], [texts.astype(object)]).all() and cuts.also_in([texts.astype(object)], [texts]).all()
    assert not cuts.also_in([np.array(["a text and more"])], [texts]).any()


def test_equal_checksums_alone_do_not_count() -> None:
    one, other = np.frombuffer(b"plumless", np.uint8), np.frombuffer(b"buckeroo", np.uint8)  # the classic collision of CRC-32
    assert cuts._checksums([one[None]]) == cuts._checksums([other[None]])
    assert cuts.also_in([one[None]], [other[None]]).sum() == 0 and cuts.repeats([np.stack([one, other])]) == 0


def test_repeats_are_counted() -> None:
    x = np.array([[1, 2], [3, 4], [1, 2], [1, 2], [5, 6], [3, 4]])
    assert cuts.repeats([x]) == 3 and cuts.repeats([np.arange(6)[:, None]]) == 0


def test_zeros_of_both_signs_are_one_number() -> None:
    one, other = np.array([[0.0, 1.0]]), np.array([[-0.0, 1.0], [0.0, -1.0]])
    assert cuts.also_in([other], [one]).tolist() == [True, False]
    assert cuts.different([np.concatenate([one, other])]) == 2
