"""How a sound of any length and rate becomes an array of one shape: resampled, cut or padded, and its features computed."""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd
from pathlib import Path
from typing import Any

import numpy as np

from tersenet.data.spectrogram import Spectrogram
from tersenet.errors import DataError, MissingDependencyError, unknown

# What is done to the loudness: nothing; mean 0 and variance 1 over the padded sound; the same over the sound alone, zeros behind it.
LEVELS = ("", "whole", "sound")
LARGEST_RATE, LARGEST_LENGTH = 2**20, 2**28


@dataclass(frozen=True)
class Sound:
    """What was done to a sound when it was read: one channel (their mean), in -1..1.

    Args:
        rate: samples a second; others are resampled (polyphase filter).
        length: samples; longer sounds are cut at their end, shorter ones padded with zeros. 0: as many as `spectrogram` needs.
        level: "", whole or sound: mean 0 and variance 1 over the padded sound, or over the sound without its padding.
        spectrogram: features that are computed; None for the samples themselves.
    """

    rate: int
    length: int = 0
    level: str = ""
    spectrogram: Spectrogram | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.rate, int) or not 1 <= self.rate <= LARGEST_RATE:
            raise DataError(f"a sound's rate must be from 1 to {LARGEST_RATE} samples a second, got {self.rate!r}.")
        if not isinstance(self.length, int) or not 0 <= self.length <= LARGEST_LENGTH:
            raise DataError(f"a sound's length must be from 0 to {LARGEST_LENGTH} samples, got {self.length!r}.")
        if self.level not in LEVELS:
            raise DataError(unknown("level of a sound", str(self.level), LEVELS))

    def read(self, path: Path) -> np.ndarray:
        """What a file gives: (length,) float32, or its features.

        Raises:
            DataError: it cannot be read as a sound.
        """
        return self.taken(*read_sound(path, self.length or (self.spectrogram.samples if self.spectrogram else 0), self.rate))

    def taken(self, signal: np.ndarray, rate: int) -> np.ndarray:
        """The same for samples (n,) of some rate."""
        signal = resampled(signal, rate, self.rate)
        if self.length:
            signal = signal[: self.length]
        own = len(signal)
        if self.length > own:
            signal = np.pad(signal, (0, self.length - own))
        if self.level:
            judged = signal[:own] if self.level == "sound" and own else signal
            signal = (signal - judged.mean()) / np.sqrt(judged.var() + 1e-7)
            if self.level == "sound":
                signal[own:] = 0.0
        return signal.astype(np.float32) if self.spectrogram is None else self.spectrogram.of(signal, self.rate)

    def to_json(self) -> dict[str, Any]:
        features = None if self.spectrogram is None else self.spectrogram.to_json()
        return {"kind": "sound", **vars(self), "spectrogram": features}


def read_sound(path: Path, most: int = 0, rate: int = 0) -> tuple[np.ndarray, int]:
    """(samples,) float32 of a sound file, channels averaged, and its rate.

    Args:
        most: samples that are needed, at `rate`; no more are read. 0 for all.
    """
    try:
        import soundfile
    except (ImportError, OSError) as error:
        raise MissingDependencyError("reading sounds needs soundfile, which is not installed: pip install 'tersenet[data]'") from error
    try:
        with soundfile.SoundFile(path) as file:
            needed = file.frames if not most else min(file.frames, -(-most * file.samplerate // (rate or file.samplerate)) + file.samplerate)
            if needed > LARGEST_LENGTH // 8:
                raise DataError(f"{path} promises {needed} samples; cut it into shorter ones.")
            signal = file.read(needed, dtype="float32", always_2d=True).mean(1)
            found = int(file.samplerate)
    except DataError:
        raise
    except Exception as error:  # whatever a damaged file makes the decoder raise
        raise DataError(f"{path} cannot be read as a sound: {error}.") from error
    if not len(signal) or not np.isfinite(signal).all():
        raise DataError(f"{path} holds {'no samples' if not len(signal) else 'numbers that are not finite'}.")
    return signal, found


def resampled(signal: np.ndarray, rate: int, wanted: int) -> np.ndarray:
    """Samples at another rate, by a polyphase filter."""
    if rate == wanted:
        return signal
    try:
        from scipy.signal import resample_poly
    except ImportError as error:
        raise MissingDependencyError(f"sounds of {rate} Hz must become {wanted} Hz, which needs scipy: pip install 'tersenet[data]'") from error
    common = gcd(rate, wanted)
    return resample_poly(signal, wanted // common, rate // common).astype(np.float32)
