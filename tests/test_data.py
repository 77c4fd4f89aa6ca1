"""Data sets on tiny files in their true formats, the cache, the splits, the stream of batches."""

import multiprocessing
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import ROOT, composed, idx_bytes
from disk_limits import file_size_limit

from genmodels import files, hardware
from genmodels.data import datasets, images
from genmodels.data.cached_dataset import (
    TEST,
    TRAIN,
    VALIDATION,
    CachedDataset,
    DecodedImages,
    assign_splits,
)
from genmodels.data.images import BatchStream, ImageData, ImageSet, ImageSpec
from genmodels.randomness import CONSTANT_SEED, generator

FOLDERS = {"mnist": "MNIST", "fashion_mnist": "FashionMNIST"}
TEST_IMAGES = "MNIST/raw/t10k-images-idx3-ubyte"

OpenDataset = Callable[..., CachedDataset]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """40 + 10 images of two data sets as torchvision lays them out."""
    rng = np.random.default_rng(0)
    for folder in FOLDERS.values():
        raw = tmp_path / "root" / folder / "raw"
        raw.mkdir(parents=True)
        for split, size in (("train", 40), ("t10k", 10)):
            pixels = idx_bytes(rng.integers(0, 256, (size, 28, 28)))
            (raw / f"{split}-images-idx3-ubyte").write_bytes(pixels)
            (raw / f"{split}-labels-idx1-ubyte").write_bytes(idx_bytes(np.arange(size) % 10))
    return tmp_path / "root"


@pytest.fixture
def open_dataset(tmp_path: Path) -> OpenDataset:
    """A function that opens a published data set, MNIST by default, without network."""

    def call(name: str = "mnist", **options: Any) -> CachedDataset:
        usual = {
            "root": str(tmp_path / "root"),
            "download": False,
            "keep_raw": False,
            "cache": str(tmp_path / "cache"),
        }
        return getattr(datasets, name)(**usual | options)

    return call


def cached(folder: Path, pixels: torch.Tensor, origin: str = "") -> CachedDataset:
    """A data set of these pixels without labels."""
    decoded = DecodedImages(pixels, torch.full((len(pixels),), -1), None)
    spec = ImageSpec("x", tuple(pixels.shape[1:]))
    return CachedDataset(spec, lambda _: decoded, folder, origin=origin)


# Files and their cache.


@pytest.mark.parametrize("name", FOLDERS)
def test_idx_files_are_read_where_they_lie(
    name: str, root: Path, open_dataset: OpenDataset, tmp_path: Path
) -> None:
    dataset = open_dataset(name)
    assert dataset.spec.image_shape == (1, 28, 28) and dataset.spec.num_classes == 10
    data = dataset.load()
    assert [len(split) for split in data.splits.values()] == [36, 4, 10]
    content = (root / FOLDERS[name] / "raw/t10k-images-idx3-ubyte").read_bytes()
    batch = data.test.batch(slice(0, 10))
    assert batch.images.dtype == torch.float32 and batch.labels.tolist() == list(range(10))
    assert images.to_uint8(batch.images).numpy().tobytes() == content[16:]
    assert not (root / "cache").exists()
    assert len(list((tmp_path / "cache").glob("*.safetensors"))) == 1


def test_changed_files_are_read_again(root: Path, open_dataset: OpenDataset) -> None:
    open_dataset().load()
    (root / TEST_IMAGES).write_bytes(idx_bytes(np.full((10, 28, 28), 51)))
    pixels = open_dataset().load().test.batch(slice(0, 1)).images
    assert pixels.min() == pixels.max() == pytest.approx(0.2)


def test_the_cache_serves_when_the_files_are_gone(root: Path, open_dataset: OpenDataset) -> None:
    expected = open_dataset().load().train.images
    for file in (root / "MNIST/raw").iterdir():
        file.unlink()
    torch.testing.assert_close(open_dataset().load().train.images, expected)


