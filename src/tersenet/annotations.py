"""What a source already knew about its numbers: grids that it was quantized with, weights that it had taken out, how it wants to be trained."""

from __future__ import annotations

import hashlib
import math
from base64 import b64decode, b64encode
from collections.abc import Container, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, TypeVar

import numpy as np

from tersenet.schemes import Encoding


@dataclass(frozen=True)
class Penalty:
    """What is added to the loss while a network learns: ``l1 sum |w| + l2 sum w^2 + orthogonal mean |cos(w_i, w_j)|``.

    Args:
        l1: times the sum of magnitudes.
        l2: times the sum of squares (no half of it).
        orthogonal: times the mean over pairs of vectors of the magnitude of their cosine.
        axes: of the parameter, those that one vector lies along.
    """

    l1: float = 0.0
    l2: float = 0.0
    orthogonal: float = 0.0
    axes: tuple[int, ...] = ()


@dataclass(frozen=True)
class Constraint:
    """What a parameter is held to behind every step of training.

    Args:
        kind: non-negative (negative numbers become zero), or norm (vectors are scaled so that their lengths go into a range).
        lowest, highest: ends of that range.
        rate: how much of the way each step goes, 0 to 1.
        axes: of the parameter, those that one vector lies along.
    """

    kind: str
    lowest: float = 0.0
    highest: float = 0.0
    rate: float = 1.0
    axes: tuple[int, ...] = ()


@dataclass(frozen=True)
class Noise:
    """What is done to a value in training alone.

    Args:
        kind: add (normal numbers of mean 0 are added), factor (it is multiplied by normal numbers of mean 1) or dropout.
        amount: the standard deviation of add and factor; of dropout the share that is left out.
        shared: axes along which the random numbers are the same.
    """

    kind: str
    amount: float
    shared: tuple[int, ...] = ()


Record = TypeVar("Record", Penalty, Constraint, Noise)


@dataclass(frozen=True)
class Annotations:
    """Beside a float network: what was decided about it before it came here. Steps take it over where they can.

    Args:
        values: name of a node of ``Model.graph`` -> the grid that the source had for its value.
        weights: name of a parameter -> the grid that the source had stored it on; the parameter itself is the float that this grid gives.
        masks: name of a parameter -> True where a weight is alive; the others are zero, and stay so.
        codebooks: name of a parameter -> which of a few values each weight has, uint8; weights with the same number are equal, and stay so.
        penalties: name of a parameter -> what training adds to the loss for it.
        constraints: name of a parameter -> what training holds it to.
        activities: name of a node, which gives its input on -> what training adds to the loss for that value, divided by the samples of the batch.
        noises: name of a node, which gives its input on -> what training does to that value.
    """

    values: Mapping[str, Encoding] = field(default_factory=dict)
    weights: Mapping[str, Encoding] = field(default_factory=dict)
    masks: Mapping[str, np.ndarray] = field(default_factory=dict)
    codebooks: Mapping[str, np.ndarray] = field(default_factory=dict)
    penalties: Mapping[str, Penalty] = field(default_factory=dict)
    constraints: Mapping[str, Constraint] = field(default_factory=dict)
    activities: Mapping[str, Penalty] = field(default_factory=dict)
    noises: Mapping[str, Noise] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return any((self.values, self.weights, self.masks, self.codebooks, *self._of_training.values()))

    @property
    def _of_training(self) -> dict[str, Mapping[str, Any]]:
        """What only training feels."""
        return {"penalties": self.penalties, "constraints": self.constraints, "activities": self.activities, "noises": self.noises}

    def among(self, names: Container[str]) -> Annotations:
        """Those of the parameters and nodes that are left of a network."""
        return Annotations(**{key: {name: entry for name, entry in held.items() if name in names} for key, held in vars(self).items()})

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
        for key, held in self._of_training.items():
            for name, entry in sorted(held.items()):
                digest.update(f"{key} {name} {asdict(entry)}".encode())
        return digest.digest()

    def to_json(self) -> dict[str, Any]:
        """Plain data; of a mask its shape and its bits, eight a byte, in base64; of a codebook its shape and places, one a byte."""
        return {
            "values": {name: encoding.to_json() for name, encoding in self.values.items()},
            "weights": {name: encoding.to_json() for name, encoding in self.weights.items()},
            "masks": {name: [list(mask.shape), b64encode(np.packbits(mask).tobytes()).decode()] for name, mask in self.masks.items()},
            "codebooks": {name: [list(places.shape), b64encode(places.tobytes()).decode()] for name, places in self.codebooks.items()},
            **{key: {name: asdict(entry) for name, entry in held.items()} for key, held in self._of_training.items()},
        }

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Annotations:
        return cls(
            values={name: Encoding.from_json(encoding) for name, encoding in record["values"].items()},
            weights={name: Encoding.from_json(encoding) for name, encoding in record["weights"].items()},
            masks={name: _mask(shape, bits) for name, (shape, bits) in record["masks"].items()},
            codebooks={name: _places(shape, numbers) for name, (shape, numbers) in record.get("codebooks", {}).items()},
            penalties=_entries(record, "penalties", Penalty),
            constraints=_entries(record, "constraints", Constraint),
            activities=_entries(record, "activities", Penalty),
            noises=_entries(record, "noises", Noise),
        )


def _mask(shape: Sequence[int], bits: str) -> np.ndarray:
    packed = np.frombuffer(b64decode(bits, validate=True), np.uint8)
    return np.unpackbits(packed, count=math.prod(shape)).astype(bool).reshape(shape)


def _places(shape: Sequence[int], numbers: str) -> np.ndarray:
    return np.frombuffer(b64decode(numbers, validate=True), np.uint8).reshape(shape)


def _entries(record: Mapping[str, Any], key: str, kind: type[Record]) -> dict[str, Record]:
    """Entries of a kind, with their axes as tuples; none in files that were written before there were any."""
    found = {}
    for name, entry in record.get(key, {}).items():
        settings: dict[str, Any] = {setting: tuple(value) if isinstance(value, list) else value for setting, value in entry.items()}
        found[name] = kind(**settings)
    return found
