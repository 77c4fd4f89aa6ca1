"""The data sets: one function each, named by a yaml of conf/dataset. Nothing is read before `CachedDataset.load`.

TorchvisionSet sets take where their files are (see `genmodels.data.torchvision_sets.Files`): `root`, `download`, `keep_raw`,
`cache`. They are read from the cache, else from below `root`, as torchvision lays them out or as they are published,
else from the network.
"""

import inspect
import string
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import ImageColor
from torch import Tensor
from torch.utils.data import ConcatDataset

from genmodels.data import image_files, image_folder
from genmodels.data.cached_dataset import CachedDataset, Decoded
from genmodels.data.downloads import Resource
from genmodels.data.images import ImageSpec, to_uint8
from genmodels.data.torchvision_sets import DEFAULT_ROOT, Files, TorchvisionSet
from genmodels.errors import require

DIGITS = tuple(string.digits)
FASHION = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
KUZUSHIJI = ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo")
CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
MERGED = tuple(
    string.digits + string.ascii_uppercase + "abdefghnqrt"
)  # other small letters count as capital ones
EMNIST = {
    "byclass": tuple(string.digits + string.ascii_uppercase + string.ascii_lowercase),
    "bymerge": MERGED,
    "balanced": MERGED,
    "letters": tuple(string.ascii_lowercase),
    "digits": DIGITS,
    "mnist": DIGITS,
}
CELEBA_CROP = 148  # of 178x218 pixels, as Larsen et al. 2016 and most after them
GOOGLE_DRIVE = "https://drive.usercontent.google.com/download?id={}&export=download&confirm=t"
CELEBA_ATTRIBUTES = (
    "5_o_Clock_Shadow",
    "Arched_Eyebrows",
    "Attractive",
    "Bags_Under_Eyes",
    "Bald",
    "Bangs",
    "Big_Lips",
    "Big_Nose",
    "Black_Hair",
    "Blond_Hair",
    "Blurry",
    "Brown_Hair",
    "Bushy_Eyebrows",
    "Chubby",
    "Double_Chin",
    "Eyeglasses",
    "Goatee",
    "Gray_Hair",
    "Heavy_Makeup",
    "High_Cheekbones",
    "Male",
    "Mouth_Slightly_Open",
    "Mustache",
    "Narrow_Eyes",
    "No_Beard",
    "Oval_Face",
    "Pale_Skin",
    "Pointy_Nose",
    "Receding_Hairline",
    "Rosy_Cheeks",
    "Sideburns",
    "Smiling",
    "Straight_Hair",
    "Wavy_Hair",
    "Wearing_Earrings",
    "Wearing_Hat",
    "Wearing_Lipstick",
    "Wearing_Necklace",
    "Wearing_Necktie",
    "Young",
)


def digits(*, cache: str) -> CachedDataset:
    """The 1,797 handwritten digits that scikit-learn ships (UCI, 8x8 pixels of 0-16), drawn as 28x28 gray images."""
    return CachedDataset(ImageSpec("digits", (1, 28, 28), DIGITS), _decode_digits, Path(cache))


def mnist(*, root: str, download: bool, keep_raw: bool, cache: str) -> CachedDataset:
    """MNIST (LeCun et al. 1998): 60,000 + 10,000 handwritten digits, from `root`/MNIST/raw."""
    return _idx_set(
        "MNIST", ImageSpec("mnist", (1, 28, 28), DIGITS), Files(root, download, keep_raw, cache)
    )


def fashion_mnist(*, root: str, download: bool, keep_raw: bool, cache: str) -> CachedDataset:
    """Fashion-MNIST (Xiao et al. 2017): 60,000 + 10,000 articles of clothing, from `root`/FashionMNIST/raw."""
    return _idx_set(
        "FashionMNIST",
        ImageSpec("fashion_mnist", (1, 28, 28), FASHION),
        Files(root, download, keep_raw, cache),
    )


