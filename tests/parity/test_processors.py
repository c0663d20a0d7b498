"""Pictures, texts and sounds as tersenet prepares them from declared numbers, against Transformers' own processors."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tersenet.data.sound import Sound
from tersenet.data.text import Text, encoded
from tersenet.frontends.transformers.folder import Checkpoint
from tersenet.frontends.transformers.processors import IMAGE_PROCESSORS, image_processing, sound_processing, text_processing

transformers = pytest.importorskip("transformers")
SIZES = [(40, 60), (61, 37), (24, 24)]
MODULES = {
    "BeitImageProcessor": "beit",
    "BitImageProcessor": "bit",
    "CLIPImageProcessor": "clip",
    "ConvNextImageProcessor": "convnext",
    "DeiTImageProcessor": "deit",
    "EfficientNetImageProcessor": "efficientnet",
    "LevitImageProcessor": "levit",
    "MobileNetV1ImageProcessor": "mobilenet_v1",
    "MobileNetV2ImageProcessor": "mobilenet_v2",
    "MobileViTImageProcessor": "mobilevit",
    "PoolFormerImageProcessor": "poolformer",
    "PvtImageProcessor": "pvt",
    "SegformerImageProcessor": "segformer",
    "SiglipImageProcessor": "siglip",
    "ViTImageProcessor": "vit",
}
SMALL: dict[str, dict[str, Any]] = {
    "ConvNextImageProcessor": {"size": {"shortest_edge": 28}},
    "EfficientNetImageProcessor": {"size": {"height": 30, "width": 26}, "rescale_offset": True},
    "LevitImageProcessor": {"size": {"shortest_edge": 28}, "crop_size": {"height": 28, "width": 28}},
    "PoolFormerImageProcessor": {"size": {"shortest_edge": 28}, "crop_size": {"height": 28, "width": 28}},
    "MobileViTImageProcessor": {"size": {"shortest_edge": 30}, "crop_size": {"height": 34, "width": 34}},
}


def checkpoint(folder: Path) -> Checkpoint:
    return Checkpoint(folder, "net", {}, "Net", 1)


def processor(name: str, **options: Any) -> Any:
    module = MODULES[name]
    return getattr(import_module(f"transformers.models.{module}.image_processing_pil_{module}"), f"{name}Pil")(**options)


def test_every_processor_of_the_table_is_compared() -> None:
    assert set(MODULES) == set(IMAGE_PROCESSORS)


@pytest.mark.parametrize("name", MODULES)
def test_pictures(name: str, tmp_path: Path) -> None:
    from PIL import Image

    reference = processor(name, **SMALL.get(name, {}))
    reference.save_pretrained(tmp_path)
    processing = image_processing(checkpoint(tmp_path))
    assert processing.refused == ""
    way = processing.inputs["pixel_values"]
    for height, width in SIZES:
        image = Image.fromarray(np.random.default_rng(height).integers(0, 256, (height, width, 3), dtype=np.uint8))
        wanted = np.asarray(reference(image)["pixel_values"])
        got = way.apply(way.decoded.taken(image)[None])
        assert got.dtype == np.float32 and got.shape == wanted.shape
        assert np.abs(got - wanted).max() < 1e-5


@pytest.mark.parametrize(
    ("name", "options", "why"),
    [
        ("ViTImageProcessor", {"size": {"longest_edge": 30}}, "a rule that is not known here"),
        ("PoolFormerImageProcessor", {"size": {"height": 20, "width": 30}}, "a rectangle and enlarged"),
        ("ViTImageProcessor", {"size": {"height": 10**9, "width": 4}}, "whole numbers from 1 to 16384"),
        ("ViTImageProcessor", {"image_std": [0.0, 1.0, 1.0]}, "std must be finite and positive"),
    ],
)
def test_processors_that_are_not_known(name: str, options: dict[str, Any], why: str, tmp_path: Path) -> None:
    processor(name, **options).save_pretrained(tmp_path)
    assert why in image_processing(checkpoint(tmp_path)).refused


def test_a_folder_without_processors(tmp_path: Path) -> None:
    assert "no preprocessor_config.json" in image_processing(checkpoint(tmp_path)).refused
    assert "no preprocessor_config.json" in sound_processing(checkpoint(tmp_path), "input_values", 0).refused
    assert "no tokenizer.json" in text_processing(checkpoint(tmp_path), ["input_ids"], 40, 0).refused
    (tmp_path / "preprocessor_config.json").write_text("{")
    assert "cannot be read" in image_processing(checkpoint(tmp_path)).refused


def word_pieces(folder: Path, **options: Any) -> Any:
    """A tokenizer of BERT's kind with a handful of words."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "film", "good", "bad", "very", "##ly", "!"]
    (folder / "vocab.txt").write_text("\n".join(words) + "\n")
    tokenizer = transformers.BertTokenizer.from_pretrained(folder, **options)
    tokenizer.save_pretrained(folder)
    return tokenizer


@pytest.mark.parametrize("options", [{}, {"padding_side": "left", "truncation_side": "left"}, {"do_lower_case": False}])
def test_texts(options: dict[str, Any], tmp_path: Path) -> None:
    reference = word_pieces(tmp_path, **options)
    names = ["input_ids", "attention_mask", "token_type_ids"]
    processing = text_processing(checkpoint(tmp_path), names, 40, 8)
    texts = np.array(["A good film", "badly !", "", "very very very very very very very bad film"], dtype=object)
    ways = [processing.inputs[name].decoded for name in names]
    wanted = reference(list(texts), padding="max_length", truncation=True, max_length=8)
    for name, way, got in zip(names, ways, encoded(texts, [way for way in ways if isinstance(way, Text)]), strict=True):
        assert way.length == 8 and got.tolist() == wanted[name]


def sounds() -> list[np.ndarray]:
    generator = np.random.default_rng(3)
    return [(0.3 * generator.standard_normal(count)).astype(np.float32) for count in (900, 4000, 9000)]


@pytest.mark.parametrize("masked", [False, True])
def test_waves(masked: bool, tmp_path: Path) -> None:
    reference = transformers.Wav2Vec2FeatureExtractor(return_attention_mask=masked)
    reference.save_pretrained(tmp_path)
    way = sound_processing(checkpoint(tmp_path), "input_values", 4000).inputs["input_values"]
    assert isinstance(way.decoded, Sound)
    for signal in sounds():
        wanted = reference(signal, sampling_rate=16000, padding="max_length", truncation=True, max_length=4000)["input_values"][0]
        assert np.abs(way.apply(way.decoded.taken(signal, 16000)[None])[0] - wanted).max() < 1e-5


@pytest.mark.parametrize("name", ["ASTFeatureExtractor", "WhisperFeatureExtractor"])
def test_spectrograms(name: str, tmp_path: Path) -> None:
    options = {"num_mel_bins": 32, "max_length": 40} if name.startswith("AST") else {"feature_size": 40, "chunk_length": 1}
    reference = getattr(transformers, name)(**options)
    reference.save_pretrained(tmp_path)
    way = sound_processing(checkpoint(tmp_path), "input", 0).inputs["input"]
    assert isinstance(way.decoded, Sound)
    for signal in sounds():
        wanted = np.asarray(next(iter(reference(signal, sampling_rate=16000, return_tensors="np").values())))
        got = way.apply(way.decoded.taken(signal, 16000)[None])
        assert got.shape == wanted.shape and np.abs(got - wanted).max() < 2e-4
