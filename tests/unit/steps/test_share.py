"""Weights that share values: few of them, through training, pruning and quantization; zeros stay zero."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

import tersenet
from tersenet import Data, Model, Prune, Quantize, Share, Sparsify, Train
from tersenet.errors import RecipeError
from tersenet.graph.deploy import deployable
from tersenet.graph.fold import source_weight
from tersenet.graph.walk import bind, calls, constant
from tersenet.numerics.affine import quantize
from tersenet.step import Context, Step
from tersenet.testing.networks import samples, small_convolutional
from tersenet.testing.step import FAKE_TABLE, _data
from tersenet.training.hooks import Moment, Shared
from tersenet.training.options import Training

MODEL = small_convolutional()
CONTEXT = Context((FAKE_TABLE,), _data())


def values(model: Model) -> dict[str, int]:
    """How many different numbers each weight with a codebook has, but zero."""
    return {name: len(torch.unique(held[held != 0])) for name in model.annotations.codebooks for held in [model.graph.get_parameter(name)]}


def integers(model: Model) -> dict[str, torch.Tensor]:
    """The integers of each weight with a codebook, by its name."""
    module, plan = deployable(model), model.plans[0]
    nodes = {source_weight(node): node for node in calls(module) if node.name in plan.units and plan.units[node.name].weights}
    return {name: quantize(constant(module, bind(node)["weight"]), plan.units[node.name].weights["weight"]) for name, node in nodes.items()}


def test_each_layer_has_so_many_values_and_small_ones_are_left() -> None:
    result = Share(values=16, layers=(("stem*", 4),), keep="head").apply(MODEL, CONTEXT)
    assert values(result.model) == {"stem.0.weight": 4, "depthwise.0.weight": 16, "pointwise.0.weight": 16}
    assert "216 weights share 4 values, which changes" in next(change.why for change in result.changed if change.what == "stem.0")
    assert {change.what: change.why for change in result.skipped} == {"head": "it was asked to keep them"}
    assert {change.what for change in Share(values=32).apply(MODEL, CONTEXT).skipped} == {"depthwise.0", "pointwise.0", "head"}


@pytest.mark.parametrize(
    "step",
    [
        Train({"epochs": 2, "batch_size": 16}),
        Train({"epochs": 1, "optimizer": "sgd", "momentum": 0.9, "learning_rate": 0.01, "l2": 1e-3, "clip_norm": 1.0}),
        Train({"epochs": 2, "average": "ema", "slimming": 1e-3, "group_lasso": 1e-3}),
        Prune(ratio=0.5, training={"epochs": 1}),
        Sparsify(ratio=0.5, schedule="polynomial", training={"epochs": 2}),
    ],
    ids=str,
)
def test_codebooks_stay_through_what_comes_behind(step: Step) -> None:
    shared = Share(values=8).apply(MODEL, CONTEXT).model
    later = step.apply(shared, CONTEXT).model
    assert max(values(later).values()) <= 8
    for name, places in later.annotations.codebooks.items():
        held = later.graph.get_parameter(name)
        assert held.shape == places.shape
        for value in np.unique(places):
            assert len(torch.unique(held[(held != 0) & torch.from_numpy(places == value)])) <= 1
    assert any(not torch.equal(later.graph.get_parameter(name), shared.graph.get_parameter(name)) for name in later.annotations.codebooks)


def test_from_random_weights_they_share_values_as_before() -> None:
    shared = Share(values=8).apply(MODEL, CONTEXT).model
    assert values(Train({"epochs": 1}, from_scratch=True).apply(shared, CONTEXT).model) == values(shared)


def test_zeros_of_a_mask_stay_and_are_no_value() -> None:
    sparse = Sparsify(ratio=0.6).apply(MODEL, CONTEXT).model
    shared = Share(values=4, training={"epochs": 1}).apply(sparse, CONTEXT).model
    assert max(values(shared).values()) == 4
    for name, mask in sparse.annotations.masks.items():
        assert not shared.graph.get_parameter(name)[torch.from_numpy(~mask)].any()


@pytest.mark.parametrize("training", [None, {"epochs": 2, "batch_size": 16}, {"epochs": 1, "learn": "moving"}], ids=["after", "steps", "moving"])
@pytest.mark.parametrize("bits", ["int8", "int4"])
def test_equal_values_become_equal_integers_in_all_channels(training: dict[str, object] | None, bits: str) -> None:
    shared = Share(values=6).apply(MODEL, CONTEXT).model
    result = Quantize(weights=bits, training=training).apply(shared, CONTEXT)
    source = result.model.annotations.codebooks
    for name, found in integers(result.model).items():
        assert len(torch.unique(found.abs() * result.model.graph.get_parameter(name).sign())) <= 6
        assert len(torch.unique(found)) <= 2 * 6, "a channel with a negative factor has them negated"
        assert found.shape == source[name].shape
    assert {change.what for change in result.changed} >= {"stem.0 (fake)", "head (fake)"}


@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("training", [None, {"epochs": 1, "batch_size": 32}])
def test_equal_values_become_equal_integers_where_a_flatten_moved_the_columns(training: dict[str, object] | None, norm: bool) -> None:
    """As of every network of Keras, whose channels are last."""
    layers = [torch.nn.Linear(144, 16), *([torch.nn.BatchNorm1d(16)] * norm), torch.nn.ReLU(), torch.nn.Linear(16, 3)]
    model = tersenet.load(_ChannelsLast(torch.nn.Sequential(*layers)), (torch.zeros(2, 8, 8, 1),))
    rng = np.random.default_rng(0)
    images, labels = rng.random((96, 8, 8, 1), np.float32), rng.integers(0, 3, 96)
    data = Data.from_arrays(train=(images[:64], labels[:64]), selection=(images[64:], labels[64:]), calibration=rng.random((16, 8, 8, 1), np.float32))
    context = Context((FAKE_TABLE,), data)
    result = Quantize(training=training).apply(Share(values=8).apply(model, context).model, context)
    assert {what for what in integers(result.model)} >= {"head.0.weight"}
    said = {change.what.split(" ")[0]: change.why for change in result.changed if "values became" in change.why}
    assert said["head.0"] == "8 values became 8 integers"


class _ChannelsLast(torch.nn.Module):
    """A convolution on images with their channels last, and a flatten of that."""

    def __init__(self, head: torch.nn.Module) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.head = torch.nn.Conv2d(1, 4, 3), head

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(torch.relu(self.stem(images.permute(0, 3, 1, 2))).permute(0, 2, 3, 1).flatten(1))


def test_where_a_kernel_has_one_scale_for_all_channels_it_is_said() -> None:
    shared = Share(values=6).apply(MODEL, CONTEXT).model
    result = Quantize(granularity="per-tensor").apply(shared, CONTEXT)
    assert any("its kernel has one scale for all channels" in change.why for change in result.skipped)


def test_a_value_moves_by_the_sum_of_its_members_gradients() -> None:
    module = torch.nn.Linear(4, 1, bias=False)
    with torch.no_grad():
        module.weight.copy_(torch.tensor([[1.0, 2.0, 1.0, 0.0]]))
    hook = Shared({"weight": np.array([[0, 1, 0, 1]], np.uint8)})
    moment = Moment(module, Training(), torch.optim.SGD(module.parameters(), 0.1), 1)
    hook.start(moment)
    module.weight.grad = torch.tensor([[1.0, 5.0, 2.0, 7.0]])
    hook.after_backward(moment)
    assert module.weight.grad.tolist() == [[3.0, 5.0, 3.0, 0.0]], "a weight that is zero is out"


def test_codebooks_come_back_from_a_file(tmp_path) -> None:
    shared = Share(values=8).apply(MODEL, CONTEXT).model
    read = tersenet.load(tersenet.save(shared, tmp_path / "shared.pt2"))
    assert read.fingerprint == shared.fingerprint
    assert values(read) == values(shared)


def test_a_file_packs_better_for_it(tmp_path) -> None:
    from tersenet.measure.packing import packed_bytes
    from tersenet.target import ExportOptions
    from tersenet.targets import table

    target = table.find("onnxruntime")
    context = Context((table.capabilities(target),), Data.from_arrays(calibration=samples(8)))
    sizes = []
    for make in (lambda model: model, lambda model: Share(values=4).apply(model, context).model):
        written: Callable[[Model], Model] = make
        model = Quantize().apply(written(MODEL), context).model
        sizes.append(packed_bytes(table.exporter(target).export(model, tmp_path / "model.onnx", ExportOptions()).path))
    assert sizes[1] < sizes[0] - 392 // 4, "two bits a weight"


def test_options_that_make_no_sense_are_refused() -> None:
    with pytest.raises(RecipeError, match="share 2 to 256 values, got 1"):
        Share(values=1)
    with pytest.raises(RecipeError, match="got 300 \\(stem\\)"):
        Share(layers=(("stem", 300),))
    with pytest.raises(RecipeError, match="did you mean 'density'"):
        Share(initialization="densty")
    with pytest.raises(RecipeError, match="put share before quantize"):
        Share().apply(Quantize().apply(MODEL, CONTEXT).model, CONTEXT)
