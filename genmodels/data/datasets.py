"""The data sets: one function each, named by a yaml of conf/dataset. Nothing is read before `ImageSource.load`."""

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from genmodels.data.images import Decoded, ImageSource, ImageSpec, to_uint8

DEFAULT_ROOT = Path("data")     # the project's own folder, the only one that is made where it is missing
DIGITS = tuple("0123456789")
FASHION = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")


def digits(*, cache: str) -> ImageSource:
    """The 1,797 handwritten digits that scikit-learn ships (UCI, 8x8 pixels of 0-16), drawn as 28x28 gray images."""
    return ImageSource(ImageSpec("digits", (1, 28, 28), DIGITS), _decode_digits, Path(cache))


def mnist(*, root: str, download: bool, cache: str) -> ImageSource:
    """MNIST (LeCun et al. 1998): 60,000 + 10,000 handwritten digits, from `root`/MNIST/raw or downloaded to there."""
    return _idx_files("MNIST", ImageSpec("mnist", (1, 28, 28), DIGITS), root, download, cache)


def fashion_mnist(*, root: str, download: bool, cache: str) -> ImageSource:
    """Fashion-MNIST (Xiao et al. 2017): 60,000 + 10,000 articles of clothing, from `root`/FashionMNIST/raw."""
    return _idx_files("FashionMNIST", ImageSpec("fashion_mnist", (1, 28, 28), FASHION), root, download, cache)


def open_source(settings: Mapping[str, Any], root: str, cache: str) -> ImageSource:
    """The data set that a checkpoint's settings name, from this machine's folders; nothing is downloaded.

    Only functions of this module are called: settings may come from a stranger's file. Raises ValueError for others.
    """
    target = str(settings.get("dataset._target_"))
    functions = {f"{__name__}.{name}": value for name, value in globals().items() if inspect.isfunction(value)
                 and value.__module__ == __name__ and not name.startswith("_") and value is not open_source}
    if target not in functions:
        raise ValueError(f"dataset._target_={target}: no data set of this project")
    arguments = {key.removeprefix("dataset."): value for key, value in settings.items() if key.startswith("dataset.")}
    here = {"root": root, "cache": cache, "download": False}
    named = {name: here[name] for name in inspect.signature(functions[target]).parameters if name in here}
    return functions[target](**{key: value for key, value in arguments.items() if key != "_target_"} | named)


def _decode_digits() -> Decoded:
    from sklearn.datasets import load_digits  # slow to import, and not needed once the cache is there
    bunch = load_digits()
    images = torch.from_numpy(bunch.images).float()[:, None] / 16                           # (1797, 1, 8, 8)
    images = F.interpolate(images, size=(20, 20), mode="bicubic", align_corners=False).clamp(0, 1)
    images = F.pad(torch.sigmoid((images - 0.45) * 12), (4, 4, 4, 4))                       # bold strokes on black
    return Decoded(to_uint8(images), torch.from_numpy(bunch.target).long(), test_from=None)


def _idx_files(folder: str, spec: ImageSpec, root: str, download: bool, cache: str) -> ImageSource:
    raw = Path(root) / folder / "raw"

    def decode() -> Decoded:
        import torchvision  # 2 s, and not needed once the cache is there
        dataset = getattr(torchvision.datasets, folder)
        try:
            parts = [dataset(root, train=train, download=download) for train in (True, False)]
        except (RuntimeError, OSError, AssertionError, ValueError) as error:
            raise ValueError(f"dataset.root={root}: no readable {folder} files in {raw} ({error}). Put its four idx "
                             "files there") from None
        return Decoded(torch.cat([part.data for part in parts])[:, None], torch.cat([part.targets for part in parts]),
                       test_from=len(parts[0]))

    stats = [(file.name, file.stat()) for file in sorted(raw.glob("*-ubyte*"))]
    state = " ".join(f"{name}:{stat.st_size}:{stat.st_mtime_ns}" for name, stat in stats)
    source = ImageSource(spec, decode, Path(cache), origin=str(raw.resolve()), state=state)
    fetchable = download and (Path(root).is_dir() or Path(root) == DEFAULT_ROOT)    # a misspelt root is not made
    if not (stats or source.path.exists() or fetchable):
        raise ValueError(f"dataset.root={root}: no {folder} files in {raw}. Put its four idx files there, or let "
                         f"train.py fetch them: dataset.root={DEFAULT_ROOT} dataset.download=true")
    return source
