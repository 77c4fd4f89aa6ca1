"""Data sets on tiny files in their true formats, the cache, the parts, the stream."""

import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import idx_bytes

from genmodels import files, hardware
from genmodels.data import cached_dataset, datasets, images
from genmodels.data.cached_dataset import CachedDataset, DecodedImages
from genmodels.data.images import Augmentation, BatchStream, ImageData, ImageSet, ImageSpec
from genmodels.randomness import CONSTANT_SEED, generator


def write_idx(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(idx_bytes(array))


def options(root: Path, tmp_path: Path) -> dict[str, Any]:
    return {
        "root": str(root),
        "download": False,
        "keep_raw": False,
        "cache": str(tmp_path / "cache"),
    }


@pytest.fixture
def idx_root(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for folder in ("MNIST", "FashionMNIST"):
        for part, size in (("train", 40), ("t10k", 10)):
            raw = tmp_path / "root" / folder / "raw"
            write_idx(raw / f"{part}-images-idx3-ubyte", rng.integers(0, 256, (size, 28, 28)))
            write_idx(raw / f"{part}-labels-idx1-ubyte", np.arange(size) % 10)
    return tmp_path / "root"


@pytest.mark.parametrize(
    ("name", "folder"), [("mnist", "MNIST"), ("fashion_mnist", "FashionMNIST")]
)
def test_idx_files_as_they_lie(name: str, folder: str, idx_root: Path, tmp_path: Path) -> None:
    source = getattr(datasets, name)(**options(idx_root, tmp_path))
    assert source.spec.image_shape == (1, 28, 28) and source.spec.num_classes == 10
    data = source.load()
    assert (len(data.train), len(data.validation), len(data.test)) == (36, 4, 10)
    raw = np.frombuffer(
        (idx_root / folder / "raw/t10k-images-idx3-ubyte").read_bytes()[16:], np.uint8
    )
    batch = data.test.batch(slice(0, 10))
    assert batch.images.dtype == torch.float32 and batch.labels.tolist() == list(range(10))
    np.testing.assert_array_equal(images.to_uint8(batch.images).numpy().ravel(), raw)
    assert (
        not (idx_root / "cache").exists()
        and len(list((tmp_path / "cache").glob("*.safetensors"))) == 1
    )


def test_other_files_in_the_same_place_are_read_again(idx_root: Path, tmp_path: Path) -> None:
    def first_pixel() -> float:
        source = datasets.mnist(**options(idx_root, tmp_path))
        return source.load().test.batch(slice(0, 1)).images[0, 0, 0, 0].item()

    first_pixel()
    write_idx(idx_root / "MNIST/raw/t10k-images-idx3-ubyte", np.full((10, 28, 28), 51))
    assert first_pixel() == pytest.approx(0.2)


def test_the_cache_serves_when_the_files_are_gone(idx_root: Path, tmp_path: Path) -> None:
    here = options(idx_root, tmp_path)
    expected = datasets.mnist(**here).load().train.images
    for file in (idx_root / "MNIST/raw").iterdir():
        file.unlink()
    torch.testing.assert_close(datasets.mnist(**here).load().train.images, expected)


@pytest.mark.parametrize("damage", ["truncate", "flip", "empty", "text"])
def test_a_damaged_cache_is_built_again(
    damage: str, idx_root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    here = options(idx_root, tmp_path)
    expected = datasets.mnist(**here).load().train.images
    path = datasets.mnist(**here).path
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(
        {"truncate": content[:-500], "flip": content, "empty": b"", "text": b"hello"}[damage]
    )
    torch.testing.assert_close(datasets.mnist(**here).load().train.images, expected)
    assert "building it again" in caplog.text
    caplog.clear()
    datasets.mnist(**here).load()
    assert "building it again" not in caplog.text


def test_a_large_cache_is_mapped_and_a_small_one_is_not(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pixels = torch.randint(0, 256, (5000, 1, 28, 28), dtype=torch.uint8)
    source = CachedDataset(
        ImageSpec("x", (1, 28, 28)), lambda _: DecodedImages(pixels, torch.arange(5000), None), tmp_path
    )
    maps = {}
    for memory in (10**12, 10**6):
        monkeypatch.setattr(hardware, "memory", lambda memory=memory: memory)
        data = source.load()
        assert torch.equal(data.train.images, pixels) and data.train.labels.tolist() == list(
            range(5000)
        )
        address = data.train.images.data_ptr()
        lines = (
            Path("/proc/self/maps").read_text().splitlines()
            if Path("/proc/self/maps").exists()
            else []
        )
        maps[memory] = [
            line
            for line in lines
            if source.path.name in line
            and any(
                int(low, 16) <= address < int(high, 16)
                for low, high in [line.split()[0].split("-")]
            )
        ]
        del data
    if lines:
        assert maps[10**6] and not maps[10**12]


def test_a_read_only_cache_serves(
    idx_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that another account made: nothing is locked or written where nothing has to be built."""
    here = options(idx_root, tmp_path)
    datasets.mnist(**here).load()

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError

    monkeypatch.setattr(files, "FileLock", refuse)
    monkeypatch.setattr(Path, "mkdir", refuse)
    assert len(datasets.mnist(**here).load().train) == 36


def test_caches_have_the_usual_permissions(idx_root: Path, tmp_path: Path) -> None:
    source = datasets.mnist(**options(idx_root, tmp_path))
    source.load()
    (tmp_path / "usual").touch()
    assert source.path.stat().st_mode == (tmp_path / "usual").stat().st_mode


@pytest.mark.skipif(not hasattr(os, "fork"), reason="limits of a process")
def test_a_full_disk_is_named_and_leaves_nothing(idx_root: Path, tmp_path: Path) -> None:
    import resource

    source = datasets.mnist(**options(idx_root, tmp_path))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(
            resource.RLIMIT_FSIZE, (10_000, before[1])
        )  # as if the disk had no more room
        with pytest.raises(OSError, match=r"cache/mnist-.*cannot be written.*too large"):
            source.load()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [path.suffix for path in (tmp_path / "cache").iterdir()] == [".lock"]
    assert len(source.load().train) == 36


def build_slowly(path: str, done: Any) -> None:
    def decode(_: Path) -> DecodedImages:
        with open(f"{path}/decoded", "a") as file:
            file.write("x")
        time.sleep(0.3)
        return DecodedImages(
            torch.arange(20, dtype=torch.uint8).view(20, 1, 1, 1), torch.arange(20), None
        )

    data = CachedDataset(ImageSpec("x", (1, 1, 1)), decode, Path(path)).load()
    done.put(data.train.images.flatten().tolist() == list(range(20)))


def test_of_two_processes_one_decodes(tmp_path: Path) -> None:
    import multiprocessing

    context = multiprocessing.get_context("fork")
    done = context.Queue()
    processes = [context.Process(target=build_slowly, args=(str(tmp_path), done)) for _ in range(3)]
    for process in processes:
        process.start()
    assert [done.get(timeout=30) for _ in processes] == [True] * 3
    for process in processes:
        process.join()
    assert (tmp_path / "decoded").read_text() == "x"


def test_the_memory_of_a_container_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "CGROUP_LIMIT", tmp_path / "memory.max")
    whole = hardware.memory()
    (tmp_path / "memory.max").write_text("max\n")
    assert hardware.memory() == whole > 2**28
    (tmp_path / "memory.max").write_text("1000000\n")
    assert hardware.memory() == 1_000_000


@pytest.mark.parametrize("download", [True, False])
def test_missing_files_are_named(download: bool, tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"dataset\.root=.*nowhere: no MNIST files in .*nowhere/MNIST/raw"
    ):
        datasets.mnist(**options(tmp_path / "nowhere", tmp_path) | {"download": download})
    assert not (tmp_path / "nowhere").exists() and not (tmp_path / "cache").exists()


def test_a_truncated_file_is_refused(idx_root: Path, tmp_path: Path) -> None:
    path = idx_root / "MNIST/raw/train-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(ValueError, match=r"dataset\.root=.*no readable MNIST files"):
        datasets.mnist(**options(idx_root, tmp_path)).load()
    assert not list((tmp_path / "cache").glob("*.safetensors"))


def test_digits(cache: Path) -> None:
    data = datasets.digits(cache=str(cache)).load()
    assert len(data.train) + len(data.validation) + len(data.test) == 1797
    everything = data.train.images
    assert everything.shape == (1797, 1, 28, 28) and everything.dtype == torch.uint8
    assert everything[..., :4, :].max() == 0 and 0.1 < everything.float().mean() / 255 < 0.3
    assert torch.bincount(data.test.batch(slice(None)).labels, minlength=10).min() > 20
    again = datasets.digits(cache=str(cache)).load()
    assert torch.equal(again.test.rows, data.test.rows)


@pytest.mark.parametrize(
    ("size", "test_from"), [(100, None), (100, 80), (10, None), (60_000, 50_000)]
)
def test_parts_cover_everything_once(size: int, test_from: int | None) -> None:
    part = cached_dataset.assign_splits(size, test_from)
    assert part.eq(2).sum() == (size // 5 if test_from is None else size - test_from)
    assert part.eq(1).sum() == min(5000, part.ne(2).sum() // 10 or 1) and part.eq(0).any()
    assert torch.equal(part, cached_dataset.assign_splits(size, test_from))
    if test_from is not None:
        assert part[test_from:].eq(2).all() and part[:test_from].ne(2).all()


def test_too_few_images_are_refused() -> None:
    with pytest.raises(ValueError, match="9 images are too few"):
        cached_dataset.assign_splits(9, None)


def numbered(size: int) -> ImageSet:
    return ImageSet(
        torch.zeros(size, 1, 1, 1, dtype=torch.uint8), torch.arange(size), torch.arange(size)
    )


def test_a_part_is_drawn_from_as_when_its_numbers_were_taken() -> None:
    """Metrics that are quoted go by these images: known draws, in their own order or in that of the part."""
    part = replace(numbered(1000), rows=torch.arange(1000).flip(0))
    assert part.subset(5, generator(CONSTANT_SEED, "drawn")).rows.tolist() == [
        528,
        454,
        671,
        288,
        91,
    ]
    chosen = part.subset(5, generator(CONSTANT_SEED, "spectrum"), in_order=True)
    assert chosen.rows.tolist() == [823, 732, 435, 176, 150] and torch.equal(
        chosen.batch(slice(5)).labels, chosen.rows
    )
    every = numbered(7).subset(9, generator(0, "x"))
    assert every.rows.sort().values.tolist() == list(range(7)) and every.rows.tolist() != list(
        range(7)
    )
    assert numbered(7).subset(9, generator(0, "x"), in_order=True).rows.tolist() == list(range(7))


@pytest.mark.parametrize(("size", "batch_size"), [(10, 3), (10, 10), (3, 10), (7, 1)])
def test_stream(size: int, batch_size: int) -> None:
    """Every image once an epoch, full batches, other orders for other epochs and seeds, the same for the same."""
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


def test_augmented_images_are_shifted_and_flipped_ones() -> None:
    """Each is one of the (2 * crop + 1)^2 shifts, or its mirror image; all of them come, equally often."""
    image = torch.rand(3, 6, 7)
    drawn = Augmentation(flip=True, crop=1)(
        image.expand(9000, 3, 6, 7), torch.Generator().manual_seed(0)
    )
    padded = torch.nn.functional.pad(image[None], (1, 1, 1, 1), mode="replicate")[0]
    shifts = [padded[:, y : y + 6, x : x + 7] for y in range(3) for x in range(3)]
    options = torch.stack([*shifts, *(shift.flip(2) for shift in shifts)])  # (18, 3, 6, 7)
    matches = (drawn[:, None] == options).flatten(2).all(2)  # (9000, 18)
    assert (matches.sum(1) == 1).all()
    assert matches.sum(0).min() > 400 and matches.sum(0).max() < 600


def test_augmentation_is_a_function_of_seed_and_step() -> None:
    part = ImageSet(
        torch.randint(0, 256, (50, 1, 8, 8), dtype=torch.uint8), torch.arange(50), torch.arange(50)
    )
    plain, moved = (
        BatchStream(part, 20, seed=0, augment=how)
        for how in (Augmentation(), Augmentation(True, 2))
    )
    again = BatchStream(part, 20, seed=0, augment=Augmentation(True, 2))
    torch.manual_seed(5)  # the global generator has no part in it
    assert torch.equal(moved.batch(3).images, again.batch(3).images)
    assert torch.equal(moved.batch(3).labels, plain.batch(3).labels)
    assert not torch.equal(moved.batch(3).images, plain.batch(3).images)
    assert not torch.equal(
        moved.batch(3).images - plain.batch(3).images, moved.batch(4).images - plain.batch(4).images
    )


def test_illegal_augmentation_is_refused() -> None:
    with pytest.raises(ValueError, match="crop=-1: must be an integer >= 0"):
        Augmentation(crop=-1)


def test_data_too_large_for_a_device_stay_and_their_batches_go(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    part = ImageSet(
        torch.zeros(40, 1, 8, 8, dtype=torch.uint8),
        torch.zeros(40, dtype=torch.long),
        torch.arange(40),
    )
    data, device = (
        ImageData(ImageSpec("x", (1, 8, 8)), part, part, part, "abc"),
        torch.device("meta"),
    )
    assert data.to(device).test.images.device == device and data.to(torch.device("cpu")) is data
    monkeypatch.setattr(hardware, "memory", lambda: 1000)
    moved = data.to(device)
    assert moved.test.images.device.type == "cpu" and moved.checksum == "abc"
    assert moved.test.batch(slice(0, 3)).images.device == device


def test_float_and_uint8_are_inverse() -> None:
    every = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    assert torch.equal(images.to_uint8(images.to_float(every)), every)
    assert images.to_float(every).aminmax() == (0, 1)
    assert images.to_uint8(torch.tensor([-1.0, 2.0])).tolist() == [0, 255]


def test_binarised_images_have_the_gray_values_as_means() -> None:
    torch.manual_seed(0)
    gray = torch.linspace(0, 1, 11).view(1, 1, 1, 11).expand(50_000, 1, 1, 11)
    drawn = images.binarise(gray)
    assert set(drawn.unique().tolist()) == {0.0, 1.0}
    torch.testing.assert_close(drawn.mean(dim=0), gray[0], atol=0.01, rtol=0)
    assert drawn[..., 0].max() == 0 and drawn[..., -1].min() == 1


def test_a_cache_of_one_place_is_not_taken_for_another(tmp_path: Path) -> None:
    def source(origin: str, value: int) -> CachedDataset:
        decoded = DecodedImages(
            torch.full((10, 1, 2, 2), value, dtype=torch.uint8),
            torch.zeros(10, dtype=torch.long),
            None,
        )
        return CachedDataset(ImageSpec("x", (1, 2, 2)), lambda _: decoded, tmp_path, origin=origin)

    assert source("here", 1).load().train.images.max() == 1
    assert source("there", 2).load().train.images.max() == 2


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "genmodels.data.datasets.Path",
        "genmodels.data.datasets.open_dataset",
        "genmodels.data.cached_dataset.assign_splits",
        "genmodels.data.datasets.TorchvisionDataset",
        "",
    ],
)
def test_settings_of_a_checkpoint_name_data_sets_only(target: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not a data set of this project"):
        datasets.open_dataset({"dataset._target_": target}, str(tmp_path), str(tmp_path))
