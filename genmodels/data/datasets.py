"""The data sets: one function each, named by a yaml of conf/dataset.

Nothing is read before `CachedDataset.load`. The published ones take where their files are, as
`FileOptions` documents: `root`, `download`, `keep_raw`, `cache`. They are read from the cache,
else from below `root`, as torchvision lays them out or as they are published, else from the
network.
"""

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from genmodels.data import class_names, image_folder
from genmodels.data import torchvision_readers as readers
from genmodels.data.cached_dataset import CachedDataset, DecodedImages
from genmodels.data.image_files import SquareCrop, parse_color
from genmodels.data.images import ImageSpec, to_uint8
from genmodels.data.torchvision_sets import DEFAULT_ROOT, FileOptions, TorchvisionDataset
from genmodels.errors import require

MNIST_SHAPE = (1, 28, 28)
DEFAULT_FOLDER = DEFAULT_ROOT / "pictures"  # of `folder`, as in conf/dataset/folder.yaml


def digits(*, cache: str) -> CachedDataset:
    """The 1,797 handwritten digits that scikit-learn ships, as 28x28 gray images.

    They are UCI's, of 8x8 pixels, enlarged.
    """
    spec = ImageSpec("digits", MNIST_SHAPE, class_names.DIGITS)
    return CachedDataset(spec, _decode_digits, Path(cache))


def mnist(*, root: str, download: bool, keep_raw: bool, cache: str) -> CachedDataset:
    """MNIST (LeCun et al. 1998): 60,000 + 10,000 handwritten digits, from `root`/MNIST/raw."""
    options = FileOptions(root, download, keep_raw, cache)
    return _mnist_like("mnist", "MNIST", class_names.DIGITS, options)


def fashion_mnist(*, root: str, download: bool, keep_raw: bool, cache: str) -> CachedDataset:
    """Fashion-MNIST (Xiao et al. 2017): 60,000 + 10,000 articles of clothing.

    From `root`/FashionMNIST/raw.
    """
    options = FileOptions(root, download, keep_raw, cache)
    return _mnist_like("fashion_mnist", "FashionMNIST", class_names.FASHION_MNIST, options)


def kmnist(*, root: str, download: bool, keep_raw: bool, cache: str) -> CachedDataset:
    """Kuzushiji-MNIST (Clanuwat et al. 2018): 60,000 + 10,000 cursive hiragana of ten kinds.

    From `root`/KMNIST/raw.
    """
    options = FileOptions(root, download, keep_raw, cache)
    return _mnist_like("kmnist", "KMNIST", class_names.KMNIST, options)


def emnist(*, split: str, root: str, download: bool, keep_raw: bool, cache: str) -> CachedDataset:
    """EMNIST (Cohen et al. 2017): handwritten digits and letters, from `root`/EMNIST/raw.

    split: byclass (814,255 images, 62 classes), bymerge (the same images, 47), balanced (131,600,
        47), letters (145,600, 26, small and capital ones together), digits (280,000, 10) or mnist
        (70,000, 10).
    """
    splits = ", ".join(class_names.EMNIST)
    require(split in class_names.EMNIST, "split", split, f"one of {splits}")
    dataset = TorchvisionDataset(
        class_name="EMNIST",
        folder="EMNIST/raw",
        required=readers.idx_names(f"emnist-{split}-train", f"emnist-{split}-test"),
        resources=readers.emnist_resources,
        read=partial(readers.read_emnist, split),
        options=FileOptions(root, download, keep_raw, cache),
        nested=f"gzip/emnist-{split}-*.gz",
    )
    return dataset.cached(ImageSpec(f"emnist_{split}", MNIST_SHAPE, class_names.EMNIST[split]))


def cifar10(*, root: str, download: bool, keep_raw: bool, cache: str) -> CachedDataset:
    """CIFAR-10 (Krizhevsky 2009): 50,000 + 10,000 colour photographs at 32x32.

    From `root`/cifar-10-batches-py.
    """
    dataset = TorchvisionDataset(
        class_name="CIFAR10",
        folder=".",
        required=readers.CIFAR10_FILES,
        resources=readers.cifar10_resources,
        read=readers.read_cifar10,
        options=FileOptions(root, download, keep_raw, cache),
    )
    return dataset.cached(ImageSpec("cifar10", (3, 32, 32), class_names.CIFAR10))


def flowers(*, side: int, root: str, download: bool, keep_raw: bool, cache: str) -> CachedDataset:
    """Oxford 102 Flowers (Nilsback & Zisserman 2008): 8,189 photographs of 102 kinds.

    From `root`/flowers-102: the centred square, resized to `side` pixels. Splits are drawn from
    the union of the published ones, whose own training split has only 1,020 images.
    """
    from torchvision.datasets import Flowers102  # 2 s; it knows the names of the classes

    crop = SquareCrop(side, 3)
    dataset = TorchvisionDataset(
        class_name="Flowers102",
        folder="flowers-102",
        required=readers.FLOWERS_FILES,
        resources=readers.flowers_resources,
        read=partial(readers.read_flowers, crop),
        options=FileOptions(root, download, keep_raw, cache),
    )
    spec = ImageSpec("flowers", crop.shape, tuple(Flowers102.classes))
    return dataset.cached(spec, key=str(crop))


