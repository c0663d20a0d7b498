"""What a source already knew about its numbers: grids that it was quantized with, weights that it had taken out."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

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