def kmnist(*, root: str, download: bool, keep_raw: bool, cache: str) -> CachedDataset:
    """Kuzushiji-MNIST (Clanuwat et al. 2018): 60,000 + 10,000 cursive hiragana of ten kinds, from `root`/KMNIST/raw."""
    return _idx_set(
        "KMNIST",
        ImageSpec("kmnist", (1, 28, 28), KUZUSHIJI),
        Files(root, download, keep_raw, cache),
    )


def emnist(*, split: str, root: str, download: bool, keep_raw: bool, cache: str) -> CachedDataset:
    """EMNIST (Cohen et al. 2017): handwritten digits and letters, from `root`/EMNIST/raw.

    split: byclass (814,255 images, 62 classes), bymerge (the same images, 47), balanced (131,600, 47), letters
    (145,600, 26, small and capital ones together), digits (280,000, 10) or mnist (70,000, 10).
    """
    require(split in EMNIST, "split", split, f"one of {', '.join(EMNIST)}")

    def read(dataset: Any, root: str, _: Path) -> Decoded:
        images, labels, test_from = _read_idx(dataset, root, split=split)
        first = 1 if split == "letters" else 0  # their labels count from 1
        return Decoded(
            images.mT.contiguous(), labels - first, test_from
        )  # the files hold columns for rows

    published = TorchvisionSet(
        "EMNIST",
        "EMNIST/raw",
        _idx_names(f"emnist-{split}-train", f"emnist-{split}-test"),
        lambda dataset: [Resource("gzip.zip", [dataset.url], dataset.md5)],
        read,
        wanted=f"gzip/emnist-{split}-*.gz",
    )
    return published.source(
        ImageSpec(f"emnist_{split}", (1, 28, 28), EMNIST[split]),
        Files(root, download, keep_raw, cache),
    )


def cifar10(*, root: str, download: bool, keep_raw: bool, cache: str) -> CachedDataset:
    """CIFAR-10 (Krizhevsky 2009): 50,000 + 10,000 colour photographs at 32x32, from `root`/cifar-10-batches-py."""

    def read(dataset: Any, root: str, _: Path) -> Decoded:
        train, test = (dataset(root, train=part) for part in (True, False))
        images = torch.from_numpy(np.concatenate([train.data, test.data])).permute(0, 3, 1, 2)
        return Decoded(
            images.contiguous(), torch.tensor(train.targets + test.targets), test_from=len(train)
        )

    names = ("batches.meta", *(f"data_batch_{number}" for number in range(1, 6)), "test_batch")
    published = TorchvisionSet(
        "CIFAR10",
        ".",
        [f"cifar-10-batches-py/{name}" for name in names],
        lambda dataset: [Resource(dataset.filename, [dataset.url], dataset.tgz_md5)],
        read,
    )
    return published.source(
        ImageSpec("cifar10", (3, 32, 32), CIFAR10), Files(root, download, keep_raw, cache)
    )


def flowers(*, side: int, root: str, download: bool, keep_raw: bool, cache: str) -> CachedDataset:
    """Oxford 102 Flowers (Nilsback & Zisserman 2008): 8,189 photographs of 102 kinds, from `root`/flowers-102.

    The centred square, resized to `side`. Parts are drawn from the union of the published ones, whose own training part
    has only 1,020 pictures.
    """
    from torchvision.datasets import Flowers102  # 2 s; it knows the names of the classes

    how = _squares(side, 3)

    def resources(dataset: Any) -> list[Resource]:
        return [
            Resource(name, [dataset._download_url_prefix + name], md5)
            for name, md5 in dataset._file_dict.values()
        ]

    def read(dataset: Any, root: str, workspace: Path) -> Decoded:
        parts = [dataset(root, split=part, loader=how.read) for part in ("train", "val", "test")]
        order = image_files.shuffled(sum(map(len, parts)))
        return Decoded(*_decode_union(parts, order, how.shape, workspace), test_from=None)

    published = TorchvisionSet(
        "Flowers102", "flowers-102", ["jpg", "imagelabels.mat", "setid.mat"], resources, read
    )
    return published.source(
        ImageSpec("flowers", how.shape, tuple(Flowers102.classes)),
        Files(root, download, keep_raw, cache),
        how=str(how),
    )


