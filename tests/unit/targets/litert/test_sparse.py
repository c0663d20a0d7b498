"""Weights stored without their zeros: the same numbers of a smaller file, in the runtime."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tersenet.data.parts import Data
from tersenet.errors import RecipeError
from tersenet.frontends.table import load
from tersenet.model import Model
from tersenet.step import Context
from tersenet.steps.quantize import Quantize
from tersenet.steps.sparsify import Sparsify
from tersenet.target import Artifact, ExportOptions

pytest.importorskip("ai_edge_litert")
from tersenet.formats.tflite import Graph, Operator, Tensor, read
from tersenet.targets.litert.capabilities import LITERT
from tersenet.targets.litert.export import LiteRTExporter
from tersenet.targets.litert.run import LiteRTRunner
from tersenet.targets.litert.sparse import without_zeros

IMAGES = np.random.default_rng(0).standard_normal((16, 8, 12, 12)).astype(np.float32)


class Plain(nn.Module):
    """A layer of each kind that has weights; the second convolution reads the first one's."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.twin = nn.Conv2d(8, 64, 3, padding=1), nn.Conv2d(8, 64, 3, padding=1)
        self.twin.weight = self.first.weight
        self.pixels, self.depth = nn.Conv2d(64, 64, 1), nn.Conv2d(64, 64, 5, padding=2, groups=64)
        self.up, self.hidden, self.head = nn.ConvTranspose2d(64, 32, 2, stride=2), nn.Linear(32, 96), nn.Linear(96, 64)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.first(x) + self.twin(x))
        x = torch.relu(self.up(torch.relu(self.depth(torch.relu(self.pixels(x))))))
        return self.head(torch.relu(self.hidden(x.mean((2, 3)))))


def sparse(kind: nn.Module, images: np.ndarray = IMAGES, *, integers: bool, **how: Any) -> Model:
    torch.manual_seed(0)
    context = Context((LITERT,), Data.from_arrays(calibration=images))
    model = Sparsify(**how).apply(load(kind.eval(), torch.from_numpy(images[:2])), context).model
    return Quantize().apply(model, context).model if integers else model


def exported(model: Model, path: Path, whole: bool = False) -> Artifact:
    export = LiteRTExporter().export(model, path, ExportOptions(format={"sparse": not whole}))
    return Artifact(path, "litert", LiteRTRunner().load(path), export.inputs, export.outputs)


@pytest.mark.parametrize("integers", [False, True], ids=["float", "int8"])
@pytest.mark.parametrize(
    ("how", "shares"),
    [
        ({"ratio": 0.75}, (0.45, 0.75)),
        ({"ratio": 0.9}, (0.25, 0.5)),
        ({"pattern": "2:4"}, (0.75, 1.0)),
        ({"ratio": 0.75, "pattern": "4x1"}, (0.45, 0.65)),
    ],
    ids=["three of four", "nine of ten", "2:4", "blocks"],
)
def test_the_file_is_smaller_and_answers_the_same(how, shares, integers, tmp_path):
    model = sparse(Plain(), integers=integers, **how)
    whole, small = exported(model, tmp_path / "whole.tflite", whole=True), exported(model, tmp_path / "small.tflite")
    sizes = [file.path.stat().st_size for file in (small, whole)]
    assert sizes[0] <= shares[integers] * sizes[1] and (sizes[0] < sizes[1]) == (shares[integers] < 1)
    np.testing.assert_array_equal(small(IMAGES), whole(IMAGES))
    assert small.session.operators().delegated == whole.session.operators().delegated == 1
    assert exported(model, tmp_path / "again.tflite").path.read_bytes() == small.path.read_bytes()


@pytest.mark.parametrize("integers", [False, True], ids=["float", "int8"])
def test_the_file_is_read_back_and_keeps_its_zeros(integers, tmp_path):
    file = exported(sparse(Plain(), integers=integers, ratio=0.75), tmp_path / "small.tflite")
    back = load(file.path)
    assert back.annotations.masks
    held = dict(back.graph.named_parameters())
    for name, mask in back.annotations.masks.items():
        assert np.array_equal(held[name].detach().numpy() != 0, mask) and 0.1 < mask.mean() < 0.4
    channels_last = IMAGES.transpose(0, 2, 3, 1)
    wanted, got = file(IMAGES), back(channels_last)
    assert np.abs(got - wanted).max() < (0.1 if integers else 1e-5) * np.abs(wanted).max()