@pytest.mark.parametrize("damage", ["truncate", "flip", "empty", "text"])
def test_a_damaged_cache_is_built_again(
    damage: str, root: Path, open_dataset: OpenDataset, caplog: pytest.LogCaptureFixture
) -> None:
    expected = open_dataset().load().train.images
    path = open_dataset().path
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[-100] ^= 1
    damaged = {"truncate": whole[:-500], "flip": flipped, "empty": b"", "text": b"hello"}
    path.write_bytes(damaged[damage])
    torch.testing.assert_close(open_dataset().load().train.images, expected)
    assert "building it again" in caplog.text
    caplog.clear()
    open_dataset().load()
    assert "building it again" not in caplog.text


def test_a_cache_without_the_state_of_its_files_is_built_again(tmp_path: Path) -> None:
    dataset = cached(tmp_path, torch.zeros(10, 1, 2, 2, dtype=torch.uint8))
    dataset.load()
    content = dataset.path.read_bytes()
    dataset.path.write_bytes(content.replace(b'"state"', b'"stale"'))
    assert len(replace(dataset, file_state=lambda: "new").load().train) == 7


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs Linux's memory maps")
@pytest.mark.parametrize(("share", "mapped"), [(0.0, True), (1.0, False)])
def test_a_large_cache_is_memory_mapped(share: float, mapped: bool, tmp_path: Path) -> None:
    pixels = torch.randint(0, 256, (5000, 1, 28, 28), dtype=torch.uint8)
    dataset = replace(cached(tmp_path, pixels), memory_share=share)
    data = dataset.load()
    assert torch.equal(data.train.images, pixels)
    assert data.train.labels.tolist() == [-1] * 5000
    address, holds_images = data.train.images.data_ptr(), False
    for line in Path("/proc/self/maps").read_text().splitlines():
        start, end = (int(number, 16) for number in line.split()[0].split("-"))
        holds_images |= dataset.path.name in line and start <= address < end
    assert holds_images == mapped


