"""A checkpoint in Transformers layout: where it lies, what its configuration says, and whether its weights can be read and fit in memory."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tersenet.errors import ModelError, UntrustedError, check_readable

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json")
LARGEST_JSON, LARGEST_HEADER = 50_000_000, 100_000_000
# What is fetched of a hub's repository: configuration, weights without code, and whatever a processor may lie in.
PATTERNS = ("*.json", "*.safetensors", "*.txt", "*.model")
# Keys of a configuration whose numbers are loops of the network's own code.
_COUNTS = re.compile(r"(layers?|depths?|blocks?|stages|groups|repeats?)$")
_MOST_LAYERS = 1000
MOST_CLASSES = 1_000_000


@dataclass(frozen=True)
class Checkpoint:
    """A folder that was looked at.

    Args:
        folder: where it lies.
        name: how messages and reports call it.
        config: ``config.json``.
        architecture: the network's class, by its name in Transformers.
        elements: numbers that its weights hold; 0 where they are a pickle.
    """

    folder: Path
    name: str
    config: Mapping[str, Any]
    architecture: str
    elements: int

    @property
    def pickled(self) -> bool:
        """Whether its weights are a pickle, which was allowed."""
        return not self.elements


def fetched(source: str) -> Path:
    """The folder of ``hf:ID``, fetched or from the cache.

    Raises:
        ModelError: no such repository, or the hub cannot be reached.
    """
    from huggingface_hub import snapshot_download

    name = source.removeprefix("hf:")
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name) or ".." in name:
        raise ModelError(f"{source} is no name of a repository; one is written hf:owner/name.")
    try:
        return Path(snapshot_download(name, allow_patterns=list(PATTERNS), etag_timeout=10))
    except Exception as error:  # the hub's client raises its own, its transport's and the system's errors
        why = (
            "there is none, or it is private"
            if "RepositoryNotFound" in type(error).__name__
            else "the hub cannot be reached, and it is not in the cache"
        )
        raise ModelError(f"{source} cannot be fetched: {why}. Download its folder where you can, and name that folder.") from error


def opened(folder: Path, name: str, trust: bool) -> Checkpoint:
    """Look at a folder before anything of it is loaded.

    Raises:
        ModelError: a file is missing or damaged, or the configuration asks for far more than the weights hold.
        UntrustedError: the weights are a pickle, or code comes with it, and `trust` is not set.
    """
    config = _json(folder / "config.json")
    architectures = config.get("architectures")
    if not isinstance(architectures, list) or len(architectures) != 1 or not isinstance(architectures[0], str):
        raise ModelError(f"{folder / 'config.json'} must name one class under 'architectures', got {str(architectures)[:100]}.")
    if "auto_map" in config and "auto_map" and not trust and not isinstance(config.get("model_type"), str):
        raise UntrustedError(f"{folder} brings its own code; --trust runs it.")
    classes = config.get("num_labels", 0)
    if not isinstance(classes, int) or not 0 <= classes <= MOST_CLASSES:  # Transformers names each of them
        raise ModelError(f"{folder / 'config.json'} has {str(classes)[:30]} for num_labels; a network has at most {MOST_CLASSES} classes.")
    files = _weights(folder)
    if not files:
        _refuse_pickles(folder, trust)
        return Checkpoint(folder, name, config, architectures[0], 0)
    tensors = [size for file in files for size in _sizes(file)]
    most = max([0, *_counts(config)])
    if most > _MOST_LAYERS + len(tensors):
        raise ModelError(f"{folder / 'config.json'} asks for {most} layers, and the weights are {len(tensors)} tensors; they do not belong together.")
    return Checkpoint(folder, name, config, architectures[0], max(1, sum(tensors)))


def _json(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > LARGEST_JSON:
            raise ModelError(f"{path} has {path.stat().st_size} bytes, far more than such a file needs.")
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path} is not JSON: {str(error)[:100]}.") from error
    if not isinstance(found, dict):
        raise ModelError(f"{path} must hold a JSON object, got {type(found).__name__}.")
    return found


def _weights(folder: Path) -> list[Path]:
    """The files of weights without code; [] where there are none."""
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    if not (folder / INDEX).is_file():
        return []
    names = _json(folder / INDEX).get("weight_map")
    if not isinstance(names, dict) or not names:
        raise ModelError(f"{folder / INDEX} must name the file of each tensor under 'weight_map'.")
    files = sorted({str(name) for name in names.values()})
    for name in files:
        if Path(name).name != name or not name.endswith(".safetensors"):
            raise ModelError(f"{folder / INDEX} names the file {name[:100]!r}; files of weights lie beside it and end in .safetensors.")
        if not (folder / name).is_file():
            raise ModelError(f"{folder / INDEX} names the file {name}, which is missing.")
    return [folder / name for name in files]


def _refuse_pickles(folder: Path, trust: bool) -> None:
    found = next((name for name in PICKLES if (folder / name).is_file()), None)
    if found is None:
        raise ModelError(f"{folder} has no weights: {WEIGHTS} is missing.")
    if not trust:
        saved = "save it anew with model.save_pretrained(folder), which writes safetensors"
        raise UntrustedError(f"{folder / found} is a pickle, not safetensors; {saved}, or say --trust (its tensors alone are read).")


def _sizes(path: Path) -> Iterator[int]:
    """The number of elements of each tensor, of the header alone (https://github.com/huggingface/safetensors, "Format")."""
    check_readable(path, ModelError)
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if not 2 <= length <= min(LARGEST_HEADER, path.stat().st_size - 8):
                raise ValueError("its header is longer than the file")
            header = json.loads(file.read(length))
        for name, entry in header.items():
            if name != "__metadata__":
                begin, end = entry["data_offsets"]
                if not 0 <= begin <= end <= path.stat().st_size - 8 - length:
                    raise ValueError(f"the tensor {name[:60]} lies beyond its end")
                yield math.prod(int(size) for size in entry["shape"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ModelError(f"{path} is damaged or truncated: {str(error)[:100]}; fetch or save it again.") from error


def _counts(config: Mapping[str, Any]) -> Iterator[int]:
    """The numbers of a configuration that say how often something is built."""
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from _counts(value)
        elif _COUNTS.search(key):
            numbers = value if isinstance(value, list) else [value]
            yield sum(int(number) for number in numbers if isinstance(number, int | float) and math.isfinite(number))
