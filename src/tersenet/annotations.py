"""What a source already knew about its numbers: grids that it was quantized with, weights that it had taken out."""

from __future__ import annotations

import hashlib
import math
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tersenet.schemes import Encoding


@dataclass(frozen=True)
class Annotations:
    """Beside a float network: what was decided about it before it came here. Steps take it over where they can.

    Args:
        values: name of a node of ``Model.graph`` -> the grid that the source had for its value.
        weights: name of a parameter -> the grid that the source had stored it on; the parameter itself is the float that this grid gives.
        masks: name of a parameter -> True where a weight is alive; the others are zero, and stay so.
        codebooks: name of a parameter -> which of a few values each weight has, uint8; weights with the same number are equal, and stay so.
    """

    values: Mapping[str, Encoding] = field(default_factory=dict)
    weights: Mapping[str, Encoding] = field(default_factory=dict)
    masks: Mapping[str, np.ndarray] = field(default_factory=dict)
    codebooks: Mapping[str, np.ndarray] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.values or self.weights or self.masks or self.codebooks)

    @property
    def digest(self) -> bytes:
        """Bytes that are equal for equal annotations, in every process."""
        digest = hashlib.sha256()
        for encodings in (self.values, self.weights):
            digest.update(repr([(name, encoding.to_json()) for name, encoding in sorted(encodings.items())]).encode())
        for name, mask in sorted(self.masks.items()):
            digest.update(f"{name} {mask.shape}".encode() + np.packbits(mask).tobytes())
        for name, places in sorted(self.codebooks.items()):
            digest.update(f"codebook {name} {places.shape}".encode() + places.tobytes())
        return digest.digest()

    def to_json(self) -> dict[str, Any]:
        """Plain data; of a mask its shape and its bits, eight a byte, in base64; of a codebook its shape and places, one a byte."""
        return {
            "values": {name: encoding.to_json() for name, encoding in self.values.items()},
            "weights": {name: encoding.to_json() for name, encoding in self.weights.items()},
            "masks": {name: [list(mask.shape), b64encode(np.packbits(mask).tobytes()).decode()] for name, mask in self.masks.items()},
            "codebooks": {name: [list(places.shape), b64encode(places.tobytes()).decode()] for name, places in self.codebooks.items()},
        }

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Annotations:
        return cls(
            values={name: Encoding.from_json(encoding) for name, encoding in record["values"].items()},
            weights={name: Encoding.from_json(encoding) for name, encoding in record["weights"].items()},
            masks={name: _mask(shape, bits) for name, (shape, bits) in record["masks"].items()},
            codebooks={name: _places(shape, numbers) for name, (shape, numbers) in record.get("codebooks", {}).items()},
        )


def _mask(shape: Sequence[int], bits: str) -> np.ndarray:
    packed = np.frombuffer(b64decode(bits, validate=True), np.uint8)
    return np.unpackbits(packed, count=math.prod(shape)).astype(bool).reshape(shape)


def _places(shape: Sequence[int], numbers: str) -> np.ndarray:
    return np.frombuffer(b64decode(numbers, validate=True), np.uint8).reshape(shape)