def celeba(
    *, side: int, attribute: str | None, root: str, download: bool, keep_raw: bool, cache: str
) -> CachedDataset:
    """CelebA (Liu et al. 2015): 202,599 aligned faces, the centred 148x148 pixels resized to `side`.

    From `root`/celeba. attribute: one of the 40, such as Smiling; there are then two classes, without it and with it.
    """
    require(
        attribute in (None, *CELEBA_ATTRIBUTES),
        "attribute",
        attribute,
        f"null or one of {', '.join(CELEBA_ATTRIBUTES)}",
    )
    how = _squares(side, 3)

    def resources(dataset: Any) -> list[Resource]:
        return [
            Resource(name, [GOOGLE_DRIVE.format(number)], md5)
            for number, md5, name in dataset.file_list
        ]

    def face(image: Any) -> np.ndarray:
        left, top = (image.width - CELEBA_CROP) // 2, (image.height - CELEBA_CROP) // 2
        return how.cut(image.crop((left, top, left + CELEBA_CROP, top + CELEBA_CROP)))

    def label(attributes: Tensor) -> int:
        return int(attributes[CELEBA_ATTRIBUTES.index(attribute)]) if attribute else -1

    def read(dataset: Any, root: str, workspace: Path) -> Decoded:
        parts = [
            dataset(root, split=part, transform=face, target_transform=label)
            for part in ("train", "valid", "test")
        ]
        images, labels = _decode_union(parts, range(sum(map(len, parts))), how.shape, workspace)
        return Decoded(images, labels, test_from=len(parts[0]) + len(parts[1]))

    needs = [
        "img_align_celeba",
        "list_attr_celeba.txt",
        "identity_CelebA.txt",
        "list_bbox_celeba.txt",
        "list_landmarks_align_celeba.txt",
        "list_eval_partition.txt",
    ]
    classes = () if attribute is None else (f"not {attribute}", attribute)
    return TorchvisionSet("CelebA", "celeba", needs, resources, read).source(
        ImageSpec("celeba", how.shape, classes),
        Files(root, download, keep_raw, cache),
        how=f"{how} {attribute}",
    )


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
    """Any folder of pictures, each cut to its centred square and resized to `side`.

    name: what these pictures are called in names of runs. channels: 1, 3, or None: 1 if no picture has a colour.
    labelled: whether sub-folders are classes, or None: if all pictures lie in at least two of them. background: what
    shows through transparent pixels, such as white or #ff8800. max_unreadable: the share that may be left out.
    """
    require(channels in (None, 1, 3), "channels", channels, "1, 3 or null")
    require(0 <= max_unreadable < 1, "max_unreadable", max_unreadable, "a share >= 0 and < 1")
    if not Path(root).is_dir():
        raise ValueError(
            f"dataset.root={root}: no such folder. Give the one that holds your pictures: "
            "dataset.root=DIR"
        )
    colour = _colour(background)
    _squares(side, 3)
    listing = image_folder.find(Path(root), labelled)
    contents, gray = image_folder.known_contents(listing, Path(cache))
    how = _squares(side, channels or (1 if gray else 3), colour)
    source = CachedDataset(
        ImageSpec(name, how.shape, tuple(listing.classes)),
        lambda workspace: decode(workspace),
        Path(cache),
        origin=f"{contents} {how} {listing.classes}",
    )

    def decode(workspace: Path) -> Decoded:
        return image_folder.decode(
            listing, how, max_unreadable, workspace, notes=source.path.with_suffix(".txt")
        )

    return source


