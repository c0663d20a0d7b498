from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tersenet.data.tasks import AGREEMENT, TASKS, Task
from tersenet.errors import DataError
from tersenet.measure.quality import compare, evaluate, matched_interval, outputs_of, score

ACCURACY, REGRESSION = TASKS["classification"], TASKS["regression"]


class FakePart:
    """What quality asks of a part."""

    def __init__(self, inputs: np.ndarray, labels: np.ndarray | None) -> None:
        self.inputs, self.labels = inputs, labels

    def __len__(self) -> int:
        return len(self.inputs)

    def batches(self, size: int) -> Iterator[tuple[tuple[np.ndarray, ...], np.ndarray | None]]:
        for start in range(0, len(self), size):
            stop = start + size
            yield (self.inputs[start:stop],), None if self.labels is None else self.labels[start:stop]


def _one_hot(votes: np.ndarray) -> np.ndarray:
    return np.eye(4, dtype=np.float32)[votes]


def test_accuracy_of_a_callable_over_uneven_batches() -> None:
    labels = np.arange(50) % 4
    votes = np.where(np.arange(50) < 40, labels, (labels + 1) % 4)
    seen = []
    scores = evaluate(_one_hot, FakePart(votes, labels), ACCURACY, size=8, progress=lambda done, total, what: seen.append((done, total)))
    assert scores.value == pytest.approx(0.8)
    assert scores.n == 50
    assert scores.samples is not None
    assert scores.samples.sum() == 40
    assert seen[-1] == (50, 50)
    assert seen[0] == (8, 50)


def test_several_outputs_come_back_as_a_tuple() -> None:
    outputs, labels = outputs_of(lambda x: (x, 2 * x), FakePart(np.arange(5.0), None), size=2)
    assert isinstance(outputs, tuple)
    np.testing.assert_array_equal(outputs[1], 2 * np.arange(5.0))
    assert labels is None


def test_no_sample_is_an_error() -> None:
    with pytest.raises(DataError, match="at least one"):
        outputs_of(_one_hot, FakePart(np.zeros(0, int), np.zeros(0, int)))


def test_without_labels_the_float_outputs_judge() -> None:
    part = FakePart(np.arange(40) % 4, None)
    reference = evaluate(_one_hot, part, AGREEMENT)
    wrong = evaluate(lambda votes: _one_hot((votes + (votes == 3)) % 4), part, AGREEMENT, reference=reference.outputs)
    quality = compare(reference, wrong, AGREEMENT)
    assert reference.value == 1.0
    assert quality.value == pytest.approx(0.75)
    assert quality.drop_points == pytest.approx(25)
    assert quality.judge == "float outputs"


def test_labels_that_are_missing_are_an_error() -> None:
    with pytest.raises(DataError, match="labels"):
        evaluate(_one_hot, FakePart(np.zeros(4, int), None), ACCURACY)


def test_a_paired_interval_holds_the_drop_and_is_narrower_than_an_unpaired_one() -> None:
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 4, 1000)
    right = generator.random(1000) < 0.8
    votes = np.where(right, labels, (labels + 1) % 4)
    changed = votes.copy()
    changed[:10] = (changed[:10] + 2) % 4
    first, second = (score(_one_hot(entry), labels, ACCURACY) for entry in (votes, changed))
    quality = compare(first, second, ACCURACY)
    low, high = quality.drop_points_ci95 or (0, 0)
    assert low < quality.drop_points < high
    assert high - low < 2 * 1.96 * 100 * np.sqrt(2 * 0.8 * 0.2 / 1000)  # what two independent samples would give
    assert quality.unit == "points"


def test_no_change_is_not_called_certain() -> None:
    labels = np.arange(360) % 4
    scores = score(_one_hot(labels), labels, ACCURACY)
    quality = compare(scores, scores, ACCURACY)
    assert quality.drop_points == 0
    assert quality.drop_points_ci95 == pytest.approx((-0.541, 0.541), abs=1e-3)


@given(st.integers(0, 50), st.integers(0, 50), st.integers(100, 1000))
def test_the_matched_interval_holds_its_estimate(lost: int, won: int, n: int) -> None:
    low, high = matched_interval(lost, won, n)
    assert low <= (lost - won) / n <= high
    assert matched_interval(won, lost, n) == pytest.approx((-high, -low))


def test_an_unbounded_metric_drops_in_percent_of_float() -> None:
    generator = np.random.default_rng(0)
    labels = generator.normal(size=(200, 1))
    first, second = (score(labels + noise * generator.normal(size=(200, 1)), labels, REGRESSION) for noise in (1.0, 1.1))
    quality = compare(first, second, REGRESSION)
    assert quality.unit == "percent"
    assert quality.drop_points == pytest.approx(100 * (second.value / first.value - 1))
    low, high = quality.drop_points_ci95 or (0, 0)
    assert low < quality.drop_points < high
    assert compare(first, second, REGRESSION) == quality  # seeded


def test_a_metric_without_scores_of_samples_is_resampled() -> None:
    def balanced(outputs: np.ndarray, labels: np.ndarray) -> float:
        hits = outputs.argmax(-1) == labels
        return float(np.mean([hits[labels == label].mean() for label in np.unique(labels)]))

    task = Task.own(balanced, "balanced accuracy", "higher", bounded=True)
    labels = np.arange(200) % 4
    changed = labels.copy()
    changed[:20] = (changed[:20] + 1) % 4
    quality = compare(score(_one_hot(labels), labels, task), score(_one_hot(changed), labels, task), task)
    assert quality.drop_points == pytest.approx(10)
    low, high = quality.drop_points_ci95 or (0, 0)
    assert 4 < low < 10 < high < 16


def test_a_metric_that_some_draws_have_no_value_for() -> None:
    def rare_recall(outputs: np.ndarray, labels: np.ndarray) -> float:
        rare = labels == 1
        return float((outputs.argmax(-1) == labels)[rare].sum() / rare.sum()) if rare.any() else float("nan")

    task = Task.own(rare_recall, "recall", "higher", bounded=True)
    labels = np.zeros(50, int)
    labels[:2] = 1
    votes = labels.copy()
    votes[0] = 0
    quality = compare(score(_one_hot(labels), labels, task), score(_one_hot(votes), labels, task), task)
    assert quality.drop_points == 50
    assert quality.drop_points_ci95 == (0, 100)


def test_percent_of_nothing_is_no_number() -> None:
    labels = np.zeros((10, 1))
    perfect, other = score(labels, labels, REGRESSION), score(labels + 1, labels, REGRESSION)
    quality = compare(perfect, other, REGRESSION)
    assert quality.drop_points is None
    assert quality.drop_points_ci95 is None


def test_both_files_must_see_the_same_samples() -> None:
    first, second = (score(_one_hot(np.zeros(n, int)), np.zeros(n, int), ACCURACY) for n in (4, 5))
    with pytest.raises(DataError, match="same samples"):
        compare(first, second, ACCURACY)


def test_a_metric_that_is_asked_again_and_again_tells_how_far_it_is() -> None:
    labels = np.arange(40) % 4
    task = Task.own(lambda outputs, wanted: float((outputs.argmax(1) == wanted).mean()), "share", "higher", bounded=True)
    scores = score(np.eye(4)[labels], labels, task)
    seen: list[tuple[int, int, str]] = []
    compare(scores, scores, task, progress=lambda done, total, what: seen.append((done, total, what)))
    assert [done for done, _, _ in seen] == list(range(1, 201)) and {total for _, total, _ in seen} == {200}
    assert "share" in seen[0][2]
