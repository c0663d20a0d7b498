"""A folder of class-named folders of images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tersenet.data.assembly import assemble
from tersenet.data.parts import Data
from tersenet.data.preparation import Preparation
from tersenet.data.samples import Part, read_part
from tersenet.errors import DataError, MissingDependencyError
from tersenet.tensors import TensorSpec

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".ppm", ".pgm", ".tif", ".tiff")
TEST_NAMES = ("test", "evaluation", "val", "validation")


def class_folders(folder: Path) -> dict[str, list[Path]]:
    """Image files by the name of the folder that they lie in; {} where there are none."""
    found = {}
    for entry in sorted(path for path in folder.iterdir() if path.is_dir()):
        files = sorted(path for path in entry.iterdir() if path.suffix.lower() in SUFFIXES)
        if files:
            found[entry.name] = files
    return found


def read_folder(folder: Path, specs: Sequence[TensorSpec], preparation: Preparation | None, seed: int) -> Data:
    """Images of class-named folders, or of such folders within ``train`` and ``test`` (``val``), as uint8 in RGB or grey as the network takes them.

    Args:
        specs: the network's inputs, whose size the images are resized to (bilinear); without them all images must have one size.

    Raises:
        DataError: no images, one that cannot be read, or images of several sizes.
        MissingDependencyError: pillow is not installed.
    """
    train = class_folders(folder / "train") if (folder / "train").is_dir() else {}
    test = next((class_folders(folder / name) for name in TEST_NAMES if (folder / name).is_dir()), {}) if train else {}
    groups = {"train": train or class_folders(folder), **({"evaluation": test} if test else {})}
    if not groups["train"]:
        raise DataError(f"{folder} holds neither IDX files nor class-named folders of images ({', '.join(SUFFIXES[:4])} ...).")
    names = sorted({name for files in groups.values() for name in files})
    size, mode = _wanted(specs, preparation)
    parts = {part: _part(part, files, names, size, mode) for part, files in groups.items()}
    stored = "NHW" if mode == "L" else "NHWC"
    declared = preparation or Preparation(stored=stored)
    resized = Preparation(**{**vars(declared), "stored": stored, "size": size})
    return Data.of(assemble(parts, "image-classification", names, resized, seed, published=bool(test)), folder.name)


def _wanted(specs: Sequence[TensorSpec], preparation: Preparation | None) -> tuple[tuple[int, ...], str]:
    """((height, width) or (), pillow's mode) that the network's input asks for."""
    shape = specs[0].shape[1:] if specs else ()
    asked = preparation.size if preparation else ()
    if len(shape) != 3:
        return asked, "RGB"
    last = specs[0].layout == "NHWC" or (specs[0].layout != "NCHW" and shape[-1] in (1, 3) and shape[0] not in (1, 3))
    height, width, channels = shape if last else (*shape[1:], shape[0])
    size = asked or ((height, width) if height and width else ())
    return size, "L" if channels == 1 else "RGB"


def _part(part: str, files: dict[str, list[Path]], names: list[str], size: tuple[int, ...], mode: str) -> Part:
    images, labels = [], []
    for name, paths in files.items():
        for path in paths:
            images.append(_decoded(path, size, mode))
            labels.append(names.index(name))
            if images[-1].shape != images[0].shape:
                raise DataError(
                    f"{path} has shape {images[-1].shape}, others {images[0].shape}; images must have one size where the network's takes any."
                )
    return read_part(part, np.stack(images), np.array(labels))


def _decoded(path: Path, size: tuple[int, ...], mode: str) -> np.ndarray:
    try:
        from PIL import Image
    except ImportError as error:
        raise MissingDependencyError("reading images needs pillow, which is not installed: pip install 'tersenet[data]'") from error
    try:
        with Image.open(path) as image:
            picture = image.convert(mode)
            if size and picture.size != (size[1], size[0]):
                picture = picture.resize((size[1], size[0]), Image.Resampling.BILINEAR)
            return np.asarray(picture)
    except Exception as error:  # whatever a damaged or hostile file makes a decoder raise
        raise DataError(f"{path} cannot be read as an image: {error}.") from error
