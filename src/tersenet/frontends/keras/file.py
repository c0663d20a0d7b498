"""What a ``.keras`` archive and an ``.h5`` file hold: a configuration and a tree of weights."""

from __future__ import annotations

import json
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import IO, Any

from tersenet.errors import MissingDependencyError, ModelError
from tersenet.frontends.keras import hdf5
from tersenet.frontends.keras.layer import Weights
from tersenet.frontends.keras.layers.activations import OF_KERAS_2
from tersenet.frontends.keras.separate import weights_of
from tersenet.frontends.keras.weights import flat, network_of_flat, stored

WEIGHTS = "model.weights.h5"
LARGEST_CONFIG = 1 << 26  # bytes of JSON; the largest networks have a few megabytes
_UNPACKED, _UNPACKED_FREE = 20, 1 << 24
_BLOCK = 1 << 20
_LOCAL = struct.Struct("<4s5H3L2H")  # the header before a zip member's bytes


@dataclass(frozen=True)
class Saved:
    """A network as a file has it.

    Args:
        config: what Keras wrote about the network, JSON.
        weights: its variables; read while the file is open.
        version: of the Keras that wrote it, "" where the file does not say.
        checked: every class of its networks computes what its layers say; of a file this is told by the names of the classes.
    """

    config: Mapping[str, Any]
    weights: Weights
    version: str
    checked: bool = False


@contextmanager
def opened(path: Path, weights: str = "") -> Iterator[Saved]:
    """The network in a file, whose weights can be read as long as the block lasts.

    Args:
        weights: a file that holds its weights, ``.weights.h5`` or ``.weights.json``, in place of those beside the configuration.

    Raises:
        ModelError: the file is of another format, is damaged, or holds weights alone.
        MissingDependencyError: pyfive is not installed.
    """
    with ExitStack() as stack:
        try:
            stream = stack.enter_context(path.open("rb"))
            head = stream.read(8)
            if head[:2] == b"PK":
                saved = _archive(path, stack.enter_context(zipfile.ZipFile(stream)), stream, stack)
            elif head == hdf5.SIGNATURE:
                saved = _legacy(path, hdf5.opened(stream, 0, path.stat().st_size))
            elif path.suffix.lower() == ".json":
                saved = _bare(path, head + stream.read(LARGEST_CONFIG), weights)
            else:
                raise ModelError(f"{path} is neither a .keras archive (a zip) nor an HDF5 file; it is damaged, or of another format.")
            yield replace(saved, weights=weights_of(Path(weights), saved.config, stack)) if weights else saved
        except MissingDependencyError:
            raise
        except ModelError as error:
            raise error if str(path) in str(error) else ModelError(f"{path}: {str(error).rstrip('.')}.") from error
        except (OSError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError, struct.error) as error:
            raise ModelError(f"{path} is damaged: {str(error)[:200] or type(error).__name__}.") from error


def _archive(path: Path, archive: zipfile.ZipFile, stream: IO[bytes], stack: ExitStack) -> Saved:
    members = _checked(path, archive)
    for name in ("config.json", WEIGHTS):
        if name not in members:
            raise ModelError(f"{path} has no {name}: a .keras archive holds config.json and {WEIGHTS}.")
    config = _json(path, _bytes(path, archive, members["config.json"], LARGEST_CONFIG))
    metadata = _json(path, _bytes(path, archive, members["metadata.json"], LARGEST_CONFIG)) if "metadata.json" in members else {}
    root = hdf5.opened(*_weights(archive, members[WEIGHTS], stream, stack))
    version = str(metadata.get("keras_version", ""))[:40]
    return Saved(as_keras_3(config) if version.startswith("2") else config, stored(root), version)


def _bare(path: Path, content: bytes, weights: str) -> Saved:
    """What `model.to_json` writes: the configuration alone."""
    config = _json(path, content)
    if "weight_map" in config or "class_name" not in config:
        what = "lists weights in pieces" if "weight_map" in config else "is no configuration of Keras"
        raise ModelError(f"{path} {what}: a network is a .keras or .h5 file, or what model.to_json() writes, and --weights names its weights.")
    if not weights:
        raise ModelError(f"{path} holds a configuration alone: name the file of its weights with --weights net.weights.h5 (or net.weights.json).")
    version = str(config.get("keras_version") or "3")[:40]  # Keras 3 does not say
    return Saved(as_keras_3(config) if version.startswith("2") else config, Weights(), version)