def test_a_file_that_comes_back_whole_says_what_the_option_would_save(tmp_path):
    back = load(exported(sparse(Plain(), integers=False, ratio=0.9), tmp_path / "first.tflite").path)
    whole = LiteRTExporter().export(back, tmp_path / "whole.tflite", ExportOptions())
    small = LiteRTExporter().export(back, tmp_path / "small.tflite", ExportOptions(format={"sparse": True}))
    assert any("--sparse" in text and "mostly zero" in text for text in whole.notes) and not any("--sparse" in text for text in small.notes)
    torch.manual_seed(0)
    dense = load(Plain().eval(), torch.from_numpy(IMAGES[:2]))
    assert not any("--sparse" in text for text in LiteRTExporter().export(dense, tmp_path / "dense.tflite", ExportOptions()).notes)


def test_inner_values_can_be_looked_at(tmp_path):
    model = sparse(Plain(), integers=True, ratio=0.9)
    whole, small = exported(model, tmp_path / "whole.tflite", whole=True), exported(model, tmp_path / "small.tflite")
    one = IMAGES[:1].transpose(0, 2, 3, 1)
    wanted, got = (LiteRTRunner().inner(file.path, [one]) for file in (whole, small))
    assert wanted.keys() <= got.keys() and all(np.array_equal(wanted[name], got[name]) for name in wanted)


def test_weights_of_two_layers_are_unpacked_once(tmp_path):
    graph = read(exported(sparse(Plain(), integers=False, ratio=0.9), tmp_path / "small.tflite").path.read_bytes())
    unpacked = [operator.outputs[0] for operator in graph.operators if operator.code == "DENSIFY"]
    readers = [sum(index in operator.inputs for operator in graph.operators) for index in unpacked]
    assert sorted(readers) == [1, 1, 1, 1, 1, 2]


def test_rows_of_words_go_through_an_integer_product(tmp_path):
    words = np.random.default_rng(0).standard_normal((16, 5, 32)).astype(np.float32)
    model = sparse(nn.Sequential(nn.Linear(32, 128), nn.ReLU(), nn.Linear(128, 64)), words, integers=True, ratio=0.9)
    whole, small = exported(model, tmp_path / "whole.tflite", whole=True), exported(model, tmp_path / "small.tflite")
    np.testing.assert_array_equal(small(words), whole(words))
    assert "CONV_2D" in small.session.operators().operators and small.session.operators().delegated == 1
    assert small.path.stat().st_size < 0.6 * whole.path.stat().st_size
    assert load(small.path)(words).shape == (16, 5, 64)


def test_floats_beside_integers_leave_the_file_whole():
    model = sparse(Plain(), integers=True, ratio=0.9)
    from tersenet.targets.litert.network import lower

    graph = lower(model, LITERT, ExportOptions()).graph
    assert without_zeros(graph)[0] is not graph
    values = (Tensor("", (1, 4, 4, 8), "float32"), Tensor("", (1, 4, 4, 8), "float32"))
    count = len(graph.tensors)
    island = Operator("HARD_SWISH", (count,), (count + 1,))
    mixed = replace(graph, tensors=(*graph.tensors, *values), operators=(*graph.operators, island))
    kept, (why,) = without_zeros(mixed)
    assert kept is mixed and "floats" in why


def test_weights_that_something_else_reads_stay_whole():
    data = np.zeros((64, 64), np.float32)
    data[0] = 1
    tensors = (Tensor("x", (1, 64), "float32"), Tensor("", (64, 64), "float32", None, data), Tensor("y", (1, 64), "float32"))
    product = Operator("FULLY_CONNECTED", (0, 1, -1), (2,), {"fusedActivationFunction": 0})
    graph = Graph((*tensors, replace(tensors[2], name="z", shape=(64, 64))), (product, Operator("ABS", (1,), (3,))), (0,), (2, 3))
    assert without_zeros(replace(graph, operators=(product,), outputs=(2,)))[0].operators[0].code == "DENSIFY"
    kept, (why,) = without_zeros(graph)
    assert kept is graph and "stored whole" in why


def test_microcontrollers_have_no_such_files(tmp_path):
    pytest.importorskip("tflite_micro")
    from tersenet.targets.litert.capabilities import LITERT_MICRO
    from tersenet.targets.litert.micro import MicroExporter

    model = Quantize().apply(
        load(nn.Conv2d(8, 4, 1).eval(), torch.from_numpy(IMAGES[:2])), Context((LITERT_MICRO,), Data.from_arrays(calibration=IMAGES))
    )
    with pytest.raises(RecipeError, match="sparse"):
        MicroExporter().export(model.model, tmp_path / "no.tflite", ExportOptions(format={"sparse": True}))
