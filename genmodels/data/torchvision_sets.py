"""Data sets that torchvision knows: the user's files, or downloaded ones, which are read once."""

import fnmatch
import gzip
import logging
import shutil
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from genmodels.data.cached_dataset import CachedDataset, DecodedImages
from genmodels.data.downloads import Resource, provide
from genmodels.data.images import ImageSpec
from genmodels.files import name_in_errors

log = logging.getLogger(__name__)

DEFAULT_ROOT = Path("data")  # the project's own folder, the only root that need not exist
ARCHIVE_SUFFIXES = (".zip", ".tar", ".tgz", ".gz")


@dataclass(frozen=True)
class FileOptions:
    """Where the files of a published data set are, and what may be done about them.

    Arguments:
    root: the user's folder; files there are read where they lie, and never removed.
    download: fetch what is missing.
    keep_raw: move what was downloaded to `root` once it is read, instead of removing it.
    cache: the folder of decoded data sets.
    """

    root: str
    download: bool
    keep_raw: bool
    cache: str


@dataclass(frozen=True)
class TorchvisionDataset:
    """How a data set is published, where torchvision looks for its files, and how they are read.

    Arguments:
    class_name: of torchvision.datasets.
    folder: where that class looks, below its root.
    required: the files and folders that it looks for there.
    resources: from the class to what can be downloaded.
    read: from the class, its root and a folder for large tensors to the images.
    options: where the files are.
    nested: a pattern; only the members of the archive that match it are unpacked, and they are
        archives themselves.
    """

    class_name: str
    folder: str
    required: Sequence[str]
    resources: Callable[[Any], list[Resource]]
    read: Callable[[Any, str, Path], DecodedImages]
    options: FileOptions
    nested: str | None = None

    @property
    def home(self) -> Path:
        """Where the user's own files are."""
        return Path(self.options.root) / self.folder

    def cached(self, spec: ImageSpec, key: str = "") -> CachedDataset:
        """The data set with its cache. Raises ValueError for a missing root, likely a typo.

        Arguments:
        spec: what is known of it.
        key: what the images depend on besides the files.
        """
        dataset = CachedDataset(
            spec,
            self._decode,
            Path(self.options.cache),
            origin=f"{self.home.resolve()} {key}".strip(),
            file_state=self._file_state,
        )
        root = Path(self.options.root)
        if not (root.is_dir() or root == DEFAULT_ROOT or dataset.path.exists()):
            raise ValueError(
                f"{self._missing_files()}. Put them there, or let train.py fetch them: "
                f"dataset.root={DEFAULT_ROOT} dataset.download=true"
            )
        return dataset

    def _decode(self, workspace: Path) -> DecodedImages:
        if all((self.home / name).exists() for name in self.required):
            return self._read(self.options.root, workspace)
        try:
            self._prepare(workspace / self.folder)
        except ValueError as error:
            raise ValueError(f"{self._missing_files()}: {error}") from None
        decoded = self._read(str(workspace), workspace)
        if self.options.keep_raw:
            _move_missing(workspace / self.folder, self.home)
        return decoded

    def _file_state(self) -> str:
        states = []
        for name in self.required:
            path = self.home / name
            if path.exists():
                status = path.stat()
                states.append(f"{name}:{status.st_size}:{status.st_mtime_ns}")
        return " ".join(states)

    def _prepare(self, folder: Path) -> None:
        """Fill a folder with what torchvision reads, from the user's archives or the network."""
        resources = self.resources(self._torchvision_class())
        for path in provide(resources, self.home, folder, self.options.download):
            if path.suffix in ARCHIVE_SUFFIXES:
                log.info("unpacking %s", path)
                unpack(path, folder, self.nested or "*")
            elif path.parent != folder:
                folder.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, folder)
        if self.nested:
            for path in sorted(folder.glob(self.nested)):
                unpack(path, folder)

    def _read(self, torchvision_root: str, workspace: Path) -> DecodedImages:
        try:
            return self.read(self._torchvision_class(), torchvision_root, workspace)
        except (OSError, ImportError):  # which name their file, or package
            raise
        except Exception as error:  # torchvision's readers raise many kinds on damaged files
            raise ValueError(
                f"dataset.root={self.options.root}: no readable {self.class_name} files in "
                f"{Path(torchvision_root) / self.folder} ({str(error) or type(error).__name__})"
            ) from None

    def _torchvision_class(self) -> Any:
        import torchvision  # 2 s, and not needed once the cache is there

        return getattr(torchvision.datasets, self.class_name)

    def _missing_files(self) -> str:
        return f"dataset.root={self.options.root}: no {self.class_name} files in {self.home}"


def unpack(archive: Path, folder: Path, pattern: str = "*") -> None:
    """Unpack the members of an archive whose names match a pattern: all of them, or none.

    The archive is a zip, a tar, or a single gzipped file. Nothing is written outside the folder.
    Raises ValueError, naming the archive, where it is damaged or a member leads out of the folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    temporary = tempfile.TemporaryDirectory(dir=folder, prefix=".unpacking-")
    with name_in_errors(folder), temporary as name:
        try:
            _extract(archive, Path(name), pattern)
        except Exception as error:  # the libraries raise many kinds on damaged archives
            if isinstance(error, OSError) and error.errno is not None:  # the disk's
                raise
            reason = f"{type(error).__name__}: {error}"
            raise ValueError(f"{archive}: damaged or refused ({reason})") from None
        for entry in Path(name).iterdir():
            target = folder / entry.name
            if target.is_dir():  # an interrupted attempt left it
                shutil.rmtree(target)
            entry.replace(target)


def _extract(archive: Path, folder: Path, pattern: str) -> None:
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive) as zipped:
            zipped.extractall(folder, fnmatch.filter(zipped.namelist(), pattern))
    elif archive.name.endswith((".tar", ".tar.gz", ".tgz")):
        with tarfile.open(archive) as tar:
            members = [member for member in tar if fnmatch.fnmatch(member.name, pattern)]
            tar.extractall(folder, members, filter="data")
    else:
        with gzip.open(archive) as source, open(folder / archive.stem, "wb") as target:
            shutil.copyfileobj(source, target)


def _move_missing(source: Path, target: Path) -> None:
    """Move what is not there yet."""
    target.mkdir(parents=True, exist_ok=True)
    for entry in source.iterdir():
        if not (target / entry.name).exists():
            shutil.move(entry, target / entry.name)
