"""Noise and penalties at marks: put back into what trains, gone from what runs, carried by what changes a network."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import tersenet
from tersenet.annotations import Annotations, Constraint, Noise, Penalty
from tersenet.graph.branches import branches, without
from tersenet.graph.dependencies import dependencies
from tersenet.graph.exchange import exchanged
from tersenet.graph.factors import Factors, factored, layers
from tersenet.graph.marks import Watched, mark, with_marks
from tersenet.graph.shrink import shrink
from tersenet.graph.training import ending, learned, trainable
from tersenet.model import Model
from tersenet.target import ExportOptions
from tersenet.targets.table import exporter, find

ENTRIES = (Noise("add", 0.3), Penalty(0.5, 0.25), Noise("factor", 0.5, (1,)), Noise("dropout", 0.4, (0, 2)))


class Marked(nn.Module):
    """Marks behind each of a few layers, or nothing in their places."""

    def __init__(self, marks: bool = True) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.inside, self.last = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 3)
        self.marks = marks

    def _at(self, x: Tensor, number: int) -> Tensor:
        return mark(x, number) if self.marks else x

    def forward(self, x: Tensor) -> Tensor:
        x = self._at(torch.relu(self.first(self._at(x, 0))), 1)
        x = x + self._at(torch.relu(self.inside(x)), 2)
        return self._at(torch.sigmoid(self.last(x)), 1)


def marked(marks: bool = True) -> Model:
    model = tersenet.load(Marked(marks), (torch.zeros(2, 5, 6),))
    own = Annotations(penalties={"inside.weight": Penalty(l2=0.1)}, constraints={"last.weight": Constraint("norm", 0, 1, 1, (1,))})
    return with_marks(replace(model, annotations=own), ENTRIES) if marks else model


def alone(noise: Noise) -> Model:
    class Noise(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return mark(x, 0)

    return with_marks(tersenet.load(Noise(), (torch.zeros(2, 50, 40),)), [noise])


@pytest.mark.parametrize(
    ("noise", "dropout", "mean", "deviation"),
    [
        (Noise("add", 0.3), None, 2.0, 0.3),
        (Noise("add", 0.3, (1,)), 0.9, 2.0, 0.3),
        (Noise("factor", 0.5), None, 2.0, 1.0),
        (Noise("factor", 0.5), 0.5, 2.0, 2.0),
        (Noise("dropout", 0.2), None, 2.0, 1.0),
        (Noise("dropout", 0.2, (2,)), 0.5, 2.0, 2.0),
        (Noise("dropout", 0.2, (0,)), 0.0, 2.0, 0.0),
    ],
)
def test_noise_has_its_mean_its_deviation_and_its_axes(noise: Noise, dropout: float | None, mean: float, deviation: float) -> None:
    torch.manual_seed(1)
    module, x = trainable(alone(noise), dropout), torch.full((60, 50, 40), 2.0)
    (result,) = module(x)
    assert float(result.mean()) == pytest.approx(mean, abs=0.1)
    assert float(result.std()) == pytest.approx(deviation, abs=0.1)
    for axis in range(3):
        alike = bool((result.amax(axis) == result.amin(axis)).all())
        assert alike is (axis in noise.shared or deviation == 0)
    assert torch.equal(module.eval()(x)[0], x)
    assert torch.equal(trainable(alone(noise), dropout, source=False)(x)[0], x)


def test_values_that_cost_are_watched_in_training_alone() -> None:
    model = marked()
    module, x = trainable(model), torch.randn(4, 5, 6)
    watched = [part for part in module.modules() if isinstance(part, Watched)]
    assert len(watched) == 2
    (result,) = module.eval()(x)
    assert all(part.added is None for part in watched)
    (result,) = module.train()(x)
    assert watched[1].added is not None
    assert float(watched[1].added.detach()) == pytest.approx(float((0.5 * result.abs().sum() + 0.25 * result.square().sum()).detach() / 4), rel=1e-5)
    assert learned(model, module).fingerprint == model.fingerprint
    assert ending(model) == "probability"


@pytest.mark.parametrize("target", ["onnxruntime", "litert"])
def test_files_are_the_same_bytes_without_them(target: str, tmp_path: Path) -> None:
    written = []
    for marks in (True, False):
        path = tmp_path / f"{marks}.bin"
        exporter(find(target)).export(marked(marks), path, ExportOptions())
        written.append(path.read_bytes())
    assert written[0] == written[1]


def test_they_go_through_a_file_of_ours(tmp_path: Path) -> None:
    model = marked()
    tersenet.save(model, tmp_path / "net.pt2")
    again = tersenet.load(tmp_path / "net.pt2")
    assert again.annotations == model.annotations
    assert again.fingerprint == model.fingerprint


def test_a_record_from_before_there_were_any_is_read() -> None:
    assert Annotations.from_json({"values": {}, "weights": {}, "masks": {}}) == Annotations()
    mask = Annotations(masks={"a": np.ones((2, 2), bool)})
    assert mask.digest.hex() == "13e65ee644f67626d2a8df3ecfe7ce5423e72848ab15849f36546a69419ce551"


def test_they_stay_when_channels_leave() -> None:
    found = dependencies(marked())
    smaller = shrink(found, next(group for group in found.groups if not group.why).units[:2])
    assert smaller.annotations == marked().annotations
    assert np.isfinite(trainable(smaller)(torch.randn(3, 5, 6))[0].detach().numpy()).all()


def test_they_go_with_what_leaves() -> None:
    model = marked()
    shorter = without(model, branches(model.graph))
    assert "inside.weight" not in shorter.annotations.penalties
    assert [entry.kind for entry in shorter.annotations.noises.values()] == ["add"]
    assert shorter.annotations.constraints == model.annotations.constraints
    chosen = next(layer for layer in layers(model) if layer.name == "last")
    thinner = factored(model, [Factors(chosen, "channel", (2,))])
    assert thinner.annotations.constraints == {}
    assert thinner.annotations.penalties == model.annotations.penalties


def test_what_a_network_returns_is_not_exchanged_behind_a_mark() -> None:
    exchanged_one, counts = exchanged(marked(), {"sigmoid": "hardsigmoid"})
    assert counts == {"sigmoid": 0}
    assert exchanged_one.annotations == marked().annotations
