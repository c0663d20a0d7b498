"""Sound to spectrograms, as convolutions: STFTSpectrogram, MelSpectrogram."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tersenet.errors import ModelError
from tersenet.frontends.keras.layer import Layer
from tersenet.frontends.keras.layers.arguments import (
    axis_size,
    channels_last,
    choice,
    flag,
    input_shape,
    number,
    parameter,
    tensor,
    title,
    value,
    variables,
    whole,
)
from tersenet.frontends.keras.layers.windows import padded, same

LEAST = 1e-7  # of Keras, under a root and a logarithm
LONGEST = 4096  # samples of one transform; more is a damaged configuration, whose kernels would fill the memory
# The mel scale of HTK.
BREAK_HERTZ, HIGH_QUOTIENT = 700.0, 1127.0


class ShortTimeTransform(nn.Module):
    """The short-time Fourier transform of each channel.

    Args:
        real, imaginary: kernels (frequencies, 1, samples); None for a part that the mode does not need.
        mode: what is made of the two: ``log``, ``magnitude``, ``psd``, ``real``, ``imag``, ``angle``, ``stft``.
        expand: channels get an axis of their own.
        last: the channels are the last axis.
    """

    def __init__(
        self, real: nn.Parameter | None, imaginary: nn.Parameter | None, mode: str, step: int, is_same: bool, expand: bool, last: bool
    ) -> None:
        super().__init__()
        self.real = real
        self.imaginary = imaginary
        self.mode = mode
        self.step = step
        self.is_same = is_same
        self.expand = expand
        self.last = last

    def forward(self, x: Tensor) -> Tensor:
        x = x.transpose(1, 2) if self.last else x
        parts = [self.transformed(x, kernel) for kernel in (self.real, self.imaginary) if kernel is not None]
        result = self.combined(parts)  # (batch, channels, frequencies, times)
        if self.expand:
            return result.permute(0, 3, 2, 1) if self.last else result.permute(0, 1, 3, 2)
        flat = result.flatten(1, 2)
        return flat.transpose(1, 2) if self.last else flat

    def transformed(self, x: Tensor, kernel: Tensor) -> Tensor:
        channels = x.shape[1]
        x = x.reshape(-1, 1, x.shape[2])
        padding = [0]
        if self.is_same:
            x, padding = padded(x, same(x.shape[2:], kernel.shape[2:], (self.step,), (1,)))
        result = F.conv1d(x, kernel, None, self.step, padding)
        return result.reshape(-1, channels, *result.shape[1:])

    def combined(self, parts: list[Tensor]) -> Tensor:
        if self.mode in ("real", "imag"):
            return parts[0]
        real, imaginary = parts
        if self.mode == "angle":
            return torch.atan2(imaginary, real)
        if self.mode == "stft":
            return torch.cat([real, imaginary], 2)
        power = real**2 + imaginary**2
        if self.mode == "psd":
            return power + F.pad(power[:, :, 1:-1], (0, 0, 1, 1))
        magnitude = torch.sqrt(power.clamp_min(LEAST))
        return magnitude if self.mode == "magnitude" else torch.log(magnitude.clamp_min(LEAST))


def stft(layer: Layer) -> nn.Module:
    """``STFTSpectrogram``, whose kernels are variables of its own."""
    input_shape(layer, 3)
    mode = choice(layer, "mode", ("log", "magnitude", "psd", "real", "imag", "angle", "stft"), "log")
    length = whole(layer, "frame_length", 256)
    bins = whole(layer, "fft_length", 2 ** math.ceil(math.log2(length))) // 2 + 1
    held = [
        parameter(np.moveaxis(kernel, (-1, -2), (0, 1))) for kernel in variables(layer, *[(length, 1, bins)] * (1 if mode in ("real", "imag") else 2))
    ]
    real = None if mode == "imag" else held[0]
    imaginary = None if mode == "real" else held[-1]
    is_same = choice(layer, "padding", ("valid", "same"), "valid") == "same"
    step = whole(layer, "frame_step", max(1, length // 2))
    return ShortTimeTransform(real, imaginary, mode, step, is_same, flag(layer, "expand_dims", False), channels_last(layer))


class MelSpectrogram(nn.Module):
    """Power at frequencies that lie as far apart as the ear tells them apart, in decibels.

    Args:
        kernels: (2 * frequencies, 1, samples), the cosines and then the sines under the window.
        bands: (frequencies, bands).
        decibels: least power, power that is 0 dB, how far below the loudest is cut; None for plain power.
    """

    kernels: Tensor
    bands: Tensor

    def __init__(self, kernels: Tensor, bands: Tensor, step: int, exponent: float, decibels: tuple[float, float, float] | None) -> None:
        super().__init__()
        self.register_buffer("kernels", kernels)
        self.register_buffer("bands", bands)
        self.step = step
        self.exponent = exponent
        self.decibels = decibels

    def forward(self, x: Tensor) -> Tensor:
        half = self.kernels.shape[2] // 2
        waves = F.conv1d(F.pad(x.unsqueeze(1), (half, half), mode="reflect"), self.kernels, None, self.step)
        real, imaginary = waves.chunk(2, 1)
        power = (real**2 + imaginary**2) ** (self.exponent / 2)
        power = torch.matmul(power.transpose(1, 2), self.bands).transpose(1, 2)
        if self.decibels is None:
            return power
        least, reference, below = self.decibels
        scaled = torch.log(power.clamp_min(least)) * (10 / math.log(10)) - 10 * math.log10(max(abs(reference), least))
        return torch.maximum(scaled, scaled.amax() - below)


def mel_spectrogram(layer: Layer) -> nn.Module:
    """``MelSpectrogram``."""
    axis_size(layer, input_shape(layer, 2), 1)
    length = whole(layer, "fft_length", 2048)
    width = whole(layer, "sequence_length", length)
    if length > LONGEST or width > length:
        raise ModelError(
            f"{title(layer)} must have a sequence_length of at most its fft_length, and this of at most {LONGEST}; got {width} of {length}."
        )
    rate, count = number(layer, "sampling_rate", 16000), whole(layer, "num_mel_bins", 128)
    limits = (number(layer, "min_freq", 20.0), number(layer, "max_freq", int(rate / 2)))
    if count > LONGEST or not 0 <= limits[0] < limits[1]:
        raise ModelError(f"{title(layer)} must have rising frequencies and at most {LONGEST} bins, got {limits} and {count}.")
    decibels = (number(layer, "min_power", 1e-10), number(layer, "ref_power", 1.0), number(layer, "top_db", 80.0))
    step, exponent = whole(layer, "sequence_stride", 512), number(layer, "mag_exp", 2.0)
    bands = tensor(mel_bands(length // 2 + 1, count, rate, limits))
    return MelSpectrogram(tensor(waves(length, _window(layer, width))), bands, step, exponent, decibels if flag(layer, "power_to_db", True) else None)


def _window(layer: Layer, width: int) -> np.ndarray:
    """The window, one period of its cosine, in float64."""
    turn = np.cos(2 * np.pi * np.arange(width) / width)
    if value(layer, "window") is None and "window" in layer.config:
        return np.ones(width)
    return 0.5 - 0.5 * turn if choice(layer, "window", ("hann", "hamming"), "hann") == "hann" else 0.54 - 0.46 * turn


def waves(length: int, window: np.ndarray) -> np.ndarray:
    """The real Fourier transform of `length` samples under a window in their middle, as kernels of a convolution: (2 * frequencies, 1, length)."""
    before = (length - len(window)) // 2
    frame = np.pad(window, (before, length - len(window) - before))
    # Angles come back after a whole turn: the product of frequency and place modulo the length names one of as many as there are samples.
    turns = np.outer(np.arange(length // 2 + 1, dtype=np.int32), np.arange(length, dtype=np.int32)) % length
    angles = 2 * np.pi * np.arange(length) / length
    tables = (np.cos(angles).astype(np.float32), -np.sin(angles).astype(np.float32))
    return np.concatenate([table[turns] for table in tables])[:, None] * frame.astype(np.float32)


def mel_bands(frequencies: int, count: int, rate: float, limits: tuple[float, float]) -> np.ndarray:
    """Triangles that overlap by half on the mel scale of HTK, without the constant part of the sound: (frequencies, count)."""
    low, high = (HIGH_QUOTIENT * np.log(1 + limit / BREAK_HERTZ) for limit in limits)
    edges = np.linspace(low, high, count + 2)
    mel = HIGH_QUOTIENT * np.log(1 + np.linspace(0, rate / 2, frequencies)[1:, None] / BREAK_HERTZ)
    rising = (mel - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - mel) / (edges[2:] - edges[1:-1])
    return np.pad(np.maximum(0, np.minimum(rising, falling)), ((1, 0), (0, 0)))
