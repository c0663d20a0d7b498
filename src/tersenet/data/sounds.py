"""A folder of class-named folders of sounds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tersenet.data.assembly import assemble
from tersenet.data.images import groups_of, in_order
from tersenet.data.parts import Data
from tersenet.data.preparation import Preparation
from tersenet.data.samples import Part, read_part
from tersenet.data.sound import Sound, read_sound
from tersenet.errors import DataError
from tersenet.tensors import TensorSpec

SUFFIXES = (".wav", ".flac", ".ogg", ".mp3", ".aiff", ".aif")
LONGEST_S = 60  # of sounds whose length no network says


def read_folder(folder: Path, specs: Sequence[TensorSpec], preparation: Preparation | None, seed: int) -> Data:
    """Sounds of class-named folders, or of such folders within ``train`` and ``test`` (``val``): (n, samples) float32 in -1..1, or their features.

    Args:
        specs: the network's inputs; its length is the sounds'. Without them, and without `preparation`, the longest sound's.
        preparation: with the rate, length and features that the network's source asks for. Without it all sounds must have one rate.

    Raises:
        DataError: one that cannot be read, or rates that differ.
        MissingDependencyError: soundfile is not installed.
    """
    groups = groups_of(folder, SUFFIXES)
    names = in_order({name for files in groups.values() for name in files})
    sound = preparation.decoded if preparation is not None and isinstance(preparation.decoded, Sound) else None
    way = Preparation() if sound is None or preparation is None else preparation
    sound = sound or _plain(groups, specs)
    parts = {part: _part(part, files, names, sound) for part, files in groups.items()}
    return Data.of(assemble(parts, "audio-classification", names, way, seed, published="evaluation" in groups), folder.name)


def _plain(groups: dict[str, dict[str, list[Path]]], specs: Sequence[TensorSpec]) -> Sound:
    """What is done for a network whose source says nothing: the files' own rate, the network's own length."""
    paths = [path for files in groups.values() for found in files.values() for path in found]
    rates: dict[int, Path] = {}
    longest = 0
    for path in paths:
        signal, rate = read_sound(path)
        rates.setdefault(rate, path)
        longest = max(longest, len(signal))
    if len(rates) > 1:
        told = ", ".join(f"{path} has {rate} Hz" for rate, path in list(rates.items())[:2])
        raise DataError(f"all sounds must have one rate, the one that the network was trained with: {told}. Resample them.")
    rate = next(iter(rates))
    return Sound(rate, _length(specs) or min(longest, LONGEST_S * rate))


def _length(specs: Sequence[TensorSpec]) -> int:
    """The samples that a network takes; 0 where it takes any number.

    Raises:
        DataError: its input is no line of samples.
    """
    if not specs:
        return 0
    sizes = [size for size in specs[0].shape[1:] if size != 1]
    if len(sizes) > 1:
        asked = f"the network's input {specs[0].name!r} takes {tuple(specs[0].shape[1:])}, which are features and no samples of sound"
        raise DataError(f"{asked}; compute them as it was trained and give arrays (tersenet.Data.from_arrays).")
    return sizes[0] or 0 if sizes else 0


def _part(part: str, files: dict[str, list[Path]], names: list[str], sound: Sound) -> Part:
    samples, labels = [], []
    for name, paths in files.items():
        for path in paths:
            samples.append(sound.read(path))
            labels.append(names.index(name))
            if samples[-1].shape != samples[0].shape:
                raise DataError(
                    f"{path} gives {samples[-1].shape}, others {samples[0].shape}; sounds must have one length where the network takes any."
                )
    return read_part(part, np.stack(samples), np.array(labels))
