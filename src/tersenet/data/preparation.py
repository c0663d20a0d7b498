"""What is done to stored samples before the network sees them: declared once, applied batch by batch, recorded for whoever deploys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from math import isfinite, prod
from typing import Any

import numpy as np

from tersenet.data.given import as_array
from tersenet.data.picture import Picture
from tersenet.data.sound import Sound
from tersenet.data.text import Text
from tersenet.errors import DataError, check_known, shortened, unknown
from tersenet.plain import check_fields, from_plain

DTYPES = ("float32", "float64", "float16", "uint8", "int8", "int16", "int32", "int64", "bool")
# By how much arithmetic in float32 may miss a whole number.
ROUNDING = 1e-3
# What was done before there were numbers: kind, as records name it -> its class.
DECODERS = {"picture": Picture, "text": Text, "sound": Sound}


@dataclass(frozen=True)
class Preparation:
    """From a stored array to one input of a network: ``(stored * scale - mean) / std``, laid out, reshaped, cast.

    Args:
        scale: what stored numbers are multiplied by; None: 1/255 for images of uint8 (decided when data meet a network), else 1.
        mean, std: taken off and divided by, after scaling; one number, or one for each channel. Empty: none.
        stored: the arrays' layout, one letter an axis, N first (NHWC, NCHW, NHW ...); "" where it does not matter.
        layout: the layout that the network takes. A channel axis that `stored` lacks is added; one that it lacks and that has size 1 is taken out.
        shape: of a prepared sample, where it is reshaped at the end (a flattened image); () where not.
        dtype: that the network takes; "" keeps what the arithmetic gives. Data that meet a network take its own, and one of another kind is refused.
        size: height and width that image files were resized to (bilinear) when they were read; () where they were not.
        decoded: how pictures, texts or sounds became the stored numbers, where the network's source says how; None where it does not.

    >>> Preparation(scale=1 / 255, stored="NHW", layout="NCHW").apply(np.full((2, 4, 4), 255, np.uint8)).shape
    (2, 1, 4, 4)
    """

    scale: float | None = None
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    stored: str = ""
    layout: str = ""
    shape: tuple[int, ...] = ()
    dtype: str = ""
    size: tuple[int, ...] = ()
    decoded: Picture | Text | Sound | None = None

    def __post_init__(self) -> None:
        for name in ("mean", "std"):
            value = getattr(self, name)
            numbers = _numbers(value, name)
            if not all(isfinite(number) for number in numbers) or (name == "std" and min(numbers, default=1.0) <= 0):
                raise DataError(f"a preparation's {name} must be finite{' and positive' if name == 'std' else ''}, got {value}.")
            object.__setattr__(self, name, numbers)
        if self.scale is not None:
            object.__setattr__(self, "scale", _numbers((self.scale,), "scale")[0])
            if not (isfinite(self.scale) and self.scale > 0):
                raise DataError(f"a preparation's scale must be finite and positive, got {self.scale}.")
        check_fields(self, "preparation", DataError)
        if self.dtype and self.dtype not in DTYPES:
            raise DataError(unknown("dtype of a preparation", self.dtype, DTYPES))
        if min((*self.shape, *self.size), default=1) < 1:
            raise DataError(f"a preparation's shape and size must be positive, got {self.shape} and {self.size}.")
        for letters in (self.stored, self.layout):
            if letters and (letters[0] != "N" or len(set(letters)) != len(letters) or not letters.isupper()):
                raise DataError(f"a layout has one capital letter for each axis, N (the batch) first, as NHWC; got {letters!r}.")
        if self.stored and self.layout and (set(self.stored) ^ set(self.layout)) - {"C"}:
            raise DataError(f"layouts {self.stored!r} and {self.layout!r} must have the same axes, save for C.")

    def apply(self, array: np.ndarray) -> np.ndarray:
        """Prepare a batch.

        Args:
            array: (n, ...) as stored.

        Returns:
            A new array as the network takes it; `array` is untouched.

        Raises:
            DataError: the mean does not have one number for each channel, a channel axis of more than one channel would be dropped, or what
                comes out is not finite.
        """
        array = as_array(array, "what a preparation is applied to")
        if not array.ndim or (array.dtype.kind not in "biuf" and (self.dtype or self.counts)):
            raise DataError(f"a preparation takes an array (n, ...) of numbers, got {array.dtype} of shape {array.shape}.")
        try:
            with np.errstate(over="raise", divide="raise", invalid="raise"):
                prepared = laid_out(self._normalized(array), self.stored, self.layout)
                if self.shape:
                    prepared = self._reshaped(prepared)
                return np.array(self._whole(prepared), dtype=np.dtype(self.dtype) if self.dtype else prepared.dtype, order="C")
        except FloatingPointError as error:
            raise DataError(f"prepared samples must be finite numbers, and {self._ways} makes others ({error}); mend its numbers.") from error

    @property
    def counts(self) -> bool:
        """Whether stored numbers change."""
        return self.scale not in (None, 1.0) or bool(self.mean or self.std)

    @property
    def _ways(self) -> str:
        return f"Preparation(scale={self.scale}, mean={self.mean}, std={self.std}, dtype={self.dtype!r})"

    def _whole(self, array: np.ndarray) -> np.ndarray:
        """What a cast to whole numbers, or to true and false, keeps: it would cut fractions, and turn around what lies beyond the type."""
        target = np.dtype(self.dtype or array.dtype)
        if target.kind not in "iub" or array.dtype.kind != "f" or not array.size:
            return array
        low, high = (0, 1) if target.kind == "b" else (np.iinfo(target).min, np.iinfo(target).max)
        whole = np.round(array)
        if np.abs(array - whole).max() > ROUNDING or whole.min() < low or whole.max() > high:
            made = f"{self._ways} makes {array.min():g} to {array.max():g} of these"
            raise DataError(f"prepared samples must be whole numbers from {low} to {high} ({target}), and {made}; mend its numbers.")
        return whole

    def _reshaped(self, array: np.ndarray) -> np.ndarray:
        if prod(array.shape[1:]) != prod(self.shape):
            raise DataError(f"a preparation's shape {self.shape} has {prod(self.shape)} numbers, the samples have shape {array.shape[1:]}.")
        return array.reshape(len(array), *self.shape)

    def _normalized(self, array: np.ndarray) -> np.ndarray:
        if not self.counts:
            return array
        scale = 1.0 if self.scale is None else self.scale
        if array.dtype == np.uint8:  # a table of the 256 results: as fast as a cast, and x / 255 to the last bit
            array = (np.arange(256) * scale).astype(np.float32)[array]
        else:
            array = array.astype(np.float64 if array.dtype == np.float64 else np.float32)
            array *= array.dtype.type(scale)
        if self.mean:
            array = array - self._along_channels(self.mean, array)
        if self.std:
            array = array / self._along_channels(self.std, array)
        return array

    def _along_channels(self, numbers: tuple[float, ...], array: np.ndarray) -> np.ndarray:
        """The numbers in a shape that broadcasts along the channel axis of a stored batch."""
        values = np.asarray(numbers, dtype=array.dtype)
        if len(numbers) == 1:
            return values
        if "C" in self.stored and len(self.stored) == array.ndim:
            axis = self.stored.index("C")
        else:
            axis = 1 if array.ndim > 2 and array.shape[1] == len(numbers) else array.ndim - 1
        if array.shape[axis] != len(numbers):
            got = f"a mean or std of {len(numbers)} channels does not fit samples of shape {array.shape[1:]}"
            raise DataError(f"{got}; say where the channels are: stored='NHWC'.")
        return values.reshape([-1 if index == axis else 1 for index in range(array.ndim)])

    def to_json(self) -> dict[str, Any]:
        record = {key: list(value) if isinstance(value, tuple) else value for key, value in vars(self).items()}
        return {**record, "decoded": None if self.decoded is None else self.decoded.to_json()}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Preparation:
        """Raises DataError for what is no record, and for a key that is not a field."""
        if not isinstance(record, Mapping):
            raise DataError(f"a preparation's record must be a JSON object, got {type(record).__name__}.")
        known = [entry.name for entry in fields(cls)]
        for key in record:
            check_known("field of a preparation", key, known, DataError)
        values: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in record.items()}
        return cls(**{**values, "decoded": _decoder(record.get("decoded"))})


def _numbers(value: Any, name: str) -> tuple[float, ...]:
    try:
        return tuple(float(entry) for entry in value) if isinstance(value, Sequence | np.ndarray) else (float(value),)
    except (TypeError, ValueError) as error:
        raise DataError(f"a preparation's {name} must be a number, or one for each channel, got {shortened(value)}.") from error


def _decoder(record: Any) -> Picture | Text | Sound | None:
    if record is None:
        return None
    kind = record.get("kind") if isinstance(record, Mapping) else None
    check_known("kind of sample", kind, DECODERS, DataError)
    return from_plain(DECODERS[str(kind)], record, str(kind))


def laid_out(array: np.ndarray, stored: str, layout: str) -> np.ndarray:
    """A view of `array` (axes as in `stored`) with its axes as in `layout`; a channel axis of size 1 comes and goes as needed.

    >>> laid_out(np.zeros((2, 8, 9, 3)), "NHWC", "NCHW").shape
    (2, 3, 8, 9)
    """
    if not stored or not layout or stored == layout:
        return array
    if len(stored) != array.ndim:
        raise DataError(f"layout {stored} has {len(stored)} axes, the samples have shape {array.shape[1:]} beside the batch.")
    if "C" not in layout and "C" in stored:
        if array.shape[stored.index("C")] != 1:
            raise DataError(f"samples of shape {array.shape[1:]} have {array.shape[stored.index('C')]} channels; layout {layout} has none.")
        array, stored = array.squeeze(stored.index("C")), stored.replace("C", "")
    array = array.transpose([stored.index(letter) for letter in layout if letter in stored])
    return array if set(layout) == set(stored) else np.expand_dims(array, layout.index("C"))
