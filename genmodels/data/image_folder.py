"""A folder of pictures: what is in it, whether that has changed, and its way into one tensor."""

import hashlib
import json
import logging
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from genmodels import files
from genmodels.data import image_files
from genmodels.data.cached_dataset import Decoded

log = logging.getLogger(__name__)

MAX_BYTES = 256 * 2**20  # of one file
SHOWN = 8  # names in a refusal
LISTED = 20  # names in a warning; all are in the file that it names


@dataclass(frozen=True)
class Listing:
    """The pictures of a folder, by name, and what else is there."""

    root: Path
    names: Sequence[str]  # relative paths with "/", sorted
    stamps: Sequence[tuple[int, int]]  # size in bytes and time of change in ns of each
    labels: Sequence[int]  # of each; -1 where there are no classes
    classes: Sequence[str]  # sub-folders with pictures, sorted; empty where there are no labels
    passed_over: Sequence[str]  # what is not taken for a picture, and why

    @property
    def key(self) -> str:
        """Changes with every name, size and time: while it is the same, the contents are taken to be."""
        return hashlib.sha256(
            repr((self.names, self.stamps)).encode(errors="surrogateescape")
        ).hexdigest()


def find(root: Path, labelled: bool | None) -> Listing:
    """All pictures below a folder. With labels, the first sub-folder on the way to a picture is its class.

    labelled None: if there are at least two such sub-folders, and no picture lies beside them. Links that lead out of
    the folder, links to folders, pipes, devices, very large files and files of other kinds are passed over; hidden
    ones are not even mentioned. Raises ValueError where there are no pictures.
    """
    found, passed_over = _pictures(root)
    names = sorted(found)
    folders = sorted({name.partition("/")[0] for name in names if "/" in name})
    if labelled is None:
        labelled = len(folders) > 1 and all("/" in name for name in names)
    if labelled:
        passed_over += [
            f"{image_files.printable(name)} (in no class folder)"
            for name in names
            if "/" not in name
        ]
        empty = sorted(
            entry.name
            for entry in os.scandir(root)
            if entry.is_dir(follow_symlinks=False)
            and not _hidden(entry.name)
            and entry.name not in folders
        )
        passed_over += [
            f"{image_files.printable(name)} (a class folder without pictures)" for name in empty
        ]
        names = [name for name in names if "/" in name]
    if not names:
        others = f". Passed over: {'; '.join(few(passed_over))}" if passed_over else ""
        raise ValueError(
            f"dataset.root={root}: holds no pictures"
            f"{' in class folders' if labelled else ''} ({', '.join(image_files.SUFFIXES)}){others}"
        )
    label = {folder: index for index, folder in enumerate(folders)} if labelled else {}
    return Listing(
        root,
        names,
        [found[name] for name in names],
        [label.get(name.partition("/")[0], -1) for name in names],
        tuple(map(image_files.printable, folders)) if labelled else (),
        passed_over,
    )


def known_contents(listing: Listing, cache: Path) -> tuple[str, bool]:
    """(a digest of all pictures and their names, whether none of them has a colour).

    The digest is the same wherever the folder lies, so that a copy of it is not decoded again. Both are remembered in
    the cache until the listing changes: pictures are read for them only once.
    """
    place = hashlib.sha256(os.fsencode(listing.root.resolve())).hexdigest()[:8]
    path = cache / f"folder-{place}.json"
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
        if known["listing"] == listing.key:
            return known["contents"], known["gray"]
    except (OSError, ValueError, KeyError, TypeError):  # none yet, or not whole: made again
        pass
    known = {
        "listing": listing.key,
        "contents": _digest(listing),
        "gray": image_files.all_gray(listing.root / name for name in listing.names),
    }
    files.write_json(path, known)
    return known["contents"], known["gray"]


