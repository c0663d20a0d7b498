"""Every ordered pair of steps: what comes later keeps the shapes, masks and codebooks of what came before, in the simulation too."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache

import numpy as np
import pytest
import torch
from torch import nn

from tersenet import Distill, Model, Prune, Quantize, Rebuild, Share, Shorten, Sparsify, Train
from tersenet.errors import RecipeError
from tersenet.frontends.table import load
from tersenet.graph.deploy import deployable
from tersenet.graph.fold import source_weight
from tersenet.graph.operators import WEIGHT_AXIS, kind_of
from tersenet.graph.simulate import simulate
from tersenet.graph.walk import bind, calls, constant
from tersenet.numerics.affine import quantize
from tersenet.step import Context, Step, StepResult
from tersenet.testing.networks import samples
from tersenet.testing.step import FAKE_TABLE, _data

TRAINING = {"epochs": 1, "batch_size": 32}
VALUES = 8
STEPS: dict[str, Step] = {
    "prune": Prune(ratio=0.5),
    "weights": Sparsify(ratio=0.5),
    "n:m": Sparsify(pattern="2:4"),
    "shorten": Shorten(count=1),
    "rebuild": Rebuild(energy=0.5, method="channel"),
    "share": Share(values=VALUES),
    "distill": Distill(training=TRAINING),
    "train": Train(TRAINING),
    "quantize": Quantize(),
    "aware": Quantize(training=TRAINING),
}
QUANTIZED, LEARNED = ("quantize", "aware"), ("distill", "train")
PAIRS = [(first, second) for first in STEPS for second in STEPS]


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.norm, self.conv2 = nn.Conv2d(8, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.Conv2d(16, 8, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(x + self.conv2(torch.relu(self.norm(self.conv1(x)))))


class Residual(nn.Module):
    """Two residual branches, of which one may leave, batch norm with factors of both signs, and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.pool = nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.AdaptiveAvgPool2d(1)
        self.blocks, self.head = nn.Sequential(Block(), Block()), nn.Linear(8, 5)
        for block in self.blocks:
            nn.init.normal_(block.norm.weight)  # type: ignore[union-attr]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.pool(self.blocks(torch.relu(self.stem(x)))).flatten(1))


def network(seed: int) -> Model:
    torch.manual_seed(seed)
    return load(Residual().eval(), (torch.zeros(2, 3, 8, 8),))


MODEL = network(0)
CONTEXT = Context((FAKE_TABLE,), _data(), original=network(1))


@cache
def done(name: str) -> StepResult:
    return STEPS[name].apply(MODEL, CONTEXT)


@pytest.mark.parametrize(("first", "second"), PAIRS, ids=[f"{first}, then {second}" for first, second in PAIRS])
def test_what_comes_later_keeps_what_came_before(first: str, second: str) -> None:
    before = done(first).model
    if first in QUANTIZED and second not in (*QUANTIZED, *LEARNED):
        with pytest.raises(RecipeError, match=r"before (you quantize|they are quantized|quantize)"):
            STEPS[second].apply(before, CONTEXT)
        return
    result = STEPS[second].apply(before, CONTEXT)
    after = result.model
    check_shapes(before, after, second)
    check_kept(before, after)
    if after.plans:
        assert second in QUANTIZED
        check_simulated(after)
    elif before.plans:
        assert "quantization plans" in {change.what for change in result.skipped}, "plans for other weights are dropped, and that is said"


def check_shapes(before: Model, after: Model, second: str) -> None:
    """A step changes no shape but those that it is there to change."""
    had, has = ({name: tuple(tensor.shape) for name, tensor in model.graph.state_dict().items()} for model in (before, after))
    assert after(samples(3)).shape == (3, 5)
    if second == "prune":
        assert set(has) == set(had)
        assert all(a <= b for name in has for a, b in zip(has[name], had[name], strict=True))
    elif second == "rebuild":
        rebuilt = {re.sub(r"\.reduce\d*\.weight$", "", name) for name in set(has) - set(had)}
        assert all(has[name] == had[name] for name in had if name.rpartition(".")[0] not in rebuilt)
    elif second == "shorten":
        assert has.items() < had.items()
    else:
        assert has == had


def check_kept(before: Model, after: Model) -> None:
    """Masks and codebooks of layers that are still there are there, and hold."""
    state = after.graph.state_dict()
    for kind in ("masks", "codebooks"):
        had, has = (getattr(model.annotations, kind) for model in (before, after))
        assert {name for name in had if name in state} <= set(has)
    for name, mask in after.annotations.masks.items():
        assert mask.shape == state[name].shape
        assert not state[name][torch.from_numpy(~mask)].any(), f"zeros of {name} stay"
    for name, places in after.annotations.codebooks.items():
        for value in np.unique(places):
            own = state[name][torch.from_numpy(places == value)]
            assert len(torch.unique(own[own != 0])) <= 1, f"weights of {name} that share a value still do"
        assert len(np.unique(places)) <= VALUES


def check_simulated(model: Model) -> None:
    """The integers have the zeros, and no more different values; the simulation runs on them."""
    plan = model.plans[0]
    assert np.isfinite(simulate(model, plan)(samples(3))).all()
    found = dict(integers(model))
    for name, mask in model.annotations.masks.items():
        assert not found[name][torch.from_numpy(~mask)].any()
    for name in model.annotations.codebooks:
        source = model.graph.state_dict()[name]
        assert len(torch.unique(found[name].abs() * source.sign())) <= len(torch.unique(source))


def integers(model: Model) -> Iterator[tuple[str, torch.Tensor]]:
    """Each weight as it will be stored, by the name of the parameter that it comes from."""
    module, plan = deployable(model), model.plans[0]
    for node in calls(module):
        if node.name in plan.units and kind_of(node) in WEIGHT_AXIS:
            yield source_weight(node), quantize(constant(module, bind(node)["weight"]), plan.units[node.name].weights["weight"])


def test_after_the_first_step_there_is_something_to_keep() -> None:
    changed = {name: done(name) for name in STEPS}
    assert changed["prune"].model.graph.state_dict()["blocks.0.conv1.weight"].shape == (8, 4, 3, 3)
    assert len(changed["weights"].model.annotations.masks) == len(changed["share"].model.annotations.codebooks) == 6
    assert "blocks.0.conv1.reduce.weight" in changed["rebuild"].model.graph.state_dict()
    assert all(changed[name].model.plans for name in QUANTIZED)
