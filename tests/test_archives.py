"""Archives that mean harm: each is refused by name, nothing is written outside the target, nothing stays in it."""

import bz2
import gzip
import io
import lzma
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from genmodels.data import archives
from genmodels.data.archives import RefusedArchiveError, unpack


def tar_of(*entries: tuple[str, bytes, bytes, str], mode: str = "w:gz") -> bytes:
    """A tar archive of (name, type, content, link name)."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as tar:
        for name, kind, content, link in entries:
            info = tarfile.TarInfo(name)
            info.type, info.linkname, info.size = kind, link, len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def file_in_tar(name: str, content: bytes = b"evil") -> bytes:
    return tar_of(("fine.txt", tarfile.REGTYPE, b"fine", ""), (name, tarfile.REGTYPE, content, ""))


def special(kind: bytes, link: str = "", name: str = "special") -> bytes:
    return tar_of(("fine.txt", tarfile.REGTYPE, b"fine", ""), (name, kind, b"", link))


def zip_of(*entries: tuple[str, bytes], mode: int = 0, **options: int) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as zipped:
        zipped.writestr("fine.txt", b"fine")
        for name, content in entries:
            info = zipfile.ZipInfo("placeholder")
            info.filename = name  # as it is: the constructor would mend it
            info.external_attr = mode << 16
            info.compress_type = zipfile.ZIP_DEFLATED
            zipped.writestr(info, content)
    return buffer.getvalue()


def encrypted_zip() -> bytes:
    data = bytearray(zip_of(("secret", b"x")))
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        place = data.find(signature)
        while place >= 0:
            data[place + offset] |= 1
            place = data.find(signature, place + 1)
    return bytes(data)


def pax_bomb() -> bytes:
    """A header of a name as long as a film: tarfile reads it whole."""
    name = b"x" * (80 << 20)
    block = tarfile.TarInfo("././@LongLink")
    block.type, block.size = tarfile.GNUTYPE_LONGNAME, len(name)
    return gzip.compress(block.tobuf(tarfile.GNU_FORMAT) + name + b"\0" * 1024)


def overlapping_zip() -> bytes:
    """A directory that names one compressed member very often (Fifield 2019)."""
    once = zip_of(("big", bytes(4 << 20)))
    place = once.rindex(b"PK\x01\x02")
    end = once.rindex(b"PK\x05\x06")
    entry, count = once[place:end], 300
    tail = bytearray(once[end:])
    tail[8:12] = (count + 1).to_bytes(2, "little") * 2
    tail[12:16] = (end - once.index(b"PK\x01\x02") + len(entry) * (count - 1)).to_bytes(4, "little")
    return once[:end] + entry * (count - 1) + bytes(tail)


ZEROS = bytes(40 << 20)
HOSTILE: dict[str, tuple[str, Callable[[], bytes], str]] = {
    "parent": ("a.tar.gz", lambda: file_in_tar("../escaped"), "leads out of the folder"),
    "deep parent": (
        "a.tar.gz",
        lambda: file_in_tar("a/b/../../../escaped"),
        "leads out of the folder",
    ),
    "dots at the end": (
        "a.tar",
        lambda: tar_of(("a/..", tarfile.REGTYPE, b"", ""), mode="w"),
        "leads out",
    ),
    "backslashes": ("a.tgz", lambda: file_in_tar("..\\escaped"), "leads out of the folder"),
    "absolute": ("a.tar.gz", lambda: file_in_tar("/tmp/genmodels-escaped"), "has an absolute path"),
    "drive": ("a.tar.gz", lambda: file_in_tar("C:\\escaped"), "has an absolute path"),
    "symbolic link": ("a.tar.gz", lambda: special(tarfile.SYMTYPE, "../.."), "is a symbolic link"),
    "symbolic link to /": ("a.tar.gz", lambda: special(tarfile.SYMTYPE, "/"), "is a symbolic link"),
    "link, then through it": (
        "a.tar.gz",
        lambda: tar_of(
            ("way", tarfile.SYMTYPE, b"", ".."), ("way/escaped", tarfile.REGTYPE, b"evil", "")
        ),
        "is a symbolic link",
    ),
    "hard link": ("a.tar.gz", lambda: special(tarfile.LNKTYPE, "/etc/passwd"), "is a hard link"),
    "character device": ("a.tar.gz", lambda: special(tarfile.CHRTYPE), "is a device"),
    "block device": ("a.tar.gz", lambda: special(tarfile.BLKTYPE), "is a device"),
    "pipe": ("a.tar.gz", lambda: special(tarfile.FIFOTYPE), "is a pipe"),
    "unknown type": ("a.tar.gz", lambda: special(b"Z"), "is a special file|damaged"),
    "newline in a name": ("a.tar.gz", lambda: file_in_tar("a\nb"), "has no proper name"),
    "name without end": ("a.tar.gz", lambda: file_in_tar("x" * 300), "has no proper name"),
    "path without end": ("a.tar.gz", lambda: file_in_tar("x/" * 2500 + "y"), "has no proper name"),
    "folder as a file": ("a.tar.gz", lambda: file_in_tar("."), "has no proper name"),
    "one name twice": ("a.tar.gz", lambda: file_in_tar("fine.txt"), "is given twice"),
    "file, then folder": ("a.tar.gz", lambda: file_in_tar("fine.txt/below"), "is given twice"),
    "tar bomb": ("a.tar.gz", lambda: file_in_tar("zeros", ZEROS), "a bomb"),
    "bzip2 bomb": (
        "a.tar.bz2",
        lambda: tar_of(("z", tarfile.REGTYPE, ZEROS, ""), mode="w:bz2"),
        "a bomb",
    ),
    "xz bomb": (
        "a.tar.xz",
        lambda: tar_of(("z", tarfile.REGTYPE, ZEROS, ""), mode="w:xz"),
        "a bomb",
    ),
    "gzip bomb": ("zeros.gz", lambda: gzip.compress(ZEROS), "a bomb"),
    "single bzip2 bomb": ("zeros.bz2", lambda: bz2.compress(ZEROS), "a bomb"),
    "single xz bomb": ("zeros.xz", lambda: lzma.compress(ZEROS), "a bomb"),
    "name bomb": ("a.tar.gz", pax_bomb, "a bomb"),
    "zip bomb": ("a.zip", lambda: zip_of(("zeros", ZEROS)), "a bomb"),
    "zip of many": (
        "a.zip",
        lambda: zip_of(*((f"{n}", bytes(1 << 20)) for n in range(40))),
        "a bomb",
    ),
    "overlapping zip": ("a.zip", overlapping_zip, "a bomb|damaged|twice"),
    "zip parent": ("a.zip", lambda: zip_of(("../escaped", b"evil")), "leads out of the folder"),
    "zip absolute": (
        "a.zip",
        lambda: zip_of(("/tmp/genmodels-escaped", b"evil")),
        "has an absolute path",
    ),
    "zip link": (
        "a.zip",
        lambda: zip_of(("way", b"/etc"), mode=stat.S_IFLNK | 0o777),
        "is a symbolic link",
    ),
    "zip pipe": (
        "a.zip",
        lambda: zip_of(("pipe", b""), mode=stat.S_IFIFO | 0o666),
        "is a special file",
    ),
    "encrypted zip": ("a.zip", encrypted_zip, "damaged"),
    "zip with a false sum": (
        "a.zip",
        lambda: zip_of(("a", b"abcdefgh" * 50)).replace(b"PK\x03\x04", b"PK\x03\x05", 1),
        "damaged",
    ),
    "truncated tar": (
        "a.tar.gz",
        lambda: file_in_tar("a", bytes(range(256)) * 999)[:-900],
        "damaged",
    ),
    "truncated zip": ("a.zip", lambda: zip_of(("a", b"x" * 99))[:-30], "damaged"),
    "truncated gzip": ("a.gz", lambda: gzip.compress(bytes(range(256)) * 99)[:-9], "damaged"),
    "flipped gzip": ("a.gz", lambda: gzip.compress(b"x" * 999)[:-6] + b"abcdef", "damaged"),
    "flipped bzip2": ("a.bz2", lambda: bz2.compress(b"x" * 999)[:-9] + b"abcdefghi", "damaged"),
    "flipped xz": ("a.xz", lambda: lzma.compress(b"x" * 999)[:-9] + b"abcdefghi", "damaged"),
    "empty tar": ("a.tar.gz", lambda: b"", "damaged"),
    "empty zip": ("a.zip", lambda: b"", "damaged"),
    "text as zip": ("a.zip", lambda: b"not found", "damaged"),
    "text as tar": ("a.tar.gz", lambda: b"<html>404</html>" * 99, "damaged"),
    "text as gzip": ("a.gz", lambda: b"<html>404</html>", "it is no archive"),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_hostile_archives(what: str, tmp_path: Path) -> None:
    name, make, reason = HOSTILE[what]
    archive = tmp_path / "in" / name
    archive.parent.mkdir()
    archive.write_bytes(make())
    target = tmp_path / "deep/inside/target"
    with pytest.raises(
        RefusedArchiveError, match=f"{name}: (refused|damaged).*({reason})|{name}: {reason}"
    ):
        unpack(archive, target)
    everything = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")}
    assert everything == {"in", f"in/{name}", "deep", "deep/inside", "deep/inside/target"}
    assert not Path("/tmp/genmodels-escaped").exists()


def test_too_many_members(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MAX_MEMBERS", 5)
    (tmp_path / "a.zip").write_bytes(zip_of(*((f"{number}", b"") for number in range(6))))
    with pytest.raises(RefusedArchiveError, match="more than 5 members"):
        unpack(tmp_path / "a.zip", tmp_path / "target")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("good.tar.gz", file_in_tar("below/b.txt", b"b")),
        ("good.zip", zip_of(("below/b.txt", b"b"))),
        (
            "good.tar",
            tar_of(
                ("fine.txt", tarfile.REGTYPE, b"fine", ""),
                ("below", tarfile.DIRTYPE, b"", ""),
                ("below/b.txt", tarfile.REGTYPE, b"b", ""),
                mode="w",
            ),
        ),
    ],
)
def test_what_is_wanted_is_unpacked(name: str, content: bytes, tmp_path: Path) -> None:
    archive, target = tmp_path / name, tmp_path / "target"
    archive.write_bytes(content)
    assert sorted(unpack(archive, target)) == [target / "below/b.txt", target / "fine.txt"]
    assert (target / "below/b.txt").read_bytes() == b"b"
    assert unpack(archive, target, wanted="*/b.*") == [
        target / "below/b.txt"
    ]  # again, over what is there
    assert sorted(path.name for path in target.iterdir()) == ["below", "fine.txt"]


def test_a_single_file_takes_the_name_of_its_archive(tmp_path: Path) -> None:
    (tmp_path / "train-images.gz").write_bytes(gzip.compress(b"pixels"))
    assert unpack(tmp_path / "train-images.gz", tmp_path) == [tmp_path / "train-images"]
    assert (tmp_path / "train-images").read_bytes() == b"pixels"
