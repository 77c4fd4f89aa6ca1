"""Data sets on tiny files in their true formats, the cache, the parts, the stream."""

import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from genmodels.data import datasets, images
from genmodels.data.images import BatchStream, Decoded, ImageSet, ImageSource, ImageSpec


def write_idx(path: Path, array: np.ndarray) -> None:
    """The idx format: magic 0 0 8 (uint8) ndim, big-endian sizes, values."""
    path.parent.mkdir(parents=True, exist_ok=True)
    header = struct.pack(">BBBB", 0, 0, 8, array.ndim) + struct.pack(f">{array.ndim}i", *array.shape)
    path.write_bytes(header + array.astype(np.uint8).tobytes())


@pytest.fixture
def idx_root(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for folder in ("MNIST", "FashionMNIST"):
        for part, size in (("train", 40), ("t10k", 10)):
            raw = tmp_path / "root" / folder / "raw"
            write_idx(raw / f"{part}-images-idx3-ubyte", rng.integers(0, 256, (size, 28, 28)))
            write_idx(raw / f"{part}-labels-idx1-ubyte", np.arange(size) % 10)
    return tmp_path / "root"


@pytest.mark.parametrize(("name", "folder"), [("mnist", "MNIST"), ("fashion_mnist", "FashionMNIST")])
def test_idx_files_as_they_lie(name: str, folder: str, idx_root: Path, tmp_path: Path) -> None:
    source = getattr(datasets, name)(root=str(idx_root), download=False, cache=str(tmp_path / "cache"))
    assert source.spec.image_shape == (1, 28, 28) and source.spec.num_classes == 10
    data = source.load()
    assert (len(data.train), len(data.validation), len(data.test)) == (36, 4, 10)
    raw = np.frombuffer((idx_root / folder / "raw/t10k-images-idx3-ubyte").read_bytes()[16:], np.uint8)
    batch = data.test.batch(slice(0, 10))
    assert batch.images.dtype == torch.float32 and batch.labels.tolist() == list(range(10))
    np.testing.assert_array_equal(images.to_uint8(batch.images).numpy().ravel(), raw)
    assert not (idx_root / "cache").exists() and len(list((tmp_path / "cache").glob("*.safetensors"))) == 1


def test_other_files_in_the_same_place_are_read_again(idx_root: Path, tmp_path: Path) -> None:
    def first_pixel() -> float:
        source = datasets.mnist(root=str(idx_root), download=False, cache=str(tmp_path / "cache"))
        return source.load().test.batch(slice(0, 1)).images[0, 0, 0, 0].item()

    first_pixel()
    write_idx(idx_root / "MNIST/raw/t10k-images-idx3-ubyte", np.full((10, 28, 28), 51))
    assert first_pixel() == pytest.approx(0.2)


def test_the_cache_serves_when_the_files_are_gone(idx_root: Path, tmp_path: Path) -> None:
    options = {"root": str(idx_root), "download": False, "cache": str(tmp_path / "cache")}
    expected = datasets.mnist(**options).load().train.images
    for file in (idx_root / "MNIST/raw").iterdir():
        file.unlink()
    torch.testing.assert_close(datasets.mnist(**options).load().train.images, expected)


@pytest.mark.parametrize("damage", ["truncate", "flip", "empty", "text"])
def test_a_damaged_cache_is_built_again(damage: str, idx_root: Path, tmp_path: Path,
                                        caplog: pytest.LogCaptureFixture) -> None:
    options = {"root": str(idx_root), "download": False, "cache": str(tmp_path / "cache")}
    expected = datasets.mnist(**options).load().train.images
    path = datasets.mnist(**options).path
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes({"truncate": content[:-500], "flip": content, "empty": b"", "text": b"hello"}[damage])
    torch.testing.assert_close(datasets.mnist(**options).load().train.images, expected)
    assert "building it again" in caplog.text
    caplog.clear()
    datasets.mnist(**options).load()
    assert "building it again" not in caplog.text


@pytest.mark.parametrize("download", [True, False])
def test_missing_files_are_named(download: bool, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"dataset\.root=.*nowhere: no MNIST files in .*nowhere/MNIST/raw"):
        datasets.mnist(root=str(tmp_path / "nowhere"), download=download, cache=str(tmp_path / "cache"))
    assert not (tmp_path / "nowhere").exists() and not (tmp_path / "cache").exists()


def test_a_truncated_file_is_refused(idx_root: Path, tmp_path: Path) -> None:
    path = idx_root / "MNIST/raw/train-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(ValueError, match=r"dataset\.root=.*no readable MNIST files"):
        datasets.mnist(root=str(idx_root), download=False, cache=str(tmp_path / "cache")).load()
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


@pytest.mark.parametrize(("size", "test_from"), [(100, None), (100, 80), (10, None), (60_000, 50_000)])
def test_parts_cover_everything_once(size: int, test_from: int | None) -> None:
    part = images.split(size, test_from)
    assert part.eq(2).sum() == (size // 5 if test_from is None else size - test_from)
    assert part.eq(1).sum() == min(5000, part.ne(2).sum() // 10 or 1) and part.eq(0).any()
    assert torch.equal(part, images.split(size, test_from))
    if test_from is not None:
        assert part[test_from:].eq(2).all() and part[:test_from].ne(2).all()


def test_too_few_images_are_refused() -> None:
    with pytest.raises(ValueError, match="9 images are too few"):
        images.split(9, None)


def numbered(size: int) -> ImageSet:
    return ImageSet(torch.zeros(size, 1, 1, 1, dtype=torch.uint8), torch.arange(size), torch.arange(size))


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
    def source(origin: str, value: int) -> ImageSource:
        decoded = Decoded(torch.full((10, 1, 2, 2), value, dtype=torch.uint8), torch.zeros(10, dtype=torch.long), None)
        return ImageSource(ImageSpec("x", (1, 2, 2)), lambda: decoded, tmp_path, origin=origin)

    assert source("here", 1).load().train.images.max() == 1
    assert source("there", 2).load().train.images.max() == 2


@pytest.mark.parametrize("target", ["os.system", "genmodels.data.datasets.Path", "genmodels.data.datasets.open_source",
                                    "genmodels.data.images.split", ""])
def test_settings_of_a_checkpoint_name_data_sets_only(target: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no data set of this project"):
        datasets.open_source({"dataset._target_": target}, str(tmp_path), str(tmp_path))
