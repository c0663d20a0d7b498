"""Numbers to classes, and classes to features: CategoryEncoding, Discretization, IntegerLookup."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from tersenet.errors import ModelError
from tersenet.frontends.keras.layer import Layer
from tersenet.frontends.keras.layers.arguments import array, choice, flag, input_shape, title, value, whole

MODES = ("one_hot", "multi_hot", "count")
MOST_CLASSES = 1_000_000  # more is a damaged configuration, whose features would fill the memory


class Encoded(nn.Module):
    """Classes as features; a number that is no class has none.

    Args:
        depth: how many classes there are.
        mode: ``int`` leaves them; ``one_hot`` gives a feature to each place, ``multi_hot`` and ``count`` bring the places of axis 1 together.
    """

    def __init__(self, depth: int, mode: str) -> None:
        super().__init__()
        self.depth = depth
        self.mode = mode

    def forward(self, x: Tensor) -> Tensor:
        if self.mode == "int":
            return x
        if self.mode == "one_hot" and x.dim() > 1 and x.shape[-1] == 1:
            x = x.squeeze(-1)
        features = (x.long().unsqueeze(-1) == torch.arange(self.depth)).float()
        if self.mode == "one_hot":
            return features
        return features.amax(1) if self.mode == "multi_hot" else features.sum(1)


def _encoded(layer: Layer, depth: int, mode: str) -> Encoded:
    if depth > MOST_CLASSES:
        raise ModelError(f"{title(layer)} must have at most {MOST_CLASSES:,} classes, got {depth:,}.")
    if value(layer, "sparse", False):
        raise ModelError(f"{title(layer)} gives sparse tensors, which no runtime has.")
    if mode in ("multi_hot", "count") and len(input_shape(layer)) < 2:
        raise ModelError(f"{title(layer)} brings the places of axis 1 together, and gets a tensor of the shape {input_shape(layer)}.")
    return Encoded(depth, mode)


def category_encoding(layer: Layer) -> nn.Module:
    """``CategoryEncoding``."""
    mode = choice(layer, "output_mode", (*MODES, "binary"), "multi_hot")
    return _encoded(layer, whole(layer, "num_tokens"), "multi_hot" if mode == "binary" else mode)


class Discretized(nn.Module):
    """Which of the ranges between rising limits each number lies in; a limit is in the range above it."""

    limits: Tensor

    def __init__(self, limits: Tensor, encoded: Encoded) -> None:
        super().__init__()
        self.register_buffer("limits", limits)
        self.encoded = encoded

    def forward(self, x: Tensor) -> Tensor:
        return self.encoded((x.unsqueeze(-1) >= self.limits).sum(-1).to(torch.int32))


def discretization(layer: Layer) -> nn.Module:
    """``Discretization``."""
    if value(layer, "bin_boundaries") is None:
        raise ModelError(f"{title(layer)} has no bin_boundaries; it was saved before it was adapted to data.")
    limits = array(layer, "bin_boundaries")
    if limits.ndim != 1 or (np.diff(limits) < 0).any():
        raise ModelError(f"bin_boundaries of {title(layer)} must be rising numbers.")
    mode = choice(layer, "output_mode", ("int", *MODES), "int")
    return Discretized(torch.from_numpy(limits), _encoded(layer, limits.size + 1, mode))


class LookedUp(nn.Module):
    """The place of each whole number in a list.

    Args:
        words: the list.
        first: the place of its first.
        unknown: how many places those not in it share, by the remainder of their division; they begin at `start`.
        masked: the number that stands for padding, and its place; None where there is none.
    """

    words: Tensor

    def __init__(self, words: Tensor, first: int, unknown: int, start: int, masked: tuple[int, int] | None, encoded: Encoded) -> None:
        super().__init__()
        self.register_buffer("words", words)
        self.first = first
        self.unknown = unknown
        self.start = start
        self.masked = masked
        self.encoded = encoded

    def forward(self, x: Tensor) -> Tensor:
        x = x.long()
        same = x.unsqueeze(-1) == self.words
        place = (same * torch.arange(self.first, self.first + self.words.shape[0])).sum(-1)
        others = torch.remainder(x, self.unknown) + self.start if self.unknown > 1 else torch.full_like(x, self.start)
        place = torch.where(same.sum(-1) > 0, place, others)
        if self.masked is not None:
            place = torch.where(x == self.masked[0], self.masked[1], place)
        return self.encoded(place)


def integer_lookup(layer: Layer) -> nn.Module:
    """``IntegerLookup`` with its list in the configuration."""
    found = value(layer, "vocabulary")
    if not isinstance(found, list) or not all(isinstance(word, int) and not isinstance(word, bool) and abs(word) < 2**63 for word in found):
        raise ModelError(f"{title(layer)} must have its vocabulary in its configuration, as whole numbers; a vocabulary in another file is not read.")
    if flag(layer, "invert", False):
        raise ModelError(f"{title(layer)} has invert=True, which turns classes into words; it is not converted.")
    unknown, mode = whole(layer, "num_oov_indices", 1, least=0), choice(layer, "output_mode", ("int", *MODES, "binary", "tf_idf", "tf-idf"), "int")
    if mode.startswith("tf"):
        raise ModelError(f"{title(layer)} has output_mode='tf_idf', which weighs documents of text; it is not converted.")
    if unknown > 1 and value(layer, "oov_method", "floormod") != "floormod":
        raise ModelError(f"{title(layer)} sorts unknown numbers by a hash of their text, which is no tensor computation.")
    if unknown == 0:
        raise ModelError(f"{title(layer)} has num_oov_indices=0, and fails for numbers that are not in its list; no graph can. Use one or more.")
    padding = value(layer, "mask_token")
    if padding is not None and (isinstance(padding, bool) or not isinstance(padding, int)):
        raise ModelError(f"mask_token of {title(layer)} must be a whole number, got {padding!r}.")
    start = 1 if padding is not None and mode == "int" else 0
    words = found[start + unknown :] if found[: start + unknown] == _special(padding, start, unknown, value(layer, "oov_token", -1)) else found
    if len(set(words)) != len(words):
        raise ModelError(f"vocabulary of {title(layer)} must have each number once.")
    depth = value(layer, "max_tokens") if flag(layer, "pad_to_max_tokens", False) else len(words) + start + unknown
    encoded = _encoded(layer, int(depth), "multi_hot" if mode == "binary" else mode)
    masked = None if padding is None else (padding, 0 if mode == "int" else -1)
    return LookedUp(torch.tensor(words, dtype=torch.int64), start + unknown, unknown, start, masked, encoded)


def _special(padding: int | None, start: int, unknown: int, oov: int) -> list[int | None]:
    """What a list begins with where it holds the places of padding and of the unknown."""
    return [padding] * start + [oov] * unknown
