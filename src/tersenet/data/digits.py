"""The built-in set: scikit-learn's bundled digits, 1,797 scans of 8 by 8 pixels (UCI "Optical Recognition of Handwritten Digits", test part)."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np

from tersenet.data.assembly import assemble
from tersenet.data.parts import Data
from tersenet.data.preparation import Preparation
from tersenet.data.samples import read_part
from tersenet.errors import MissingDependencyError


def read_digits(seed: int = 0) -> Data:
    """(n, 1, 8, 8) float32 images in 0..1, ten classes; cut into four parts.

    Raises:
        MissingDependencyError: scikit-learn is not installed.
    """
    images, labels = _bundled()
    x = (images / 16).astype(np.float32).reshape(-1, 1, 8, 8)
    part = read_part("train", x, labels.astype(np.int64))
    names = [str(digit) for digit in range(10)]
    return Data.of(assemble({"train": part}, "image-classification", names, Preparation(stored="NCHW"), seed), "digits")


def _bundled() -> tuple[np.ndarray, np.ndarray]:
    """(1797, 64) pixels in 0..16 and (1797,) digits. The file is read where it lies: importing scikit-learn takes a hundred times as long."""
    found = find_spec("sklearn")
    if found is None or found.origin is None:
        raise MissingDependencyError("the digits come with scikit-learn, which is not installed: pip install 'tersenet[data]'")
    file = Path(found.origin).parent / "datasets" / "data" / "digits.csv.gz"
    if file.is_file():
        table = np.loadtxt(file, delimiter=",")
        return table[:, :-1], table[:, -1]
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    return images, labels
