"""NumPy archives: ``x`` and ``y``, or Keras's ``x_train``, ``y_train``, ``x_test``, ``y_test``; ``task``, where the labels would not tell."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np

from tersenet.data.assembly import assemble
from tersenet.data.parts import Data
from tersenet.data.preparation import Preparation
from tersenet.data.samples import read_part
from tersenet.errors import DataError

# part -> the names that its inputs and labels go by
KEYS = {
    "train": (("x_train", "y_train"), ("x", "y")),
    "calibration": (("x_calibration", ""),),
    "selection": (("x_selection", "y_selection"), ("x_val", "y_val")),
    "evaluation": (("x_test", "y_test"), ("x_evaluation", "y_evaluation")),
}


def read_npz(path: Path, preparation: Preparation | None, seed: int, trust: bool = False) -> Data:
    """Data from an archive; arrays with names that are not known are left unread, and a note says so. Nothing is unpickled
    unless `trust` says so.

    Raises:
        DataError: not an archive, damaged, without a known name, or with an array that would need unpickling.
    """
    arrays = _arrays(path, trust)
    parts, used = {}, {"class_names"}
    for part, pairs in KEYS.items():
        for inputs, labels in pairs:
            if inputs in arrays and part not in parts:
                parts[part] = read_part(part, arrays[inputs], arrays.get(labels))
                used |= {inputs, labels}
    if not parts:
        raise DataError(f"{path} must have arrays x and y (or x_train, y_train, x_test, y_test); it has {', '.join(sorted(arrays)) or 'none'}.")
    names = arrays.get("class_names")
    task = _task(path, arrays)
    used |= {"task"} if task else set()
    assembly = assemble(parts, task, () if names is None else names.tolist(), preparation, seed, published="evaluation" in parts)
    data = Data.of(assembly, path.stem)
    left = sorted(set(arrays) - used)
    return data.noted(f"arrays of {path.name} that were left unread: {', '.join(left)}") if left else data


def _task(path: Path, arrays: dict[str, np.ndarray]) -> str | None:
    """The name of a task that stands in the archive; an array of that name that holds no text is somebody's own."""
    found = arrays.get("task")
    if found is None or found.dtype.kind != "U":
        return None
    if found.size != 1:
        raise DataError(f"{path}: task must be one name, got {found.size} texts; write it as numpy.savez(..., task='regression').")
    return str(found.item())


def _arrays(path: Path, trust: bool) -> dict[str, np.ndarray]:
    try:
        if not zipfile.is_zipfile(path):
            raise DataError(f"{path} is not an .npz archive (a zip of arrays); write it with numpy.savez.")
        with path.open("rb") as file, np.load(file, allow_pickle=trust) as archive:  # np.load leaves files of its own open
            return {name: archive[name] for name in archive.files}
    except DataError:
        raise
    except Exception as error:  # whatever a damaged or hostile archive makes zipfile and numpy raise
        if "pickle" in str(error).lower():
            raise DataError(
                f"{path} holds an array of objects, which only unpickling could read, and that could run code; store numbers (or say --trust)."
            ) from error
        raise DataError(f"{path} cannot be read: {type(error).__name__}: {error}. It may be truncated; write or fetch it again.") from error