def open_dataset(settings: Mapping[str, Any], root: str, cache: str) -> CachedDataset:
    """The data set that a checkpoint's settings name, from this machine's folders; nothing is downloaded.

    Only functions of this module are called: settings may come from a stranger's file. Raises ValueError for others.
    """
    target = str(settings.get("dataset._target_"))
    functions = {
        f"{__name__}.{name}": value
        for name, value in globals().items()
        if inspect.isfunction(value)
        and value.__module__ == __name__
        and not name.startswith("_")
        and value is not open_dataset
    }
    if target not in functions:
        raise ValueError(f"dataset._target_={target}: no data set of this project")
    if functions[target] is folder and Path(root) == DEFAULT_ROOT:
        root = str(DEFAULT_ROOT / "pictures")  # their place there, as in conf/dataset/folder.yaml
    arguments = {
        key.removeprefix("dataset."): value
        for key, value in settings.items()
        if key.startswith("dataset.")
    }
    here = {"root": root, "cache": cache, "download": False, "keep_raw": False}
    named = {
        name: here[name] for name in inspect.signature(functions[target]).parameters if name in here
    }
    return functions[target](
        **{key: value for key, value in arguments.items() if key != "_target_"} | named
    )


def _decode_digits(_: Path) -> Decoded:
    from sklearn.datasets import (
        load_digits,
    )  # slow to import, and not needed once the cache is there

    bunch = load_digits()
    images = torch.from_numpy(bunch.images).float()[:, None] / 16  # (1797, 1, 8, 8)
    images = F.interpolate(images, size=(20, 20), mode="bicubic", align_corners=False).clamp(0, 1)
    images = F.pad(torch.sigmoid((images - 0.45) * 12), (4, 4, 4, 4))  # bold strokes on black
    return Decoded(to_uint8(images), torch.from_numpy(bunch.target).long(), test_from=None)


def _idx_set(name: str, spec: ImageSpec, where: Files) -> CachedDataset:
    def resources(dataset: Any) -> list[Resource]:
        return [
            Resource(file, [mirror + file for mirror in dataset.mirrors], md5)
            for file, md5 in dataset.resources
        ]

    published = TorchvisionSet(
        name,
        f"{name}/raw",
        _idx_names("train", "t10k"),
        resources,
        lambda dataset, root, _: _read_idx(dataset, root),
    )
    return published.source(spec, where)


def _idx_names(train: str, test: str) -> list[str]:
    return [
        f"{part}-{kind}-ubyte" for part in (train, test) for kind in ("images-idx3", "labels-idx1")
    ]


def _read_idx(dataset: Any, root: str, **options: str) -> Decoded:
    train, test = (dataset(root, train=part, **options) for part in (True, False))
    return Decoded(
        torch.cat([train.data, test.data])[:, None],
        torch.cat([train.targets, test.targets]),
        test_from=len(train),
    )


def _squares(
    side: int, channels: int, background: tuple[int, int, int] = (255, 255, 255)
) -> image_files.SquareCrop:
    require(8 <= side <= 1024, "side", side, "an integer >= 8 and <= 1024 (pixels)")
    return image_files.SquareCrop(side, channels, background)


def _decode_union(
    parts: Sequence[Any], order: Sequence[int], shape: tuple[int, int, int], workspace: Path
) -> tuple[Tensor, Tensor]:
    """Images and labels of data sets whose items are (image (C, H, W) uint8, label), taken as one, in an order."""
    union: ConcatDataset = ConcatDataset(parts)
    labels = torch.empty(len(order), dtype=torch.long)

    def reader(index: int) -> np.ndarray:
        with image_files.explained():
            image, labels[index] = union[order[index]]
        return image

    images, problems = image_files.decode(range(len(order)), reader, shape, workspace)
    if problems:
        first, reason = next(iter(problems.items()))
        raise ValueError(
            f"{len(problems)} pictures cannot be read; number {order[first]}: {reason}"
        )
    return images, labels


def _colour(name: str) -> tuple[int, int, int]:
    try:
        red, green, blue, *_ = ImageColor.getrgb(name)
    except ValueError:
        raise ValueError(f"background={name}: must be a colour such as white or #ff8800") from None
    return red, green, blue
