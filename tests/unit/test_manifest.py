"""A manifest that somebody changed: read whole, or refused."""

import json
from pathlib import Path
from typing import Any

import pytest

from tersenet.errors import OutputError
from tersenet.manifest import FileEntry, Manifest
from tersenet.tensors import Port

PORT = Port("x", (1, 6, 6, 1), "int8", "NHWC", "x", (0, 2, 3, 1), 0.5, 3)
MANIFEST = Manifest("0.1.0", "small", "image-classification", files={"litert": FileEntry("a.tflite", "b.tflite", (PORT,), (PORT,), (PORT,), (PORT,))})


def changed(field: str, value: Any, folder: Path) -> Path:
    record = MANIFEST.to_json()
    entry = record["files"]["litert"]
    (entry["inputs"][0] if field in vars(PORT) else entry)[field] = value
    path = folder / "manifest.json"
    path.write_text(json.dumps(record))
    return path


def test_it_comes_back_as_it_went(tmp_path: Path) -> None:
    assert Manifest.read(changed("name", "x", tmp_path)) == MANIFEST


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("shape", ["x"]),
        ("shape", [1, 6, 6]),
        ("axes", [0, 2, 3]),
        ("axes", [0, 2, 2, 1]),
        ("axes", "x"),
        ("dtype", "float99"),
        ("dtype", {}),
        ("scale", {}),
        ("scale", 0),
        ("zero_point", 0.5),
        ("path", None),
        ("float_path", 3),
        ("inputs", 3),
        ("runtime", []),
        ("stateful", "no"),
    ],
)
def test_nonsense_is_refused(tmp_path: Path, field: str, value: Any) -> None:
    with pytest.raises(OutputError, match=r"manifest\.json"):
        Manifest.read(changed(field, value, tmp_path))


def test_a_manifest_of_an_older_version_names_no_task(tmp_path: Path) -> None:
    record = MANIFEST.to_json()
    assert record.pop("task") == "image-classification"
    assert record["files"]["litert"].pop("stateful") is False
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps(record))
    assert Manifest.read(path).task == ""
