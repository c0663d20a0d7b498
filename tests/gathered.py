"""Networks, and by hand which of their channels go together: the reference that pruned graphs are held against.

A network's table says of each tensor, by a pattern of its name, which *widths* its axes have. Keeping some indices of each width and gathering them
from the source modules gives the same architecture with fewer channels, without any graph.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from transformers_networks import CASES


class Dense(nn.Module):
    """A layer of DenseNet: what it makes stands behind what it was given."""

    def __init__(self, inputs: int, growth: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = nn.BatchNorm2d(inputs), nn.Conv2d(inputs, 4 * growth, 1, bias=False)
        self.norm2, self.conv2 = nn.BatchNorm2d(4 * growth), nn.Conv2d(4 * growth, growth, 3, padding=1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([x, self.conv2(self.norm2(self.conv1(self.norm1(x).relu())).relu())], 1)


class DenseNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.dense = nn.Sequential(Dense(8, 4), Dense(12, 4), Dense(16, 4))
        self.transition = nn.Sequential(nn.BatchNorm2d(20), nn.ReLU(), nn.Conv2d(20, 10, 1), nn.AvgPool2d(2))
        self.head = nn.Linear(10 * 16, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.transition(self.dense(self.stem(x))).flatten(1))


class Tagger(nn.Module):
    """Two bidirectional LSTM layers over embeddings, a score for each class."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(30, 8)
        self.lstm = nn.LSTM(8, 6, 2, batch_first=True, bidirectional=True)
        self.head = nn.Linear(12, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.lstm(self.embedding(x))[0].amax(1))


Table = list[tuple[str, tuple[str, ...]]]
NORM = r"\.(?:weight|bias|running_mean|running_var)"
BOTH = r"\.(?:weight|bias)"


@dataclass(frozen=True)
class Network:
    """A network and its table.

    Args:
        make: the module, from its architecture's name where it is one of Transformers.
        shapes: of its inputs; whole numbers below `tokens` where that is positive.
        table: pattern of a tensor's name -> the width of each axis; "" for one that stays. ``{1}`` is the first group of the pattern; ``a+b`` stands
            for two widths side by side, ``a*4`` for one four times over, ``a^4`` for one of which each index is four neighbours.
    """

    make: Callable[[], nn.Module]
    shape: tuple[int, ...]
    table: Callable[[nn.Module], Table]
    tokens: int = 0

    def inputs(self, seed: int = 0) -> torch.Tensor:
        random = torch.Generator().manual_seed(seed)
        return torch.randint(0, self.tokens, self.shape, generator=random) if self.tokens else torch.randn(self.shape, generator=random)

    def module(self) -> nn.Module:
        torch.manual_seed(0)
        module = self.make().eval()
        for name, tensor in (*module.named_parameters(), *module.named_buffers()):
            if tensor.is_floating_point() and tensor.requires_grad:
                tensor.data += 0.05 * torch.randn_like(tensor)
            elif name.endswith("running_mean"):
                tensor.copy_(0.1 * torch.randn_like(tensor))
            elif name.endswith("running_var"):
                tensor.copy_(0.5 + torch.rand_like(tensor))
        return module


def published(architecture: str, implementation: str = "eager") -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        import transformers

        case = next(case for case in CASES if case.architecture == architecture)
        config = getattr(transformers, case.config)(**case.options)
        network: nn.Module = getattr(transformers, architecture)._from_config(config, attn_implementation=implementation)
        return network

    return make


def _convolved(pattern: str, convolution: str, norm: str, made: str, read: str) -> Table:
    """A convolution and the batch norm behind it."""
    axes = (made,) if read == "" else (made, read)
    return [(rf"{pattern}\.{convolution}\.weight", axes), (rf"{pattern}\.{convolution}\.bias", (made,)), (rf"{pattern}\.{norm}{NORM}", (made,))]


def _resnet(module: nn.Module) -> Table:
    table = _convolved(r".*embedder", "convolution", "normalization", "S0", "")
    for stage, reads in ((0, "S0"), (1, "S0")):
        where = rf".*stages\.{stage}\.layers\.0"
        table += _convolved(rf"{where}\.layer\.0", "convolution", "normalization", f"I{stage}", reads)
        table += _convolved(rf"{where}\.layer\.1", "convolution", "normalization", f"S{stage}", f"I{stage}")
        table += _convolved(rf"{where}\.shortcut", "convolution", "normalization", f"S{stage}", reads)
    return [*table, (r"classifier\.1\.weight", ("", "S1"))]


