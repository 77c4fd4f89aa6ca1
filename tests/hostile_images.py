"""Image files that are damaged, lie about themselves, or mean harm."""

import io
import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image


def png(*chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG file of (kind, content) chunks."""
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content))
        + kind
        + content
        + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in chunks
    )


def header(width: int, height: int, depth: int = 8, colour: int = 2) -> tuple[bytes, bytes]:
    return b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)


def noise(
    kind: str = "png", mode: str = "RGB", size: tuple[int, int] = (40, 30), **more: Any
) -> bytes:
    image = Image.effect_noise(size, 80).convert(mode)
    image.save(buffer := io.BytesIO(), kind, **more)
    return buffer.getvalue()


def with_flipped_bits(content: bytes, *places: int) -> bytes:
    changed = bytearray(content)
    for place in places:
        changed[place % len(changed)] ^= 0x55
    return bytes(changed)


def tiff_with(tag: int, value: int) -> bytes:
    """A TIFF whose entry for a tag has another value."""
    content = bytearray(noise("tiff"))
    (start,) = struct.unpack("<I", content[4:8])
    for entry in range(struct.unpack_from("<H", content, start)[0]):
        place = start + 2 + 12 * entry
        if struct.unpack_from("<H", content, place)[0] == tag:
            struct.pack_into("<I", content, place + 8, value)
    return bytes(content)


def tiff_of(values: np.ndarray) -> bytes:
    Image.fromarray(values).save(buffer := io.BytesIO(), "tiff")
    return buffer.getvalue()


def black(width: int, height: int) -> bytes:
    """A whole image of one bit a pixel, some kilobytes of file."""
    Image.new("1", (width, height)).save(buffer := io.BytesIO(), "png")
    return buffer.getvalue()


EPS = (
    b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n"
    b"(/tmp/genmodels-escaped) (w) file closefile\n"
)
SVG = b"<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/passwd'/></svg>"
HOSTILE_FILES: dict[str, Callable[[], bytes]] = {
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
    "truncated.png": lambda: noise()[:-400],
    "truncated.jpg": lambda: noise("jpeg")[:-200],
    "truncated.gif": lambda: noise("gif", "P")[:-500],
    "truncated.bmp": lambda: noise("bmp")[:-500],
    "truncated.tif": lambda: noise("tiff")[:-1000],
    "truncated.webp": lambda: noise("webp")[:-300],
    "truncated.ppm": lambda: noise("ppm")[:-500],
    "header_only.png": lambda: png(header(40, 30)),
    "header_only.jpg": lambda: noise("jpeg")[:20],
    "flipped.png": lambda: with_flipped_bits(noise(), 60, 70, 80),
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
    "large.png": lambda: black(20_000, 20_000),
    "rather_large.png": lambda: black(9_000, 9_000),
    "long.png": lambda: black(65_000_000, 1),
    "giant.png": lambda: png(
        header(2**31 - 1, 2**31 - 1), (b"IDAT", zlib.compress(b"\0")), (b"IEND", b"")
    ),
    "giant.bmp": lambda: noise("bmp")[:18] + struct.pack("<ii", 2**30, 2**30) + noise("bmp")[26:],
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
    "floats.tif": lambda: tiff_of(np.random.rand(20, 20).astype(np.float32)),
    "32_bits.tif": lambda: tiff_of(np.full((20, 20), 2**30, np.int32)),
    "not_a_number.tif": lambda: tiff_of(np.full((20, 20), np.nan, np.float32)),
    "movie.mp4.png": lambda: b"\0\0\0\x18ftypmp42" + bytes(500),
    "name\nwith\x1b[31m.png": lambda: b"x",
    "$\\frac{.png": lambda: b"x",
    "-rf.png": lambda: b"x",
    "a" * 250 + ".png": lambda: b"x",
    "\N{SMILING FACE WITH HORNS}.png": lambda: b"x",
}
