"""Archives, unpacked so that nothing is ever written outside the target, whatever they hold.

Members are checked here, one by one: tar's own filter has holes (CVE-2025-4517, in Python before 3.11.13), and
zipfile knows nothing of bombs.
"""

import bz2
import gzip
import lzma
import shutil
import stat
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import IO, Any, NamedTuple

from genmodels.files import naming

SUFFIXES = (".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz")
COMPRESSIONS: dict[bytes, Callable[[Path], Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ": lzma.open,
}
MAX_RATIO = 30  # bytes unpacked for each byte of the archive (idx files: 5; bombs: 1,000 and more)
SLACK = 10 * 2**20  # bytes that any archive may unpack to
MAX_MEMBERS = 500_000  # CelebA has 202,599
CHUNK = 2**20

BROKEN = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    RuntimeError,
    NotImplementedError,
    UnicodeError,
    ValueError,
    IndexError,
    KeyError,
    OverflowError,
)


class RefusedArchiveError(ValueError):
    """An archive that is damaged, or whose members have no place in a folder of ours."""


class _Member(NamedTuple):
    name: str
    kind: str  # "file", "folder", or what else it is, which is refused
    content: IO[bytes] | None  # of a file


def is_archive(path: Path) -> bool:
    """Whether `unpack` is for this file, by its name."""
    return path.suffix.lower() in SUFFIXES


def unpack(archive: Path, target: Path, wanted: str = "*") -> list[Path]:
    """Unpack the members of a zip, a tar, or a single compressed file whose names match a pattern; returns their paths.

    All or nothing: they are moved into the target when the whole archive has been read. Raises RefusedArchiveError,
    naming archive and member, for links, devices, absolute paths, paths with "..", one name given twice, bombs, and
    damaged archives.
    """
    target.mkdir(parents=True, exist_ok=True)
    with naming(target), tempfile.TemporaryDirectory(dir=target, prefix=".unpacking-") as temporary:
        written = _write(archive, Path(temporary), wanted)
        for entry in Path(temporary).iterdir():
            _move(entry, target / entry.name)
    return [target / path for path in written]


class _Limited:
    """A stream of which no more than so many bytes can be read."""

    def __init__(self, stream: IO[bytes], archive: Path, room: int | None = None) -> None:
        self._stream = stream
        self._archive = archive
        self.room = MAX_RATIO * archive.stat().st_size + SLACK if room is None else room

    def read(self, size: int) -> bytes:
        data = self._stream.read(min(size, self.room + 1))
        self.room -= len(data)
        if self.room < 0:
            raise RefusedArchiveError(
                f"{self._archive}: refused: it unpacks to more than {MAX_RATIO} times its size: "
                "a bomb"
            )
        return data


def _write(archive: Path, folder: Path, wanted: str) -> list[PurePosixPath]:
    written = []
    try:
        for number, member in enumerate(_members(archive)):
            name = _safe(archive, member)
            if number >= MAX_MEMBERS:
                raise RefusedArchiveError(f"{archive}: refused: more than {MAX_MEMBERS:,} members")
            if member.content is not None and fnmatch(member.name, wanted):
                _copy(member.content, folder / name)
                written.append(name)
    except RefusedArchiveError:
        raise
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        raise RefusedArchiveError(
            f"{archive}: refused: one name is given twice ({error.filename})"
        ) from None
    except (OSError, *BROKEN) as error:
        if isinstance(error, OSError) and error.errno is not None:  # the disk's, not the archive's
            raise
        raise RefusedArchiveError(f"{archive}: damaged ({type(error).__name__}: {error})") from None
    return written


def _members(archive: Path) -> Iterator[_Member]:
    if archive.suffix.lower() == ".zip":
        yield from _zip_members(archive)
        return
    is_tar = ".tar" in archive.suffixes or archive.suffix == ".tgz"
    with open(archive, "rb") as file:
        start = file.read(5)
    opener = next(
        (opener for magic, opener in COMPRESSIONS.items() if start.startswith(magic)), None
    )
    if opener is None and not is_tar:
        raise RefusedArchiveError(f"{archive}: refused: it is no archive")
    with opener(archive) if opener else open(archive, "rb") as stream:
        limited: Any = _Limited(stream, archive)
        if is_tar:
            yield from _tar_members(limited)
        else:
            yield _Member(archive.stem, "file", limited)


def _tar_members(stream: IO[bytes]) -> Iterator[_Member]:
    kinds = {
        tarfile.DIRTYPE: "folder",
        tarfile.SYMTYPE: "symbolic link",
        tarfile.LNKTYPE: "hard link",
        tarfile.CHRTYPE: "device",
        tarfile.BLKTYPE: "device",
        tarfile.FIFOTYPE: "pipe",
    }
    with tarfile.open(fileobj=stream, mode="r|") as tar:
        for entry in tar:
            kind = (
                "file"
                if entry.isreg() and not entry.issparse()
                else kinds.get(entry.type, "special file")
            )
            yield _Member(entry.name, kind, tar.extractfile(entry) if kind == "file" else None)


def _zip_members(archive: Path) -> Iterator[_Member]:
    room = MAX_RATIO * archive.stat().st_size + SLACK
    with zipfile.ZipFile(archive) as zipped:
        for info in zipped.infolist():
            mode = info.external_attr >> 16
            if info.is_dir():
                yield _Member(info.filename, "folder", None)
            elif stat.S_IFMT(mode) not in (0, stat.S_IFREG):
                yield _Member(
                    info.filename, "symbolic link" if stat.S_ISLNK(mode) else "special file", None
                )
            else:
                limited: Any
                with zipped.open(info) as content:
                    limited = _Limited(content, archive, room)
                    yield _Member(info.filename, "file", limited)
                room = limited.room


def _safe(archive: Path, member: _Member) -> PurePosixPath:
    """The member's path below the target, or a refusal."""
    name = PurePosixPath(member.name.replace("\\", "/"))
    reason = ""
    if member.kind not in ("file", "folder"):
        reason = f"is a {member.kind}"
    elif name.is_absolute() or ":" in member.name:
        reason = "has an absolute path"
    elif ".." in name.parts:
        reason = "leads out of the folder"
    elif (
        any(ord(character) < 32 for character in member.name)
        or (member.kind == "file" and not name.parts)
        or any(len(part.encode(errors="replace")) > 255 for part in name.parts)
        or len(member.name) > 1000
    ):
        reason = "has no proper name"
    if reason:
        raise RefusedArchiveError(f"{archive}: refused: its member {member.name!r:.200} {reason}")
    return name


def _copy(content: IO[bytes], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with naming(path), open(path, "xb") as file:
        shutil.copyfileobj(content, file, CHUNK)


def _move(entry: Path, place: Path) -> None:
    """Move a file or a folder to its place; what an interrupted unpacking left there makes way."""
    if entry.is_dir() and place.is_dir():
        shutil.rmtree(place)
    entry.replace(place)
