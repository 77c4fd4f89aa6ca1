"""What each of torchvision's data sets is published as, and how its files are read.

`dataset` is the class of torchvision.datasets, `root` its root, `workspace` a folder for large
tensors.
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import ConcatDataset

from genmodels.data import image_files
from genmodels.data.cached_dataset import DecodedImages
from genmodels.data.class_names import CELEBA_ATTRIBUTES
from genmodels.data.downloads import Resource, checksum
from genmodels.data.image_files import SquareCrop, image_read_errors

CIFAR10_FILES = (
    "cifar-10-batches-py/batches.meta",
    "cifar-10-batches-py/data_batch_1",
    "cifar-10-batches-py/data_batch_2",
    "cifar-10-batches-py/data_batch_3",
    "cifar-10-batches-py/data_batch_4",
    "cifar-10-batches-py/data_batch_5",
    "cifar-10-batches-py/test_batch",
)
FLOWERS_FILES = ("jpg", "imagelabels.mat", "setid.mat")
FLOWERS_URL = "https://www.robots.ox.ac.uk/~vgg/data/flowers/102"
FLOWERS_MD5 = {
    "102flowers.tgz": "52808999861908f626f3c1f4e79d11fa",
    "imagelabels.mat": "e0620be6f572b9609742df49c70aed4d",
    "setid.mat": "a5357ecc9cb78c4bef273ce3793fc85c",
}
CELEBA_FILES = (
    "img_align_celeba",
    "list_attr_celeba.txt",
    "identity_CelebA.txt",
    "list_bbox_celeba.txt",
    "list_landmarks_align_celeba.txt",
    "list_eval_partition.txt",
)
CELEBA_URL = "https://drive.usercontent.google.com/download?id={}&export=download&confirm=t"
CELEBA_CROP = 148  # of 178x218 pixels, as Larsen et al. 2016 and most after them


def mnist_resources(dataset: Any) -> list[Resource]:
    """Of MNIST and its drop-in replacements."""
    resources = []
    for name, md5 in dataset.resources:
        urls = [mirror + name for mirror in dataset.mirrors]
        resources.append(Resource(name, urls, md5))
    return resources


def emnist_resources(dataset: Any) -> list[Resource]:
    """One archive with all splits."""
    return [Resource("gzip.zip", [dataset.url], dataset.md5)]


def cifar10_resources(dataset: Any) -> list[Resource]:
    """One archive."""
    return [Resource(dataset.filename, [dataset.url], dataset.tgz_md5)]


def flowers_resources(_: Any) -> list[Resource]:
    """An archive of images, their labels, and the published splits."""
    resources = []
    for name, md5 in FLOWERS_MD5.items():
        resources.append(Resource(name, [f"{FLOWERS_URL}/{name}"], md5))
    return resources


def celeba_resources(dataset: Any) -> list[Resource]:
    """An archive of images, and tables, on Google Drive."""
    resources = []
    for drive_id, md5, name in dataset.file_list:
        resources.append(Resource(name, [CELEBA_URL.format(drive_id)], md5))
    return resources


def idx_names(train: str, test: str) -> list[str]:
    """The files of a data set in the idx format, from the beginnings of their names."""
    kinds = ("images-idx3-ubyte", "labels-idx1-ubyte")
    return [f"{split}-{kind}" for split in (train, test) for kind in kinds]


def read_mnist(dataset: Any, root: str, workspace: Path, **options: str) -> DecodedImages:
    """MNIST and its drop-in replacements; options are the class's own.

    Raises ValueError where a split has more or fewer labels than images.
    """
    train = dataset(root, train=True, **options)
    test = dataset(root, train=False, **options)
    for name, split in (("training", train), ("test", test)):
        images, labels = len(split.data), len(split.targets)
        if images != labels:
            raise ValueError(f"{images:,} {name} images have {labels:,} labels")
    return DecodedImages(
        torch.cat([train.data, test.data])[:, None],
        torch.cat([train.targets, test.targets]),
        test_start=len(train),
    )


def read_emnist(split: str, dataset: Any, root: str, workspace: Path) -> DecodedImages:
    """One of EMNIST's six splits into classes; its files hold the columns for the rows."""
    decoded = read_mnist(dataset, root, workspace, split=split)
    upright = decoded.images.mT
    images = upright.contiguous()
    first_label = 1 if split == "letters" else 0
    labels = decoded.labels - first_label
    return DecodedImages(images, labels, decoded.test_start)


