"""Windows and Fourier transforms, as products with tables of sines and cosines that every runtime can multiply by."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch

from tersenet.errors import ModelError
from tersenet.frontends.onnx.node import Node
from tersenet.frontends.onnx.operators.creation import FLOAT, dtype_of

LARGEST_TRANSFORM = 4096  # its table has the square of that
LARGEST_WINDOW = 1 << 20
OPSET_OF_AXIS_INPUT = 20
WINDOWS: Mapping[str, tuple[float, ...]] = {
    "BlackmanWindow": (0.42, 0.5, 0.08),
    "HammingWindow": (25 / 46, 21 / 46),
    "HannWindow": (0.5, 0.5),
}


def window(node: Node, size: Sequence[int]) -> torch.Tensor:
    """``sum_k (-1)^k a_k cos(2 pi k n / N)``, N one less where the window is symmetric."""
    (length,) = size
    if not 0 < length <= LARGEST_WINDOW:
        raise ModelError(f"the size of a {node.kind} must be from 1 to {LARGEST_WINDOW}, got {length}.")
    period = length if node.get("periodic", 1) else max(length - 1, 1)
    places = torch.arange(length, dtype=torch.float64) * (2 * math.pi / period)
    total = sum((-1) ** k * factor * torch.cos(k * places) for k, factor in enumerate(WINDOWS[node.kind]))
    return torch.as_tensor(total).to(dtype_of(node.get("output_datatype", FLOAT)))


def dft(node: Node, data: torch.Tensor, length: Sequence[int] | None = None, given: Sequence[int] | None = None) -> torch.Tensor:
    """The last axis of the data holds the real part, or the real and the imaginary one."""
    axis = given[0] if given else node.get("axis", -2 if node.opset >= OPSET_OF_AXIS_INPUT else 1)
    axis %= data.dim()
    onesided, inverse = bool(node.get("onesided", 0)), bool(node.get("inverse", 0))
    moved = data.movedim(axis, -2)
    size = _fixed(length[0] if length else (2 * (moved.shape[-2] - 1) if onesided and inverse else moved.shape[-2]))
    used = size // 2 + 1 if onesided and inverse else size
    if moved.shape[-2] > used:
        moved = moved.narrow(-2, 0, used)
    result = _from_half(moved, size) if onesided and inverse else _transform(moved, size, onesided, inverse)
    return result.movedim(-2, axis)


def stft(
    node: Node, signal: torch.Tensor, step: Sequence[int], window: torch.Tensor | None = None, length: Sequence[int] | None = None
) -> torch.Tensor:
    """(batch, length, 1 or 2) -> (batch, frames, frequencies, 2)."""
    size = length[0] if length else (signal.shape[1] if window is None else window.shape[0])
    frames = signal.unfold(1, _fixed(size), step[0]).movedim(-1, -2)
    if window is not None:
        frames = frames * window.unsqueeze(-1)
    return _transform(frames, _fixed(size), bool(node.get("onesided", 1)), inverse=False)


def _fixed(size: int) -> int:
    if not isinstance(size, int) or not 0 < size <= LARGEST_TRANSFORM:
        raise ModelError(f"the length of a Fourier transform must be a fixed number from 1 to {LARGEST_TRANSFORM}, got {size}.")
    return size


def _transform(data: torch.Tensor, size: int, onesided: bool, inverse: bool) -> torch.Tensor:
    """(..., n, 1 or 2) -> (..., frequencies, 2), for n up to `size`; the rest counts as zero."""
    angles = _angles(size // 2 + 1 if onesided else size, data.shape[-2], size)
    scale = 1 / size if inverse else 1.0
    cosines, sines = (torch.cos(angles) * scale).float(), (torch.sin(angles) * (scale if inverse else -scale)).float()
    real = torch.matmul(cosines, data[..., :1])
    imaginary = torch.matmul(sines, data[..., :1])
    if data.shape[-1] == 2:
        real, imaginary = real - torch.matmul(sines, data[..., 1:]), imaginary + torch.matmul(cosines, data[..., 1:])
    return torch.cat([real, imaginary], -1)


def _from_half(data: torch.Tensor, size: int) -> torch.Tensor:
    """(..., n, 2) -> (..., size, 1): the first half of a spectrum, whose other half mirrors it, back to real numbers."""
    angles = _angles(size, data.shape[-2], size)
    places = torch.arange(data.shape[-2])
    twice = torch.where((places == 0) | (2 * places == size), 1.0, 2.0) / size
    return torch.matmul((torch.cos(angles) * twice).float(), data[..., :1]) - torch.matmul((torch.sin(angles) * twice).float(), data[..., 1:])


def _angles(rows: int, columns: int, size: int) -> torch.Tensor:
    steps = torch.arange(rows).unsqueeze(1) * torch.arange(columns) % size  # in whole numbers, so that no digit is lost
    return steps * (torch.tensor(2 * math.pi, dtype=torch.float64) / size)


def mel_weights(
    node: Node, bands: Sequence[int], length: Sequence[int], rate: Sequence[int], lowest: Sequence[float], highest: Sequence[float]
) -> torch.Tensor:
    """(frequencies, bands): triangles whose corners are evenly spaced in mel."""
    frequencies = length[0] // 2 + 1
    if not 0 < bands[0] * frequencies <= LARGEST_WINDOW or rate[0] <= 0:
        raise ModelError(f"a MelWeightMatrix of {frequencies} frequencies and {bands[0]} bands at a rate of {rate[0]} is none that is read.")
    start, end = (2595 * math.log10(1 + hertz[0] / 700) for hertz in (lowest, highest))
    step = (end - start) / (bands[0] + 2)
    corners = [int((length[0] + 1) * (700 * (10 ** ((start + step * place) / 2595) - 1)) // rate[0]) for place in range(bands[0] + 2)]
    matrix = torch.zeros(frequencies, bands[0])
    for band, (left, middle, right) in enumerate(zip(corners, corners[1:], corners[2:], strict=False)):
        for place in range(left, middle + 1):
            matrix[place, band] = 1.0 if middle == left else (place - left) / (middle - left)
        for place in range(middle, right):
            matrix[place, band] = (right - place) / (right - middle)
    return matrix.to(dtype_of(node.get("output_datatype", FLOAT)))
