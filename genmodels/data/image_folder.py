"""A folder of images: what is in it, whether that has changed, and its way into one tensor."""

import hashlib
import json
import logging
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch

from genmodels import files
from genmodels.data import image_files
from genmodels.data.cached_dataset import DecodedImages
from genmodels.data.image_files import SquareCrop, printable

log = logging.getLogger(__name__)

# Sub-folders of these names alone are parts of a data set; splits are drawn from all images
SPLITS = {"train", "training", "val", "valid", "validation", "test", "testing"}
MAX_FILE_BYTES = 256 * 2**20
MAX_NAMES_IN_ERROR = 8
MAX_LINES_IN_LOG = 20  # all are in the file that it names
SYSTEM_FILES = ("Thumbs.db", "desktop.ini", "__MACOSX")


@dataclass(frozen=True)
class ImageFolder:
    """The image files of a folder, and what else is there.

    Arguments:
    root: the folder.
    names: relative paths with "/", sorted.
    states: size in bytes and time of change in ns of each file.
    labels: of each file; -1 where there are no classes.
    classes: sub-folders with images, sorted; empty where there are no labels.
    skipped: what is not taken for an image, and why.
    why_unlabelled: why there are no classes, where nobody said so.
    """

    root: Path
    names: Sequence[str]
    states: Sequence[tuple[int, int]]
    labels: Sequence[int]
    classes: Sequence[str]
    skipped: Sequence[str]
    why_unlabelled: str = ""

    @property
    def key(self) -> str:
        """Changes with every name, size and time; the same key is taken for the same contents."""
        text = repr((self.names, self.states))
        return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()


class FolderSummary(NamedTuple):
    """What the contents of all image files of a folder say."""

    digest: str  # of the files and their names; the same wherever the folder lies
    gray: bool  # whether no image has a colour


def scan(root: Path, labelled: bool | None) -> ImageFolder:
    """Find all image files below a folder. Raises ValueError where there are none.

    Links that lead out of the folder, links to folders, pipes, devices, very large files and
    files of other kinds are skipped and listed; hidden files are not even listed.

    Arguments:
    root: the folder.
    labelled: whether the first sub-folder on the way to an image is its class; None: if there
        are at least two such sub-folders, not called as SPLITS, and no image lies beside them.
    """
    states, skipped = _image_states(root)
    names = sorted(states)
    folders = sorted({name.partition("/")[0] for name in names if "/" in name})
    why_unlabelled = ""
    if labelled is None:
        why_unlabelled = _why_unlabelled(names, folders)
        labelled = not why_unlabelled
    if labelled:
        unlabelled = [name for name in names if "/" not in name]
        empty = _empty_folders(root, folders)
        skipped += [f"{printable(name)} (in no class folder)" for name in unlabelled]
        skipped += [f"{printable(name)} (a class folder without images)" for name in empty]
        names = [name for name in names if "/" in name]
    if not names:
        where = " in class folders" if labelled else ""
        others = f". Skipped: {'; '.join(abbreviate(skipped))}" if skipped else ""
        suffixes = ", ".join(image_files.SUFFIXES)
        raise ValueError(f"dataset.root={root}: holds no images{where} ({suffixes}){others}")
    classes = folders if labelled else []
    label = {name: index for index, name in enumerate(classes)}
    return ImageFolder(
        root,
        names,
        [states[name] for name in names],
        [label.get(name.partition("/")[0], -1) for name in names],
        tuple(printable(name) for name in classes),
        skipped,
        why_unlabelled,
    )


def _why_unlabelled(names: Sequence[str], folders: Sequence[str]) -> str:
    """Why sub-folders are not taken for classes; "" where they are."""
    beside = [name for name in names if "/" not in name]
    if not folders:
        return "its images do not lie in sub-folders"
    if beside:
        return f"{len(beside):,} images lie outside of its sub-folders, such as {beside[0]}"
    if len(folders) == 1:
        return f"its images lie in one sub-folder, {folders[0]}"
    if SPLITS.issuperset(name.lower() for name in folders):
        names_of_parts = " and ".join(folders)
        return (
            f"{names_of_parts} are taken for parts of a data set, not for classes; "
            "dataset.labelled=true takes them for classes"
        )
    return ""


def summarise(images: ImageFolder, cache: Path) -> FolderSummary:
    """What the contents of the files say.

    It is kept in the cache until a file changes, so that the files are read for it only once. A
    copy of a folder has the same digest, and is not decoded again.
    """
    place = os.fsencode(images.root.resolve())
    digest = hashlib.sha256(place).hexdigest()
    path = cache / f"folder-{digest[:8]}.json"
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
        if known["listing"] == images.key:
            return FolderSummary(known["contents"], known["gray"])
    except (OSError, ValueError, KeyError, TypeError):  # none yet, or damaged: made again
        pass
    gray = image_files.all_gray(images.root / name for name in images.names)
    summary = FolderSummary(_digest(images), gray)
    known = {"listing": images.key, "contents": summary.digest, "gray": summary.gray}
    files.write_json(path, known)
    return summary


