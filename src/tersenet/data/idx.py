"""IDX files, the format that MNIST and its kin are published in (Yann LeCun's page on MNIST, "The IDX file format")."""

from __future__ import annotations

import gzip
import zlib
from math import prod
from pathlib import Path

import numpy as np

from tersenet.data.assembly import assemble
from tersenet.data.parts import Data
from tersenet.data.preparation import Preparation
from tersenet.data.samples import Part, read_part
from tersenet.errors import DataError, check_readable

# third byte of the file -> what it holds, big-endian
NUMBERS = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}
DEFLATE_MOST = 1100  # deflate cannot pack more than 1,032 bytes into one: a header that promises more is wrong


def read_idx(path: Path) -> np.ndarray:
    """The array of an IDX file, gzipped or not.

    Raises:
        DataError: not an IDX file, truncated, longer than its header says, or unreadable.
    """
    check_readable(path, DataError)
    try:
        size = path.stat().st_size
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            head = file.read(4)
            if len(head) < 4 or head[:2] != b"\0\0" or head[2] not in NUMBERS or head[3] == 0:
                begins = "an IDX file begins with two zero bytes, a type and a number of axes"
                raise DataError(f"{path} is not an IDX file: {begins}; this one with {head.hex() or 'nothing'}.")
            sizes = file.read(4 * head[3])
            shape = tuple(int.from_bytes(sizes[start : start + 4], "big") for start in range(0, len(sizes), 4))
            dtype = np.dtype(NUMBERS[head[2]])
            expected = prod(shape) * dtype.itemsize
            content = b"" if len(sizes) < 4 * head[3] or expected > DEFLATE_MOST * size else file.read(expected + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read: {error}. It may be truncated; fetch it again.") from error
    if len(content) != expected or len(sizes) < 4 * head[3]:
        got = "more" if len(content) > expected else f"{len(content)}"
        raise DataError(f"{path} is truncated or damaged: its header promises {shape} ({expected} bytes), it holds {got}.")
    return np.frombuffer(content, dtype).reshape(shape).astype(dtype.newbyteorder("="), copy=False)


def is_idx_folder(folder: Path) -> bool:
    """Whether a folder holds files that are named as IDX sets are."""
    return any(_role(path) for path in folder.iterdir())


def read_folder(folder: Path, preparation: Preparation | None, seed: int) -> Data:
    """A folder of IDX files: ``train-images...`` and ``train-labels...``, and the same with ``t10k`` or ``test``, which is the evaluation part.

    Raises:
        DataError: files are missing, damaged, or do not belong together.
    """
    found: dict[tuple[str, str], Path] = {}
    for path in sorted(folder.iterdir(), reverse=True):  # "x" after "x.gz": the unpacked file wins
        role = _role(path)
        if role:
            found[role] = path
    parts: dict[str, Part] = {}
    for part in ("train", "evaluation"):
        if (part, "images") not in found:
            continue
        images = read_idx(found[part, "images"])
        labels = read_idx(found[part, "labels"]) if (part, "labels") in found else None
        if labels is None and part == "train" and ("evaluation", "labels") in found:
            raise DataError(f"{folder} has {found[part, 'images'].name} without its labels; put the file of labels beside it.")
        parts[part] = read_part(part, images, labels)
    if not parts:
        raise DataError(f"{folder} has IDX files of labels alone; the images are missing ({', '.join(path.name for path in found.values())}).")
    shape = next(iter(parts.values())).inputs[0].shape
    declared = preparation or Preparation(stored="NHW" if len(shape) == 3 else "")
    return Data.of(assemble(parts, task="image-classification", preparation=declared, seed=seed, published="evaluation" in parts), folder.name)


def _role(path: Path) -> tuple[str, str] | None:
    """(part, images or labels) of a file in a published set, by its name; None for others."""
    name = path.name.lower().removesuffix(".gz")
    if "ubyte" not in name and not name.endswith(".idx") and ".idx" not in name and "-idx" not in name:
        return None
    kind = "images" if "image" in name else "labels" if "label" in name else ""
    part = "evaluation" if "t10k" in name or "test" in name else "train"
    return (part, kind) if kind else None
