"""What is done to a batch before the network learns from it: vectorised, seeded, on whichever device it lies."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from tersenet.errors import RecipeError
from tersenet.tensors import TensorSpec
from tersenet.training.options import augmentation

# (batch, number, axes that it works on, generator) -> batch
Augmentation = Callable[[Tensor, float, Sequence[int], torch.Generator], Tensor]


def flip(batch: Tensor, chance: float, axes: Sequence[int], generator: torch.Generator) -> Tensor:
    """Left and right exchanged, each sample with a chance."""
    chosen = _uniform(batch, generator) < chance
    return torch.where(_along(chosen, batch), batch.flip(axes[-1]), batch)


def crop(batch: Tensor, pixels: float, axes: Sequence[int], generator: torch.Generator) -> Tensor:
    """Zeros around each image, and a window of its own size anywhere in it (He et al. 2016, section 4.2, with 4 pixels)."""
    width = int(pixels)
    for axis in axes:
        offsets = _integers(batch, 2 * width + 1, generator) - width
        batch = _moved(batch, offsets, axis)
    return batch


def noise(batch: Tensor, deviation: float, axes: Sequence[int], generator: torch.Generator) -> Tensor:
    """Normal noise on each number."""
    return batch + deviation * torch.randn(batch.shape, generator=generator, dtype=batch.dtype).to(batch.device)


def shift(batch: Tensor, share: float, axes: Sequence[int], generator: torch.Generator) -> Tensor:
    """Earlier or later by at most a share of the length; zeros come in."""
    reach = int(share * batch.shape[axes[0]])
    return _moved(batch, _integers(batch, 2 * reach + 1, generator) - reach, axes[0])


TABLE: Mapping[str, Augmentation] = {"flip": flip, "crop": crop, "noise": noise, "shift": shift}
_AXES = {"flip": "HW", "crop": "HW", "shift": "W", "noise": ""}


class Augmented:
    """A row of augmentations over the inputs of a network; whole numbers, such as tokens, stay as they are.

    Args:
        entries: as `Training.augmentation` has them.
        specs: the network's inputs.

    Raises:
        RecipeError: one that no input is fit for (a flip of what is no image).
    """

    def __init__(self, entries: Sequence[str], specs: Sequence[TensorSpec]) -> None:
        self.rows: list[tuple[int, Augmentation, float, tuple[int, ...]]] = []
        for entry in entries:
            name, number = augmentation(entry)
            fit = [(place, axes) for place, spec in enumerate(specs) if (axes := _axes(name, spec)) is not None]
            if not fit:
                shapes = ", ".join(f"{spec.name} {spec.dtype} {spec.shape}" for spec in specs)
                raise RecipeError(f"augmentation {name} needs {_NEEDS[name]} among the inputs, got {shapes}; leave it out.")
            self.rows += [(place, TABLE[name], number, axes) for place, axes in fit]

    def __call__(self, inputs: tuple[Tensor, ...], generator: torch.Generator) -> tuple[Tensor, ...]:
        """The inputs of one step, augmented; those given stay as they are."""
        changed = list(inputs)
        for place, function, number, axes in self.rows:
            changed[place] = function(changed[place], number, axes, generator)
        return tuple(changed)


_NEEDS = {"flip": "an image", "crop": "an image", "shift": "a sequence of numbers", "noise": "numbers"}


def _axes(name: str, spec: TensorSpec) -> tuple[int, ...] | None:
    """The axes that an augmentation works on, in a network's input; None where it is not fit for it."""
    if not spec.dtype.startswith("float"):
        return None
    rank = len(spec.shape)
    if name == "noise":
        return ()
    if name == "shift":
        layout = spec.layout if "W" in spec.layout and "H" not in spec.layout else {2: "NW", 3: "NWC"}.get(rank, "")
    else:
        layout = spec.layout if "H" in spec.layout else {4: "NCHW"}.get(rank, "")
    return tuple(layout.index(letter) for letter in _AXES[name]) if layout else None


def _uniform(batch: Tensor, generator: torch.Generator) -> Tensor:
    return torch.rand(len(batch), generator=generator).to(batch.device)


def _integers(batch: Tensor, count: int, generator: torch.Generator) -> Tensor:
    return torch.randint(count, (len(batch),), generator=generator).to(batch.device)


def _along(values: Tensor, batch: Tensor) -> Tensor:
    return values.reshape(-1, *[1] * (batch.dim() - 1))


def _moved(batch: Tensor, offsets: Tensor, axis: int) -> Tensor:
    """Each sample moved along an axis by a number of its own; zeros come in."""
    reach = int(offsets.abs().max()) if len(offsets) else 0
    if not reach:
        return batch
    size = batch.shape[axis]
    padded = functional.pad(batch.movedim(axis, -1), (reach, reach))
    places = torch.arange(size, device=batch.device) + (reach + offsets)[:, None]
    index = places.reshape(len(batch), *[1] * (batch.dim() - 2), size).expand(*padded.shape[:-1], size)
    return padded.gather(-1, index).movedim(-1, axis).contiguous()