def decode(
    listing: Listing,
    how: image_files.SquareCrop,
    max_unreadable: float,
    workspace: Path,
    notes: Path,
) -> Decoded:
    """All pictures that can be read, with their labels, shuffled. Writes what was left out to `notes`, and logs it.

    Raises ValueError where more than the share `max_unreadable` cannot be read, a class has none left, or fewer than
    ten pictures are left in all.
    """
    root = listing.root
    order = image_files.shuffled(len(listing.names))
    names = [listing.names[index] for index in order]
    images, problems = image_files.decode(
        names, lambda name: how.read(root / name), how.shape, workspace
    )
    unreadable = sorted(
        f"{image_files.printable(names[index])} ({reason})" for index, reason in problems.items()
    )
    lines = [f"passed over: {line}" for line in listing.passed_over] + [
        f"unreadable: {line}" for line in unreadable
    ]
    if lines:
        files.write_text(notes, "\n".join(lines) + "\n")
        log.warning(
            "left out of %s (%s has all):\n  %s", root, notes, "\n  ".join(few(lines, LISTED))
        )
    if len(problems) > max_unreadable * len(listing.names):
        raise ValueError(
            f"dataset.root={root}: {len(problems):,} of {len(listing.names):,} pictures cannot be read, "
            f"more than dataset.max_unreadable={max_unreadable:g} allows: {'; '.join(few(unreadable))}"
        )
    if len(images) < 10:
        raise ValueError(
            f"dataset.root={root}: {len(images)} pictures are too few: at least 10 are needed"
        )
    labels = torch.tensor(
        [listing.labels[row] for index, row in enumerate(order) if index not in problems]
    )
    for label, name in enumerate(listing.classes):
        if not (labels == label).any():
            raise ValueError(
                f"dataset.root={root}: no picture of the class {name} can be read. Mend them, or move "
                "that folder away"
            )
    return Decoded(images, labels, test_from=None)


def few(lines: Sequence[str], count: int = SHOWN) -> list[str]:
    """The first lines, and how many more there are."""
    return [*lines[:count], *([f"and {len(lines) - count:,} more"] if len(lines) > count else [])]


def _pictures(root: Path) -> tuple[dict[str, tuple[int, int]], list[str]]:
    """Size and time of every picture below a folder by its relative name, and what is passed over, in words."""
    found, passed_over = {}, []
    others: Counter[str] = Counter()
    for entry, problem in _walk(root):
        name = Path(entry.path).relative_to(root).as_posix()
        suffix = os.path.splitext(entry.name)[1].lower()
        if problem:
            passed_over.append(f"{image_files.printable(name)} ({problem})")
        elif suffix not in image_files.SUFFIXES:
            others[image_files.printable(suffix) or "without an ending"] += 1
        elif (status := entry.stat()).st_size > MAX_BYTES:
            passed_over.append(f"{image_files.printable(name)} (more than {MAX_BYTES >> 20} MB)")
        else:
            found[name] = (status.st_size, status.st_mtime_ns)
    if others:
        counts = ", ".join(f"{count:,} {kind}" for kind, count in others.most_common(SHOWN))
        passed_over.append(f"files of other kinds: {counts}")
    return found, passed_over


def _walk(root: Path) -> Iterator[tuple[os.DirEntry, str]]:
    """Every file below a folder that is not hidden, with what speaks against it, "" if nothing does."""
    stack = [os.fspath(root)]
    inside = os.path.join(os.path.realpath(root), "")
    while stack:
        with os.scandir(stack.pop()) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                if _hidden(entry.name):
                    continue
                if entry.is_symlink() and not os.path.realpath(entry.path).startswith(inside):
                    yield entry, "a link out of the folder"
                elif entry.is_dir(follow_symlinks=False):
                    stack.append(entry.path)
                elif entry.is_dir():
                    yield entry, "a link to a folder"
                elif not entry.is_file():
                    yield entry, "no regular file"
                else:
                    yield entry, ""


def _hidden(name: str) -> bool:
    return name.startswith(".") or name in ("Thumbs.db", "desktop.ini", "__MACOSX")


def _digest(listing: Listing) -> str:
    def of_file(name: str) -> bytes:
        with open(listing.root / name, "rb") as file:
            return hashlib.file_digest(file, "blake2b").digest()

    total = hashlib.blake2b(digest_size=16)
    contents = image_files.parallel(of_file, listing.names, "looking at pictures")
    for name, content in zip(listing.names, contents, strict=True):
        total.update(os.fsencode(name) + b"\0" + content)
    return total.hexdigest()
