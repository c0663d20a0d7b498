"""What a student loses by not being as its teacher: losses of two tensors each.

All are means over samples, and zero where the student does what the teacher does. The teacher's tensors are taken as constants.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

# Triples of samples grow with the cube of a batch: angles are those within groups of so many.
GROUP = 64


def soft_labels(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """How far the student's softened probabilities are from the teacher's: ``T^2 KL(softmax(v / T) || softmax(z / T))``.

    The factor keeps gradients as large as those of labels, whatever the temperature; and it is the divergence, not the cross entropy, whose
    gradients are the same but which is not zero at its lowest.

    Args:
        student: z, (n, classes) logits.
        teacher: v, (n, classes) logits.
        temperature: T, above 0.

    Returns:
        The mean over rows, a scalar of 0 or more.

    >>> logits = torch.tensor([[2.0, 0.0, -1.0]])
    >>> soft_labels(logits, logits + 5, 4.0).item()
    0.0

    Reference:
        Hinton, Vinyals and Dean (2015), "Distilling the Knowledge in a Neural Network", section 2.
    """
    return temperature**2 * _divergence(student / temperature, teacher / temperature)


def decoupled(student: Tensor, teacher: Tensor, targets: Tensor, temperature: float, others: float) -> Tensor:
    """Soft labels in two parts: how sure the teacher is of the target, and what it says of all other classes.

    ``T^2 (KL(b^T || b^S) + beta KL(p^T || p^S))``, where b holds the target's probability and that of all others together, and p the others'
    probabilities among themselves. With beta the teacher's doubt ``1 - b_1`` of each sample it would be `soft_labels`.

    Args:
        student, teacher: (n, classes) logits.
        targets: (n,) whole numbers, the classes in question.
        temperature: T, above 0.
        others: beta; the paper takes 8 on CIFAR-100 and 0.5 to 2 on ImageNet.

    Returns:
        The mean over rows, a scalar of 0 or more.

    Reference:
        Zhao, Cui, Song, Qiu and Liang (2022), "Decoupled Knowledge Distillation", equation 7, with alpha 1.
    """
    of_student, of_teacher = student / temperature, teacher / temperature
    target = _divergence(_against_others(of_student, targets), _against_others(of_teacher, targets))
    return temperature**2 * (target + others * _divergence(_without(of_student, targets), _without(of_teacher, targets)))


def values(student: Tensor, teacher: Tensor) -> Tensor:
    """The mean of squared differences, in units of the teacher's own mean square, so that one weight fits layers of any scale.

    Args:
        student, teacher: of one shape, (n, ...).

    Returns:
        A scalar of 0 or more; 1 where the student is zero.

    >>> values(torch.zeros(2, 3), torch.ones(2, 3)).item()
    1.0

    Reference:
        Romero et al. (2015), "FitNets: Hints for Thin Deep Nets", equation 3; the paper does not divide.
    """
    return functional.mse_loss(student, teacher) / teacher.square().mean().clamp_min(torch.finfo(teacher.dtype).tiny)


def attention(student: Tensor, teacher: Tensor) -> Tensor:
    """How differently both spread their attention over positions: ``|Q_S / |Q_S| - Q_T / |Q_T||^2`` with Q the sum of squares over channels.

    Args:
        student: (n, channels, positions).
        teacher: (n, channels, positions); its channels may be others.

    Returns:
        The mean over samples, a scalar of 0 to 2.

    Reference:
        Zagoruyko and Komodakis (2017), "Paying More Attention to Attention", equation 2 with F_sum^2; squared, as in its authors' code, and summed
        over positions, not averaged, so that it does not depend on an image's size.
    """
    return (_attended(student) - _attended(teacher)).square().sum(1).mean()


def distances(student: Tensor, teacher: Tensor) -> Tensor:
    """How differently both place samples apart: Huber's loss of distances between pairs, in units of their mean.

    Args:
        student, teacher: (n, features); features of both may differ in number.

    Returns:
        The mean over pairs, a scalar of 0 or more. Turning, moving or scaling all of a network's samples changes nothing.

    Reference:
        Park, Kim, Lu and Cho (2019), "Relational Knowledge Distillation", equations 5 to 7.
    """
    if len(student) < 2:
        return student.sum() * 0.0
    return functional.huber_loss(_apart(student), _apart(teacher))


def angles(student: Tensor, teacher: Tensor) -> Tensor:
    """How differently both see triples of samples: Huber's loss of the cosines of their angles.

    Args:
        student, teacher: (n, features); features of both may differ in number.

    Returns:
        The mean over triples within groups of `GROUP` samples, those with a sample twice among them; a scalar of 0 or more.

    Reference:
        Park, Kim, Lu and Cho (2019), "Relational Knowledge Distillation", equations 8 and 9; over groups, for triples grow with the cube of n.
    """
    groups = zip(student.split(GROUP), teacher.split(GROUP), strict=True)
    found = torch.stack([functional.huber_loss(_cosines(one), _cosines(other), reduction="sum") for one, other in groups])
    return found.sum() / sum(len(group) ** 3 for group in student.split(GROUP))


def _divergence(student: Tensor, teacher: Tensor) -> Tensor:
    """KL(teacher || student) of logits, the mean over rows."""
    return functional.kl_div(functional.log_softmax(student, 1), functional.log_softmax(teacher, 1), reduction="batchmean", log_target=True)


def _against_others(logits: Tensor, targets: Tensor) -> Tensor:
    """(n, 2) logits of the target and of all others together."""
    return torch.stack([logits.gather(1, targets[:, None])[:, 0], _without(logits, targets).logsumexp(1)], 1)


def _without(logits: Tensor, targets: Tensor) -> Tensor:
    """(n, classes - 1) logits of the others."""
    classes = logits.shape[1]
    places = torch.arange(classes - 1, device=logits.device).expand(len(logits), -1)
    return logits.gather(1, places + (places >= targets[:, None]))


def _attended(feature: Tensor) -> Tensor:
    return functional.normalize(feature.square().sum(1), dim=1)


def _apart(samples: Tensor) -> Tensor:
    found = torch.pdist(samples)
    return found / found.mean().clamp_min(torch.finfo(samples.dtype).tiny)


def _cosines(samples: Tensor) -> Tensor:
    """(n, n, n) cosines of the angles at each sample between all pairs."""
    directions = functional.normalize(samples[None] - samples[:, None], dim=2)
    return directions @ directions.transpose(1, 2)
