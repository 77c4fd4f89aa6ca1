"""Differentiable augmentation: what a discriminator sees of real and generated images."""

import pytest
import torch

from genmodels.data.augmentation import DiffAugment, color_jitter, cutout, translate


def test_translation_repeats_edges_and_lets_gradients_through() -> None:
    torch.manual_seed(0)
    images = torch.arange(16.0).view(1, 1, 4, 4).repeat(40, 1, 1, 1).requires_grad_()
    translated = translate(images, 0.25)
    padded = torch.nn.functional.pad(images[:1], (1, 1, 1, 1), mode="replicate")[0]
    windows = [padded[:, y : y + 4, x : x + 4] for y in range(3) for x in range(3)]
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
