"""Real photographs, for networks that are compared with their source on what they were made for."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest


def photographs(folder: Path, side: int, count: int = 2) -> np.ndarray:
    """The first of ImageNet's in the folder of data: (count, side, side, 3), 0 to 255."""
    image = pytest.importorskip("PIL.Image")
    file = folder / "imagenet_samples" / "samples_500.npz"
    if not file.is_file():
        pytest.skip(f"no photographs at {file}")
    stored = np.load(file)
    pieces = [stored["jpeg"][start:end].tobytes() for start, end in zip(stored["offsets"][:count], stored["offsets"][1 : count + 1], strict=True)]
    return np.stack([np.asarray(image.open(BytesIO(piece)).convert("RGB").resize((side, side)), np.float32) for piece in pieces])
