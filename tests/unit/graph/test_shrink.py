"""Pruned graphs against the source modules with the same channels gathered by hand."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from gathered import NETWORKS, choose, gathered
from networks import Function
from tersenet import ExportOptions, load, save
from tersenet.annotations import Annotations
from tersenet.errors import RecipeError
from tersenet.graph.cost import cost
from tersenet.graph.dependencies import Dependencies, dependencies
from tersenet.graph.shrink import shrink
from tersenet.graph.trace import trace
from tersenet.graph.walk import constant, copy
from tersenet.model import Model
from tersenet.schemes import Encoding, Scheme
from tersenet.target import Artifact
from tersenet.targets import table
from tersenet.testing.networks import samples, small_convolutional


def leaving(found: Dependencies, kept) -> set[int]:
    """The units of the indices that are not kept."""
    gone: set[int] = set()
    for name, axes in kept.items():
        for axis, indices in axes.items():
            units = found.units(found.propagation.constants[name][axis])
            gone |= set(np.delete(units, indices).tolist())
    return gone


FAST = {"ResNet", "BERT", "DenseNet", "BiLSTM"}


@pytest.mark.parametrize("name", [pytest.param(name, marks=() if name in FAST else pytest.mark.slow) for name in NETWORKS])
@pytest.mark.parametrize("share", [0.5, pytest.param(0.75, marks=pytest.mark.slow)])
def test_as_gathered_by_hand(name, share, tmp_path, record_property):
    pytest.importorskip("transformers")
    network = NETWORKS[name]
    module = network.module()
    model = trace(module, (network.inputs(),))
    found = dependencies(model)
    kept = choose(network, module, share, seed=1)
    pruned = shrink(found, leaving(found, kept))
    reference = gathered(module, kept)
    state = dict(reference.state_dict())
    for key, tensor in pruned.graph.state_dict().items():
        assert key not in state or torch.equal(tensor, state[key]), key  # tables that no file holds are not in it
    inputs = network.inputs(seed=3)
    with torch.no_grad():
        wanted = reference(inputs)
    wanted = getattr(wanted, "logits", wanted).numpy()
    assert np.allclose(pruned(inputs.numpy()), wanted, atol=1e-5, rtol=1e-4)
    record_property("macs", cost(pruned).macs / cost(model).macs)
    if share == 0.5:
        artifact = exported(pruned, "onnxruntime", tmp_path)
        assert np.allclose(artifact(inputs.numpy()), wanted, atol=1e-4, rtol=1e-3)
        save(pruned, tmp_path / "pruned.pt2")
        assert np.allclose(load(tmp_path / "pruned.pt2")(inputs.numpy()), wanted, atol=1e-5, rtol=1e-4)


def exported(model: Model, target: str, folder: Path) -> Artifact:
    row = table.find(target)
    export = table.exporter(row).export(model, folder / f"model{row.extension}", ExportOptions())
    return Artifact(export.path, target, table.runner(row).load(export.path), export.inputs, export.outputs)


def zeroed(found: Dependencies, gone: set[int]):
    """The network with all numbers of these units zero: what leaves contributed nothing."""
    module = copy(found.model.graph)
    state = {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}
    for part in found.slices:
        if part.tensor in state and state[part.tensor].is_floating_point() and "running" not in part.tensor:
            state[part.tensor].index_fill_(part.axis, torch.from_numpy(np.flatnonzero(np.isin(part.unit, list(gone)))), 0.0)
    held = {**dict(module.named_buffers()), **{name: nn.Parameter(value, False) for name, value in state.items()}}
    return replace(found.model, graph=torch.fx.GraphModule(held, module.graph))


def half(found: Dependencies, seed: int = 0) -> set[int]:
    """Half of the units of every group, at random."""
    random = np.random.default_rng(seed)
    chosen = [random.choice(group.units, group.width // 2, replace=False) for group in found.groups if not group.why and group.width > 1]
    return set(np.concatenate(chosen).tolist()) if chosen else set()


def holds(module: nn.Module, *shapes: tuple[int, ...], least: int = 1, heads: bool = True) -> Model:
    """A network without half of its channels gives what it gives when those are zero, for another batch too."""
    torch.manual_seed(0)
    model = trace(module.eval(), tuple(torch.randn(shape) for shape in shapes))
    found = dependencies(model, heads=heads)
    gone = half(found)
    assert len(gone) >= least
    pruned, alive = shrink(found, gone), found.everything
    alive[list(gone)] = False
    assert (cost(pruned).macs, cost(pruned).parameters) == (found.macs(alive), found.parameters(alive))
    inputs = [np.random.default_rng(2).standard_normal((3, *shape[1:])).astype(np.float32) for shape in shapes]
    assert np.allclose(pruned(*inputs), zeroed(found, gone)(*inputs), atol=1e-5, rtol=1e-4)
    for node in pruned.graph.graph.nodes:
        if node.op == "get_attr":
            assert tuple(node.meta["val"].shape) == tuple(constant(pruned.graph, node).shape)
    return pruned


C = nn.Conv2d
IMAGE = (2, 3, 8, 8)
CASES = {
    "plain": (nn.Sequential(C(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), C(8, 6, 3), nn.Flatten(), nn.Linear(96, 5)), IMAGE),
    "depthwise": (nn.Sequential(C(3, 8, 1), C(8, 16, 3, groups=8), nn.ReLU(), C(16, 4, 1)), IMAGE),
    "grouped": (nn.Sequential(C(3, 12, 1), C(12, 16, 3, groups=2), nn.ReLU(), C(16, 4, 1)), IMAGE),
    "transposed": (nn.Sequential(C(3, 8, 1), nn.ConvTranspose2d(8, 6, 2, 2), nn.ReLU(), C(6, 4, 1)), IMAGE),
    "transposed grouped": (nn.Sequential(C(3, 8, 1), nn.ConvTranspose2d(8, 12, 2, 2, groups=2), nn.ReLU(), C(12, 4, 1)), IMAGE),
    "sound": (nn.Sequential(nn.Conv1d(3, 8, 3), nn.ReLU(), nn.MaxPool1d(2), nn.Conv1d(8, 4, 3)), (2, 3, 20)),
    "pixel shuffle": (nn.Sequential(C(3, 16, 1), nn.PixelShuffle(2), C(4, 4, 1)), IMAGE),
    "pixel unshuffle": (nn.Sequential(C(3, 6, 1), nn.PixelUnshuffle(2), C(24, 4, 1)), IMAGE),
    "channel shuffle": (nn.Sequential(C(3, 8, 1), nn.ChannelShuffle(2), C(8, 4, 1)), IMAGE),
    "resize": (nn.Sequential(C(3, 8, 1), nn.Upsample(scale_factor=2), nn.PReLU(8), C(8, 4, 1)), IMAGE),
    "gate": (Function(lambda a, b, x: b(a(x).chunk(2, 1)[0] * a(x).chunk(2, 1)[1].sigmoid()), C(3, 8, 1), C(4, 3, 1)), IMAGE),
    "split": (Function(lambda a, b, x: b(torch.cat(a(x).split([3, 5], 1)[::-1], 1)), C(3, 8, 1), C(8, 3, 1)), IMAGE),
    "slices": (Function(lambda a, b, x: b(a(x)[:, 1:7:2]) + a(x)[:, -1:], C(3, 8, 1), C(3, 4, 1)), IMAGE),
    "select": (Function(lambda a, b, x: b(a(x)) * a(x)[:, 2:3], C(3, 8, 1), C(8, 4, 1)), IMAGE),
    "flip": (Function(lambda a, b, x: b(a(x).flip(1)), C(3, 8, 1), C(8, 4, 1)), IMAGE),
    "index": (Function(lambda a, b, x: b(a(x).index_select(1, torch.tensor([5, 0, 3, 3]))), C(3, 8, 1), C(4, 4, 1)), IMAGE),
    "nothing taken": (Function(lambda a, b, x: b(torch.cat([a(x), a(x)[:, 8:]], 1)), C(3, 8, 1), C(8, 4, 1)), IMAGE),
    "order": (Function(lambda a, b, x: b(a(x)[:, [5, 0, -1, 3]]), C(3, 8, 1), C(4, 4, 1)), IMAGE),
    "pad": (Function(lambda a, b, x: b(nn.functional.pad(a(x), (1, 0, 0, 1, 2, 1))), C(3, 8, 1), C(11, 4, 1)), IMAGE),
    "repeat": (Function(lambda a, b, x: b(a(x).repeat(1, 2, 1, 1)), C(3, 8, 1), C(16, 4, 1)), IMAGE),
    "expand": (Function(lambda a, b, x: b(a(x).mean((2, 3), keepdim=True).expand(-1, -1, 4, 4)), C(3, 8, 1), C(8, 4, 1)), IMAGE),
    "stack": (Function(lambda a, b, x: b(torch.stack([a(x), a(x) * 2], 1).sum(1)), C(3, 8, 1), C(8, 4, 1)), IMAGE),
    "fills": (Function(lambda a, b, x: b(torch.cat([a(x), torch.ones(x.shape[0], 2, 8, 8)], 1)), C(3, 8, 1), C(10, 4, 1)), IMAGE),
    "channels last": (Function(lambda a, b, x: b(a(x.permute(0, 2, 3, 1)).relu().flatten(1)), nn.Linear(3, 6), nn.Linear(384, 4)), IMAGE),
    "einsum": (Function(lambda a, b, x: torch.einsum("bchw,oc->bohw", a(x), b.weight), C(3, 8, 1), nn.Linear(8, 4)), IMAGE),
    "unflatten": (nn.Sequential(nn.Linear(5, 96), nn.Unflatten(1, (6, 4, 4)), C(6, 3, 1)), (2, 5)),
    "squeeze": (nn.Sequential(C(3, 8, 8), nn.Flatten(), nn.Linear(8, 4)), IMAGE),
    "einsum with dots": (Function(lambda a, b, x: torch.einsum("n...c,oc->n...o", a(x), b.weight), nn.Linear(8, 6), nn.Linear(6, 4)), IMAGE),
    "einsum without a result": (Function(lambda a, b, x: torch.einsum("nihc,ck", a(x), b.weight), nn.Linear(8, 6), nn.Linear(4, 6)), IMAGE),
    "matrix and vector added": (Function(lambda a, b, x: b(torch.addmm(torch.ones(6), x, a.weight)), nn.Linear(6, 5), nn.Linear(6, 4)), (2, 5)),
    "limits": (Function(lambda a, b, x: b(a(x).clamp(min=a(-x), max=a(x).exp())), C(3, 8, 1), C(8, 4, 1)), IMAGE),
    "larger of two": (Function(lambda a, b, x: b(torch.max(*a(x).chunk(2, 1))), C(3, 8, 1), C(4, 4, 1)), IMAGE),
    "unfold of a made image": (
        Function(lambda a, b, x: b(nn.functional.unfold(a(x).view(-1, 2, 8, 8).relu(), 2).flatten(1)), nn.Linear(5, 128), nn.Linear(392, 3)),
        (2, 5),
    ),
    "made image to channels": (
        Function(lambda a, b, x: b(nn.functional.pixel_unshuffle(a(x).view(-1, 2, 8, 8).relu(), 2).flatten(1)), nn.Linear(5, 128), nn.Linear(128, 3)),
        (2, 5),
    ),
    "fold": (Function(lambda a, b, x: b(nn.functional.fold(a(nn.functional.unfold(x, 2)), (8, 8), 2)), nn.Conv1d(12, 24, 1), C(6, 4, 1)), IMAGE),
    "windows": (Function(lambda a, b, x: b(a(x).unfold(2, 2, 2).mean(2).movedim(1, -1)), C(3, 8, 1), nn.Linear(8, 4)), IMAGE),
    "sampled": (
        Function(lambda a, b, x: b(nn.functional.grid_sample(a(x), x[:, :2].movedim(1, -1), align_corners=False)), C(3, 8, 1), C(8, 4, 1)),
        IMAGE,
    ),
    "turned": (Function(lambda a, b, x: b(a(x).rot90(1, (2, 3)).tril().fliplr()), C(3, 8, 1), C(8, 4, 1)), IMAGE),
    "tensordot": (Function(lambda a, b, x: torch.tensordot(a(x), b.weight, ([1], [1])), C(3, 8, 1), nn.Linear(8, 4)), IMAGE),
    "bilinear": (Function(lambda a, b, c, x: c(b(a(x), a(x).flip(1))), nn.Linear(5, 8), nn.Bilinear(8, 8, 6), nn.Linear(6, 3)), (2, 5)),
    "piled": (Function(lambda a, b, x: a(x) @ torch.vstack([b.weight, b.bias]).t(), nn.Linear(5, 8), nn.Linear(8, 8)), (2, 5)),
    "columns": (Function(lambda a, b, x: a(x) @ torch.column_stack([b.weight, b.bias]), nn.Linear(5, 8), nn.Linear(8, 8)), (2, 5)),
    "outer": (Function(lambda a, b, x: a(x) @ torch.outer(b.weight[0], b.bias), nn.Linear(5, 8), nn.Linear(8, 3)), (2, 5)),
    "distances": (Function(lambda a, b, x: torch.cdist(a(x), b.weight), nn.Linear(5, 8), nn.Linear(8, 3)), (2, 5)),
    "cosine": (Function(lambda a, b, x: nn.functional.cosine_similarity(a(x), b(x)), nn.Linear(5, 8), nn.Linear(5, 8)), (2, 5)),
    "self attention": (nn.Sequential(nn.Linear(5, 16), nn.MultiheadAttention(16, 4, batch_first=True)), (2, 6, 5)),
}


@pytest.mark.parametrize("name", [name for name in CASES if name != "self attention"])
def test_what_leaves_was_nothing(name):
    module, shape = CASES[name]
    holds(module, shape)


@pytest.mark.parametrize("heads", [True, False])
def test_attention_written_with_views(heads):
    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.inside, self.outside = nn.Linear(5, 48), nn.Linear(16, 3)

        def forward(self, x):
            n, length, _ = x.shape
            query, key, value = self.inside(x).view(n, length, 3, 4, 4).permute(2, 0, 3, 1, 4).unbind(0)
            mixed = nn.functional.scaled_dot_product_attention(query, key, value)
            return self.outside(mixed.transpose(1, 2).reshape(n, length, 16))

    holds(Attention(), (2, 6, 5), least=2, heads=heads)


def test_recurrent_layers():
    for layer in (nn.GRU(5, 6, 2, batch_first=True), nn.LSTM(5, 6, batch_first=True, bidirectional=True), nn.RNN(5, 6, batch_first=True)):
        width = 12 if layer.bidirectional else 6
        holds(Function(lambda cell, head, x: head(cell(x)[0]), layer, nn.Linear(width, 3)), (2, 7, 5), least=3)


@pytest.mark.parametrize("shared", [1, 2, 4])
@pytest.mark.parametrize("heads", [True, False])
def test_heads_of_queries_that_share_keys(shared, heads):
    def attend(inside, keys, values, outside, x):
        query, key, value = (part(x).unflatten(-1, (-1, 4)).transpose(1, 2) for part in (inside, keys, values))
        mixed = nn.functional.scaled_dot_product_attention(query, key, value, enable_gqa=True)
        return outside(mixed.transpose(1, 2).flatten(2))

    parts = nn.Linear(5, 16), nn.Linear(5, 4 * shared), nn.Linear(5, 4 * shared), nn.Linear(16, 3)
    holds(Function(attend, *parts), (2, 6, 5), least=1, heads=heads)


@pytest.mark.parametrize("cell", [nn.LSTMCell(5, 6), nn.GRUCell(5, 6), nn.RNNCell(5, 6, nonlinearity="relu")], ids=["lstm", "gru", "rnn"])
def test_cells_that_a_loop_calls(cell):
    def steps(cell, head, x):
        state = None
        for step in range(x.shape[1]):
            state = cell(x[:, step], state)
        return head(state[0] if isinstance(state, tuple) else state)

    pruned = holds(Function(steps, cell, nn.Linear(6, 3)), (2, 4, 5), least=3)
    assert cost(pruned).macs == 4 * sum(weight.numel() for name, weight in pruned.graph.state_dict().items() if "weight_" in name) + 9


def test_nothing_leaves_nothing_changes():
    model = small_convolutional()
    pruned = shrink(dependencies(model), [])
    inputs = samples(4)
    assert np.array_equal(pruned(inputs), model(inputs))
    assert cost(pruned).macs == cost(model).macs


def test_grids_and_masks_are_cut_along():
    model = small_convolutional()
    name = "stem.0.weight"
    mask = np.random.default_rng(0).random((8, 3, 3, 3)) > 0.5
    grid = Encoding(Scheme("int8", granularity="per-channel"), tuple(0.1 * (i + 1) for i in range(8)), (0,) * 8, 0)
    model = replace(model, annotations=Annotations(weights={name: grid}, masks={name: mask}))
    found = dependencies(model)
    units = found.units(found.propagation.constants[name][0])
    pruned = shrink(found, units[[1, 4]].tolist())
    kept = [0, 2, 3, 5, 6, 7]
    assert np.array_equal(pruned.annotations.masks[name], mask[kept])
    assert pruned.annotations.weights[name].scale == tuple(grid.scale[i] for i in kept)


def test_what_cannot_leave_is_refused():
    found = dependencies(small_convolutional())
    stuck = next(group for group in found.groups if group.why)
    with pytest.raises(RecipeError, match=r"channels of head cannot leave: it is what the network returns \(linear\)"):
        shrink(found, stuck.units[:1])
    free = next(group for group in found.groups if not group.why)
    with pytest.raises(RecipeError, match="at least one channel of .* must stay; all of its 8 were to leave"):
        shrink(found, free.units)


def shuffled() -> nn.Module:
    """Units of ShuffleNet: half of the channels pass, the others are convolved, and all are shuffled."""

    class Unit(nn.Module):
        def __init__(self):
            super().__init__()
            self.main = nn.Sequential(C(4, 6, 1), nn.BatchNorm2d(6), nn.ReLU(), C(6, 6, 3, padding=1, groups=6), C(6, 4, 1), nn.ReLU())

        def forward(self, x):
            first, second = x.chunk(2, 1)
            n, c, h, w = x.shape
            return torch.cat([first, self.main(second)], 1).view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)

    return nn.Sequential(C(3, 8, 1), Unit(), Unit(), Unit(), C(8, 4, 1))


def test_shuffled_channels_leave_one_by_one():
    pruned = holds(shuffled(), IMAGE, least=15)
    assert all(node.target is not torch.ops.aten.view.default for node in pruned.graph.graph.nodes)


@st.composite
def networks(draw):
    """Random convolutional networks of what rules know."""
    random = draw(st.randoms(use_true_random=False))
    return [random.choice(list(BLOCKS)) for _ in range(draw(st.integers(1, 5)))], draw(st.integers(0, 1000))


class Random(nn.Module):
    def __init__(self, names: list[str]) -> None:
        super().__init__()
        self.stem, self.parts = C(3, 8, 3, padding=1), nn.ModuleList()
        self.functions = [BLOCKS[name][1] for name in names]
        for name in names:
            self.parts.append(nn.ModuleList(BLOCKS[name][0]()))
        self.head = nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        for function, parts in zip(self.functions, self.parts, strict=True):
            x = function(parts, x)
        return self.head(x.mean((2, 3)))


BLOCKS = {
    "convolution": (lambda: [C(8, 8, 3, padding=1), nn.BatchNorm2d(8)], lambda p, x: p[1](p[0](x)).relu()),
    "residual": (lambda: [C(8, 5, 1), C(5, 8, 3, padding=1)], lambda p, x: x + p[1](p[0](x).relu())),
    "dense": (lambda: [C(8, 4, 1), C(12, 8, 1)], lambda p, x: p[1](torch.cat([x, p[0](x)], 1))),
    "grouped": (lambda: [C(8, 8, 3, padding=1, groups=2)], lambda p, x: p[0](x)),
    "depthwise": (lambda: [C(8, 16, 3, padding=1, groups=8), C(16, 8, 1)], lambda p, x: p[1](p[0](x))),
    "squeeze": (lambda: [C(8, 3, 1), C(3, 8, 1)], lambda p, x: x * p[1](p[0](x.mean((2, 3), keepdim=True)).relu()).sigmoid()),
    "shuffle": (lambda: [], lambda p, x: x.view(x.shape[0], 4, 2, 8, 8).transpose(1, 2).reshape(x.shape[0], 8, 8, 8)),
    "gate": (lambda: [C(8, 16, 1)], lambda p, x: p[0](x).chunk(2, 1)[0] * p[0](x).chunk(2, 1)[1].sigmoid()),
    "halves": (lambda: [C(4, 4, 1)], lambda p, x: torch.cat([x[:, 4:], p[0](x[:, :4])], 1)),
    "turned": (lambda: [nn.Linear(8, 8)], lambda p, x: p[0](x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)),
    "up": (lambda: [nn.ConvTranspose2d(8, 8, 2, 2), nn.MaxPool2d(2)], lambda p, x: p[1](p[0](x))),
}


@settings(max_examples=10, deadline=None)
@given(networks())
def test_random_networks(drawn):
    names, seed = drawn
    torch.manual_seed(seed)
    holds(Random(names), IMAGE, least=0)
