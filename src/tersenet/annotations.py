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
    """

    values: Mapping[str, Encoding] = field(default_factory=dict)
    weights: Mapping[str, Encoding] = field(default_factory=dict)
    masks: Mapping[str, np.ndarray] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.values or self.weights or self.masks)

    @property
    def digest(self) -> bytes:
        """Bytes that are equal for equal annotations, in every process."""
        digest = hashlib.sha256()
        for encodings in (self.values, self.weights):
            digest.update(repr([(name, encoding.to_json()) for name, encoding in sorted(encodings.items())]).encode())
        for name, mask in sorted(self.masks.items()):
            digest.update(f"{name} {mask.shape}".encode() + np.packbits(mask).tobytes())
        return digest.digest()

    def to_json(self) -> dict[str, Any]:
        """Plain data; of a mask its shape and its bits, eight a byte, in base64."""
        return {
            "values": {name: encoding.to_json() for name, encoding in self.values.items()},
            "weights": {name: encoding.to_json() for name, encoding in self.weights.items()},
            "masks": {name: [list(mask.shape), b64encode(np.packbits(mask).tobytes()).decode()] for name, mask in self.masks.items()},
        }

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Annotations:
        return cls(
            values={name: Encoding.from_json(encoding) for name, encoding in record["values"].items()},
            weights={name: Encoding.from_json(encoding) for name, encoding in record["weights"].items()},
            masks={name: _mask(shape, bits) for name, (shape, bits) in record["masks"].items()},
        )


def _mask(shape: Sequence[int], bits: str) -> np.ndarray:
    packed = np.frombuffer(b64decode(bits, validate=True), np.uint8)
    return np.unpackbits(packed, count=math.prod(shape)).astype(bool).reshape(shape)
