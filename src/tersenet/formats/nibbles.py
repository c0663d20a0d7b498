"""Integers of 4 bits, two a byte, the first of the two in the lower half: as ONNX's INT4 and LiteRT's have it."""

from __future__ import annotations

import numpy as np


def packed(integers: np.ndarray) -> bytes:
    """The bytes of integers of -8 to 7, in the array's order; the upper half of the last byte is 0 where there is one too few.

    >>> packed(np.array([1, -2, 7], np.int8)).hex()
    'e107'
    """
    flat = np.ascontiguousarray(integers, np.int8).reshape(-1).view(np.uint8) & 15
    pairs = np.pad(flat, (0, flat.size % 2)).reshape(-1, 2)
    return (pairs[:, 0] | pairs[:, 1] << 4).astype(np.uint8).tobytes()


def unpacked(data: np.ndarray, count: int) -> np.ndarray:
    """The first `count` integers (int8) of such bytes (uint8).

    >>> unpacked(np.frombuffer(bytes.fromhex("e107"), np.uint8), 3).tolist()
    [1, -2, 7]
    """
    both = np.stack([data & 15, data >> 4], 1).reshape(-1)[:count]
    return (both ^ 8).astype(np.int8) - np.int8(8)


def fit(integers: np.ndarray) -> bool:
    """Whether all integers of an array are such of 4 bits."""
    return integers.size > 0 and bool(integers.min() >= -8 and integers.max() <= 7)
