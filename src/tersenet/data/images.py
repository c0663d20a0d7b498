"""A folder of class-named folders of images."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from tersenet.data.assembly import assemble
from tersenet.data.parts import Data
from tersenet.data.picture import Picture
from tersenet.data.preparation import Preparation
from tersenet.data.samples import Part, read_part
from tersenet.errors import DataError, MissingDependencyError
from tersenet.tensors import TensorSpec

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".ppm", ".pgm", ".tif", ".tiff")
TEST_NAMES = ("test", "evaluation", "val", "validation")


def class_folders(folder: Path, suffixes: Sequence[str] = SUFFIXES) -> dict[str, list[Path]]:
    """Files of some kind by the name of the folder that they lie in; {} where there are none."""
    found = {}
    for entry in sorted(path for path in folder.iterdir() if path.is_dir()):
        files = sorted(path for path in entry.iterdir() if path.suffix.lower() in suffixes)
        if files:
            found[entry.name] = files
    return found


def groups_of(folder: Path, suffixes: Sequence[str] = SUFFIXES) -> dict[str, dict[str, list[Path]]]:
    """part -> class -> files: of ``train`` and ``test`` (``val``) where the folder has them, else all of them in the train part."""
    train = class_folders(folder / "train", suffixes) if (folder / "train").is_dir() else {}
    test = next((class_folders(folder / name, suffixes) for name in TEST_NAMES if (folder / name).is_dir()), {}) if train else {}
    return {"train": train or class_folders(folder, suffixes), **({"evaluation": test} if test else {})}


def in_order(names: Iterable[str]) -> list[str]:
    """Names of classes, sorted; numbers as numbers, so that 10 comes after 9."""
    found = sorted(names)
    return sorted(found, key=int) if all(name.isdecimal() for name in found) else found


def read_folder(folder: Path, specs: Sequence[TensorSpec], preparation: Preparation | None, seed: int) -> Data:
    """Images of class-named folders, or of such folders within ``train`` and ``test`` (``val``), as uint8 in RGB or grey as the network takes them.

    Args:
        specs: the network's inputs, whose size the images are resized to (bilinear); without them all images must have one size.
        preparation: what is done to them; where it says how pictures are decoded, that counts.

    Raises:
        DataError: no images, one that cannot be read, or images of several sizes.
        MissingDependencyError: pillow is not installed.
    """
    groups = groups_of(folder)
    if not groups["train"]:
        raise DataError(
            f"{folder} holds neither IDX files nor class-named folders of images ({', '.join(SUFFIXES[:4])} ...) or sounds (.wav, .flac ...)."
        )
    names = in_order({name for files in groups.values() for name in files})
    told = preparation.decoded if preparation else None
    picture = told if isinstance(told, Picture) else _wanted(specs, preparation)
    parts = {part: _part(part, files, names, picture) for part, files in groups.items()}
    stored = "NHW" if picture.channels == "L" else "NHWC"
    resized = preparation if picture is told else replace(preparation or Preparation(), stored=stored, size=picture.size)
    return Data.of(assemble(parts, "image-classification", names, resized, seed, published="evaluation" in groups), folder.name)


def _wanted(specs: Sequence[TensorSpec], preparation: Preparation | None) -> Picture:
    """The size and channels that the network's input asks for."""
    shape = specs[0].shape[1:] if specs else ()
    asked = preparation.size if preparation else ()
    if len(shape) != 3:
        return Picture(asked)
    last = specs[0].layout == "NHWC" or (specs[0].layout != "NCHW" and shape[-1] in (1, 3) and shape[0] not in (1, 3))
    height, width, channels = shape if last else (*shape[1:], shape[0])
    size = asked or ((height, width) if height and width else ())
    return Picture(size, channels="L" if channels == 1 else "RGB")


def _part(part: str, files: dict[str, list[Path]], names: list[str], picture: Picture) -> Part:
    images, labels = [], []
    for name, paths in files.items():
        for path in paths:
            images.append(_decoded(path, picture))
            labels.append(names.index(name))
            if images[-1].shape != images[0].shape:
                raise DataError(
                    f"{path} has shape {images[-1].shape}, others {images[0].shape}; images must have one size where the network's takes any."
                )
    return read_part(part, np.stack(images), np.array(labels))


def _decoded(path: Path, picture: Picture) -> np.ndarray:
    try:
        from PIL import Image
    except ImportError as error:
        raise MissingDependencyError("reading images needs pillow, which is not installed: pip install 'tersenet[data]'") from error
    try:
        with Image.open(path) as image:
            return picture.taken(image)
    except Exception as error:  # whatever a damaged or hostile file makes a decoder raise
        raise DataError(f"{path} cannot be read as an image: {error}.") from error
