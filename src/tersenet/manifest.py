"""The manifest: what whoever deploys a file must know to feed it, and nothing else.

Written beside the files, read back when one of them is measured on another machine; needs no framework.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tersenet.data.preparation import Preparation
from tersenet.data.processing import with_content
from tersenet.data.text import Text, digest
from tersenet.errors import InputError, OutputError
from tersenet.plain import check_fields
from tersenet.store import write_file
from tersenet.target import Export, Target
from tersenet.tensors import Port

FILE_NAME = "manifest.json"
DTYPES = ("bool", "float16", "float32", "float64", *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)))


@dataclass(frozen=True)
class FileEntry:
    """One runtime's pair of files.

    Args:
        path, float_path: relative to the manifest.
        inputs, outputs: ports of the compressed file.
        float_inputs, float_outputs: ports of its float twin.
        runtime: distribution and least version, as an installer reads it.
        example: lines of code that run the file, from the folder of the manifest.
        names: relative path of the map from the network's names to the file's.
        stateful: one of the files keeps the state of recurrent layers from one run to the next; the example resets it.
    """

    path: str
    float_path: str
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    float_inputs: tuple[Port, ...]
    float_outputs: tuple[Port, ...]
    runtime: str = ""
    example: str = ""
    names: str = ""
    stateful: bool = False


@dataclass(frozen=True)
class Manifest:
    """All files of one run.

    Args:
        tersenet: the version that wrote it.
        model: the network's name.
        task: what the network was judged at, "" where no data said.
        preparation: what to do to raw samples, one for each input.
        class_names: in the order of the outputs; () where they are not known.
        files: by target.
    """

    tersenet: str
    model: str
    task: str = ""
    preparation: tuple[Preparation, ...] = ()
    class_names: tuple[str, ...] = ()
    files: Mapping[str, FileEntry] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return {
            "tersenet": self.tersenet,
            "model": self.model,
            "task": self.task,
            "preparation": [way.to_json() for way in self.preparation],
            "class_names": list(self.class_names),
            "files": {target: _entry_to_json(entry) for target, entry in self.files.items()},
        }

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Manifest:
        files = {target: _entry_from_json(entry) for target, entry in record["files"].items()}
        preparation = tuple(Preparation.from_json(way) for way in record["preparation"])
        task = str(record.get("task", ""))  # manifests of version 0.1 have none
        return cls(record["tersenet"], record["model"], task, preparation, tuple(record["class_names"]), files)

    def write(self, folder: Path) -> Path:
        """Write manifest.json into a folder, and the tokenizer that it speaks of beside it."""
        for way in self.preparation:
            if isinstance(way.decoded, Text) and way.decoded.content:
                write_file(folder / way.decoded.tokenizer, way.decoded.content)
        path = folder / FILE_NAME
        write_file(path, json.dumps(self.to_json(), indent=1, ensure_ascii=False) + "\n")
        return path

    @classmethod
    def read(cls, path: Path) -> Manifest:
        """Read a manifest.

        Raises:
            OutputError: it cannot be read, or is none.
        """
        try:
            manifest = cls.from_json(json.loads(path.read_text(encoding="utf-8")))
            return replace(manifest, preparation=tuple(_with_tokenizer(way, path.parent) for way in manifest.preparation))
        except OSError as error:
            raise OutputError(f"the manifest {path} cannot be read: {error.strerror}.") from error
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError, InputError) as error:
            raise OutputError(f"{path} is not a manifest of tersenet: {error}.") from error


def _with_tokenizer(way: Preparation, folder: Path) -> Preparation:
    """The preparation with its tokenizer's file, where there is one: only data need it."""
    file = folder / way.decoded.tokenizer if isinstance(way.decoded, Text) else None
    if file is None or not file.is_file():
        return way
    content = file.read_text(encoding="utf-8")
    return with_content(way, {digest(content): content})


def entry(target: Target, folder: Path, compressed: Export, plain: Export, names: Path) -> FileEntry:
    """The manifest's entry for two exports in a run's folder."""
    stateful = compressed.stateful or plain.stateful
    file, count = compressed.path.relative_to(folder).as_posix(), len(compressed.outputs)
    filled = {"file": file, "inputs": _example_inputs(compressed.inputs), "outputs": count}
    return FileEntry(
        path=compressed.path.relative_to(folder).as_posix(),
        float_path=plain.path.relative_to(folder).as_posix(),
        inputs=compressed.inputs,
        outputs=compressed.outputs,
        float_inputs=plain.inputs,
        float_outputs=plain.outputs,
        runtime=compressed.runtime or target.runtime,
        example=target.example.format(**filled, reset=target.reset if stateful else ""),
        names=names.relative_to(folder).as_posix(),
        stateful=stateful,
    )


def _example_inputs(ports: Sequence[Port]) -> str:
    """Lines that make one input of zeros for each port, where a sample will stand."""
    lines = []
    for port in ports:
        shape = [1 if size is None else size for size in port.shape]
        grid = "" if port.scale is None else f"  # round(real / {port.scale!r}) + {port.zero_point}"
        lines.append(f'    "{port.name}": np.zeros({shape}, "{port.dtype}"),{grid}\n')
    return "inputs = {\n" + "".join(lines) + "}\n"


def beside(path: Path) -> tuple[Manifest, str, bool] | None:
    """The manifest that speaks of a file: in its folder or one of the two above (a run's folder has ``artifacts/<target>/``).

    Returns:
        The manifest, the target, and whether the file is the float twin; None where there is none.
    """
    for folder in list(path.absolute().parents)[:3]:
        if not (folder / FILE_NAME).is_file():
            continue
        manifest = Manifest.read(folder / FILE_NAME)
        for target, found in manifest.files.items():
            for relative, plain in ((found.path, False), (found.float_path, True)):
                if folder / relative == path.absolute():
                    return manifest, target, plain
    return None


def _entry_to_json(found: FileEntry) -> dict[str, Any]:
    ports = ("inputs", "outputs", "float_inputs", "float_outputs")
    return {key: [port.to_json() for port in value] if key in ports else value for key, value in vars(found).items()}


def _entry_from_json(record: Mapping[str, Any]) -> FileEntry:
    ports = ("inputs", "outputs", "float_inputs", "float_outputs")
    fields: dict[str, Any] = {key: _ports(value) if key in ports else value for key, value in record.items()}
    found = FileEntry(**fields)
    check_fields(found, "file")
    for port in (*found.inputs, *found.outputs, *found.float_inputs, *found.float_outputs):
        _check_port(port)
    return found


def _check_port(port: Port) -> None:
    """What arrays are laid out and scaled by must make sense before any is."""
    if port.dtype not in DTYPES:
        raise InputError(f"port {port.name!r} has the unknown dtype {port.dtype!r}")
    if port.axes and sorted(port.axes) != list(range(len(port.shape))):
        raise InputError(f"port {port.name!r} has axes {port.axes} for the shape {port.shape}")
    if port.scale is not None and port.scale <= 0:
        raise InputError(f"port {port.name!r} has the scale {port.scale}")


def _ports(records: Sequence[Mapping[str, Any]]) -> tuple[Port, ...]:
    return tuple(Port.from_json(dict(record)) for record in records)
