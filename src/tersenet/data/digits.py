"""The built-in set: scikit-learn's bundled digits, 1,797 scans of 8 by 8 pixels (UCI "Optical Recognition of Handwritten Digits", test part)."""

from __future__ import annotations

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
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise MissingDependencyError("the digits come with scikit-learn, which is not installed: pip install 'tersenet[data]'") from error
    images, labels = load_digits(return_X_y=True)
    x = (images / 16).astype(np.float32).reshape(-1, 1, 8, 8)
    part = read_part("train", x, labels.astype(np.int64))
    names = [str(digit) for digit in range(10)]
    return Data.of(assemble({"train": part}, "image-classification", names, Preparation(stored="NCHW"), seed), "digits")
