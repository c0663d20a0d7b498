"""Images for calibration and judging: of TERSENET_DATA where it is there, else random ones. Needs pillow for the former."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from setting.networks import BENCH, DATA, SIZES

MEAN, DEVIATION = np.array([0.485, 0.456, 0.406], np.float32), np.array([0.229, 0.224, 0.225], np.float32)
SMALL, LARGE = DATA / "cifar10_jpeg", DATA / "imagenet_samples" / "samples_500.npz"


def calibration(name: str, count: int = 256, seed: int = 0) -> np.ndarray:
    """Unlabelled images (count, 3, size, size) as a network takes them; count is 500 at most for photographs of 224 x 224."""
    source = LARGE if SIZES[name] == 224 else SMALL / "train_50000.npz"
    if not source.exists():
        return np.random.default_rng(seed).standard_normal((count, 3, SIZES[name], SIZES[name]), np.float32)
    total = len(np.load(source)["offsets"]) - 1
    return decoded(source, np.random.default_rng(seed).permutation(total)[:count], SIZES[name])


def kept(name: str, count: int = 256, seed: int = 0) -> Path:
    """The same in a file that peers read."""
    path = BENCH / "images" / f"{name}-{count}-{seed}.npy"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, calibration(name, count, seed))
    return path


def evaluation() -> tuple[np.ndarray, np.ndarray] | None:
    """CIFAR-10's 5,000 test images and their labels; None where TERSENET_DATA is absent."""
    source = SMALL / "test_5000.npz"
    if not source.exists():
        return None
    labels = np.load(source)["labels"].astype(np.int64)
    return decoded(source, np.arange(len(labels)), 32), labels


def decoded(source: Path, chosen: np.ndarray, size: int) -> np.ndarray:
    """Chosen JPEG images of an archive, the middle cut out, normalized, channels first."""
    pictures = raw(source, chosen, size)
    return np.ascontiguousarray(((pictures.astype(np.float32) / 255 - MEAN) / DEVIATION).transpose(0, 3, 1, 2))


def raw(source: Path, chosen: np.ndarray, size: int) -> np.ndarray:
    """The same as bytes, channels last."""
    from PIL import Image

    table = np.load(source)
    jpeg, offsets = table["jpeg"], table["offsets"]
    images = []
    for index in chosen:
        image = Image.open(io.BytesIO(jpeg[offsets[index] : offsets[index + 1]].tobytes())).convert("RGB")
        edge = (image.width - size) // 2
        images.append(np.asarray(image.crop((edge, edge, edge + size, edge + size))))
    return np.stack(images)