def test_a_read_only_cache_serves(
    root: Path, open_dataset: OpenDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one that another account made: nothing is locked or written if nothing is to be built."""
    open_dataset().load()

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError

    monkeypatch.setattr(files, "FileLock", refuse)
    monkeypatch.setattr(Path, "mkdir", refuse)
    assert len(open_dataset().load().train) == 36


def test_caches_have_the_usual_permissions(
    root: Path, open_dataset: OpenDataset, tmp_path: Path
) -> None:
    open_dataset().load()
    (tmp_path / "usual").touch()
    assert open_dataset().path.stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_a_full_disk_is_named_and_leaves_nothing(
    root: Path, open_dataset: OpenDataset, tmp_path: Path
) -> None:
    with (
        file_size_limit(10_000),
        pytest.raises(OSError, match=r"cache/mnist-.*cannot be written.*too large"),
    ):
        open_dataset().load()
    assert [path.suffix for path in (tmp_path / "cache").iterdir()] == [".lock"]
    assert len(open_dataset().load().train) == 36


def decode_slowly(folder: Path, _: Path) -> DecodedImages:
    with open(folder / "decoded", "a") as file:
        file.write("x")
    time.sleep(0.3)
    pixels = torch.arange(20, dtype=torch.uint8).view(20, 1, 1, 1)
    return DecodedImages(pixels, torch.full((20,), -1), None)


def load_slowly(folder: Path, results: Any) -> None:
    dataset = CachedDataset(ImageSpec("x", (1, 1, 1)), partial(decode_slowly, folder), folder)
    results.put(dataset.load().train.images.flatten().tolist() == list(range(20)))


def test_of_several_processes_one_decodes(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    processes = [context.Process(target=load_slowly, args=(tmp_path, results)) for _ in range(3)]
    for process in processes:
        process.start()
    assert [results.get(timeout=30) for _ in processes] == [True] * 3
    for process in processes:
        process.join()
    assert (tmp_path / "decoded").read_text() == "x"


@pytest.mark.parametrize("download", [True, False])
def test_a_missing_root_is_named(download: bool, open_dataset: OpenDataset, tmp_path: Path) -> None:
    message = r"dataset\.root=.*nowhere: no MNIST files in .*nowhere/MNIST/raw"
    with pytest.raises(ValueError, match=message):
        open_dataset(root=str(tmp_path / "nowhere"), download=download)
    assert not (tmp_path / "nowhere").exists() and not (tmp_path / "cache").exists()


@pytest.mark.parametrize("content", ["truncated", "other magic"])
def test_a_damaged_file_is_refused(
    content: str, root: Path, open_dataset: OpenDataset, tmp_path: Path
) -> None:
    path = root / TEST_IMAGES
    whole = path.read_bytes()
    path.write_bytes(whole[:5000] if content == "truncated" else b"\1\2\3\4" + whole[4:])
    with pytest.raises(ValueError, match=r"dataset\.root=.*no readable MNIST files in .* \(.+\)"):
        open_dataset().load()
    assert not list((tmp_path / "cache").glob("*.safetensors"))


def test_a_cache_of_one_place_is_not_taken_for_another(tmp_path: Path) -> None:
    ones = torch.ones(10, 1, 2, 2, dtype=torch.uint8)
    assert cached(tmp_path, ones, origin="here").load().train.images.max() == 1
    assert cached(tmp_path, 2 * ones, origin="there").load().train.images.max() == 2


def test_digits(cache: Path) -> None:
    data = datasets.digits(cache=str(cache)).load()
    assert data.checksum == "70531398"  # the same images and splits on any machine
    assert sum(len(split) for split in data.splits.values()) == 1797
    pixels = data.train.images
    assert pixels.shape == (1797, 1, 28, 28) and pixels.dtype == torch.uint8
    assert pixels[..., :4, :].max() == 0 and 0.1 < pixels.float().mean() / 255 < 0.3
    assert torch.bincount(data.test.batch(slice(None)).labels, minlength=10).min() > 20
    again = datasets.digits(cache=str(cache)).load()
    assert torch.equal(again.test.rows, data.test.rows)


# What a checkpoint names.

SETTINGS = {"dataset._target_": "genmodels.data.datasets.mnist", "seed": 0}


def test_a_checkpoint_opens_its_data_set_here(root: Path, tmp_path: Path) -> None:
    settings = SETTINGS | {"dataset.root": "elsewhere", "dataset.download": True}
    dataset = datasets.open_dataset(settings, str(root), str(tmp_path / "cache"))
    assert dataset.spec.name == "mnist" and len(dataset.load().train) == 36
    digits = {"dataset._target_": "genmodels.data.datasets.digits"}
    assert datasets.open_dataset(digits, str(root), str(tmp_path)).spec.name == "digits"


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "genmodels.data.datasets.Path",
        "genmodels.data.datasets.open_dataset",
        "genmodels.data.cached_dataset.assign_splits",
        "genmodels.data.datasets.TorchvisionDataset",
        "",
        ["genmodels.data.datasets.mnist"],
    ],
)
def test_a_checkpoint_opens_nothing_but_data_sets(target: object, tmp_path: Path) -> None:
    settings = {"dataset._target_": target}
    with pytest.raises(ValueError, match="not a data set of this project"):
        datasets.open_dataset(settings, str(tmp_path), str(tmp_path))


@pytest.mark.parametrize("name", ["dataset.side", "dataset.a.b"])
def test_arguments_that_a_data_set_does_not_take_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"dataset\._target_=.*mnist: .*unexpected"):
        datasets.open_dataset(SETTINGS | {name: 8}, str(tmp_path), str(tmp_path))


@pytest.mark.parametrize("name", [path.stem for path in (ROOT / "conf/dataset").glob("*.yaml")])
def test_a_checkpoint_may_name_every_data_set(name: str) -> None:
    target = composed("train", f"dataset={name}").dataset._target_
    assert target in {f"{each.__module__}.{each.__name__}" for each in datasets.DATASETS}


def test_a_folder_of_images_has_a_default_place_of_its_own(tmp_path: Path) -> None:
    assert composed("train", "dataset=folder").dataset.root == str(datasets.DEFAULT_FOLDER)


# Splits and batches.


@pytest.mark.parametrize(
    ("size", "test_start"), [(100, None), (100, 80), (10, None), (60_000, 50_000)]
)
def test_splits_cover_everything_once(size: int, test_start: int | None) -> None:
    splits = assign_splits(size, test_start)
    test = splits == TEST
    assert test.sum() == (size // 5 if test_start is None else size - test_start)
    assert splits.eq(VALIDATION).sum() == min(5000, (~test).sum() // 10 or 1)
    assert splits.eq(TRAIN).any() and splits.max() == TEST
    assert torch.equal(splits, assign_splits(size, test_start))
    if test_start is not None:
        assert test[test_start:].all() and not test[:test_start].any()


def test_an_official_validation_split_is_kept() -> None:
    splits = assign_splits(100, test_start=80, validation_start=50)
    assert splits.tolist() == [TRAIN] * 50 + [VALIDATION] * 30 + [TEST] * 20


def test_too_few_images_are_refused() -> None:
    with pytest.raises(ValueError, match="9 images are too few"):
        assign_splits(9, None)


def numbered(size: int) -> ImageSet:
    """Black images whose labels are their positions."""
    pixels = torch.zeros(size, 1, 1, 1, dtype=torch.uint8)
    return ImageSet(pixels, torch.arange(size), torch.arange(size))


def test_subsets_are_the_ones_that_published_numbers_are_of() -> None:
    """Known draws, in their own order or in that of the split."""
    split = replace(numbered(1000), rows=torch.arange(1000).flip(0))
    drawn = split.subset(5, generator(CONSTANT_SEED, "drawn"))
    assert drawn.rows.tolist() == [528, 454, 671, 288, 91]
    in_order = split.subset(5, generator(CONSTANT_SEED, "spectrum"), in_order=True)
    assert in_order.rows.tolist() == [823, 732, 435, 176, 150]
    assert torch.equal(in_order.batch(slice(5)).labels, in_order.rows)


def test_a_subset_larger_than_the_split_is_the_split() -> None:
    everything = list(range(7))
    shuffled = numbered(7).subset(9, generator(0, "x")).rows.tolist()
    assert sorted(shuffled) == everything != shuffled
    in_order = numbered(7).subset(9, generator(0, "x"), in_order=True)
    assert in_order.rows.tolist() == everything


@pytest.mark.parametrize(("size", "batch_size"), [(10, 3), (10, 10), (3, 10), (7, 1)])
def test_stream(size: int, batch_size: int) -> None:
    """Every image once an epoch, full batches; other epochs and seeds have other orders."""
    stream = BatchStream(numbered(size), batch_size, seed=0)
    batches = [stream.batch(step).labels for step in range(4 * size)]
    assert all(len(batch) == batch_size for batch in batches)
    labels = torch.cat(batches).view(-1, size)
    assert labels.sort(dim=1).values.eq(torch.arange(size)).all()
    fresh = BatchStream(numbered(size), batch_size, seed=0)
    for step in (5, 2, 4 * size - 1, 0):
        assert torch.equal(fresh.batch(step).labels, batches[step])
    if size > 6:
        assert not torch.equal(labels[0], labels[1])
        assert not torch.equal(BatchStream(numbered(size), size, seed=1).batch(0).labels, labels[0])


def test_data_too_large_for_a_device_stay_and_their_batches_go(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pixels = torch.zeros(40, 1, 8, 8, dtype=torch.uint8)
    split = ImageSet(pixels, torch.zeros(40, dtype=torch.long), torch.arange(40))
    data = ImageData(ImageSpec("x", (1, 8, 8)), split, split, split, "abc")
    device = torch.device("meta")
    assert data.to(device).test.images.device == device
    assert data.to(torch.device("cpu")) is data
    monkeypatch.setattr(hardware, "memory", lambda: 1000)
    moved = data.to(device)
    assert moved.test.images.device.type == "cpu" and moved.checksum == "abc"
    assert moved.test.batch(slice(0, 3)).images.device == device


# Values of pixels.


def test_float_and_uint8_are_inverse() -> None:
    levels = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    assert torch.equal(images.to_uint8(images.to_float(levels)), levels)
    assert images.to_float(levels).aminmax() == (0, 1)
    assert images.to_uint8(torch.tensor([-1.0, 2.0])).tolist() == [0, 255]


def test_binarised_images_have_the_gray_values_as_means() -> None:
    torch.manual_seed(0)
    gray = torch.linspace(0, 1, 11).view(1, 1, 1, 11).expand(50_000, 1, 1, 11)
    binary = images.binarise(gray)
    assert set(binary.unique().tolist()) == {0.0, 1.0}
    torch.testing.assert_close(binary.mean(dim=0), gray[0], atol=0.01, rtol=0)
    assert binary[..., 0].max() == 0 and binary[..., -1].min() == 1