def read_cifar10(dataset: Any, root: str, workspace: Path) -> DecodedImages:
    """CIFAR-10 in its own order."""
    train = dataset(root, train=True)
    test = dataset(root, train=False)
    images = torch.from_numpy(np.concatenate([train.data, test.data]))  # (N, H, W, C)
    images = images.permute(0, 3, 1, 2).contiguous()
    labels = torch.tensor(train.targets + test.targets)
    return DecodedImages(images, labels, test_start=len(train))


def read_flowers(crop: SquareCrop, dataset: Any, root: str, workspace: Path) -> DecodedImages:
    """The union of the published splits, shuffled by a constant seed."""
    from scipy.io import loadmat  # scikit-learn brings it

    folder = Path(root) / "flowers-102"
    for name in ("imagelabels.mat", "setid.mat"):
        if checksum(folder / name) != FLOWERS_MD5[name]:
            raise ValueError(f"{name}: not the published file, or damaged")
    all_labels = loadmat(folder / "imagelabels.mat")["labels"][0]  # from 1, as the numbers are
    splits = loadmat(folder / "setid.mat")
    numbers = np.concatenate([splits[name][0] for name in ("trnid", "valid", "tstid")])
    numbers = numbers[image_files.shuffled_order(len(numbers))]
    paths = [folder / "jpg" / f"image_{number:05d}.jpg" for number in numbers]
    images = _decode_all(paths, crop.read, crop.shape, workspace)
    labels = torch.tensor(all_labels[numbers - 1].astype(np.int64)) - 1
    return DecodedImages(images, labels, test_start=None)


def read_celeba(
    crop: SquareCrop, attribute: str | None, dataset: Any, root: str, workspace: Path
) -> DecodedImages:
    """CelebA in the order of its official splits, no two of which share a person; the labels say
    whether a face has the attribute."""
    splits = [dataset(root, split=name) for name in ("train", "valid", "test")]
    faces: ConcatDataset = ConcatDataset(splits)
    read = partial(_read_face, crop, faces)
    images = _decode_all(range(len(faces)), read, crop.shape, workspace)
    labels = torch.full((len(faces),), -1)
    if attribute is not None:
        column = CELEBA_ATTRIBUTES.index(attribute)
        labels = torch.cat([split.attr[:, column] for split in splits])
    validation_start = len(splits[0])
    test_start = validation_start + len(splits[1])
    return DecodedImages(images, labels, test_start, validation_start)


def _read_face(crop: SquareCrop, faces: ConcatDataset, index: int) -> np.ndarray:
    with image_read_errors():
        image, _ = faces[index]
        left = (image.width - CELEBA_CROP) // 2
        top = (image.height - CELEBA_CROP) // 2
        box = (left, top, left + CELEBA_CROP, top + CELEBA_CROP)
        return crop.cut(image.crop(box))


def _decode_all(
    items: Sequence[Any],
    read: Callable[[Any], np.ndarray],
    shape: tuple[int, int, int],
    workspace: Path,
) -> Tensor:
    """The images of all items, (N, *shape) uint8. Raises ValueError where one cannot be read."""
    images, problems = image_files.decode(items, read, shape, workspace)
    for index, reason in problems.items():
        raise ValueError(
            f"{len(problems)} images cannot be read, the first of them {items[index]}: {reason}"
        )
    return images