def celeba(
    *, side: int, attribute: str | None, root: str, download: bool, keep_raw: bool, cache: str
) -> CachedDataset:
    """CelebA (Liu et al. 2015): 202,599 aligned faces in its official splits, from `root`/celeba.

    side: in pixels, to which the centred 148x148 pixels are resized.
    attribute: one of the 40, such as Smiling: there are two classes then, without and with it.
    """
    attributes = class_names.CELEBA_ATTRIBUTES
    legal = f"null or one of {', '.join(attributes)}"
    require(attribute in (None, *attributes), "attribute", attribute, legal)
    crop = SquareCrop(side, 3)
    dataset = TorchvisionDataset(
        class_name="CelebA",
        folder="celeba",
        required=readers.CELEBA_FILES,
        resources=readers.celeba_resources,
        read=partial(readers.read_celeba, crop, attribute),
        options=FileOptions(root, download, keep_raw, cache),
    )
    classes = () if attribute is None else (f"not {attribute}", attribute)
    spec = ImageSpec("celeba", crop.shape, classes)
    return dataset.cached(spec, key=f"{crop} {attribute} official splits")


def folder(
    *,
    root: str,
    name: str,
    side: int,
    channels: int | None,
    labelled: bool | None,
    background: str,
    max_unreadable: float,
    cache: str,
) -> CachedDataset:
    """Any folder of images, each cut to its centred square and resized.

    Arguments:
    root: the folder.
    name: what these images are called in names of runs.
    side: in pixels.
    channels: 1, 3, or None: 1 if no image has a colour.
    labelled: whether sub-folders are classes, or None: if all images lie in at least two of them,
        which are not called train and test.
    background: what shows through transparent pixels, such as white or #ff8800.
    max_unreadable: the share of images that may be left out as unreadable.
    cache: the folder of decoded data sets.
    """
    require(channels in (None, 1, 3), "channels", channels, "1, 3 or null")
    require(0 <= max_unreadable < 1, "max_unreadable", max_unreadable, "a share >= 0 and < 1")
    if not Path(root).is_dir():
        raise ValueError(
            f"dataset.root={root}: no such folder. Give the one that holds your images: "
            "dataset.root=DIR"
        )
    crop = SquareCrop(side, channels or 3, parse_color(background))
    images = image_folder.scan(Path(root), labelled)
    summary = image_folder.summarise(images, Path(cache))
    if channels is None and summary.gray:
        crop = SquareCrop(side, 1, crop.background)
    return CachedDataset(
        ImageSpec(name, crop.shape, tuple(images.classes), images.why_unlabelled),
        partial(image_folder.decode, images, crop, max_unreadable),
        Path(cache),
        origin=f"{summary.digest} {crop} {images.classes}",
    )


DATASETS: tuple[Callable[..., CachedDataset], ...] = (
    digits,
    mnist,
    fashion_mnist,
    kmnist,
    emnist,
    cifar10,
    flowers,
    celeba,
    folder,
)


def open_dataset(settings: Mapping[str, Any], root: str, cache: str) -> CachedDataset:
    """The data set that a checkpoint names, from this machine's folders; nothing is downloaded.

    Only functions of DATASETS are called, since settings may come from a stranger's file. Raises
    ValueError for others, and for arguments that the function does not take.

    Arguments:
    settings: the checkpoint's, flat: "dataset._target_", "dataset.side", ...
    root: where the files are. For a folder of images the default root means DEFAULT_FOLDER.
    cache: the folder of decoded data sets.
    """
    functions = {f"{__name__}.{function.__name__}": function for function in DATASETS}
    arguments = {
        key.removeprefix("dataset."): value
        for key, value in settings.items()
        if key.startswith("dataset.")
    }
    target = str(arguments.pop("_target_", None))
    if target not in functions:
        raise ValueError(f"dataset._target_={target}: not a data set of this project")
    function = functions[target]
    if function is folder and Path(root) == DEFAULT_ROOT:
        root = str(DEFAULT_FOLDER)
    signature = inspect.signature(function)
    files = {"root": root, "download": False, "keep_raw": False, "cache": cache}
    for name in signature.parameters.keys() & files.keys():
        arguments[name] = files[name]
    try:
        return function(**arguments)
    except (TypeError, AttributeError) as error:  # unknown arguments, and values of another type
        raise ValueError(f"dataset._target_={target}: {error}") from None


def _mnist_like(
    name: str, class_name: str, classes: tuple[str, ...], options: FileOptions
) -> CachedDataset:
    dataset = TorchvisionDataset(
        class_name=class_name,
        folder=f"{class_name}/raw",
        required=readers.idx_names("train", "t10k"),
        resources=readers.mnist_resources,
        read=readers.read_mnist,
        options=options,
    )
    return dataset.cached(ImageSpec(name, MNIST_SHAPE, classes))


def _decode_digits(_: Path) -> DecodedImages:
    from sklearn.datasets import load_digits  # slow, and not needed once the cache is there

    bunch = load_digits()
    images = torch.from_numpy(bunch.images).float()[:, None] / 16  # (1797, 1, 8, 8)
    images = F.interpolate(images, size=(20, 20), mode="bicubic", align_corners=False)
    images = torch.sigmoid((images.clamp(0, 1) - 0.45) * 12)  # bold strokes on black
    images = F.pad(images, (4, 4, 4, 4))
    labels = torch.from_numpy(bunch.target).long()
    return DecodedImages(to_uint8(images), labels, test_start=None)
