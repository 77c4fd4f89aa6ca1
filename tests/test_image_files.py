"""Folders of pictures as people have them, and as nobody should: each is handled, or left out by name."""

import io
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import write_pictures
from PIL import Image

from genmodels import hardware
from genmodels.data import datasets, image_files, image_folder
from genmodels.data.image_files import ImageReadError, SquareCrop


def options(root: Path, **more: object) -> dict[str, Any]:
    usual = {
        "root": str(root),
        "name": root.name,
        "side": 16,
        "channels": None,
        "labelled": None,
        "background": "white",
        "max_unreadable": 0.0,
        "cache": str(root.parent / "cache"),
    }
    return usual | more


def images_of(root: Path, **more: object) -> torch.Tensor:
    return datasets.folder(**options(root, **more)).load().train.images


# One picture at a time.

QUARTERS = np.zeros((32, 32, 3), np.uint8)  # red, green / blue, white
QUARTERS[:16, :16, 0] = QUARTERS[:16, 16:, 1] = QUARTERS[16:, :16, 2] = 255
QUARTERS[16:, 16:] = 255
RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def corners(path: Path, **how: Any) -> list[tuple[int, ...]]:
    """The colours in the middle of the four quarters of a picture as it is read."""
    image = SquareCrop(**{"side": 16, "channels": 3} | how).read(path)
    return [tuple(image[:, y, x].tolist()) for y in (4, 11) for x in (4, 11)]


def near(found: list[tuple[int, ...]], expected: list[tuple[int, ...]], tolerance: int = 4) -> bool:
    return bool(np.abs(np.array(found) - np.array(expected)).max() <= tolerance)