def _regnet(module: nn.Module) -> Table:
    table = _convolved(r".*embedder", "convolution", "normalization", "S", "")
    for stage, reads in ((0, "S"), (1, "S0")):
        where = rf".*stages\.{stage}\.layers\.0"
        # Two groups of four channels lose the same ones each; of four groups of four, whole groups leave.
        given, made, inside = ("C0*2", "K0*2", "C0") if stage == 0 else ("G1^4", "G1^4", "")
        table += _convolved(rf"{where}\.layer\.0", "convolution", "normalization", given, reads)
        table += _convolved(rf"{where}\.layer\.1", "convolution", "normalization", made, inside)
        squeeze = rf"{where}\.layer\.2\.attention"
        table += [(rf"{squeeze}\.0\.weight", (f"E{stage}", made)), (rf"{squeeze}\.0\.bias", (f"E{stage}",))]
        table += [(rf"{squeeze}\.2\.weight", (made, f"E{stage}")), (rf"{squeeze}\.2\.bias", (made,))]
        table += _convolved(rf"{where}\.layer\.3", "convolution", "normalization", f"S{stage}", made)
        table += _convolved(rf"{where}\.shortcut", "convolution", "normalization", f"S{stage}", reads)
    return [*table, (r"classifier\.1\.weight", ("", "S1"))]


def _mobilenet(module: nn.Module) -> Table:
    stem = r".*conv_stem"
    table = _convolved(rf"{stem}\.first_conv", "convolution", "normalization", "I", "")
    table += _convolved(rf"{stem}\.conv_3x3", "convolution", "normalization", "I", "")
    table += _convolved(rf"{stem}\.reduce_1x1", "convolution", "normalization", "S", "I")
    stream = "S"
    for number, block in enumerate(module.mobilenet_v2.layer):
        where, inner, reads = rf".*layer\.{number}", f"I{number}", stream
        stream = stream if block.use_residual else f"S{number}"
        table += _convolved(rf"{where}\.expand_1x1", "convolution", "normalization", inner, reads)
        table += _convolved(rf"{where}\.conv_3x3", "convolution", "normalization", inner, "")
        table += _convolved(rf"{where}\.reduce_1x1", "convolution", "normalization", stream, inner)
    table += _convolved(r".*mobilenet_v2\.conv_1x1", "convolution", "normalization", "T", stream)
    return [*table, (r"classifier\.weight", ("", "T"))]


def _efficientnet(module: nn.Module) -> Table:
    table = _convolved(r".*embeddings", "convolution", "batchnorm", "S", "")
    stream = "S"
    for number, block in enumerate(module.efficientnet.encoder.blocks):
        where, reads = rf".*blocks\.{number}", stream
        inner = f"I{number}" if block.expand else reads
        stream = stream if block.projection.apply_dropout else f"S{number}"
        table += _convolved(rf"{where}\.expansion", "expand_conv", "expand_bn", inner, reads)
        table += _convolved(rf"{where}\.depthwise_conv", "depthwise_conv", "depthwise_norm", inner, "")
        for part, made, read in (("reduce", f"E{number}", inner), ("expand", inner, f"E{number}")):
            table += [(rf"{where}\.squeeze_excite\.{part}\.weight", (made, read)), (rf"{where}\.squeeze_excite\.{part}\.bias", (made,))]
        table += _convolved(rf"{where}\.projection", "project_conv", "project_bn", stream, inner)
    table += _convolved(r".*encoder", "top_conv", "top_bn", "T", stream)
    return [*table, (r"classifier\.weight", ("", "T"))]


def _convnext(module: nn.Module) -> Table:
    table: Table = [(rf".*patch_embeddings{BOTH}", ("S0",)), (rf".*embeddings\.layernorm{BOTH}", ("S0",))]
    table += [
        (rf".*downsampling_layer\.0{BOTH}", ("S0",)),
        (r".*downsampling_layer\.1\.weight", ("S1", "S0")),
        (r".*downsampling_layer\.1\.bias", ("S1",)),
    ]
    inside = r".*stages\.(\d)\.layers\.0"
    table += [(rf"{inside}\.pwconv1\.weight", ("F{1}", "S{1}")), (rf"{inside}\.pwconv1\.bias", ("F{1}",))]
    table += [
        (rf"{inside}\.pwconv2\.weight", ("S{1}", "F{1}")),
        (rf"{inside}\.(?:pwconv2\.bias|dwconv.*|layernorm.*|layer_scale_parameter)", ("S{1}",)),
    ]
    return [*table, (rf"convnext\.layernorm{BOTH}", ("S1",)), (r"classifier\.weight", ("", "S1"))]


