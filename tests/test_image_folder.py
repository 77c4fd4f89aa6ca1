"""Folders of images as people have them, and as nobody should: used, or left out by name."""

import builtins
import errno
import io
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import write_pictures
from disk_limits import file_size_limit
from hostile_images import HOSTILE_FILES
from PIL import Image

from genmodels.data import datasets, image_folder
from genmodels.data.cached_dataset import CachedDataset
from genmodels.data.image_files import SquareCrop, printable
from genmodels.data.images import ImageSpec

DOG = "\N{CJK UNIFIED IDEOGRAPH-72AC} and $x^{$"
UNDECODABLE = os.fsdecode(b"no\xfftext.png")


def open_folder(root: Path, **options: object) -> CachedDataset:
    usual: dict[str, Any] = {
        "root": str(root),
        "name": root.name,
        "side": 16,
        "channels": None,
        "labelled": None,
        "background": "white",
        "max_unreadable": 0.0,
        "cache": str(root.parent / "cache"),
    }
    return datasets.folder(**usual | options)


def images_of(root: Path, **options: object) -> torch.Tensor:
    return open_folder(root, **options).load().train.images


def notes_of(tmp_path: Path) -> str:
    """The file that lists what was left out of the folder "root"."""
    (path,) = (tmp_path / "cache").glob("root-*.txt")
    return path.read_text(encoding="utf-8")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Twelve coloured images."""
    write_pictures(tmp_path / "root")
    return tmp_path / "root"


# Classes and channels.


def test_folders_of_classes(tmp_path: Path) -> None:
    root = tmp_path / "root"
    labels = {}  # image -> label
    for label, name in enumerate(["cats", "dogs", DOG]):
        write_pictures(root / name / "deep" / "er", count=5 + label, seed=label)
        for path in (root / name).rglob("*.png"):
            labels.setdefault(SquareCrop(16, 3).read(path).tobytes(), label)
    (root / "empty").mkdir()
    dataset = open_folder(root)
    assert dataset.spec == ImageSpec("root", (3, 16, 16), ("cats", "dogs", DOG))
    train = dataset.load().train
    in_order = [0] * 5 + [1] * 6 + [2] * 7
    assert sorted(train.labels.tolist()) == in_order != train.labels.tolist()  # shuffled
    assert train.labels.tolist() == [labels[image.numpy().tobytes()] for image in train.images]
    assert open_folder(root, labelled=False).spec.classes == ()


@pytest.mark.parametrize("names", [("train", "test"), ("Train", "val", "test")])
def test_parts_are_not_classes(names: tuple[str, ...], tmp_path: Path) -> None:
    for seed, name in enumerate(names):
        write_pictures(tmp_path / "root" / name, seed=seed)
    spec = open_folder(tmp_path / "root").spec
    assert spec.classes == () and "are taken for parts" in spec.why_unlabelled
    assert len(open_folder(tmp_path / "root", labelled=True).spec.classes) == len(names)


def test_palettes_with_transparency_are_read_without_a_warning(root: Path) -> None:
    pixels = Image.new("P", (16, 16), 1)
    pixels.putpalette([200, 10, 10] * 256)
    pixels.save(root / "palette.png", transparency=bytes([0, 128, 255]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert open_folder(root).spec.image_shape[0] == 3
        assert len(images_of(root)) == 13


def test_without_labels_where_images_lie_beside_the_folders(root: Path) -> None:
    write_pictures(root / "more", seed=1)
    assert open_folder(root).spec.classes == ()
    reason = open_folder(root).spec.why_unlabelled
    assert reason == "12 images lie outside of its sub-folders, such as 000.png"
    assert open_folder(root).load().train.labels.tolist() == [-1] * 24
    assert open_folder(root, labelled=True).spec.classes == ("more",)


def test_without_labels_where_there_is_one_folder(tmp_path: Path) -> None:
    write_pictures(tmp_path / "root/only")
    assert open_folder(tmp_path / "root").spec.classes == ()


def test_as_many_channels_as_the_images_have(root: Path) -> None:
    for path in root.iterdir():
        Image.open(path).convert("L").convert("RGB").save(path.with_suffix(".jpg"))
        path.unlink()
    assert images_of(root).shape == (12, 1, 16, 16)
    assert images_of(root, channels=3).shape == (12, 3, 16, 16)
    write_pictures(root, count=1)
    assert images_of(root).shape == (13, 3, 16, 16)
    assert images_of(root, channels=1).shape == (13, 1, 16, 16)


# The cache.


def test_cached_by_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Moved or touched files are not decoded again; with another content or option they are."""
    decoded = []
    read = SquareCrop.read

    def counting_read(crop: SquareCrop, path: Path) -> Any:
        decoded.append(path)
        return read(crop, path)

    monkeypatch.setattr(SquareCrop, "read", counting_read)
    write_pictures(tmp_path / "here/root")
    cache = {"cache": str(tmp_path / "cache")}
    first = images_of(tmp_path / "here/root", **cache)
    assert len(decoded) == 12
    os.utime(tmp_path / "here/root/000.png")
    (tmp_path / "here").rename(tmp_path / "there")
    root = tmp_path / "there/root"
    assert torch.equal(images_of(root, **cache), first) and len(decoded) == 12
    images_of(root, background="black", **cache)
    images_of(root, side=8, **cache)
    assert len(decoded) == 36
    write_pictures(root, count=1, seed=9)
    assert not torch.equal(images_of(root, **cache), first) and len(decoded) == 48


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"listing": 3', "null"])
def test_what_is_remembered_of_a_folder_may_be_damaged(
    content: str, root: Path, tmp_path: Path
) -> None:
    first = images_of(root)
    (remembered,) = (tmp_path / "cache").glob("folder-*.json")
    remembered.write_text(content)
    assert torch.equal(images_of(root), first)


