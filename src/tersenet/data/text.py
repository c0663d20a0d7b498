"""How texts become token ids: by a tokenizer of the Hugging Face ``tokenizers`` format, cut and padded to one length."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tersenet.errors import DataError, MissingDependencyError, unknown

FILE_NAME = "tokenizer.json"
SIDES = ("right", "left")
# What an input holds of a text -> the attribute of an encoding that gives it.
GIVES = {"ids": "ids", "mask": "attention_mask", "types": "type_ids"}
LARGEST_LENGTH = 2**17


@dataclass(frozen=True)
class Text:
    """What was done to a text for one input of a network.

    Args:
        gives: ids (token ids), mask (1 for a token, 0 for padding), or types (0 for all of a single text).
        length: tokens; longer texts are cut, shorter ones padded.
        padding_id: of the token that fills up; padding_type: its type.
        padding_side, truncation_side: where texts are filled up and cut.
        tokenizer: name of its file, beside whatever records this.
        sha256: of the file.
        content: of the file; not part of the record.
    """

    gives: str
    length: int
    padding_id: int = 0
    padding_type: int = 0
    padding_side: str = "right"
    truncation_side: str = "right"
    tokenizer: str = FILE_NAME
    sha256: str = ""
    content: str = field(default="", repr=False, compare=False, metadata={"key": None})

    def __post_init__(self) -> None:
        if self.gives not in GIVES:
            raise DataError(unknown("result of a tokenizer", str(self.gives), GIVES))
        for side in (self.padding_side, self.truncation_side):
            if side not in SIDES:
                raise DataError(unknown("side of a text", str(side), SIDES))
        if not isinstance(self.length, int) or not 1 <= self.length <= LARGEST_LENGTH:
            raise DataError(f"a text's length must be from 1 to {LARGEST_LENGTH} tokens, got {self.length!r}.")
        if not isinstance(self.tokenizer, str) or self.tokenizer != FILE_NAME:
            raise DataError(f"the tokenizer's file is called {FILE_NAME}, got {self.tokenizer!r}.")
        if self.content and not self.sha256:
            object.__setattr__(self, "sha256", digest(self.content))

    def to_json(self) -> dict[str, Any]:
        return {"kind": "text", **{key: value for key, value in vars(self).items() if key != "content"}}


def digest(content: str) -> str:
    """The SHA-256 of a tokenizer's file."""
    return hashlib.sha256(content.encode()).hexdigest()


def encoded(texts: np.ndarray, ways: Sequence[Text]) -> list[np.ndarray]:
    """Texts as what each of a network's inputs takes of them.

    Args:
        texts: (n,) of objects or of numpy's own strings.
        ways: one for each input, all of one tokenizer and length.

    Returns:
        For each of `ways` an array (n, length) of int32.

    Raises:
        DataError: the tokenizer is missing or damaged.
        MissingDependencyError: the ``tokenizers`` package is not installed.
    """
    tokenizer = _opened(ways[0])
    given = np.empty((len(ways), len(texts), ways[0].length), np.int32)
    batch = 1024  # encodings are large objects: a thousand at a time
    for start in range(0, len(texts), batch):
        found = tokenizer.encode_batch([str(text) for text in texts[start : start + batch]])
        for row, way in zip(given, ways, strict=True):
            row[start : start + batch] = [getattr(encoding, GIVES[way.gives]) for encoding in found]
    return list(given)


def _opened(way: Text) -> Any:
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise MissingDependencyError("texts need the tokenizers package, which is not installed: pip install 'tersenet[data]'") from error
    if not way.content:
        raise DataError(f"the tokenizer's file {way.tokenizer} is missing; it lies beside the manifest of the run that made the network's file.")
    if digest(way.content) != way.sha256:
        raise DataError(f"{way.tokenizer} is not the tokenizer that was recorded: its SHA-256 differs.")
    try:
        tokenizer = Tokenizer.from_str(way.content)
        tokenizer.enable_truncation(way.length, direction=way.truncation_side)
        tokenizer.enable_padding(direction=way.padding_side, pad_id=way.padding_id, pad_type_id=way.padding_type, length=way.length)
    except Exception as error:  # whatever the parser says of a damaged file
        raise DataError(f"{way.tokenizer} is not a tokenizer: {str(error)[:200]}") from error
    return tokenizer
