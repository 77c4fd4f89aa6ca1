"""Published data sets: fetched, unpacked, read, tidied away; and damaged or hostile archives."""

import gzip
import io
import struct
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision.datasets as tv
from conftest import idx_bytes
from file_server import FileServer, running_server
from published_datasets import (
    FORMATS,
    PublishedFormat,
    colour_images,
    gray_images,
    tar_gz,
    zipped,
)

from genmodels.data import class_names, datasets
from genmodels.data.cached_dataset import CachedDataset
from genmodels.data.torchvision_sets import unpack


@dataclass(frozen=True)
class Published:
    """A data set that a server publishes, and a root below a folder that has none of its files."""

    name: str
    format: PublishedFormat
    folder: Path
    server: FileServer

    @property
    def root(self) -> Path:
        return self.folder / "root"

    @property
    def home(self) -> Path:
        return self.root / self.format.folder

    def open(self, *, cache: str = "cache", **options: Any) -> CachedDataset:
        usual = {"root": str(self.root), "download": True, "keep_raw": False}
        options = usual | self.format.options | options
        return getattr(datasets, self.name)(cache=str(self.folder / cache), **options)

    def put_by_hand(self, name: str, content: bytes) -> None:
        self.home.mkdir(parents=True, exist_ok=True)
        (self.home / name).write_bytes(content)


