"""Log-mel spectrograms in plain numpy, as the feature extractors of audio networks compute them.

References: S. Davis and P. Mermelstein, "Comparison of parametric representations for monosyllabic word recognition", 1980; the two mel
scales are those of Kaldi (1127 ln(1 + f / 700)) and of M. Slaney's Auditory Toolbox (linear below 1 kHz, logarithmic above).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from tersenet.errors import DataError, unknown

SCALES = ("kaldi", "slaney")
LOGARITHMS = {"natural": np.log, "decimal": np.log10}
LARGEST = 2**16


@dataclass(frozen=True)
class Spectrogram:
    """The numbers of a log-mel spectrogram.

    Args:
        window: samples of a frame; hop: samples from one frame to the next; fft: length of the transform.
        mels: bands; low, high: their range in Hz; scale: kaldi (triangles in mels) or slaney (triangles in Hz, of equal area).
        frames: of the result; fewer are filled up with zeros, more are cut. 0: as many as there are.
        centered: the first frame is centered on the first sample, the signal mirrored beyond its ends.
        periodic: the Hann window is one period of the cosine, without its last sample.
        emphasis: share of the sample before that is taken off each; level: each frame's mean is taken off.
        logarithm: natural or decimal; floor: least energy.
        below: what lies lower than the maximum less this is raised to it; 0 for no such limit.
        bands_first: (mels, frames) instead of (frames, mels).
    """

    window: int
    hop: int
    fft: int
    mels: int
    low: float
    high: float
    scale: str = "slaney"
    frames: int = 0
    centered: bool = True
    periodic: bool = True
    emphasis: float = 0.0
    level: bool = False
    logarithm: str = "decimal"
    floor: float = 1e-10
    below: float = 0.0
    bands_first: bool = True

    def __post_init__(self) -> None:
        if self.scale not in SCALES:
            raise DataError(unknown("mel scale", str(self.scale), SCALES))
        if self.logarithm not in LOGARITHMS:
            raise DataError(unknown("logarithm", str(self.logarithm), LOGARITHMS))
        numbers = (self.window, self.hop, self.fft, self.mels)
        if not all(isinstance(number, int) and 0 < number <= LARGEST for number in numbers) or self.window > self.fft or self.mels > self.fft:
            raise DataError(f"a spectrogram's window, hop, fft and mels must be whole numbers, mels and window at most fft; got {numbers}.")
        if not isinstance(self.frames, int) or not 0 <= self.frames <= LARGEST:
            raise DataError(f"a spectrogram's frames must be from 0 to {LARGEST}, got {self.frames!r}.")
        if not 0 <= self.low < self.high or self.floor <= 0:
            raise DataError("a spectrogram needs low < high in Hz, and a positive floor.")

    @property
    def samples(self) -> int:
        """How many samples the frames need; 0 where all are taken."""
        return (self.frames - 1) * self.hop + self.window if self.frames else 0

    def of(self, signal: np.ndarray, rate: int) -> np.ndarray:
        """The spectrogram of one signal.

        Args:
            signal: (samples,).
            rate: samples a second.

        Returns:
            (frames, mels) or (mels, frames), float32.
        """
        signal = np.asarray(signal, np.float64)
        if self.centered:
            signal = np.pad(signal, self.fft // 2, mode="reflect" if len(signal) > self.fft // 2 else "constant")
        if len(signal) < self.window:
            signal = np.pad(signal, (0, self.window - len(signal)))
        frames = np.lib.stride_tricks.sliding_window_view(signal, self.window)[:: self.hop]
        if self.level:
            frames = frames - frames.mean(1, keepdims=True)
        if self.emphasis:
            before = np.concatenate([frames[:, :1], frames[:, :-1]], 1)
            frames = frames - self.emphasis * before
        power = np.abs(np.fft.rfft(frames * _hann(self.window, self.periodic), self.fft)) ** 2
        bands = LOGARITHMS[self.logarithm](np.maximum(power @ _filters(self, rate), self.floor))
        if self.centered:
            bands = bands[:-1]
        if self.below:
            bands = np.maximum(bands, bands.max() - self.below)
        if self.frames:
            bands = np.pad(bands[: self.frames], ((0, max(0, self.frames - len(bands))), (0, 0)))
        bands = bands.astype(np.float32)
        return np.ascontiguousarray(bands.T) if self.bands_first else bands

    def to_json(self) -> dict[str, Any]:
        return dict(vars(self))


def _hann(length: int, periodic: bool) -> np.ndarray:
    return np.hanning(length + 1)[:-1] if periodic else np.hanning(length)


@lru_cache(maxsize=4)
def _filters(way: Spectrogram, rate: int) -> np.ndarray:
    """(fft / 2 + 1, mels) weights of the triangular bands."""
    bins = way.fft // 2 + 1
    low, high = _mels(np.array([way.low, way.high]), way.scale).tolist()
    edges = np.linspace(low, high, way.mels + 2)
    if way.scale == "kaldi":
        places = _mels(rate / (2 * (bins - 1)) * np.arange(bins), "kaldi")
    else:
        places, edges = np.linspace(0, rate // 2, bins), _hertz(edges)
    widths = np.diff(edges)
    distances = edges[None, :] - places[:, None]
    weights = np.maximum(0.0, np.minimum(-distances[:, :-2] / widths[:-1], distances[:, 2:] / widths[1:]))
    return weights if way.scale == "kaldi" else weights * (2.0 / (edges[2:] - edges[:-2]))


def _mels(hertz: np.ndarray, scale: str) -> np.ndarray:
    if scale == "kaldi":
        return 1127.0 * np.log(1.0 + hertz / 700.0)
    return np.where(hertz >= 1000.0, 15.0 + np.log(np.maximum(hertz, 1.0) / 1000.0) * 27.0 / np.log(6.4), 3.0 * hertz / 200.0)


def _hertz(mels: np.ndarray) -> np.ndarray:
    """Slaney's mels in Hz."""
    return np.where(mels >= 15.0, 1000.0 * np.exp(np.log(6.4) / 27.0 * (mels - 15.0)), 200.0 * mels / 3.0)
