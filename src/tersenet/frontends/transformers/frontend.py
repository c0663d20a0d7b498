"""Transformers checkpoints: a folder with config.json, or ``hf:ID``."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from tersenet.data.processing import Processing
from tersenet.errors import ModelError
from tersenet.frontend import Reading
from tersenet.frontends.transformers.folder import Checkpoint, fetched, opened
from tersenet.frontends.transformers.network import framework, kind_of, loaded, logits_alone, plain_masks
from tersenet.frontends.transformers.processors import TOKENS, image_processing, sound_processing, text_processing, token_length
from tersenet.graph.trace import trace
from tersenet.model import Model

TASKS = {"image": "image-classification", "text": "text-classification", "tokens": "classification", "audio": "audio-classification"}
USUAL_SIDE, USUAL_RATE, USUAL_FRAMES = 224, 16_000, 50  # frames: of a second, two windows of 10 ms in each
LARGEST_EXAMPLE = 1 << 26  # numbers of an example input


class TransformersFrontend:
    """A checkpoint in Transformers layout."""

    def accepts(self, source: Any) -> bool:
        return (isinstance(source, str) and source.startswith("hf:")) or (isinstance(source, Path) and (source / "config.json").is_file())

    def read(self, source: Path | str, reading: Reading) -> Model:
        if reading.weights:
            raise ModelError(f"{source} has weights of its own; other weights can be loaded into a torch module only (file.py:name).")
        transformers = framework()
        folder = fetched(source) if isinstance(source, str) else source
        checkpoint = opened(folder, str(source), reading.trust)
        kind = kind_of(checkpoint)
        network = loaded(checkpoint, kind, reading.trust)
        processing = replace(_processing(checkpoint, kind, network, reading), **_meaning(network.config, kind))
        example = reading.example_inputs if reading.example_inputs is not None else _example(checkpoint, kind, network, processing, reading)
        logits_alone(network)
        if reading.length and not _leaves_length(kind, processing):
            raise ModelError(f"{checkpoint.name}: its inputs have the size that it was trained with; a length is for texts and for samples of sound.")
        name = reading.name or str(source).rstrip("/").rpartition("/")[2].removeprefix("hf:")
        try:
            with plain_masks():
                model = trace(network, example, name=name, dynamic=_open_axes(example, reading.dynamic))
        except ModelError as error:
            raise ModelError(f"{checkpoint.name}: {error}") from error
        provenance = {**model.provenance, "transformers": transformers.__version__, "processing": processing.to_json()}
        return replace(model, format="transformers", provenance=provenance)


def _processing(checkpoint: Checkpoint, kind: str, network: Any, reading: Reading) -> Processing:
    if kind == "image":
        return image_processing(checkpoint)
    if kind == "audio":
        return sound_processing(checkpoint, network.main_input_name, reading.length)
    return text_processing(checkpoint, _taken(network), _longest(network), reading.length)


def _meaning(config: Any, kind: str) -> dict[str, Any]:
    """What the outputs are: class names, or a number."""
    if getattr(config, "problem_type", None) == "regression" or (kind == "text" and config.num_labels == 1):
        return {"task": "regression"}
    names = config.id2label if isinstance(config.id2label, Mapping) else {}
    whole = sorted(names) == list(range(config.num_labels))
    return {"task": TASKS[kind], "class_names": tuple(str(names[index]) for index in range(config.num_labels)) if whole else ()}


def _taken(network: torch.nn.Module) -> list[str]:
    """The inputs of tokens that a network takes and makes a difference of."""
    known = inspect.signature(network.forward).parameters
    types = getattr(network.config, "type_vocab_size", 0)
    return [name for name in TOKENS if name in known and (name != "token_type_ids" or types > 0)]


def _longest(network: torch.nn.Module) -> int:
    """Tokens that a network takes at most; 0 where it has no table of positions."""
    most = getattr(network.config, "max_position_embeddings", 0) or 0
    for name, layer in network.named_modules():
        if name.endswith("position_embeddings") and isinstance(layer, torch.nn.Embedding):
            kept = 0 if layer.padding_idx is None else layer.padding_idx + 1  # RoBERTa counts from behind the padding
            return min(most or layer.num_embeddings, layer.num_embeddings - kept)
    return max(0, most)


def _example(checkpoint: Checkpoint, kind: str, network: Any, processing: Processing, reading: Reading) -> dict[str, torch.Tensor]:
    """Inputs of the sizes that the processor gives, or the configuration says."""
    generator = torch.Generator().manual_seed(0)
    if kind in ("text", "tokens"):
        way = processing.decoder
        length = getattr(way, "length", 0) or token_length(checkpoint, _longest(network), reading.length)
        names = list(processing.inputs) or _taken(network)[:2]
        filled = torch.ones((2, length), dtype=torch.int64)
        return {name: torch.zeros_like(filled) if name == "token_type_ids" else filled.clone() for name in names}
    shape = _picture(network, processing) if kind == "image" else _sound(network, processing, reading.length)
    if not all(0 < size < LARGEST_EXAMPLE for size in shape) or 2 * torch.Size(shape).numel() > LARGEST_EXAMPLE:
        raise ModelError(f"{checkpoint.name}: its inputs would have the shape {shape}, far beyond what networks take.")
    return {network.main_input_name: torch.randn(2, *shape, generator=generator)}


def _picture(network: Any, processing: Processing) -> tuple[int, ...]:
    result = getattr(processing.decoder, "result", ())
    config = getattr(network.config, "vision_config", network.config)  # of a network that reads texts too
    side = getattr(config, "image_size", USUAL_SIDE)
    height, width = result or ((side, side) if isinstance(side, int) else side)
    return (int(getattr(config, "num_channels", 3)), int(height), int(width))


def _sound(network: Any, processing: Processing, length: int) -> tuple[int, ...]:
    config, way = network.config, processing.decoder
    features = getattr(way, "spectrogram", None)
    if features is not None:
        return (features.mels, features.frames) if features.bands_first else (features.frames, features.mels)
    if hasattr(config, "feature_projection_input_dim"):
        return (length or USUAL_FRAMES, config.feature_projection_input_dim)
    if network.main_input_name == "input_features":
        return (config.num_mel_bins, 2 * config.max_source_positions)
    if hasattr(config, "num_mel_bins"):
        return (config.max_length, config.num_mel_bins)
    return (getattr(way, "length", 0) or length or USUAL_RATE,)


def _leaves_length(kind: str, processing: Processing) -> bool:
    return kind in ("text", "tokens") or (kind == "audio" and getattr(processing.decoder, "spectrogram", None) is None)


def _open_axes(example: Any, asked: Mapping[str, Mapping[int, str]]) -> Mapping[str, Mapping[int, str]]:
    """What is left open of one input of tokens is left open of all: they are equally long."""
    axes = next((asked[name] for name in TOKENS if name in asked), None)
    if axes is None or not isinstance(example, Mapping):
        return asked
    return {**dict.fromkeys((name for name in TOKENS if name in example), axes), **asked}