def decode(
    folder: ImageFolder, crop: SquareCrop, max_unreadable: float, workspace: Path
) -> DecodedImages:
    """All images that can be read, with their labels, in a constant random order.

    What is left out is logged, and written to a text file beside the workspace. Raises ValueError
    where too many images cannot be read, a class has none left, or fewer than ten are left in all.

    Arguments:
    folder: as `scan` found it.
    crop: how files become images.
    max_unreadable: the share of files that may be unreadable.
    workspace: a folder for large tensors.
    """
    order = image_files.shuffled_order(len(folder.names))
    names = [folder.names[index] for index in order]
    paths = [folder.root / name for name in names]
    images, problems = image_files.decode(paths, crop.read, crop.shape, workspace)
    unreadable = [f"{printable(names[index])} ({reason})" for index, reason in problems.items()]
    unreadable.sort()
    _report_left_out(folder, unreadable, workspace.with_suffix(".txt"))
    if len(problems) > max_unreadable * len(names):
        raise ValueError(
            f"dataset.root={folder.root}: {len(problems):,} of {len(names):,} images cannot be "
            f"read, more than dataset.max_unreadable={max_unreadable:g} allows: "
            f"{'; '.join(abbreviate(unreadable))}"
        )
    if len(images) < 10:
        raise ValueError(
            f"dataset.root={folder.root}: {len(images)} images are too few: at least 10 are needed"
        )
    labels = [folder.labels[row] for index, row in enumerate(order) if index not in problems]
    readable_classes = set(labels)
    for label, name in enumerate(folder.classes):
        if label not in readable_classes:
            raise ValueError(
                f"dataset.root={folder.root}: no image of the class {name} can be read. Mend "
                "them, or move that folder away"
            )
    return DecodedImages(images, torch.tensor(labels), test_start=None)


def abbreviate(lines: Sequence[str], count: int = MAX_NAMES_IN_ERROR) -> list[str]:
    """The first lines, and how many more there are."""
    shown = list(lines[:count])
    if len(lines) > count:
        shown.append(f"and {len(lines) - count:,} more")
    return shown


def _report_left_out(folder: ImageFolder, unreadable: Sequence[str], path: Path) -> None:
    lines = [f"skipped: {line}" for line in folder.skipped]
    lines += [f"unreadable: {line}" for line in unreadable]
    if lines:
        files.write_text(path, "\n".join(lines) + "\n")
        shown = "\n  ".join(abbreviate(lines, MAX_LINES_IN_LOG))
        log.warning("left out of %s (%s has all):\n  %s", folder.root, path, shown)


def _image_states(root: Path) -> tuple[dict[str, tuple[int, int]], list[str]]:
    """The state of every image file below a folder by relative name, and what is skipped."""
    states, skipped = {}, []
    other_kinds: Counter[str] = Counter()
    for entry, problem in _walk(root):
        name = Path(entry.path).relative_to(root).as_posix()
        _, suffix = os.path.splitext(entry.name.lower())
        if problem:
            skipped.append(f"{printable(name)} ({problem})")
        elif suffix not in image_files.SUFFIXES:
            other_kinds[printable(suffix) or "without an ending"] += 1
        elif (status := entry.stat()).st_size > MAX_FILE_BYTES:
            skipped.append(f"{printable(name)} (more than {MAX_FILE_BYTES >> 20} MB)")
        else:
            states[name] = (status.st_size, status.st_mtime_ns)
    if other_kinds:
        common = other_kinds.most_common(MAX_NAMES_IN_ERROR)
        counts = ", ".join(f"{count:,} {kind}" for kind, count in common)
        skipped.append(f"files of other kinds: {counts}")
    return states, skipped


def _walk(root: Path) -> Iterator[tuple[os.DirEntry, str]]:
    """Every file below a folder that is not hidden, with why it is skipped, "" if it is not."""
    inside = os.path.join(os.path.realpath(root), "")
    stack = _entries(root)
    while stack:
        entry = stack.pop()
        problem = _problem(entry, inside)
        if problem or not entry.is_dir():
            yield entry, problem
            continue
        try:
            stack += _entries(entry.path)
        except OSError as error:
            yield entry, _reason(error)


def _entries(folder: str | Path) -> list[os.DirEntry]:
    """What a folder holds and is not hidden, the last name first."""
    with os.scandir(folder) as entries:
        shown = [entry for entry in entries if not _is_hidden(entry.name)]
    return sorted(shown, key=lambda entry: entry.name, reverse=True)


def _problem(entry: os.DirEntry, inside: str) -> str:
    """Why neither a file nor a folder is there to be read; "" where one is.

    Arguments:
    entry: of a folder.
    inside: the folder that links may not lead out of, with a separator at its end.
    """
    try:
        if entry.is_symlink() and not os.path.realpath(entry.path).startswith(inside):
            return "a link out of the folder"
        if entry.is_dir():
            return "a link to a folder" if entry.is_symlink() else ""
        return "" if entry.is_file() else "no regular file"
    except OSError as error:
        return _reason(error)


def _reason(error: OSError) -> str:
    """In the system's words, without the path: "permission denied"."""
    return (error.strerror or str(error)).lower()


def _empty_folders(root: Path, folders: Sequence[str]) -> list[str]:
    """Sub-folders that are not among those with images."""
    with os.scandir(root) as entries:
        names = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    shown = [name for name in names if not _is_hidden(name)]
    return sorted(set(shown) - set(folders))


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name in SYSTEM_FILES


def _digest(images: ImageFolder) -> str:
    def digest_of_file(name: str) -> bytes:
        try:
            with open(images.root / name, "rb") as file:
                return hashlib.file_digest(file, "blake2b").digest()
        except OSError as error:  # it is left out, and named, when images are decoded
            return _reason(error).encode()

    total = hashlib.blake2b(digest_size=16)
    contents = image_files.parallel_map(digest_of_file, images.names, "reading images")
    for name, content in zip(images.names, contents, strict=True):
        total.update(os.fsencode(name) + b"\0" + content)
    return total.hexdigest()