@pytest.fixture(params=FORMATS)
def published(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[Published]:
    with running_server() as server:
        published = Published(request.param, FORMATS[request.param], tmp_path, server)
        published.root.mkdir()
        published.format.publish(server, monkeypatch)
        yield published


def only(*names: str) -> pytest.MarkDecorator:
    """Of all the published data sets these."""
    return pytest.mark.parametrize("published", names, indirect=True)


def files_in(folder: Path) -> list[str]:
    paths = [path for path in folder.rglob("*") if path.suffix != ".lock"]
    return sorted(path.relative_to(folder).as_posix() for path in paths)


# On the way from the network to the cache.


def test_download_then_tidy(published: Published, tmp_path: Path) -> None:
    data = published.open().load()
    assert data.spec.image_shape == tuple(data.train.images.shape[1:])
    assert sum(len(split) for split in data.splits.values()) in (30, 40)
    assert files_in(published.root) == []
    (cache,) = files_in(tmp_path / "cache")
    assert cache.endswith(".safetensors")
    requests = len(published.server.requests)
    again = published.open(download=False).load()
    assert len(published.server.requests) == requests and again.checksum == data.checksum


def test_keep_raw_keeps_files_and_they_are_read(published: Published) -> None:
    data = published.open(keep_raw=True).load()
    kept = files_in(published.root)
    assert published.format.kept <= {path.name for path in published.home.iterdir()}
    requests = len(published.server.requests)
    other = published.open(download=False, cache="other").load()
    assert len(published.server.requests) == requests
    assert torch.equal(other.train.images, data.train.images)
    published.open(cache="third").load()  # also with keep_raw=false, what lies there stays
    assert files_in(published.root) == kept
    path = published.open().path
    before = path.stat().st_mtime_ns
    published.open().load()
    assert path.stat().st_mtime_ns == before  # the cache was made from the files that were kept


def test_archives_put_there_by_hand(published: Published, tmp_path: Path) -> None:
    """As the message says: they serve without network, and stay."""
    for name, content in published.server.files.items():
        published.put_by_hand(name, content)
    before = files_in(published.root)
    data = published.open(download=False).load()
    assert sum(len(split) for split in data.splits.values()) in (30, 40)
    assert published.server.requests == [] and files_in(published.root) == before
    assert len(files_in(tmp_path / "cache")) == 1


def test_a_lying_server_changes_nothing(published: Published, tmp_path: Path) -> None:
    published.server.behaviours = ["page"] * 20
    message = (
        r"^dataset\.root=.*no .* files in .*sends another file.*Put into .* by hand: .*md5"
        ".*The same command again"
    )
    with pytest.raises(ValueError, match=message) as caught:
        published.open().load()
    assert len(str(caught.value).splitlines()) <= 12
    assert files_in(tmp_path) == ["cache", "root"]
    published.server.behaviours = []
    assert published.open().load()
    assert len(files_in(tmp_path / "cache")) == 1


def test_no_download_and_no_files(published: Published, tmp_path: Path) -> None:
    message = r"not there\. Put into .* by hand: .*, or let train\.py fetch them"
    with pytest.raises(ValueError, match=message):
        published.open(download=False).load()
    assert published.server.requests == [] and files_in(tmp_path) == ["cache", "root"]


def test_a_wrong_file_put_there_by_hand_is_named_and_stays(published: Published) -> None:
    name = next(iter(published.server.files))
    published.put_by_hand(name, b"something else")
    with pytest.raises(ValueError, match=f"{name}: not the published file, or damaged"):
        published.open().load()
    assert (published.home / name).read_bytes() == b"something else"


def test_a_broken_download_is_resumed_later(published: Published, tmp_path: Path) -> None:
    published.server.behaviours = ["break off", *["500"] * 50]
    with pytest.raises(ValueError, match="cannot be fetched"):
        published.open().load()
    assert len(list((tmp_path / "cache").rglob("*.part"))) == 1
    published.server.behaviours = []
    published.open().load()
    assert any(byte_range for _, byte_range in published.server.requests)
    assert len(files_in(tmp_path / "cache")) == 1


# What is read from them.


def load(dataset: CachedDataset) -> tuple[torch.Tensor, torch.Tensor]:
    data = dataset.load()
    return data.train.images, data.train.labels


@only("emnist")
def test_letters_stand_upright_and_count_from_a(published: Published) -> None:
    images, labels = load(published.open())
    np.testing.assert_array_equal(images[:30, 0], gray_images("train"))
    assert labels[:30].tolist() == [number % 26 for number in range(30)]
    spec = published.open().spec
    assert spec.classes[labels[2]] == "c" and spec.num_classes == 26
    digits = published.open(split="digits")
    assert load(digits)[1][:12].tolist() == [*range(10), 0, 1] and digits.spec.num_classes == 10
    with pytest.raises(ValueError, match="split=letter: must be one of byclass, bymerge"):
        published.open(split="letter")


@pytest.mark.parametrize(
    ("split", "count"), {"byclass": 62, "bymerge": 47, "balanced": 47, "mnist": 10}.items()
)
def test_classes_of_emnist_are_torchvisions(split: str, count: int) -> None:
    classes = class_names.EMNIST[split]
    assert len(classes) == count == len(set(classes))
    assert list(classes) == tv.EMNIST.classes_split_dict[split]


@only("cifar10")
def test_cifar10_in_its_order(published: Published) -> None:
    images, labels = load(published.open())
    batches = [colour_images(6, number) for number in range(1, 6)]
    np.testing.assert_array_equal(images, np.concatenate([*batches, colour_images(10, 9)]))
    expected = np.repeat([1, 2, 3, 4, 5, 9], [6, 6, 6, 6, 6, 10])
    assert labels.tolist() == expected.tolist()
    assert published.open().load().test.rows.tolist() == list(range(30, 40))


@only("flowers")
def test_flowers_of_all_published_splits_with_their_names(published: Published) -> None:
    images, labels = load(published.open())
    assert images.shape == (30, 3, 16, 16)
    numbers = (images[:, 0].float().mean((1, 2)) / 8).round().long()  # the colour says which
    assert sorted(numbers.tolist()) == list(range(1, 31))
    assert numbers.tolist() != list(range(1, 31))  # shuffled
    assert torch.equal(labels, numbers % 102)
    spec = published.open().spec
    assert spec.num_classes == 102 and spec.classes[0] == "pink primrose"
    assert [len(split) for split in published.open().load().splits.values()] == [22, 2, 6]


@only("flowers")
@pytest.mark.parametrize("name", ["setid.mat", "jpg/image_00007.jpg"])
def test_a_damaged_flower_is_named(published: Published, name: str) -> None:
    published.open(keep_raw=True).load()
    (published.home / name).write_bytes(b"something else")
    with pytest.raises(ValueError, match=rf"no readable Flowers102 files in .*{name}"):
        published.open(cache="other").load()


@only("celeba")
def test_faces_are_cropped_and_their_splits_are_the_published_ones(published: Published) -> None:
    images, labels = load(published.open())
    assert images[:, 0].max() < 40
    assert labels.unique().tolist() == [-1] and published.open().spec.classes == ()
    numbers = (images[:, 2].float().mean((1, 2)) / 8).round()
    assert numbers.tolist() == list(range(1, 31))
    data = published.open().load()
    assert data.train.rows.tolist() == list(range(20))
    assert data.validation.rows.tolist() == list(range(20, 24))
    assert data.test.rows.tolist() == list(range(24, 30))
    with pytest.raises(ValueError, match="attribute=Grumpy: must be null or one of 5_o_Clock"):
        published.open(attribute="Grumpy")


@only("celeba")
def test_an_attribute_divides_faces_into_two_classes(published: Published) -> None:
    smiling = published.open(attribute="Smiling")
    assert smiling.spec.classes == ("not Smiling", "Smiling")
    column = class_names.CELEBA_ATTRIBUTES.index("Smiling")
    assert load(smiling)[1].tolist() == [int((index + column) % 3 == 0) for index in range(30)]


def test_idx_bytes_are_what_the_format_says() -> None:
    expected = struct.pack(">BBBBii", 0, 0, 8, 2, 2, 3) + bytes(6)
    assert idx_bytes(np.zeros((2, 3), np.uint8)) == expected


def write_mnist(root: Path, images: dict[str, np.ndarray], labels: dict[str, np.ndarray]) -> None:
    folder = root / "MNIST" / "raw"
    folder.mkdir(parents=True)
    for split in ("train", "t10k"):
        (folder / f"{split}-images-idx3-ubyte").write_bytes(idx_bytes(images[split]))
        (folder / f"{split}-labels-idx1-ubyte").write_bytes(idx_bytes(labels[split]))


@pytest.mark.parametrize(
    ("labels", "side", "message"),
    [
        ({"train": range(70)}, 28, "60 training images have 70 labels"),
        ({"train": range(50), "t10k": range(30)}, 28, "60 training images have 50 labels"),
        ({"t10k": range(5)}, 28, "20 test images have 5 labels"),
        ({"train": range(196, 256)}, 28, "its labels go from 0 to 255, where there are 10 classes"),
        ({}, 32, r"its images are \(1, 32, 32\) torch.uint8, not \(1, 28, 28\) torch.uint8"),
    ],
)
def test_files_that_do_not_fit_each_other_are_refused(
    labels: dict, side: int, message: str, tmp_path: Path
) -> None:
    sizes = {"train": 60, "t10k": 20}
    images = {split: np.zeros((size, side, side), np.uint8) for split, size in sizes.items()}
    usual = {split: np.arange(size) % 10 for split, size in sizes.items()}
    changed = {split: np.array(values) for split, values in labels.items()}
    write_mnist(tmp_path, images, usual | changed)
    dataset = datasets.mnist(
        root=str(tmp_path), download=False, keep_raw=False, cache=str(tmp_path / "cache")
    )
    with pytest.raises(ValueError, match=message):
        dataset.load()
    assert not dataset.path.exists()


# Archives.

FILES = {"fine.txt": b"fine", "below/b.txt": b"b"}


def tar_with_link(name: str, target: str, kind: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        info = tarfile.TarInfo(name)
        info.type, info.linkname = kind, target
        tar.addfile(info)
        escaped = tarfile.TarInfo(f"{name}/escaped")
        tar.addfile(escaped, io.BytesIO())
    return buffer.getvalue()


REFUSED = {
    "parent.tar.gz": tar_gz(FILES | {"../escaped": b"evil"}),
    "deep parent.tgz": tar_gz(FILES | {"a/b/../../../escaped": b"evil"}),
    "link.tar.gz": tar_with_link("link", "..", tarfile.SYMTYPE),
    "absolute link.tar.gz": tar_with_link("link", "/", tarfile.SYMTYPE),
    "hard link.tar.gz": tar_with_link("link", "/etc/passwd", tarfile.LNKTYPE),
    "truncated.tar.gz": tar_gz(FILES | {"a": bytes(range(256)) * 999})[:-900],
    "truncated.zip": zipped(FILES)[:-30],
    "truncated.gz": gzip.compress(bytes(range(256)) * 99)[:-9],
    "flipped.gz": gzip.compress(b"x" * 999)[:-6] + b"abcdef",
    "empty.tar.gz": b"",
    "empty.zip": b"",
    "page.zip": b"<html>404</html>",
    "page.tar.gz": b"<html>404</html>" * 99,
    "page.gz": b"<html>404</html>",
}


@pytest.mark.parametrize("name", REFUSED)
def test_an_archive_that_is_refused_leaves_nothing(name: str, tmp_path: Path) -> None:
    archive, target = tmp_path / name, tmp_path / "deep/target"
    archive.write_bytes(REFUSED[name])
    with pytest.raises(ValueError, match=f"{name}: damaged or refused"):
        unpack(archive, target)
    assert files_in(tmp_path) == sorted([name, "deep", "deep/target"])


@pytest.mark.parametrize(
    ("name", "content"),
    {
        "absolute.tar.gz": tar_gz({"/tmp/genmodels-escaped": b"evil"}),
        "absolute.zip": zipped({"/tmp/genmodels-escaped": b"evil"}),
        "parent.zip": zipped({"../../tmp/genmodels-escaped": b"evil"}),
    }.items(),
)
def test_names_that_lead_out_of_the_folder_are_made_to_lead_into_it(
    name: str, content: bytes, tmp_path: Path
) -> None:
    archive, target = tmp_path / name, tmp_path / "deep/target"
    archive.write_bytes(content)
    unpack(archive, target)
    assert files_in(tmp_path / "deep") == ["target", "target/tmp", "target/tmp/genmodels-escaped"]
    assert not Path("/tmp/genmodels-escaped").exists()


@pytest.mark.parametrize(
    ("name", "content"), {"good.tar.gz": tar_gz(FILES), "good.zip": zipped(FILES)}.items()
)
def test_the_members_that_match_are_unpacked(name: str, content: bytes, tmp_path: Path) -> None:
    archive, target = tmp_path / name, tmp_path / "target"
    archive.write_bytes(content)
    unpack(archive, target, "*/b.*")
    assert files_in(target) == ["below", "below/b.txt"]
    unpack(archive, target)  # again, over what is there
    assert files_in(target) == ["below", "below/b.txt", "fine.txt"]
    assert (target / "below/b.txt").read_bytes() == b"b"


def test_a_single_file_takes_the_name_of_its_archive(tmp_path: Path) -> None:
    (tmp_path / "train-images.gz").write_bytes(gzip.compress(b"pixels"))
    unpack(tmp_path / "train-images.gz", tmp_path)
    assert (tmp_path / "train-images").read_bytes() == b"pixels"