def _transformer(layers: str, names: tuple[str, str, str], norm: str, width: str, inner: str, head: int) -> Table:
    """Attention and the two linear layers of an encoder: `names` are patterns of query, key and value; of their output; and of the linear layers."""
    attention, output, (first, second) = rf"{layers}\.{names[0]}", rf"{layers}\.{names[1]}", names[2].split(" ")
    table: Table = [(rf"{attention}\.weight", (f"B{inner}^{head}", width)), (rf"{attention}\.bias", (f"B{inner}^{head}",))]
    table += [(rf"{output}\.weight", (width, f"B{inner}^{head}")), (rf"{output}\.bias", (width,))]
    table += [(rf"{layers}\.{first}\.weight", (f"F{inner}", width)), (rf"{layers}\.{first}\.bias", (f"F{inner}",))]
    table += [(rf"{layers}\.{second}\.weight", (width, f"F{inner}")), (rf"{layers}\.{second}\.bias", (width,))]
    return [*table, (rf"{layers}\.{norm}{BOTH}", (width,))]


MODERN = (r"attention\.[qkv]_proj", r"attention\.o_proj", r"mlp\.fc1 mlp\.fc2")


def _vit(module: nn.Module) -> Table:
    table: Table = [(r".*(?:cls_token|position_embeddings)", ("", "", "S")), (rf".*projection{BOTH}", ("S",))]
    table += _transformer(r"vit\.layers\.(\d)", MODERN, r"layernorm_\w+", "S", "{1}", 8)
    return [*table, (rf"vit\.layernorm{BOTH}", ("S",)), (r"classifier\.weight", ("", "S"))]


def _swin(module: nn.Module) -> Table:
    table: Table = [(rf".*projection{BOTH}", ("S0",)), (rf".*embeddings\.norm{BOTH}", ("S0",))]
    table += [(r".*downsample\.reduction\.weight", ("S1", "S0*4")), (rf".*downsample\.norm{BOTH}", ("S0*4",))]
    for stage, head in ((0, 4), (1, 8)):
        layers = rf".*layers\.{stage}\.blocks\.(\d)"
        table += _transformer(layers, MODERN, r"layernorm_\w+", f"S{stage}", f"{stage}{{1}}", head)
        table += [(rf"{layers}\.attention\..*bias_table", ("", f"B{stage}{{1}}"))]
    return [*table, (rf"swin\.layernorm{BOTH}", ("S1",)), (r"classifier\.weight", ("", "S1"))]


def _bert(module: nn.Module) -> Table:
    table: Table = [(r".*embeddings\.\w+_embeddings\.weight", ("", "S")), (rf".*embeddings\.LayerNorm{BOTH}", ("S",))]
    names = (r"attention\.self\.\w+", r"attention\.output\.dense", r"intermediate\.dense output\.dense")
    table += _transformer(r".*layer\.(\d)", names, r".*LayerNorm", "S", "{1}", 8)
    return [*table, (r".*pooler\.dense\.weight", ("P", "S")), (r".*pooler\.dense\.bias", ("P",)), (r"classifier\.weight", ("", "P"))]


def _densenet(module: nn.Module) -> Table:
    table: Table = [(rf"stem{BOTH}", ("S",))]
    for layer in range(3):
        given, where = "+".join(["S", "A", "B", "C"][: layer + 1]), rf"dense\.{layer}"
        table += [
            (rf"{where}\.norm1{NORM}", (given,)),
            (rf"{where}\.conv1\.weight", (f"I{layer}", given)),
            (rf"{where}\.norm2{NORM}", (f"I{layer}",)),
        ]
        table += [(rf"{where}\.conv2\.weight", ("ABC"[layer], f"I{layer}"))]
    table += [(rf"transition\.0{NORM}", ("S+A+B+C",)), (r"transition\.2\.weight", ("T", "S+A+B+C")), (r"transition\.2\.bias", ("T",))]
    return [*table, (r"head\.weight", ("", "T^16"))]


def _tagger(module: nn.Module) -> Table:
    table: Table = [(r"embedding\.weight", ("", "S")), (r"lstm\.weight_hh_.*", ("H*4", "H")), (r"lstm\.bias_.*", ("H*4",))]
    table += [(r"lstm\.weight_ih_l0.*", ("H*4", "S")), (r"lstm\.weight_ih_l1.*", ("H*4", "H*2"))]
    return [*table, (r"head\.weight", ("", "H*2"))]


