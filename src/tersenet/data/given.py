"""What users give for arrays and for numbers, as the code behind it takes it."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from tersenet.errors import DataError, shortened


def as_array(value: Any, what: str) -> np.ndarray:
    """Anything array-like as a read-only array; tensors come off their device.

    Raises:
        DataError: ragged, or not convertible.
    """
    try:
        if hasattr(value, "detach"):  # a torch tensor; torch itself is not needed to say so
            value = value.detach().cpu()
        array = np.asarray(value).view()
    except (TypeError, ValueError, RuntimeError) as error:
        raise DataError(f"{what} cannot be made one array: {error}. Samples must have one shape; pad those that do not.") from error
    array.flags.writeable = False
    return array


def check_whole(value: Any, what: str, least: int = 0) -> None:
    """Raise DataError where a count is no whole number of at least `least`; numpy's whole numbers are such."""
    if not isinstance(value, int | np.integer) or isinstance(value, bool) or value < least:
        raise DataError(f"{what} must be a whole number of at least {least}, got {shortened(value)}.")


def check_json(array: np.ndarray, what: str) -> None:
    """Raise DataError where an array of objects holds others than JSON has: a fingerprint cannot know them."""
    try:
        json.dumps(array.tolist())
    except (TypeError, ValueError, RecursionError) as error:
        raise DataError(f"{what} must be numbers, words, or lists and dicts of them: {error}.") from error
