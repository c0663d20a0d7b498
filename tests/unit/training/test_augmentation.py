"""Augmentations move what is there, by seeded amounts, sample by sample."""

from __future__ import annotations

import pytest
import torch

from tersenet.errors import RecipeError
from tersenet.tensors import TensorSpec
from tersenet.training.augmentation import Augmented

NCHW = TensorSpec("image", (None, 2, 5, 6), "float32", "NCHW")
NHWC = TensorSpec("image", (None, 5, 6, 2), "float32", "NHWC")
SERIES = TensorSpec("series", (None, 20, 3), "float32")
TOKENS = TensorSpec("tokens", (None, 7), "int64")


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(3)


def images(count: int = 64) -> torch.Tensor:
    return 1 + torch.rand(count, 2, 5, 6, generator=generator())


def test_a_flip_exchanges_left_and_right_of_about_half() -> None:
    batch = images()
    (flipped,) = Augmented(["flip"], [NCHW])((batch,), generator())
    turned = [torch.equal(one, other.flip(-1)) for one, other in zip(flipped, batch, strict=True)]
    same = [torch.equal(one, other) for one, other in zip(flipped, batch, strict=True)]
    assert all(one or other for one, other in zip(turned, same, strict=True))
    assert 20 < sum(turned) < 44


def test_a_crop_is_a_window_of_the_padded_image() -> None:
    batch = images(16)
    (cropped,) = Augmented(["crop:2"], [NCHW])((batch,), generator())
    padded = torch.nn.functional.pad(batch, (2, 2, 2, 2))
    offsets = set()
    for one, whole in zip(cropped, padded, strict=True):
        found = [(top, left) for top in range(5) for left in range(5) if torch.equal(one, whole[:, top : top + 5, left : left + 6])]
        assert len(found) == 1
        offsets.add(found[0])
    assert len(offsets) > 5


def test_layouts_agree() -> None:
    batch = images()
    (first,) = Augmented(["flip", "crop:1"], [NCHW])((batch,), generator())
    (last,) = Augmented(["flip", "crop:1"], [NHWC])((batch.permute(0, 2, 3, 1),), generator())
    assert torch.equal(first, last.permute(0, 3, 1, 2))


def test_a_shift_moves_time_and_noise_has_its_deviation() -> None:
    batch = 1 + torch.rand(32, 20, 3, generator=generator())
    (shifted,) = Augmented(["shift:0.1"], [SERIES])((batch,), generator())
    moved = [int((one == 0).all(-1).sum()) for one in shifted]
    assert set(moved) == {0, 1, 2}
    (noisy,) = Augmented(["noise:0.5"], [SERIES])((batch,), generator())
    assert abs(float((noisy - batch).std()) - 0.5) < 0.03


def test_tokens_stay_and_the_same_seed_gives_the_same() -> None:
    tokens = torch.arange(14).reshape(2, 7)
    both = Augmented(["noise"], [TOKENS, SERIES])
    first, second = (both((tokens, torch.ones(2, 20, 3)), generator()) for _ in range(2))
    assert first[0] is tokens
    assert torch.equal(first[1], second[1])
    assert not torch.equal(first[1], torch.ones(2, 20, 3))


def test_what_is_no_image_is_not_flipped() -> None:
    with pytest.raises(RecipeError, match="augmentation flip needs an image among the inputs, got tokens int64"):
        Augmented(["flip"], [TOKENS])