PICTURE = (2, 3, 32, 32)
NETWORKS = {
    "ResNet": Network(published("ResNetForImageClassification"), (2, 3, 64, 64), _resnet),
    "RegNet": Network(published("RegNetForImageClassification"), (2, 3, 64, 64), _regnet),
    "MobileNetV2": Network(published("MobileNetV2ForImageClassification"), PICTURE, _mobilenet),
    "EfficientNet": Network(published("EfficientNetForImageClassification"), PICTURE, _efficientnet),
    "ConvNeXt": Network(published("ConvNextForImageClassification"), PICTURE, _convnext),
    "ViT": Network(published("ViTForImageClassification", "sdpa"), PICTURE, _vit),
    "Swin": Network(published("SwinForImageClassification"), PICTURE, _swin),
    "BERT": Network(published("BertForSequenceClassification", "sdpa"), (2, 12), _bert, tokens=60),
    "DenseNet": Network(DenseNet, (2, 3, 8, 8), _densenet),
    "BiLSTM": Network(Tagger, (2, 9), _tagger, tokens=30),
}


def choose(network: Network, module: nn.Module, share: float, seed: int) -> dict[str, dict[int, np.ndarray]]:
    """For each tensor the indices to keep of each axis, drawn at random width by width."""
    random = np.random.default_rng(seed)
    widths: dict[str, tuple[int, np.ndarray]] = {}

    def indices(key: str, size: int) -> np.ndarray:
        if "+" in key:
            starts = np.cumsum([0, *(widths[name][0] for name in key.split("+"))])
            assert starts[-1] == size, (key, size)
            return np.concatenate([widths[name][1] + start for name, start in zip(key.split("+"), starts[:-1], strict=True)])
        name, sign, times = re.fullmatch(r"(\w+)([*^]?)(\d*)", key).groups()  # type: ignore[union-attr]
        count = size // int(times or 1)
        if name not in widths:
            widths[name] = (count, np.sort(random.choice(count, max(1, round(count * share)), replace=False)))
        assert widths[name][0] == count, (key, size)
        kept = widths[name][1]
        if sign == "*":
            return np.concatenate([kept + count * place for place in range(int(times))])
        return (kept[:, None] * int(times or 1) + np.arange(int(times or 1))).reshape(-1)

    kept: dict[str, dict[int, np.ndarray]] = {}
    for name, tensor in module.state_dict().items():
        for pattern, axes in network.table(module):
            if (found := re.fullmatch(pattern, name)) is not None:
                keys = [re.sub(r"\{(\d)\}", lambda group, found=found: found.group(int(group.group(1))), axis) for axis in axes]
                kept[name] = {axis: indices(key, tensor.shape[axis]) for axis, key in enumerate(keys) if key}
                break
    return kept


def gathered(module: nn.Module, kept: Mapping[str, Mapping[int, np.ndarray]]) -> nn.Module:
    """The source modules with these indices of their tensors, and with the numbers that modules hold of their own."""
    module = copy.deepcopy(module)
    for name, axes in kept.items():
        owner, _, last = name.rpartition(".")
        holder = module.get_submodule(owner)
        tensor = getattr(holder, last).detach()
        for axis, index in axes.items():
            tensor = tensor.index_select(axis, torch.from_numpy(index))
        old = getattr(holder, last)
        setattr(holder, last, nn.Parameter(tensor) if isinstance(old, nn.Parameter) else tensor)
    for part in module.modules():
        if isinstance(part, nn.Conv2d) and part.groups > 1:
            whole = part.weight.shape[1] == part.in_channels // part.groups  # groups left, not channels of them
            part.groups = part.weight.shape[0] * part.groups // part.out_channels if whole else part.groups
        elif isinstance(part, nn.LayerNorm):
            part.normalized_shape = tuple(part.weight.shape)
        elif isinstance(part, nn.LSTM):
            part.hidden_size, part.input_size = part.weight_hh_l0.shape[1], part.weight_ih_l0.shape[1]
            part._flat_weights = [getattr(part, name) for name in part._flat_weights_names]
        for query in ("query", "q_proj"):
            layer = getattr(part, query, None)
            width = getattr(part, "attention_head_size", getattr(part, "head_dim", None))
            if isinstance(layer, nn.Linear) and width:
                for name in ("num_attention_heads", "num_heads"):
                    if hasattr(part, name):
                        setattr(part, name, layer.weight.shape[0] // width)
                part.all_head_size = layer.weight.shape[0]
    return module