def _checked(path: Path, archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """The members by name, once none of them points outside and all of them together are of a size that can be."""
    size = path.stat().st_size
    declared = 0
    for info in archive.infolist():
        if ".." in PurePosixPath(info.filename).parts or info.filename.startswith("/") or "\\" in info.filename or ":" in info.filename:
            raise ModelError(f"{path} holds a member called {info.filename[:80]!r}, which points outside of the archive; Keras writes none such.")
        if info.flag_bits & 1:
            raise ModelError(f"{path} holds encrypted members; Keras writes none.")
        declared += info.file_size
    if declared > _UNPACKED * size + _UNPACKED_FREE:
        raise ModelError(f"{path} would unpack to {declared} bytes from {size}, far more than its size; Keras stores weights as they are.")
    return {info.filename: info for info in archive.infolist()}


def _bytes(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo, most: int) -> bytes:
    with archive.open(info) as member:
        content = member.read(most + 1)
    if len(content) > most:
        raise ModelError(f"{path}: {info.filename} must have at most {most} bytes.")
    return content


def _weights(archive: zipfile.ZipFile, info: zipfile.ZipInfo, stream: IO[bytes], stack: ExitStack) -> tuple[IO[bytes], int, int]:
    """Where the HDF5 file inside the archive lies: in the archive itself where it is stored, unpacked to a temporary file where not."""
    unpacked = None if info.compress_type == zipfile.ZIP_STORED else stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115 - the stack closes it
    left = info.file_size
    with archive.open(info) as member:
        while block := member.read(_BLOCK):  # to its end, where its check sum is compared
            left -= len(block)
            if left < 0:
                raise ModelError(f"{info.filename} unpacks to more than the archive says")
            if unpacked is not None:
                unpacked.write(block)
    if unpacked is not None:
        return unpacked, 0, info.file_size
    stream.seek(info.header_offset)
    header = _LOCAL.unpack(stream.read(_LOCAL.size))
    return stream, info.header_offset + _LOCAL.size + header[9] + header[10], info.file_size


def _legacy(path: Path, root: hdf5.Group) -> Saved:
    text = root.attribute("model_config")
    if not isinstance(text, str):
        holds = "layer_names" if root.attribute("layer_names") is not None or root.attribute("layer_names0") is not None else ""
        if holds or "layers" in root or "_layer_checkpoint_dependencies" in root or "vars" in root:
            raise ModelError(
                f"{path} holds weights only, and the network is needed: save it whole, with model.save('network.keras'), or write "
                f"model.to_json() to network.json and give this file as --weights."
            )
        raise ModelError(f"{path} is an HDF5 file, and Keras did not save a network in it (the attribute model_config is absent).")
    if len(text) > LARGEST_CONFIG:
        raise ModelError(f"{path}: its configuration must have at most {LARGEST_CONFIG} characters.")
    config = _json(path, text.encode())
    if "model_weights" not in root:
        raise ModelError(f"{path} holds no weights (the group model_weights is absent); save the network after it was built.")
    held = root.group("model_weights")
    try:
        inner = config["config"]
        layers = inner if isinstance(inner, list) else inner.get("layers", [])
        weights = network_of_flat(layers, flat(held))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ModelError(f"{path} is damaged: its configuration is not one that Keras writes ({str(error)[:80]}).") from error
    version = str(root.attribute("keras_version") or "")[:40]
    return Saved(config if version.startswith("3") else as_keras_3(config), weights, version)


def as_keras_3(config: Any) -> Any:
    """A configuration of Keras 2 with the names of functions that Keras 3 has made others of marked as the old ones."""
    if isinstance(config, list):
        return [as_keras_3(part) for part in config]
    if not isinstance(config, dict):
        return config
    old = {key: OF_KERAS_2 + found for key, found in config.items() if key.endswith("activation") and found == "hard_sigmoid"}
    return {key: as_keras_3(part) for key, part in config.items()} | old


def _json(path: Path, content: bytes) -> Any:
    try:
        found = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path} is damaged: its configuration is not JSON.") from error
    if not isinstance(found, dict):
        raise ModelError(f"{path} is damaged: its configuration must be a JSON object.")
    return found
