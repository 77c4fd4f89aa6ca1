"""Image files of any format and mode become square images; hostile ones give reasons."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hostile_images import HOSTILE_FILES, noise
from PIL import Image

from genmodels import hardware
from genmodels.data import image_files
from genmodels.data.image_files import ImageReadError, SquareCrop, parallel_map, parse_color

QUARTERS = np.zeros((32, 32, 3), np.uint8)  # red, green / blue, white
QUARTERS[:16, :16, 0] = QUARTERS[:16, 16:, 1] = QUARTERS[16:, :16, 2] = 255
QUARTERS[16:, 16:] = 255
RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)
GRAY_LEVELS = [(76,), (150,), (29,), (255,)]  # of the same quarters


def has_corners(
    path: Path, expected: list[tuple[int, ...]], tolerance: int = 4, **options: Any
) -> bool:
    """Whether the middles of the four quarters of an image, as it is read, have these colours."""
    image = SquareCrop(**{"side": 16, "channels": 3} | options).read(path)
    corners = image[:, [4, 4, 11, 11], [4, 11, 4, 11]].T.astype(int)  # (4, C)
    return bool(np.abs(corners - np.array(expected)).max() <= tolerance)


@pytest.mark.parametrize(
    ("suffix", "options"),
    [
        ("png", {}),
        ("bmp", {}),
        ("tif", {}),
        ("tif", {"compression": "tiff_lzw"}),
        ("webp", {"lossless": True}),
        ("ppm", {}),
        ("jp2", {}),
        ("png", {"interlace": 1}),
        ("jpg", {"quality": 100, "subsampling": 0}),
        ("gif", {}),
    ],
)
def test_formats(suffix: str, options: dict, tmp_path: Path) -> None:
    Image.fromarray(QUARTERS).save(tmp_path / f"a.{suffix}", **options)
    assert has_corners(tmp_path / f"a.{suffix}", [RED, GREEN, BLUE, WHITE])


@pytest.mark.parametrize("suffix", ["jpg", "png"])
@pytest.mark.parametrize(
    ("orientation", "expected"),
    [
        (1, [RED, GREEN, BLUE, WHITE]),
        (2, [GREEN, RED, WHITE, BLUE]),
        (3, [WHITE, BLUE, GREEN, RED]),
        (4, [BLUE, WHITE, RED, GREEN]),
        (5, [RED, BLUE, GREEN, WHITE]),
        (6, [BLUE, RED, WHITE, GREEN]),
        (7, [WHITE, GREEN, BLUE, RED]),
        (8, [GREEN, WHITE, RED, BLUE]),
    ],
)
def test_images_are_turned_upright(
    suffix: str, orientation: int, expected: list, tmp_path: Path
) -> None:
    image = Image.fromarray(QUARTERS)
    exif = image.getexif()
    exif[0x0112] = orientation
    image.save(tmp_path / f"a.{suffix}", exif=exif, quality=100, subsampling=0)
    assert has_corners(tmp_path / f"a.{suffix}", expected)


@pytest.mark.parametrize(
    ("name", "mode"),
    [("a.png", "P"), ("a.jpg", "CMYK"), ("a.jpg", "YCbCr"), ("a.png", "RGBA"), ("a.png", "RGB")],
)
def test_colour_modes(name: str, mode: str, tmp_path: Path) -> None:
    image = Image.fromarray(QUARTERS)
    image = image.quantize(4) if mode == "P" else image.convert(mode)
    image.save(tmp_path / name, quality=100, subsampling=0)
    assert has_corners(tmp_path / name, [RED, GREEN, BLUE, WHITE])
    assert has_corners(tmp_path / name, GRAY_LEVELS, channels=1)


def test_gray_modes(tmp_path: Path) -> None:
    Image.fromarray(QUARTERS).convert("L").save(tmp_path / "gray.png")
    assert has_corners(tmp_path / "gray.png", GRAY_LEVELS, channels=1)
    assert has_corners(tmp_path / "gray.png", [3 * level for level in GRAY_LEVELS])
    Image.fromarray(QUARTERS[..., 0] > 128).save(tmp_path / "bits.png")
    assert has_corners(tmp_path / "bits.png", [(255,), (0,), (0,), (255,)], channels=1)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_16_bits_keep_their_scale(suffix: str, tmp_path: Path) -> None:
    ramp = np.linspace(0, 65_535, 16).round().astype(np.uint16)
    Image.fromarray(np.tile(ramp, (16, 1))).save(tmp_path / f"a.{suffix}")
    row = SquareCrop(16, 1).read(tmp_path / f"a.{suffix}")[0, 5]
    np.testing.assert_array_equal(row, np.linspace(0, 255, 16).round())


def transparent_images() -> dict[str, tuple[Image.Image, dict]]:
    """Wholly transparent images with hidden colours, and how they are saved."""
    clear = np.zeros((16, 16, 4), np.uint8)
    clear[..., 0] = 200
    red = Image.fromarray(clear[..., 0])
    return {
        "rgba": (Image.fromarray(clear), {}),
        "gray with alpha": (Image.merge("LA", [red, Image.new("L", (16, 16), 0)]), {}),
        "palette entry": (red.convert("P"), {"transparency": 200}),
        "colour": (Image.new("RGB", (16, 16), (9, 9, 9)), {"transparency": (9, 9, 9)}),
    }


@pytest.mark.parametrize(
    ("background", "expected"),
    [("white", (255, 255, 255)), ("#ff8000", (255, 128, 0)), ("black", (0, 0, 0))],
)
def test_the_background_shows_through_transparent_pixels(
    background: str, expected: tuple, tmp_path: Path
) -> None:
    colour = parse_color(background)
    for name, (image, options) in transparent_images().items():
        image.save(tmp_path / f"{name}.png", **options)
        assert has_corners(tmp_path / f"{name}.png", [expected] * 4, background=colour), name
    half = np.zeros((16, 16, 4), np.uint8)
    half[..., 0], half[..., 3] = 200, 128
    Image.fromarray(half).save(tmp_path / "half.png")
    mixed = tuple((200 * (index == 0) + value) // 2 for index, value in enumerate(expected))
    assert has_corners(tmp_path / "half.png", [mixed] * 4, background=colour)


def test_the_centred_square_is_taken(tmp_path: Path) -> None:
    wide = np.zeros((40, 100, 3), np.uint8)
    wide[:, 30:70] = 200
    for name, pixels in {"wide": wide, "high": wide.transpose(1, 0, 2)}.items():
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
        off = np.abs(SquareCrop(16, 3).read(tmp_path / f"{name}.png").astype(int) - 200)
        assert off.max() <= 15  # the filter looks a little over the edge
        assert off[:, 3:-3, 3:-3].max() <= 1


def test_images_are_resized_without_aliasing(tmp_path: Path) -> None:
    fine = np.indices((160, 160)).sum(0) % 2 * 255  # a checkerboard: gray, and no moire
    Image.fromarray(fine.astype(np.uint8)).save(tmp_path / "fine.png")
    assert np.abs(SquareCrop(16, 1).read(tmp_path / "fine.png").astype(int) - 127).max() <= 4
    same = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    Image.fromarray(same).save(tmp_path / "same.png")
    image = SquareCrop(16, 3).read(tmp_path / "same.png")
    np.testing.assert_array_equal(image, same.transpose(2, 0, 1))


def test_large_jpegs_are_decoded_smaller_to_the_same_effect(tmp_path: Path) -> None:
    smooth = np.add.outer(np.linspace(0, 127, 2000), np.linspace(0, 127, 3000)).astype(np.uint8)
    Image.fromarray(smooth).save(tmp_path / "a.jpg", quality=98)
    Image.fromarray(smooth).save(tmp_path / "a.png")
    jpeg = SquareCrop(64, 1).read(tmp_path / "a.jpg").astype(int)
    png = SquareCrop(64, 1).read(tmp_path / "a.png").astype(int)
    assert np.abs(jpeg - png).max() <= 3


def test_threads_as_many_as_processors_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "cores", lambda: 4)
    numbers = range(3 * image_files.BLOCK_SIZE + 7)
    doubled = parallel_map(lambda number: number * 2, numbers, "doubling")
    assert list(doubled) == [2 * number for number in numbers]


@pytest.mark.filterwarnings("ignore")  # PIL's, which `decode` silences
@pytest.mark.parametrize("name", HOSTILE_FILES)
def test_each_hostile_file_has_its_reason(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(HOSTILE_FILES[name]())
    with pytest.raises(ImageReadError) as caught:
        SquareCrop(16, 3).read(tmp_path / name)
    assert str(caught.value) and len(str(caught.value)) <= 200 and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content"),
    {
        "dot.png": noise(size=(1, 1)),
        "line.png": noise(size=(30_000, 1)),
        "pole.jpg": noise("jpeg", size=(2, 9000)),
        "film.gif": noise("gif", "P", save_all=True, append_images=[Image.new("P", (40, 30))] * 3),
        "progressive.jpg": noise("jpeg", progressive=True),
        "tail.png": noise() + b"something after the end",
    }.items(),
)
def test_odd_but_harmless_files_are_read(name: str, content: bytes, tmp_path: Path) -> None:
    """What a viewer shows is an image."""
    (tmp_path / name).write_bytes(content)
    assert SquareCrop(16, 3).read(tmp_path / name).shape == (3, 16, 16)
