"""What a network's own source says of its data: how raw samples become its inputs, and what its outputs are called."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from tersenet.data.parts import Data
from tersenet.data.picture import Picture
from tersenet.data.preparation import Preparation
from tersenet.data.samples import Part
from tersenet.data.sound import Sound
from tersenet.data.text import Text, encoded
from tersenet.errors import DataError
from tersenet.tensors import TensorSpec

UNNAMED = re.compile(r"LABEL_\d+")


@dataclass(frozen=True)
class Processing:
    """How data are prepared where neither they nor the user say.

    Args:
        inputs: name of an input -> its preparation.
        class_names: in the order of the outputs; () where they are not known.
        task: that the network was trained for, by name; "" where it is not known.
        refused: why raw samples cannot be prepared, a sentence that says what to do; "" where they can.
    """

    inputs: Mapping[str, Preparation] = field(default_factory=dict)
    class_names: tuple[str, ...] = ()
    task: str = ""
    refused: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain JSON, with the contents of the tokenizers, which records elsewhere leave to files of their own."""
        inputs = {name: way.to_json() for name, way in self.inputs.items()}
        contents = {way.decoded.sha256: way.decoded.content for way in self.inputs.values() if isinstance(way.decoded, Text)}
        return {"inputs": inputs, "class_names": list(self.class_names), "task": self.task, "refused": self.refused, "contents": contents}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Processing:
        ways = {name: with_content(Preparation.from_json(way), record["contents"]) for name, way in record["inputs"].items()}
        return cls(ways, tuple(record["class_names"]), record["task"], record["refused"])

    @property
    def decoder(self) -> Picture | Text | Sound | None:
        """How raw samples become the numbers of the first input."""
        return next((way.decoded for way in self.inputs.values()), None)

    def applied(self, data: Data, specs: Sequence[TensorSpec]) -> Data:
        """The data with texts as tokens, pictures that nobody prepared resized, and labels in the order of the network's outputs.

        Raises:
            DataError: raw samples of a kind that cannot be prepared, or class names that are not the network's.
        """
        parts: dict[str, Any] = {name: self._prepared(part, specs) for name, part in data.parts() if part}
        return self._labelled(data.changed(**parts))

    def _prepared(self, part: Part, specs: Sequence[TensorSpec]) -> Part:
        if len(part.inputs) != 1 or part.preparation[0].decoded is not None:
            return part
        array, decoder = part.inputs[0], self.decoder
        texts = array.dtype.kind in "OU" and array.ndim == 1
        pictures = array.dtype == np.uint8 and array.ndim in (3, 4) and not self._declared(part.preparation[0])
        if (texts or pictures) and self.refused:
            raise DataError(self.refused)
        if texts and isinstance(decoder, Text):
            ways = [self.inputs[spec.name] for spec in specs]
            arrays = encoded(array, [way.decoded for way in ways])  # type: ignore[misc]  # all of them are texts
            return replace(part, inputs=tuple(arrays), names=tuple(spec.name for spec in specs), preparation=tuple(ways))
        if pictures and isinstance(decoder, Picture):
            way = next(iter(self.inputs.values()))
            return replace(part, inputs=(_pictures(array, part.preparation[0].stored, decoder),), preparation=(way,))
        return part

    def _declared(self, way: Preparation) -> bool:
        """Whether somebody said what is done to the numbers."""
        return way.scale is not None or bool(way.mean or way.std)

    def _labelled(self, data: Data) -> Data:
        if not self.class_names or data.task.kind != "classification":
            return data
        if not data.class_names:
            return data.changed(class_names=self.class_names)
        order = self._order(data.class_names)
        if order is None:
            note = f"the network's classes have no names ({self.class_names[0]} ...): those of the data are taken in the order of their names"
            return data.noted(note)
        table = np.array(order, np.int64)
        parts: dict[str, Any] = {name: replace(part, labels=None if part.labels is None else table[part.labels]) for name, part in data.parts()}
        return data.changed(**parts, class_names=self.class_names)

    def _order(self, names: Sequence[str]) -> list[int] | None:
        """The network's number of each of the data's classes; None where the network has no names for them."""
        known = {_plain(name): number for number, name in enumerate(self.class_names)}
        if len(known) < len(self.class_names):  # names that differ in case alone
            known = {name: number for number, name in enumerate(self.class_names)}
        found = [known.get(name, known.get(_plain(name))) for name in names]
        if all(number is not None for number in found):
            return [number for number in found if number is not None]
        if all(name.isdecimal() and int(name) < len(self.class_names) for name in names):
            return [int(name) for name in names]
        if all(UNNAMED.fullmatch(name) for name in self.class_names) and len(names) <= len(self.class_names):
            return None
        strangers = [name for name, number in zip(names, found, strict=True) if number is None]
        shown = ", ".join(self.class_names[:10]) + (" ..." if len(self.class_names) > 10 else "")
        raise DataError(f"the data have the classes {', '.join(strangers[:5])}, and the network's are {shown}; name them as the network does.")


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]+", " ", name).strip().lower()


def _pictures(array: np.ndarray, stored: str, way: Picture) -> np.ndarray:
    """(n, height, width, channels) or (n, height, width) as the network's source wants them."""
    if array.ndim == 4 and (stored == "NCHW" or (not stored and array.shape[-1] not in (1, 3) and array.shape[1] in (1, 3))):
        array = array.transpose(0, 2, 3, 1)
    if array.ndim == 4 and array.shape[-1] not in (1, 3):
        raise DataError(f"pictures of shape {array.shape[1:]} have neither 1 nor 3 channels.")
    taken = [way.taken_of_array(picture) for picture in array]
    if len({picture.shape for picture in taken}) > 1:
        raise DataError("the network's source leaves pictures of several sizes; give them in one.")
    return np.stack(taken)


def with_content(way: Preparation, contents: Mapping[str, str]) -> Preparation:
    """The preparation with the content of its tokenizer's file, by the file's SHA-256."""
    if not isinstance(way.decoded, Text):
        return way
    return replace(way, decoded=replace(way.decoded, content=contents.get(way.decoded.sha256, "")))
