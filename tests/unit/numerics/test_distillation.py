"""Losses of distillation against formulas written out in numpy, and by what must hold of each."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tersenet.numerics import distillation
from tersenet.numerics.distillation import angles, attention, decoupled, distances, soft_labels, values

GENERATOR = np.random.default_rng(0)
SEEDS = st.integers(0, 2**32 - 1)


def logits(seed: int, classes: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    drawn = np.random.default_rng(seed).standard_normal((2, 5, classes)) * 3
    return torch.from_numpy(drawn[0]), torch.from_numpy(drawn[1])


def probabilities(rows: torch.Tensor, temperature: float) -> np.ndarray:
    powers = np.exp(rows.numpy() / temperature)
    return powers / powers.sum(1, keepdims=True)


def divergence(teacher: np.ndarray, student: np.ndarray) -> np.ndarray:
    return (teacher * np.log(teacher / student)).sum(1)


@given(SEEDS, st.sampled_from([0.5, 1.0, 4.0]))
def test_soft_labels_are_the_divergence_of_softened_probabilities(seed: int, temperature: float) -> None:
    student, teacher = logits(seed)
    wanted = temperature**2 * divergence(probabilities(teacher, temperature), probabilities(student, temperature)).mean()
    assert float(soft_labels(student, teacher, temperature)) == pytest.approx(wanted, rel=1e-9, abs=1e-12)
    assert float(soft_labels(student + 3, student, temperature)) == pytest.approx(0, abs=1e-12)


def test_soft_labels_at_a_high_temperature_are_squared_differences_of_logits() -> None:
    """Hinton et al., equation 4: for logits of mean zero the gradient is that of squares, divided by the classes."""
    student, teacher = (rows - rows.mean(1, keepdim=True) for rows in logits(1))
    student.requires_grad_()
    soft_labels(student, teacher, 1e4).backward()
    wanted = (student.detach() - teacher) / student.shape[1] / len(student)
    assert torch.allclose(student.grad, wanted, rtol=1e-3)


@given(SEEDS, st.sampled_from([1.0, 4.0]))
def test_decoupled_is_the_papers_two_parts(seed: int, temperature: float) -> None:
    student, teacher = logits(seed)
    targets = torch.from_numpy(np.random.default_rng(seed).integers(0, 6, 5))
    rows, parts = np.arange(5), []
    for given_logits in (teacher, student):
        found = probabilities(given_logits, temperature)
        hit = found[rows, targets]
        rest = np.stack([np.delete(row, target) for row, target in zip(found, targets, strict=True)]) / (1 - hit)[:, None]
        parts.append((np.stack([hit, 1 - hit], 1), rest))
    target, others = (divergence(parts[0][place], parts[1][place]) for place in (0, 1))
    wanted = temperature**2 * (target + 8 * others).mean()
    assert float(decoupled(student, teacher, targets, temperature, 8.0)) == pytest.approx(wanted, rel=1e-7)
    whole = temperature**2 * (target + (1 - parts[0][0][:, 0]) * others).mean()
    assert float(soft_labels(student, teacher, temperature)) == pytest.approx(whole, rel=1e-7)


def test_of_two_classes_decoupled_is_soft_labels() -> None:
    student, teacher = logits(2, classes=2)
    targets = torch.tensor([0, 1, 1, 0, 1])
    assert torch.allclose(decoupled(student, teacher, targets, 2.0, 8.0), soft_labels(student, teacher, 2.0))


def test_values_are_the_error_in_units_of_the_teachers_energy() -> None:
    student, teacher = GENERATOR.standard_normal((2, 4, 3, 7))
    wanted = ((student - teacher) ** 2).mean() / (teacher**2).mean()
    found = [float(values(torch.from_numpy(student * scale), torch.from_numpy(teacher * scale))) for scale in (1.0, 1e-3)]
    assert found == pytest.approx([wanted, wanted])
    assert torch.isfinite(values(torch.ones(2, 3), torch.zeros(2, 3)))


def test_attention_is_the_difference_of_normalized_maps() -> None:
    student, teacher = GENERATOR.standard_normal((3, 4, 10)), GENERATOR.standard_normal((3, 8, 10))
    maps = [(feature**2).sum(1) / np.linalg.norm((feature**2).sum(1), axis=1, keepdims=True) for feature in (student, teacher)]
    wanted = ((maps[0] - maps[1]) ** 2).sum(1).mean()
    assert float(attention(torch.from_numpy(student), torch.from_numpy(teacher))) == pytest.approx(wanted)
    scaled = attention(torch.from_numpy(5 * teacher[:, ::-1].copy()), torch.from_numpy(teacher))
    assert float(scaled) == pytest.approx(0, abs=1e-12), "neither scale nor the order of channels matters"


def huber(difference: np.ndarray) -> np.ndarray:
    return np.where(np.abs(difference) < 1, 0.5 * difference**2, np.abs(difference) - 0.5)


def test_distances_and_angles_are_the_papers() -> None:
    student, teacher = GENERATOR.standard_normal((7, 3)), GENERATOR.standard_normal((7, 5)) * 9
    pairs = list(combinations(range(7), 2))
    apart = [np.array([np.linalg.norm(found[i] - found[j]) for i, j in pairs]) for found in (student, teacher)]
    wanted = huber(apart[0] / apart[0].mean() - apart[1] / apart[1].mean()).mean()
    assert float(distances(torch.from_numpy(student), torch.from_numpy(teacher))) == pytest.approx(wanted)

    def cosine(found: np.ndarray, i: int, j: int, k: int) -> float:
        if j in (i, k):
            return 0.0
        one, other = found[i] - found[j], found[k] - found[j]
        return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))

    triples = [(i, j, k) for i in range(7) for j in range(7) for k in range(7)]
    wanted = huber(np.array([cosine(student, *triple) - cosine(teacher, *triple) for triple in triples])).mean()
    assert float(angles(torch.from_numpy(student), torch.from_numpy(teacher))) == pytest.approx(wanted)


@given(SEEDS)
def test_relations_stay_when_samples_are_turned_moved_and_scaled(seed: int) -> None:
    random = np.random.default_rng(seed)
    samples = random.standard_normal((6, 4))
    turn, _ = np.linalg.qr(random.standard_normal((4, 4)))
    moved = torch.from_numpy(samples @ turn * random.uniform(0.1, 10) + random.standard_normal(4))
    for loss in (distances, angles):
        assert float(loss(moved, torch.from_numpy(samples))) == pytest.approx(0, abs=1e-12)


def test_relations_of_a_large_batch_are_those_within_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    student, teacher = (torch.from_numpy(GENERATOR.standard_normal((10, 4))) for _ in range(2))
    monkeypatch.setattr(distillation, "GROUP", 6)
    parts = [(6**3, slice(0, 6)), (4**3, slice(6, 10))]
    wanted = sum(count * float(angles(student[chosen], teacher[chosen])) for count, chosen in parts) / sum(count for count, _ in parts)
    assert float(angles(student, teacher)) == pytest.approx(wanted)


@pytest.mark.parametrize("loss", [distances, angles])
def test_equal_samples_and_single_ones_give_finite_gradients(loss) -> None:
    for count in (1, 4):
        student = torch.ones(count, 3, requires_grad=True)
        loss(student, torch.randn(count, 3, generator=torch.Generator().manual_seed(0))).backward()
        assert torch.isfinite(student.grad).all()