@pytest.mark.parametrize(
    ("suffix", "more"),
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
def test_formats(suffix: str, more: dict, tmp_path: Path) -> None:
    Image.fromarray(QUARTERS).save(tmp_path / f"a.{suffix}", **more)
    assert near(corners(tmp_path / f"a.{suffix}"), [RED, GREEN, BLUE, WHITE])


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
def test_pictures_are_turned_upright(orientation: int, expected: list, tmp_path: Path) -> None:
    image = Image.fromarray(QUARTERS)
    exif = image.getexif()
    exif[0x0112] = orientation
    for path in (tmp_path / "a.jpg", tmp_path / "a.png"):
        image.save(path, exif=exif, quality=100, subsampling=0)
        assert near(corners(path), expected)


def test_modes(tmp_path: Path) -> None:
    image = Image.fromarray(QUARTERS)
    saved = {
        "gray": image.convert("L"),
        "bits": image.convert("1"),
        "palette": image.quantize(4),
        "cmyk.jpg": image.convert("CMYK"),
        "ycbcr.jpg": image.convert("YCbCr"),
        "rgba": image.convert("RGBA"),
    }
    for name, picture in saved.items():
        picture.save(
            tmp_path / (name if "." in name else f"{name}.png"), quality=100, subsampling=0
        )
    everywhere = [RED, GREEN, BLUE, WHITE]
    for name in ("palette.png", "cmyk.jpg", "ycbcr.jpg", "rgba.png"):
        assert near(corners(tmp_path / name), everywhere), name
    assert near(corners(tmp_path / "gray.png"), [(v, v, v) for v in (76, 150, 29, 255)])
    assert near(corners(tmp_path / "gray.png", channels=1), [(76,), (150,), (29,), (255,)])
    assert near(corners(tmp_path / "rgba.png", channels=1), [(76,), (150,), (29,), (255,)])


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_16_bits_keep_their_scale(suffix: str, tmp_path: Path) -> None:
    ramp = np.linspace(0, 65_535, 16).round().astype(np.uint16)
    Image.fromarray(np.tile(ramp, (16, 1))).save(tmp_path / f"a.{suffix}")
    row = SquareCrop(16, 1).read(tmp_path / f"a.{suffix}")[0, 5]
    np.testing.assert_array_equal(row, np.linspace(0, 255, 16).round())


@pytest.mark.parametrize(
    ("background", "expected"),
    [("white", (255, 255, 255)), ("#ff8000", (255, 128, 0)), ("black", (0, 0, 0))],
)
def test_transparency_lies_on_the_background(
    background: str, expected: tuple, tmp_path: Path
) -> None:
    """Hidden colours stay hidden: of RGBA, gray with alpha, a transparent palette entry, a transparent colour."""
    clear = np.zeros((16, 16, 4), np.uint8)
    clear[..., 0] = 200
    half = clear.copy()
    half[..., 3] = 128
    colour = image_files.parse_color(background)
    gray = Image.merge("LA", [Image.new("L", (16, 16), level) for level in (200, 0)])
    for name, picture, more in [
        ("rgba", Image.fromarray(clear), {}),
        ("la", gray, {}),
        ("palette", Image.fromarray(clear[..., 0]).convert("P"), {"transparency": 200}),
        ("rgb", Image.new("RGB", (16, 16), (9, 9, 9)), {"transparency": (9, 9, 9)}),
    ]:
        picture.save(tmp_path / f"{name}.png", **more)
        assert near(corners(tmp_path / f"{name}.png", background=colour), [expected] * 4), name
    Image.fromarray(half).save(tmp_path / "half.png")
    mixed = tuple((200 * (index == 0) + value) // 2 for index, value in enumerate(expected))
    assert near(corners(tmp_path / "half.png", background=colour), [mixed] * 4)


def test_the_centred_square_is_taken_and_resized_well(tmp_path: Path) -> None:
    wide = np.zeros((40, 100, 3), np.uint8)
    wide[:, 30:70] = 200
    Image.fromarray(wide).save(tmp_path / "a.png")
    Image.fromarray(wide.transpose(1, 0, 2)).save(tmp_path / "b.png")
    for name in ("a.png", "b.png"):
        off = np.abs(SquareCrop(16, 3).read(tmp_path / name).astype(int) - 200)
        assert (
            off.max() <= 15 and off[:, 3:-3, 3:-3].max() <= 1
        )  # the filter looks a little over the edge
    fine = (
        np.indices((160, 160)).sum(0) % 2 * 255
    )  # a checkerboard finer than the image: gray, and no moire
    Image.fromarray(fine.astype(np.uint8)).save(tmp_path / "fine.png")
    assert np.abs(SquareCrop(16, 1).read(tmp_path / "fine.png").astype(int) - 127).max() <= 4
    small = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    Image.fromarray(small).save(tmp_path / "same.png")
    np.testing.assert_array_equal(
        SquareCrop(16, 3).read(tmp_path / "same.png"), small.transpose(2, 0, 1)
    )


def test_large_jpegs_are_decoded_smaller_to_the_same_effect(tmp_path: Path) -> None:
    smooth = np.add.outer(np.linspace(0, 127, 2000), np.linspace(0, 127, 3000)).astype(np.uint8)
    Image.fromarray(smooth).save(tmp_path / "a.jpg", quality=98)
    Image.fromarray(smooth).save(tmp_path / "a.png")
    jpeg, png = (
        SquareCrop(64, 1).read(tmp_path / f"a.{kind}").astype(int) for kind in ("jpg", "png")
    )
    assert np.abs(jpeg - png).max() <= 3


# Folders.


def test_folders_of_classes(tmp_path: Path) -> None:
    root = tmp_path / "root"
    for number, name in enumerate(["cats", "dogs", "\N{CJK UNIFIED IDEOGRAPH-72AC} and $x^{$"]):
        write_pictures(root / name / "deep" / "er", count=5 + number, seed=number)
    (root / "empty").mkdir()
    source = datasets.folder(**options(root))
    assert source.spec == pictures_spec(
        root, 3, ("cats", "dogs", "\N{CJK UNIFIED IDEOGRAPH-72AC} and $x^{$")
    )
    data = source.load()
    assert sorted(data.train.labels.tolist()) == [0] * 5 + [1] * 6 + [2] * 7
    assert data.train.labels.tolist() != [0] * 5 + [1] * 6 + [2] * 7  # shuffled
    first = {
        SquareCrop(16, 3).read(path).tobytes(): number
        for number, name in enumerate(["cats", "dogs"])
        for path in (root / name).rglob("*.png")
    }
    assert all(
        first.get(image.numpy().tobytes(), 2) == label
        for image, label in zip(data.train.images, data.train.labels, strict=True)
    )
    assert not datasets.folder(**options(root, labelled=False)).spec.classes
    flat = tmp_path / "flat"
    write_pictures(flat)
    write_pictures(flat / "more", seed=1)
    assert datasets.folder(**options(flat)).spec.classes == ()
    assert datasets.folder(**options(flat)).load().train.labels.tolist() == [-1] * 24
    assert datasets.folder(**options(flat, labelled=True)).spec.classes == ("more",)
    write_pictures(tmp_path / "one/only")
    assert datasets.folder(**options(tmp_path / "one")).spec.classes == ()


def pictures_spec(root: Path, channels: int, classes: tuple[str, ...]) -> Any:
    from genmodels.data.images import ImageSpec

    return ImageSpec(root.name, (channels, 16, 16), classes)


def test_channels_are_those_of_the_pictures(tmp_path: Path) -> None:
    write_pictures(tmp_path / "gray")
    for path in (tmp_path / "gray").iterdir():
        Image.open(path).convert("L").convert("RGB").save(path.with_suffix(".jpg"))
        path.unlink()
    assert images_of(tmp_path / "gray").shape == (12, 1, 16, 16)
    assert images_of(tmp_path / "gray", channels=3).shape == (12, 3, 16, 16)
    write_pictures(tmp_path / "gray", count=1)
    assert images_of(tmp_path / "gray").shape == (13, 3, 16, 16)
    assert images_of(tmp_path / "gray", channels=1).shape == (13, 1, 16, 16)


def test_cached_by_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Moved, or touched: no picture is decoded again. Another content, side or background: they are."""
    decoded = []
    read = SquareCrop.read
    monkeypatch.setattr(
        SquareCrop, "read", lambda self, path: decoded.append(path) or read(self, path)
    )
    root = tmp_path / "here/pics"
    write_pictures(root)
    cache = {"cache": str(tmp_path / "cache")}
    first = images_of(root, **cache)
    assert len(decoded) == 12
    os.utime(root / "000.png")
    (root.parent.parent / "there").mkdir()
    root.rename(tmp_path / "there/pics")
    root = tmp_path / "there/pics"
    assert torch.equal(images_of(root, **cache), first) and len(decoded) == 12
    images_of(root, background="black", **cache)
    images_of(root, side=8, **cache)
    assert len(decoded) == 36
    write_pictures(root, count=1, seed=9)
    assert not torch.equal(images_of(root, **cache), first) and len(decoded) == 48


def test_what_is_remembered_of_a_folder_may_be_damaged(tmp_path: Path) -> None:
    write_pictures(tmp_path / "pics")
    first = images_of(tmp_path / "pics")
    (memo,) = (tmp_path / "cache").glob("folder-*.json")
    for content in ("", "{}", "[]", '{"listing": 3', "null"):
        memo.write_text(content)
        assert torch.equal(images_of(tmp_path / "pics"), first)


def test_what_is_no_picture_is_passed_over_by_name(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = tmp_path / "root"
    write_pictures(root)
    write_pictures(tmp_path / "outside")
    (root / "out.png").symlink_to(tmp_path / "outside/000.png")
    (root / "passwd.png").symlink_to("/etc/passwd")
    (root / "broken.png").symlink_to(root / "nowhere.png")
    (root / "folder").symlink_to(tmp_path / "outside")
    (root / "loop").symlink_to(root)
    (root / "inside.png").symlink_to(root / "000.png")
    os.mkfifo(root / "pipe.png")
    for name in ("a.txt", "b.txt", "c.heic", "d"):
        (root / name).write_text("x")
    for name in (".hidden.png", "._000.png", "Thumbs.db"):
        (root / name).write_text("x")
    with open(root / "huge.png", "wb") as file:
        file.truncate(image_folder.MAX_FILE_BYTES + 1)
    assert len(images_of(root)) == 13
    for words in (
        "out.png (a link out of the folder)",
        "passwd.png (a link out of the folder)",
        "broken.png (no regular file)",
        "folder (a link out of the folder)",
        "pipe.png (no regular file)",
        "huge.png (more than 256 MB)",
        "files of other kinds: 2 .txt, 1 .heic, 1 without an ending",
    ):
        assert f"skipped: {words}" in caplog.text
    assert "loop" in caplog.text and "hidden" not in caplog.text and "Thumbs" not in caplog.text
    (notes,) = (tmp_path / "cache").glob("root-*.txt")
    assert "pipe.png (no regular file)" in notes.read_text()


@pytest.mark.parametrize(
    ("make", "more", "message"),
    [
        (lambda root: None, {}, "no such folder. Give the one that holds your images"),
        (lambda root: root.mkdir(), {}, r"holds no images \(\.png, "),
        (
            lambda root: (root.mkdir(), (root / "a.heic").touch()),
            {},
            "Skipped: files of other kinds: 1 .heic",
        ),
        (
            lambda root: write_pictures(root, 1),
            {},
            "1 images are too few: at least 10 are needed",
        ),
        (lambda root: write_pictures(root, 9), {}, "9 images are too few"),
        (
            lambda root: write_pictures(root),
            {"labelled": True},
            "holds no images in class folders",
        ),
    ],
)
def test_folders_that_are_refused(make: Callable, more: dict, message: str, tmp_path: Path) -> None:
    make(tmp_path / "root")
    with pytest.raises(ValueError, match=rf"^dataset\.root={tmp_path}/root: .*{message}"):
        images_of(tmp_path / "root", **more)
    assert not list(tmp_path.glob("cache/*.safetensors"))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"side": 4}, "side=4: must be an integer >= 8"),
        ({"side": 5000}, "side=5000: must be"),
        ({"channels": 2}, "channels=2: must be 1, 3 or null"),
        ({"background": "whitish"}, "background=whitish: must be"),
        ({"max_unreadable": 1.0}, "max_unreadable=1.0: must be a share"),
    ],
)
def test_illegal_options(more: dict, message: str, tmp_path: Path) -> None:
    write_pictures(tmp_path / "root")
    with pytest.raises(ValueError, match=message):
        images_of(tmp_path / "root", **more)


def test_a_class_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    root = tmp_path / "root"
    write_pictures(root / "cats", 20)
    (root / "dogs").mkdir()
    (root / "dogs/a.png").write_text("woof")
    with pytest.raises(ValueError, match="no image of the class dogs can be read"):
        images_of(root, max_unreadable=0.5)


def test_no_room_or_no_permission(tmp_path: Path) -> None:
    import resource

    write_pictures(tmp_path / "root", 40)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (9000, before[1]))
        with pytest.raises(OSError, match=r"too large: '.*cache/root-[0-9a-f]+\.files'"):
            images_of(tmp_path / "root")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not [
        path for path in (tmp_path / "cache").rglob("*") if path.suffix not in (".lock", ".json")
    ]
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file/cache"):
        images_of(tmp_path / "root", cache=str(tmp_path / "file/cache"))
    assert len(images_of(tmp_path / "root")) == 40


def test_threads_as_many_as_processors_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "cores", lambda: 4)
    numbers = list(range(3 * image_files.BLOCK_SIZE + 7))
    assert list(image_files.parallel_map(lambda number: number * 2, numbers, "doubling")) == [
        2 * n for n in numbers
    ]


# Hostile ones.


def png(*chunks: tuple[bytes, bytes], start: bytes = b"\x89PNG\r\n\x1a\n") -> bytes:
    return start + b"".join(
        struct.pack(">I", len(content))
        + kind
        + content
        + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in chunks
    )


def header(width: int, height: int, depth: int = 8, colour: int = 2) -> tuple[bytes, bytes]:
    return b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)


def saved(
    kind: str = "png", mode: str = "RGB", size: tuple[int, int] = (40, 30), **more: Any
) -> bytes:
    image = Image.effect_noise(size, 80).convert(mode)
    image.save(buffer := io.BytesIO(), kind, **more)
    return buffer.getvalue()


def flipped(content: bytes, *places: int) -> bytes:
    changed = bytearray(content)
    for place in places:
        changed[place % len(changed)] ^= 0x55
    return bytes(changed)


def tiff_with(tag: int, value: int) -> bytes:
    """A TIFF whose entry for a tag has another value."""
    content = bytearray(saved("tiff"))
    (start,) = struct.unpack("<I", content[4:8])
    for entry in range(struct.unpack("<H", content[start : start + 2])[0]):
        place = start + 2 + 12 * entry
        if struct.unpack("<H", content[place : place + 2])[0] == tag:
            content[place + 8 : place + 12] = struct.pack("<I", value)
    return bytes(content)


def floats(values: np.ndarray) -> bytes:
    Image.fromarray(values).save(buffer := io.BytesIO(), "tiff")
    return buffer.getvalue()


def large(width: int, height: int) -> bytes:
    """A whole picture of one bit a pixel, some kilobytes of file."""
    Image.new("1", (width, height)).save(buffer := io.BytesIO(), "png")
    return buffer.getvalue()


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n(/tmp/genmodels-escaped) (w) file closefile\n"
SVG = b"<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/passwd'/></svg>"
HOSTILE: dict[str, Callable[[], bytes]] = {
    "empty.png": lambda: b"",
    "text.png": lambda: b"not a picture",
    "html.jpg": lambda: b"<!DOCTYPE html><html>404 Not Found</html>",
    "script.eps.png": lambda: EPS,
    "script.jpg": lambda: EPS,
    "vector.png": lambda: SVG,
    "document.png": lambda: b"%PDF-1.7\n1 0 obj\n<<>>\nendobj\n",
    "archive.png": lambda: b"PK\x05\x06" + bytes(18),
    "pickle.png": lambda: b"cos\nsystem\n(S'touch /tmp/genmodels-escaped'\ntR.",
    "zeros.bmp": lambda: bytes(5000),
    "noise.gif": lambda: np.random.default_rng(0).bytes(5000),
    "noise.webp": lambda: b"RIFF\x00\x10\x00\x00WEBPVP8 " + np.random.default_rng(1).bytes(4000),
    "noise.avif": lambda: b"\0\0\0\x1cftypavif" + np.random.default_rng(2).bytes(4000),
    "noise.jp2": lambda: b"\0\0\0\x0cjP  \r\n\x87\n" + np.random.default_rng(3).bytes(4000),
    "noise.jpg": lambda: b"\xff\xd8\xff\xe0" + np.random.default_rng(4).bytes(4000),
    "truncated.png": lambda: saved()[:-400],
    "truncated.jpg": lambda: saved("jpeg")[:-200],
    "truncated.gif": lambda: saved("gif", "P")[:-500],
    "truncated.bmp": lambda: saved("bmp")[:-500],
    "truncated.tif": lambda: saved("tiff")[:-1000],
    "truncated.webp": lambda: saved("webp")[:-300],
    "truncated.ppm": lambda: saved("ppm")[:-500],
    "header_only.png": lambda: png(header(40, 30)),
    "header_only.jpg": lambda: saved("jpeg")[:20],
    "flipped.png": lambda: flipped(saved(), 60, 70, 80),
    "no_data.png": lambda: png(header(40, 30), (b"IEND", b"")),
    "too_little_data.png": lambda: png(
        header(400, 300), (b"IDAT", zlib.compress(b"\0" * 50)), (b"IEND", b"")
    ),
    "no_pixels.png": lambda: png(header(0, 30), (b"IDAT", zlib.compress(b"")), (b"IEND", b"")),
    "wrong_depth.png": lambda: png(
        header(40, 30, depth=7), (b"IDAT", zlib.compress(b"")), (b"IEND", b"")
    ),
    "wrong_colour.png": lambda: png(
        header(40, 30, colour=5), (b"IDAT", zlib.compress(b"")), (b"IEND", b"")
    ),
    "large.png": lambda: large(20_000, 20_000),
    "rather_large.png": lambda: large(9_000, 9_000),
    "long.png": lambda: large(65_000_000, 1),
    "giant.png": lambda: png(
        header(2**31 - 1, 2**31 - 1), (b"IDAT", zlib.compress(b"\0")), (b"IEND", b"")
    ),
    "giant.bmp": lambda: saved("bmp")[:18] + struct.pack("<ii", 2**30, 2**30) + saved("bmp")[26:],
    "giant.gif": lambda: b"GIF89a\xff\xff\xff\xff\x80\x00\x00\x00\x00\x00\xff\xff\xff" + bytes(100),
    "giant.tif": lambda: tiff_with(256, 2**31),
    "giant.ppm": lambda: b"P6 100000 100000 255\n" + bytes(100),
    "strange.ppm": lambda: b"P6 -5 40 255\n" + bytes(1000),
    "text_bomb.png": lambda: png(
        header(40, 30),
        (b"zTXt", b"a\0\0" + zlib.compress(bytes(80 << 20))),
        (b"IDAT", zlib.compress(bytes(99))),
        (b"IEND", b""),
    ),
    "profile_bomb.png": lambda: png(
        header(40, 30),
        (b"iCCP", b"a\0\0" + zlib.compress(bytes(80 << 20))),
        (b"IDAT", zlib.compress(bytes(99))),
        (b"IEND", b""),
    ),
    "strange_compression.tif": lambda: tiff_with(259, 9999),
    "loop.tif": lambda: (
        b"II*\0\x08\0\0\0" + struct.pack("<HHHII", 1, 256, 4, 1, 40) + struct.pack("<I", 8)
    ),
    "offset.tif": lambda: b"II*\0\xff\xff\xff\x7f",
    "floats.tif": lambda: floats(np.random.rand(20, 20).astype(np.float32)),
    "32_bits.tif": lambda: floats(np.full((20, 20), 2**30, np.int32)),
    "not_a_number.tif": lambda: floats(np.full((20, 20), np.nan, np.float32)),
    "movie.mp4.png": lambda: b"\0\0\0\x18ftypmp42" + bytes(500),
    "name\nwith\x1b[31m.png": lambda: b"x",
    "$\\frac{.png": lambda: b"x",
    "-rf.png": lambda: b"x",
    "a" * 250 + ".png": lambda: b"x",
    "\N{SMILING FACE WITH HORNS}.png": lambda: b"x",
}


def test_fifty_hostile_pictures(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """None crashes, none escapes, each is named; the good ones among them are read."""
    assert len(HOSTILE) >= 50
    root = tmp_path / "root"
    write_pictures(root)
    for name, make in HOSTILE.items():
        (root / name).write_bytes(make())
    (tmp_path.joinpath("root").joinpath(os.fsdecode(b"no\xfftext.png"))).write_bytes(b"x")
    everything = sorted(path for path in tmp_path.rglob("*"))
    assert len(images_of(root, max_unreadable=0.99)) == 12
    (notes,) = (tmp_path / "cache").glob("root-*.txt")
    lines = notes.read_text(encoding="utf-8").splitlines()
    assert len(lines) == len(HOSTILE) + 1
    for name in [*HOSTILE, os.fsdecode(b"no\xfftext.png")]:
        assert any(
            line.startswith(f"unreadable: {image_files.printable(name)} (") for line in lines
        ), name
    for name, reason in {
        "large.png": "more than 64,000,000 pixels",
        "floats.tif": "floating-point",
        "rather_large.png": "9000 x 9000 pixels",
        "text.png": "not an image",
        "32_bits.tif": "beyond 16 bits",
        "truncated.jpg": "truncated",
    }.items():
        assert any(line.startswith(f"unreadable: {name} (") and reason in line for line in lines), (
            name
        )
    assert "and 34 more" in caplog.text and "\x1b" not in caplog.text
    assert [
        path for path in tmp_path.rglob("*") if tmp_path / "cache" not in (path, *path.parents)
    ] and sorted(
        path for path in tmp_path.rglob("*") if tmp_path / "cache" not in (path, *path.parents)
    ) == everything
    assert not Path("/tmp/genmodels-escaped").exists()

    with pytest.raises(
        ValueError,
        match=r"5\d of 6\d images cannot be read, more than dataset\.max_unreadable=0\.05 "
        r"allows: .*\(.*\); and 4\d more$",
    ):
        images_of(root, max_unreadable=0.05, background="black")


@pytest.mark.filterwarnings("ignore")  # PIL's, which `decode` silences
@pytest.mark.parametrize("name", HOSTILE)
def test_each_hostile_picture_has_its_reason(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(HOSTILE[name]())
    with pytest.raises(ImageReadError) as caught:
        SquareCrop(16, 3).read(tmp_path / name)
    assert str(caught.value) and len(str(caught.value)) <= 200 and "\n" not in str(caught.value)


def test_odd_but_harmless_pictures_are_read(tmp_path: Path) -> None:
    """One pixel; very long; animated; with broken metadata: what a viewer shows is an image."""
    good = {
        "dot.png": saved(size=(1, 1)),
        "line.png": saved(size=(30_000, 1)),
        "pole.jpg": saved("jpeg", size=(2, 9000)),
        "film.gif": saved("gif", "P", save_all=True, append_images=[Image.new("P", (40, 30))] * 3),
        "progressive.jpg": saved("jpeg", progressive=True),
        "tail.png": saved() + b"something after the end",
    }
    for name, content in good.items():
        (tmp_path / name).write_bytes(content)
        assert SquareCrop(16, 3).read(tmp_path / name).shape == (3, 16, 16), name


def test_deep_trees_end(tmp_path: Path) -> None:
    """Deeper than Python's recursion goes. Taken away again, since pytest's own tidying recurses."""
    write_pictures(tmp_path / "root")
    here, depth = os.getcwd(), 1200
    os.chdir(tmp_path / "root")
    try:
        for _ in range(depth):
            os.mkdir("d")
            os.chdir("d")
        listing = image_folder.scan(tmp_path / "root", None)
    finally:
        for _ in range(depth):
            os.chdir("..")
            os.rmdir("d")
        os.chdir(here)
    assert len(listing.names) == 12 and not listing.classes
