"""Losses of what two networks compute inside: features, attention, relations."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, fx, nn

from tersenet.errors import RecipeError
from tersenet.graph.matching import Inner, Match, inner_values, matched, named, watched
from tersenet.graph.training import trainable
from tersenet.model import Model
from tersenet.numerics.distillation import angles, attention, distances, values

PROJECTIONS = "projections"  # the name of what learns beside the student and is thrown away
# Pooling from a larger grid to a smaller one, by the number of axes.
_POOLS: Mapping[int, Callable[[Tensor, Sequence[int]], Tensor]] = {
    1: nn.functional.adaptive_avg_pool1d,  # type: ignore[dict-item]  # torch's own types say one number
    2: nn.functional.adaptive_avg_pool2d,  # type: ignore[dict-item]
    3: nn.functional.adaptive_avg_pool3d,  # type: ignore[dict-item]
}


class Inside:
    """Matched values of a student and its teacher, and what the student loses by having others.

    The student's module returns its values behind its outputs from then on, and has projections among its parameters where a method needs them: of
    1 x 1, from its channels to the teacher's.

    Args:
        methods: names of `LOSSES`.
        pairs: of layers, as `named` takes them; (): found.
        student, teacher: the networks.
        module: what learns.
        seed: of the projections' first weights.

    Raises:
        RecipeError: nothing inside both is alike; it says why.
    """

    def __init__(self, methods: Sequence[str], pairs: Sequence[str], networks: tuple[Model, Model], module: fx.GraphModule, seed: int) -> None:
        student, teacher = (inner_values(model) for model in networks)
        self.matches = named(student, teacher, pairs) if pairs else matched(student, teacher)
        if not self.matches:
            raise RecipeError(f"{methods[0]} needs layers of both networks that are alike, and there are none: {_why(student, teacher)}.")
        if "attention" in methods and not any(match[0].grid and match[1].grid for match in self.matches):
            raise RecipeError(
                f"attention looks at positions, and the layers that match have none ({_shown(self.matches)}); take features or relations."
            )
        watched(module, [match[0].name for match in self.matches])
        if "features" in methods:
            module.add_module(PROJECTIONS, _projections(self.matches, seed))
        self.module = module
        self.teacher = trainable(networks[1])
        watched(self.teacher, [match[1].name for match in self.matches])

    def loss(self, method: str, student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
        """One method's loss of what both networks returned for the matches, in their order."""
        rows = [_aligned(match, own, wanted) for match, own, wanted in zip(self.matches, student, teacher, strict=True)]
        return LOSSES[method](self.module, rows)


def features(module: nn.Module, rows: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    """The mean over matches of `values`, the student's projected where it has other channels."""
    projections = module.get_submodule(PROJECTIONS)
    return torch.stack([values(project(own), wanted) for project, (own, wanted) in zip(projections, rows, strict=True)]).mean()  # type: ignore[call-overload]


def attended(module: nn.Module, rows: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    """The sum over matches of `attention`, as in equation 2 of Zagoruyko and Komodakis 2017; those without positions aside."""
    return torch.stack([attention(own, wanted) for own, wanted in rows if own.shape[2] > 1]).sum()


def relations(module: nn.Module, rows: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    """`distances` and twice `angles` of the last match, averaged over positions (Park et al. 2019, section 4: weights of 1 to 2)."""
    own, wanted = (row.mean(2) for row in rows[-1])
    return distances(own, wanted) + 2 * angles(own, wanted)


LOSSES: Mapping[str, Callable[[nn.Module, Sequence[tuple[Tensor, Tensor]]], Tensor]] = {
    "features": features,
    "attention": attended,
    "relations": relations,
}


def _projections(matches: Sequence[Match], seed: int) -> nn.ModuleList:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.ModuleList(
            nn.Identity() if one.channels == other.channels else nn.Conv1d(one.channels, other.channels, 1) for one, other in matches
        )


def _aligned(match: Match, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Both as (n, channels, positions) on the smaller grid."""
    own, wanted = student.movedim(match[0].axis, 1).float(), teacher.movedim(match[1].axis, 1).float()
    size = [min(pair) for pair in zip(own.shape[2:], wanted.shape[2:], strict=True)]
    own, wanted = (one if list(one.shape[2:]) == size else _POOLS[len(size)](one, size) for one in (own, wanted))
    return own.flatten(2) if size else own[..., None], wanted.flatten(2) if size else wanted[..., None]


def _why(student: Sequence[Inner], teacher: Sequence[Inner]) -> str:
    for whose, found in (("student", student), ("teacher", teacher)):
        if not found:
            return f"nothing inside the {whose} has channels that can be told; take methods that look at outputs alone"
    return (
        f"the student has {student[-1]}, the teacher {teacher[-1]}; name pairs in layers, student:teacher, or take methods that look at outputs alone"
    )


def _shown(matches: Sequence[Match]) -> str:
    return ", ".join(f"{own} with {wanted}" for own, wanted in matches)