def test_no_space_for_the_images(root: Path, tmp_path: Path) -> None:
    write_pictures(root, 40)
    message = r"too large: '.*cache/root-[0-9a-f]+\.files'"
    with file_size_limit(9000), pytest.raises(OSError, match=message):
        images_of(root)
    stays = {path.suffix for path in (tmp_path / "cache").rglob("*")}
    assert stays <= {".lock", ".json"}
    assert len(images_of(root)) == 40


def test_no_permission_for_the_cache(root: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file/cache"):
        images_of(root, cache=str(tmp_path / "file/cache"))


# What is left out, or refused.


def test_what_is_no_image_is_skipped_by_name(
    root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_pictures(tmp_path / "outside")
    (root / "out.png").symlink_to(tmp_path / "outside/000.png")
    (root / "passwd.png").symlink_to("/etc/passwd")
    (root / "broken.png").symlink_to(root / "nowhere.png")
    (root / "folder").symlink_to(tmp_path / "outside")
    (root / "loop").symlink_to(root)
    (root / "itself.png").symlink_to(root / "itself.png")
    (root / "inside.png").symlink_to(root / "000.png")
    os.mkfifo(root / "pipe.png")
    for name in ("a.txt", "b.txt", "c.heic", "d", ".hidden.png", "._000.png", "Thumbs.db"):
        (root / name).write_text("x")
    with open(root / "huge.png", "wb") as file:
        file.truncate(image_folder.MAX_FILE_BYTES + 1)
    assert len(images_of(root)) == 13
    for line in (
        "out.png (a link out of the folder)",
        "passwd.png (a link out of the folder)",
        "broken.png (no regular file)",
        "folder (a link out of the folder)",
        "loop (a link",
        "itself.png (too many levels of symbolic links)",
        "pipe.png (no regular file)",
        "huge.png (more than 256 MB)",
        "files of other kinds: 2 .txt, 1 .heic, 1 without an ending",
    ):
        assert f"skipped: {line}" in caplog.text and f"skipped: {line}" in notes_of(tmp_path)
    assert "hidden" not in caplog.text and "Thumbs" not in caplog.text


def test_what_may_not_be_read_is_left_out_by_name(
    root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As for others than root, who may read everything."""
    write_pictures(root / "closed")
    real_open, real_scandir = builtins.open, os.scandir

    def deny(path: object) -> None:
        if str(path).endswith(("003.png", "closed")):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))

    def guarded_open(path: Any, *args: Any, **options: Any) -> Any:
        deny(path)
        return real_open(path, *args, **options)

    def guarded_scandir(path: Any) -> Any:
        deny(path)
        return real_scandir(path)

    monkeypatch.setattr(builtins, "open", guarded_open)
    monkeypatch.setattr(io, "open", guarded_open)  # pathlib's
    monkeypatch.setattr(os, "scandir", guarded_scandir)
    images = images_of(root, labelled=False, max_unreadable=0.5)
    assert len(images) == 11
    notes = notes_of(tmp_path)
    assert "skipped: closed (permission denied)" in notes
    assert "unreadable: 003.png ([Errno 13] Permission denied" in notes


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (lambda root: None, {}, "no such folder. Give the one that holds your images"),
        (lambda root: root.mkdir(), {}, r"holds no images \(\.png, "),
        (
            lambda root: (root.mkdir(), (root / "a.heic").touch()),
            {},
            "Skipped: files of other kinds: 1 .heic",
        ),
        (lambda root: write_pictures(root, 1), {}, "1 images are too few: at least 10 are needed"),
        (lambda root: write_pictures(root, 9), {}, "9 images are too few"),
        (lambda root: write_pictures(root), {"labelled": True}, "holds no images in class folders"),
    ],
)
def test_folders_that_are_refused(
    make: Callable, options: dict, message: str, tmp_path: Path
) -> None:
    make(tmp_path / "root")
    with pytest.raises(ValueError, match=rf"^dataset\.root={tmp_path}/root: .*{message}"):
        images_of(tmp_path / "root", **options)
    assert not list(tmp_path.glob("cache/*.safetensors"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"side": 4}, "side=4: must be an integer >= 8"),
        ({"side": 5000}, "side=5000: must be"),
        ({"channels": 2}, "channels=2: must be 1, 3 or null"),
        ({"background": "whitish"}, "background=whitish: must be"),
        ({"max_unreadable": 1.0}, "max_unreadable=1.0: must be a share"),
    ],
)
def test_illegal_options(options: dict, message: str, root: Path) -> None:
    with pytest.raises(ValueError, match=message):
        images_of(root, **options)


def test_a_class_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    root = tmp_path / "root"
    write_pictures(root / "cats", 20)
    (root / "dogs").mkdir()
    (root / "dogs/a.png").write_text("woof")
    with pytest.raises(ValueError, match="no image of the class dogs can be read"):
        images_of(root, max_unreadable=0.5)


# Hostile ones.


@pytest.fixture
def hostile_root(root: Path) -> Path:
    """Twelve good images among more than fifty hostile files."""
    for name, make in HOSTILE_FILES.items():
        (root / name).write_bytes(make())
    (root / UNDECODABLE).write_bytes(b"x")
    return root


def test_of_a_hostile_folder_the_good_images_are_read(
    hostile_root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """No file crashes, none escapes, each is named."""
    before = sorted(tmp_path.rglob("*"))
    assert len(before) > 50
    assert len(images_of(hostile_root, max_unreadable=0.99)) == 12
    after = [path for path in tmp_path.rglob("*") if "cache" not in path.parts]
    assert sorted(after) == before and not Path("/tmp/genmodels-escaped").exists()
    lines = notes_of(tmp_path).splitlines()
    assert len(lines) == len(HOSTILE_FILES) + 1
    for name in (*HOSTILE_FILES, UNDECODABLE):
        start = f"unreadable: {printable(name)} ("
        assert any(line.startswith(start) for line in lines), name
    reasons = {
        "large.png": "more than 64,000,000 pixels",
        "floats.tif": "floating-point",
        "rather_large.png": "9000 x 9000 pixels",
        "text.png": "not an image",
        "32_bits.tif": "beyond 16 bits",
        "truncated.jpg": "truncated",
    }
    for name, reason in reasons.items():
        (line,) = (line for line in lines if line.startswith(f"unreadable: {name} ("))
        assert reason in line
    assert "and 34 more" in caplog.text and "\x1b" not in caplog.text


def test_too_many_unreadable_files_are_refused(hostile_root: Path) -> None:
    message = (
        r"5\d of 6\d images cannot be read, more than dataset\.max_unreadable=0\.05 "
        r"allows: .*\(.*\); and 4\d more$"
    )
    with pytest.raises(ValueError, match=message):
        images_of(hostile_root, max_unreadable=0.05)


def test_deep_trees_end(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Deeper than Python's recursion goes. Removed again, since pytest's own tidying recurses."""
    depth = 1200
    monkeypatch.chdir(root)
    try:
        for _ in range(depth):
            os.mkdir("d")
            os.chdir("d")
        images = image_folder.scan(root, None)
    finally:
        for _ in range(depth):
            os.chdir("..")
            os.rmdir("d")
    assert len(images.names) == 12 and not images.classes
