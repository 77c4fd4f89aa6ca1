"""The published data sets in their true formats, tiny: each puts its files on a server.

torchvision's classes, or this project's tables, are told where they are and what their checksums
are.
"""

import gzip
import hashlib
import io
import pickle
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import pytest
import torchvision.datasets as tv
from conftest import idx_bytes
from file_server import FileServer
from PIL import Image
from scipy.io import savemat

from genmodels.data import class_names, torchvision_readers

SPLITS = {"train": 30, "test": 10}  # images, and their seeds


def gray_images(split: str) -> np.ndarray:
    """(N, 28, 28) uint8."""
    rng = np.random.default_rng(SPLITS[split])
    return rng.integers(0, 256, (SPLITS[split], 28, 28), np.uint8)


def colour_images(count: int, seed: int) -> np.ndarray:
    """(N, 3, 32, 32) uint8."""
    return np.random.default_rng(seed).integers(0, 256, (count, 3, 32, 32), np.uint8)


def jpeg(image: Image.Image) -> bytes:
    image.save(buffer := io.BytesIO(), "jpeg", quality=95)
    return buffer.getvalue()


def tar_gz(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def zipped(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def publish_mnist(name: str, server: FileServer, patch: pytest.MonkeyPatch) -> None:
    resources = []
    for split, file in {"train": "train", "test": "t10k"}.items():
        images, labels = gray_images(split), np.arange(SPLITS[split]) % 10
        for kind, array in {"images-idx3": images, "labels-idx1": labels}.items():
            content = gzip.compress(idx_bytes(array))
            resources.append(server.publish(f"{file}-{kind}-ubyte.gz", content))
    patch.setattr(getattr(tv, name), "mirrors", [server.url])
    patch.setattr(getattr(tv, name), "resources", [(each.name, each.md5) for each in resources])


def publish_emnist(server: FileServer, patch: pytest.MonkeyPatch) -> None:
    files = {}
    for name in ("letters", "digits"):
        for split, size in SPLITS.items():
            labels = np.arange(size) % 26 + 1 if name == "letters" else np.arange(size) % 10
            turned = gray_images(split).transpose(0, 2, 1)  # as NIST has them
            start = f"gzip/emnist-{name}-{split}"
            files[f"{start}-images-idx3-ubyte.gz"] = gzip.compress(idx_bytes(turned))
            files[f"{start}-labels-idx1-ubyte.gz"] = gzip.compress(idx_bytes(labels))
        files[f"gzip/emnist-{name}-mapping.txt"] = b"1 65 97"
    resource = server.publish("gzip.zip", zipped(files))
    patch.setattr(tv.EMNIST, "url", resource.urls[0])
    patch.setattr(tv.EMNIST, "md5", resource.md5)


def publish_cifar10(server: FileServer, patch: pytest.MonkeyPatch) -> None:
    batches = {"test_batch": colour_images(10, 9)}
    labels = {"test_batch": [9] * 10}
    for number in range(1, 6):
        batches[f"data_batch_{number}"] = colour_images(6, number)
        labels[f"data_batch_{number}"] = [number] * 6
    files = {
        name: pickle.dumps({"data": images.reshape(len(images), -1), "labels": labels[name]})
        for name, images in batches.items()
    }
    files["batches.meta"] = pickle.dumps({"label_names": list(class_names.CIFAR10)})
    archive = tar_gz({f"cifar-10-batches-py/{name}": content for name, content in files.items()})
    resource = server.publish("cifar-10-python.tar.gz", archive)
    md5 = {name: hashlib.md5(content).hexdigest() for name, content in files.items()}
    train = [[name, md5[name]] for name in sorted(files) if name.startswith("data_batch")]
    patch.setattr(tv.CIFAR10, "url", resource.urls[0])
    patch.setattr(tv.CIFAR10, "tgz_md5", resource.md5)
    patch.setattr(tv.CIFAR10, "train_list", train)
    patch.setattr(tv.CIFAR10, "test_list", [["test_batch", md5["test_batch"]]])
    patch.setattr(tv.CIFAR10, "meta", tv.CIFAR10.meta | {"md5": md5["batches.meta"]})


def publish_flowers(server: FileServer, patch: pytest.MonkeyPatch) -> None:
    numbers = np.arange(1, 31)
    splits = {"trnid": numbers[None, :5], "valid": numbers[None, 5:9], "tstid": numbers[None, 9:]}
    savemat(labels := io.BytesIO(), {"labels": (numbers % 102 + 1)[None]})
    savemat(split_file := io.BytesIO(), splits)
    images = {}
    for number in numbers.tolist():  # the colour says which image it is
        image = Image.new("RGB", (70 + number, 90), (number * 8, 0, 0))
        images[f"jpg/image_{number:05d}.jpg"] = jpeg(image)
    resources = [
        server.publish("102flowers.tgz", tar_gz(images)),
        server.publish("imagelabels.mat", labels.getvalue()),
        server.publish("setid.mat", split_file.getvalue()),
    ]
    patch.setattr(torchvision_readers, "FLOWERS_URL", server.url.rstrip("/"))
    patch.setattr(torchvision_readers, "FLOWERS_MD5", {each.name: each.md5 for each in resources})


def publish_celeba(server: FileServer, patch: pytest.MonkeyPatch) -> None:
    names = [f"{number:06d}.jpg" for number in range(1, 31)]
    faces, attributes, splits = {}, [], []
    for index, name in enumerate(names):
        face = Image.new("RGB", (178, 218), (255, 0, 0))  # red outside of what is cropped
        face.paste((0, 0, 8 * (index + 1)), (15, 35, 163, 183))
        faces[f"img_align_celeba/{name}"] = jpeg(face)
        values = ["1" if (index + column) % 3 == 0 else "-1" for column in range(40)]
        attributes.append(f"{name} {' '.join(values)}")
        splits.append(f"{name} {0 if index < 20 else 1 if index < 24 else 2}")
    boxes = [f"{name} 1 2 3 4" for name in names]
    landmarks = [f"{name} 1 2" for name in names]
    texts = {
        "list_attr_celeba.txt": ["30", " ".join(class_names.CELEBA_ATTRIBUTES) + " ", *attributes],
        "identity_CelebA.txt": [f"{name} 7" for name in names],
        "list_bbox_celeba.txt": ["30", "image_id x_1 y_1 width height", *boxes],
        "list_landmarks_align_celeba.txt": ["30", "a b", *landmarks],
        "list_eval_partition.txt": splits,
    }
    resources = [server.publish("img_align_celeba.zip", zipped(faces))]
    for name, lines in texts.items():
        resources.append(server.publish(name, ("\n".join(lines) + "\n").encode()))
    patch.setattr(tv.CelebA, "file_list", [(each.name, each.md5, each.name) for each in resources])
    patch.setattr(torchvision_readers, "CELEBA_URL", server.url + "{}")


@dataclass(frozen=True)
class PublishedFormat:
    """How a data set is published.

    Arguments:
    publish: puts its files on a server.
    folder: of its files below the root.
    kept: some of what keep_raw=true keeps there.
    options: of the function that opens it.
    """

    publish: Callable[[FileServer, pytest.MonkeyPatch], None]
    folder: str
    kept: set[str]
    options: dict[str, Any] = field(default_factory=dict)


FORMATS = {
    "mnist": PublishedFormat(
        partial(publish_mnist, "MNIST"), "MNIST/raw", {"train-images-idx3-ubyte"}
    ),
    "fashion_mnist": PublishedFormat(
        partial(publish_mnist, "FashionMNIST"), "FashionMNIST/raw", {"t10k-labels-idx1-ubyte.gz"}
    ),
    "kmnist": PublishedFormat(
        partial(publish_mnist, "KMNIST"), "KMNIST/raw", {"t10k-labels-idx1-ubyte"}
    ),
    "emnist": PublishedFormat(
        publish_emnist,
        "EMNIST/raw",
        {"gzip.zip", "emnist-letters-test-images-idx3-ubyte"},
        {"split": "letters"},
    ),
    "cifar10": PublishedFormat(
        publish_cifar10, ".", {"cifar-10-python.tar.gz", "cifar-10-batches-py"}
    ),
    "flowers": PublishedFormat(
        publish_flowers, "flowers-102", {"102flowers.tgz", "jpg", "setid.mat"}, {"side": 16}
    ),
    "celeba": PublishedFormat(
        publish_celeba,
        "celeba",
        {"img_align_celeba", "img_align_celeba.zip"},
        {"side": 16, "attribute": None},
    ),
}
