"""``.tflite`` files: float ones, ones with integer weights, and integer ones, whose grids come along."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from tersenet.errors import MissingDependencyError, ModelError
from tersenet.frontend import Reading
from tersenet.frontends.mapping import mapped, release
from tersenet.graph.batch import mixes_samples
from tersenet.graph.grids import with_grids
from tersenet.graph.tidy import attribute_name
from tersenet.graph.trace import trace
from tersenet.model import Model

LARGEST = 2**31  # a flatbuffer's offsets have 32 bits


class TfliteFrontend:
    """LiteRT (TensorFlow Lite) files, read by their published schema; no interpreter runs."""

    def accepts(self, source: Any) -> bool:
        return isinstance(source, Path) and source.suffix.lower() in (".tflite", ".lite")

    def read(self, source: Path, reading: Reading) -> Model:
        if reading.weights:
            raise ModelError(f"{source} holds its own weights; --weights goes with a torch module.")
        if source.stat().st_size >= LARGEST:
            raise ModelError(f"{source} is larger than a .tflite file can be (2 GiB).")
        try:
            from tersenet.formats import tflite
        except ModuleNotFoundError as error:
            raise MissingDependencyError("reading .tflite files needs ai-edge-litert: pip install 'tersenet[tflite]'") from error
        from tersenet.frontends.tflite.network import Network

        try:
            content = mapped(source)
            graph = tflite.read(content)
            network = Network(graph, grids=True)
            release(content)  # the network has copies of its weights
            inputs = {name: _example(graph.tensors[index]) for name, index in network.inputs.items()}
            model = trace(network, inputs, name=reading.name or source.stem, dynamic=reading.dynamic)
            if not model.fixed_batch and mixes_samples(model):
                network.fixed_batch = "the file was made for one batch size, and mixes samples at another"
                model = trace(network, inputs, name=reading.name or source.stem, dynamic=reading.dynamic)
        except ModelError as error:
            raise ModelError(f"{source}: {error}") from error
        except (ValueError, TypeError, IndexError, KeyError, RuntimeError, AttributeError, OverflowError, ZeroDivisionError) as error:
            raise ModelError(f"{source}: the file does not hold together ({error}); it is damaged, or of a newer schema.") from error
        made = with_grids(replace(model, format="tflite", provenance={"file": source.name, "operators": len(graph.operators)}))
        held = dict(made.graph.named_parameters())
        weights = {name: found for path, found in network.weights.items() if (name := attribute_name(path)) in held}
        return _with_masks(replace(made, annotations=replace(made.annotations, weights=weights)), network.sparse)


def _with_masks(model: Model, sparse: Iterable[str]) -> Model:
    """Weights that the file stores without their zeros keep them, also where the network is trained."""
    held = dict(model.graph.named_parameters())
    masks = {name: (held[name] != 0).numpy() for name in sparse if name in held}
    return replace(model, annotations=replace(model.annotations, masks={**model.annotations.masks, **masks})) if masks else model


def _example(tensor: Any) -> torch.Tensor:
    if any(size < 1 for size in tensor.shape):
        raise ModelError(f"the input {tensor.name!r} has the shape {tensor.shape}; every size must be at least 1.")
    if tensor.numbers is not None or tensor.dtype.startswith("float"):
        return torch.zeros(tensor.shape)
    return torch.zeros(tensor.shape, dtype=getattr(torch, tensor.dtype))
