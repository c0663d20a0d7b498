"""Weights that share values: each layer's become one of a few, which are stored once; such a file packs well where it is delivered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch

from tersenet.errors import RecipeError, unknown
from tersenet.graph.dependencies import held
from tersenet.model import Model
from tersenet.numerics.sharing import INITIALIZATIONS, codebook
from tersenet.step import Change, Context, Step, StepResult
from tersenet.steps.rounds import fine_tuned
from tersenet.steps.schedule import Round
from tersenet.steps.weights import matching, weights_of, with_weights
from tersenet.training.options import Training, entries, read_training

MOST = 256  # values: places are kept in 8 bits


@dataclass(frozen=True)
class Share(Step):
    """Let the weights of each layer share a few values.

    Which weights share one is kept beside the network: training moves the values, each by the sum of its members' gradients, channels that
    leave take their weights along, and quantization gives equal values equal integers wherever the kernel's scales allow it. Weights that a
    mask took out are zero, and no part of it.

    Args:
        values: that the weights of a layer have at most, 2 to 256.
        initialization: of k-means: linear (large weights have values of their own) or density.
        layers: values of some layers, as (pattern, values) pairs; the last that matches wins.
        keep: patterns (``*`` and ``?``) of layers whose weights stay as they are.
        training: fine-tuning of the values; a `Training`, or a mapping of its options. None: no training.

    Reference: Han et al. 2016, "Deep Compression: Compressing Deep Neural Networks with Pruning, Trained Quantization and Huffman Coding", section 3.
    """

    kind: ClassVar[str] = "share"

    values: int = 16
    initialization: str = "linear"
    layers: tuple[tuple[str, int], ...] = ()
    keep: tuple[str, ...] = ()
    training: Training | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "keep", entries(self.keep))
        object.__setattr__(self, "training", None if self.training is None else read_training(self.training))
        if isinstance(self.layers, Mapping):
            object.__setattr__(self, "layers", tuple(self.layers.items()))
        super().__post_init__()

    def check(self) -> None:
        if self.initialization not in INITIALIZATIONS:
            raise RecipeError(unknown("initialization", self.initialization, INITIALIZATIONS))
        for name, count in (("values", self.values), *self.layers):
            if not 2 <= count <= MOST:
                raise RecipeError(f"a layer's weights share 2 to {MOST} values, got {count} ({name}).")

    def run(self, model: Model, context: Context) -> StepResult:
        if model.plans:
            raise RecipeError("weights share values before they are quantized: put share before quantize.")
        if self.training is not None:
            context.require("train", self.kind)
        weights = weights_of(model.graph)
        counts, skipped = self._counts(weights), []
        shared: dict[str, torch.Tensor] = {}
        places: dict[str, np.ndarray] = {}
        changed: list[Change] = []
        for name, layer in weights.items():
            weight, mask = held(model.graph, name).detach(), model.annotations.masks.get(name)
            why = "it was asked to keep them" if name not in counts else _too_few(weight, counts[name])
            if why:
                skipped.append(Change(layer, why))
                continue
            shared[name], places[name] = self._shared(weight, mask, counts[name])
            changed.append(Change(layer, _said(weight, shared[name], places[name])))
        beside = replace(model.annotations, codebooks={**model.annotations.codebooks, **places})
        result = replace(with_weights(model, shared), annotations=beside)
        if self.training is not None and shared:
            result, learned = fine_tuned(result, context, self, self.training, Round(1, 1, self.training.epochs, 1.0))
            changed.append(learned)
        return StepResult(result, tuple(changed), tuple(skipped))

    def _counts(self, weights: Mapping[str, str]) -> dict[str, int]:
        """How many values each tensor that takes part gets.

        Raises:
            RecipeError: a pattern that matches no layer.
        """
        counts = dict.fromkeys(weights, self.values)
        for pattern, count in self.layers:
            counts |= dict.fromkeys(matching(weights, pattern), count)
        for pattern in self.keep:
            for name in matching(weights, pattern):
                counts.pop(name, None)
        return counts

    def _shared(self, weight: torch.Tensor, mask: np.ndarray | None, count: int) -> tuple[torch.Tensor, np.ndarray]:
        """A weight with a few values, and which each of its numbers has; 0 where a mask took it out."""
        alive = torch.ones_like(weight, dtype=torch.bool) if mask is None else torch.from_numpy(mask)
        places = torch.zeros(weight.shape, dtype=torch.int64)
        made = torch.zeros_like(weight)
        if bool(alive.any()):
            values, own = codebook(weight[alive], count, self.initialization)
            places[alive], made[alive] = own, values.to(weight.dtype)[own]
        return made, places.to(torch.uint8).numpy()


def _too_few(weight: torch.Tensor, count: int) -> str:
    return f"it has {weight.numel()} weights, too few for {count} values" if weight.numel() < 4 * count else ""


def _said(before: torch.Tensor, after: torch.Tensor, places: np.ndarray) -> str:
    energy = float((before - after).square().sum() / before.square().sum().clamp(min=torch.finfo(before.dtype).tiny))
    return f"{before.numel():,} weights share {int(places.max()) + 1} values, which changes {100 * energy:.2g} % of their energy"
