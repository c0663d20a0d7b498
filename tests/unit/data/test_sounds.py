"""Folders of sounds: one channel, one rate, one length."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tersenet.data.preparation import Preparation
from tersenet.data.processing import Processing
from tersenet.data.sound import Sound, resampled
from tersenet.data.sources import load
from tersenet.data.spectrogram import Spectrogram
from tersenet.errors import DataError
from tersenet.tensors import TensorSpec

soundfile = pytest.importorskip("soundfile")


def tone(hertz: float, rate: int, count: int) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * hertz * np.arange(count) / rate)


def folder(path: Path, rates: tuple[int, ...] = (8000,), suffix: str = "wav") -> Path:
    for index in range(12):
        rate, name = rates[index % len(rates)], ("high", "low")[index % 2]
        (path / name).mkdir(parents=True, exist_ok=True)
        signal = tone((440, 110)[index % 2] + index, rate, rate // 10 + 8 * index)
        soundfile.write(path / name / f"{index}.{suffix}", np.stack([signal, signal], 1) if index % 3 == 0 else signal, rate)
    return path


@pytest.mark.parametrize("suffix", ["wav", "flac"])
@pytest.mark.parametrize(("shape", "dtype"), [((None, 850), "float32"), ((None, 1, 850), "float32"), ((None, 850, 1), "float32")])
def test_a_plain_network_gives_the_length(shape: tuple, dtype: str, suffix: str, tmp_path: Path) -> None:
    data = load(folder(tmp_path / "set", suffix=suffix), [TensorSpec("x", shape, dtype)])
    x = data.evaluation.arrays()[0]
    assert x.shape[1:] == shape[1:] and data.task.name == "audio-classification" and data.class_names == ("high", "low")
    assert np.abs(x).max() == pytest.approx(0.5, abs=0.01)
    assert np.allclose(data.train.inputs[0][:, 800 + 11 * 8 :], 0)


def test_without_a_network_the_longest_gives_it(tmp_path: Path) -> None:
    data = load(folder(tmp_path / "set"))
    assert data.evaluation.inputs[0].shape[1] == 888


def test_rates_that_differ_are_refused_where_no_network_says_one(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"must have one rate.*8000 Hz.*16000 Hz"):
        load(folder(tmp_path / "set", (8000, 16000)), [TensorSpec("x", (None, 800), "float32")])


def test_a_network_of_features_is_told_apart(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="which are features and no samples of sound"):
        load(folder(tmp_path / "set"), [TensorSpec("x", (None, 49, 10), "float32")])


def test_sounds_are_resampled_as_the_source_of_the_network_asks(tmp_path: Path) -> None:
    way = Preparation(decoded=Sound(16000, 1700, "whole"), dtype="float32")
    processing = Processing({"input_values": way}, ("low", "high"), "audio-classification")
    data = load(folder(tmp_path / "set", (8000, 16000)), [TensorSpec("input_values", (None, 1700), "float32")], processing=processing)
    x = data.train.arrays()[0]
    assert np.allclose(x.mean(1), 0, atol=1e-5) and np.allclose(x.var(1), 1, atol=1e-2)
    assert data.class_names == ("low", "high") and data.preparation[0].decoded == way.decoded


def test_features_are_those_of_the_source(tmp_path: Path) -> None:
    features = Spectrogram(400, 160, 512, 20, 20.0, 4000.0, frames=6)
    processing = Processing({"x": Preparation(mean=(-4.0,), std=(4.0,), dtype="float32", decoded=Sound(8000, 888, spectrogram=features))})
    data = load(folder(tmp_path / "set"), [TensorSpec("x", (None, 20, 6), "float32")], processing=processing)
    x = data.train.arrays()[0]
    loudest = x[..., 1].argmax(1)
    assert x.shape[1:] == (20, 6) and {int(band) for band, label in zip(loudest, data.train.labels, strict=True) if label} < set(range(4))


def test_resampling_keeps_a_tone() -> None:
    got = resampled(tone(440, 8000, 4000).astype(np.float32), 8000, 16000)
    assert np.abs(got[200:-200] - tone(440, 16000, 8000)[200:-200]).max() < 2e-3


@pytest.mark.parametrize(("content", "message"), [(b"", "cannot be read as a sound"), (b"RIFF" + bytes(60), "cannot be read as a sound")])
def test_damaged_files(content: bytes, message: str, tmp_path: Path) -> None:
    path = folder(tmp_path / "set")
    (path / "low" / "damaged.wav").write_bytes(content)
    with pytest.raises(DataError, match=message):
        load(path, [TensorSpec("x", (None, 800), "float32")])
