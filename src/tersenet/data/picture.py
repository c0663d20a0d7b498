"""How a picture of any size becomes an array of one: resized, cropped, its channels in order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tersenet.errors import DataError, MissingDependencyError, unknown

if TYPE_CHECKING:
    from PIL.Image import Image

RESAMPLES = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")  # in the order of pillow's own numbers
MODES = {"RGB": "RGB", "BGR": "RGB", "L": "L"}
LARGEST_SIDE = 2**14


@dataclass(frozen=True)
class Picture:
    """What was done to a picture when it was read; numbers stay 8-bit integers, channels last.

    Args:
        size: height and width that it is resized to; () where `shortest` says, or where it is not resized.
        shortest: length of its shorter side after resizing, proportions kept; 0 where `size` says.
        resample: filter of the resizing, by pillow's name.
        crop: height and width of the middle that is kept, zeros where it reaches beyond; () for all.
        channels: RGB, BGR or L (grey).
    """

    size: tuple[int, ...] = ()
    shortest: int = 0
    resample: str = "bilinear"
    crop: tuple[int, ...] = ()
    channels: str = "RGB"

    def __post_init__(self) -> None:
        if self.resample not in RESAMPLES:
            raise DataError(unknown("resample of a picture", str(self.resample), RESAMPLES))
        if self.channels not in MODES:
            raise DataError(unknown("channels of a picture", str(self.channels), MODES))
        for name, numbers in (("size", self.size), ("crop", self.crop), ("shortest", (self.shortest,) if self.shortest else ())):
            whole = all(isinstance(number, int) and 0 < number <= LARGEST_SIDE for number in numbers)
            if not whole or (name != "shortest" and len(numbers) not in (0, 2)):
                raise DataError(f"a picture's {name} must be whole numbers from 1 to {LARGEST_SIDE}, got {numbers}.")

    @property
    def result(self) -> tuple[int, ...]:
        """Height and width that all pictures come out with; () where they differ."""
        return self.crop or self.size

    def taken(self, image: Image) -> np.ndarray:
        """(height, width, 3) uint8, or (height, width) for grey, of a picture that pillow has opened."""
        from PIL.Image import Resampling

        picture = image.convert(MODES[self.channels])
        height, width = self._resized(picture.height, picture.width)
        if (picture.height, picture.width) != (height, width):
            picture = picture.resize((width, height), Resampling(RESAMPLES.index(self.resample)))
        array = np.asarray(picture)
        if self.channels == "BGR":
            array = array[..., ::-1]
        return _middle(array, self.crop) if self.crop else array

    def taken_of_array(self, array: np.ndarray) -> np.ndarray:
        """The same for a picture that is an array already: (height, width), or (height, width, 1 or 3), uint8."""
        try:
            from PIL import Image
        except ImportError as error:
            raise MissingDependencyError("resizing images needs pillow, which is not installed: pip install 'tersenet[data]'") from error
        grey = array.ndim == 3 and array.shape[-1] == 1
        return self.taken(Image.fromarray(np.ascontiguousarray(array[..., 0] if grey else array)))

    def _resized(self, height: int, width: int) -> tuple[int, int]:
        if self.size:
            return self.size[0], self.size[1]
        if not self.shortest:
            return height, width
        longer = int(self.shortest * max(height, width) / min(height, width))
        if longer > LARGEST_SIDE:
            raise DataError(f"a picture of {height} by {width} would be {longer} long; its proportions are too extreme.")
        return (longer, self.shortest) if width <= height else (self.shortest, longer)

    def to_json(self) -> dict[str, Any]:
        return {"kind": "picture", **{key: list(value) if isinstance(value, tuple) else value for key, value in vars(self).items()}}


def _middle(array: np.ndarray, crop: tuple[int, ...]) -> np.ndarray:
    """The middle of a picture, surrounded by zeros where it is smaller than what is asked."""
    height, width = crop
    short = [max(0, wanted - had) for wanted, had in zip(crop, array.shape[:2], strict=True)]
    if any(short):  # one more zero before than behind where the number is odd
        padding = [((missing + 1) // 2, missing - (missing + 1) // 2) for missing in short]
        array = np.pad(array, [*padding, *[(0, 0)] * (array.ndim - 2)])
    top, left = (array.shape[0] - height) // 2, (array.shape[1] - width) // 2
    return array[top : top + height, left : left + width]
