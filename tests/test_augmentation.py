"""Random changes of training images, and of all images that a discriminator sees."""

import pytest
import torch

from genmodels.data.augmentation import (
    Augmentation,
    DiffAugment,
    color_jitter,
    cutout,
    translate,
)
from genmodels.data.images import BatchStream, ImageSet


def test_translation_repeats_edges_and_lets_gradients_through() -> None:
    torch.manual_seed(0)
    images = torch.arange(16.0).view(1, 1, 4, 4).repeat(40, 1, 1, 1).requires_grad_()
    translated = translate(images, 0.25)
    padded = torch.nn.functional.pad(images[:1], (1, 1, 1, 1), mode="replicate")[0]
    windows = padded.unfold(1, 4, 1).unfold(2, 4, 1).flatten(1, 2).unbind(1)
    matches = torch.stack([(translated == window).flatten(1).all(dim=1) for window in windows])
    assert matches.any(dim=0).all()  # each image is one of the nine windows
    assert matches.any(dim=1).all()  # and each of them occurs
    translated.sum().backward()
    assert images.grad is not None
    assert images.grad.sum() == 40 * 16  # each pixel shown is one of the image's


def test_cutout_is_a_square_of_gray() -> None:
    torch.manual_seed(0)
    gray = cutout(torch.ones(200, 3, 8, 8), 0.5) == 0.5
    square = gray[:, 0]
    assert (gray == gray[:, :1]).all()
    heights, widths = square.any(dim=2).sum(dim=1), square.any(dim=1).sum(dim=1)
    assert (square.sum(dim=(1, 2)) == heights * widths).all()
    assert heights.max() == widths.max() == 4 and heights.min() >= 1
    assert square.any(dim=0).all()  # it comes everywhere


def test_color_jitter_leaves_gray_gray_and_shifts_the_mean_by_brightness_alone() -> None:
    torch.manual_seed(0)
    gray = torch.rand(30, 1, 4, 4).repeat(1, 3, 1, 1)
    jittered = color_jitter(gray)
    torch.testing.assert_close(jittered[:, 0], jittered[:, 2])
    assert not torch.allclose(jittered, gray)
    shift = (jittered - gray).mean(dim=(1, 2, 3))
    assert shift.abs().max() <= 0.25 + 1e-6 and shift.std() > 0.1


@pytest.mark.parametrize("channels", [1, 3])
def test_what_is_off_leaves_images_alone(channels: int) -> None:
    images = torch.rand(2, channels, 8, 8)
    off = DiffAugment(color_jitter=False, translation=0.0, cutout=0.0)
    assert off(images) is images
    torch.manual_seed(0)
    expected = cutout(translate(color_jitter(images), 0.125), 0.5)
    torch.manual_seed(0)
    all_on = DiffAugment(color_jitter=True, translation=0.125, cutout=0.5)
    assert torch.equal(all_on(images), expected)


@pytest.mark.parametrize("name", ["translation", "cutout"])
def test_illegal_shares_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=rf"^{name}=2: must be a number in \[0, 1\]"):
        DiffAugment(**{"color_jitter": False, "translation": 0.0, "cutout": 0.0, name: 2})


def test_augmented_images_are_shifted_and_flipped_ones() -> None:
    """Each is one of the (2 * crop + 1)^2 shifts, or its mirror image, all equally often."""
    image = torch.rand(3, 6, 7)
    augment = Augmentation(flip=True, crop=1)
    augmented = augment(image.expand(9000, 3, 6, 7), torch.Generator().manual_seed(0))
    padded = torch.nn.functional.pad(image[None], (1, 1, 1, 1), mode="replicate")[0]
    shifts = padded.unfold(1, 6, 1).unfold(2, 7, 1).flatten(1, 2).unbind(1)
    options = torch.stack([*shifts, *(shift.flip(2) for shift in shifts)])  # (18, 3, 6, 7)
    matches = (augmented[:, None] == options).flatten(2).all(2)  # (9000, 18)
    assert (matches.sum(1) == 1).all()
    assert matches.sum(0).min() > 400 and matches.sum(0).max() < 600


def test_augmentation_is_a_function_of_seed_and_step() -> None:
    pixels = torch.randint(0, 256, (50, 1, 8, 8), dtype=torch.uint8)
    split = ImageSet(pixels, torch.arange(50), torch.arange(50))
    plain = BatchStream(split, 20, seed=0)
    moved = BatchStream(split, 20, seed=0, augment=Augmentation(True, 2))
    again = BatchStream(split, 20, seed=0, augment=Augmentation(True, 2))
    torch.manual_seed(5)  # the global generator must not matter
    assert torch.equal(moved.batch(3).images, again.batch(3).images)
    assert torch.equal(moved.batch(3).labels, plain.batch(3).labels)
    changes = [moved.batch(step).images - plain.batch(step).images for step in (3, 4)]
    assert changes[0].any() and not torch.equal(*changes)


def test_illegal_augmentation_is_refused() -> None:
    with pytest.raises(ValueError, match="crop=-1: must be an integer >= 0"):
        Augmentation(crop=-1)
