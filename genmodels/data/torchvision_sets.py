"""Data sets that torchvision knows: found where the user has them, else downloaded, read once, and tidied away."""

import logging
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from genmodels.data import archives
from genmodels.data.cached_dataset import CachedDataset, Decoded
from genmodels.data.downloads import Resource, provide
from genmodels.data.images import ImageSpec

log = logging.getLogger(__name__)

DEFAULT_ROOT = Path("data")  # the project's own folder, the only root that need not be there


@dataclass(frozen=True)
class Files:
    """Where the files of a published data set are, and what may be done about them."""

    root: str  # the user's folder; files there are read where they lie, and never removed
    download: bool  # fetch what is missing
    keep_raw: bool  # move what was downloaded to `root` once it is read, instead of removing it
    cache: str  # where decoded data sets are kept


@dataclass(frozen=True)
class TorchvisionSet:
    """What a data set is published as, where torchvision looks for it, and how it is read."""

    name: str  # of torchvision's class
    place: str  # where that class looks, below its root
    needs: Sequence[str]  # what it looks for there
    resources: Callable[[Any], list[Resource]]  # from the class: what to download
    read: Callable[
        [Any, str, Path], Decoded
    ]  # from the class, its root, and a folder for large tensors
    wanted: str = "*"  # the members of the archives to unpack

    def source(self, spec: ImageSpec, where: Files, how: str = "") -> CachedDataset:
        """The data set as a source. how: what the images depend on besides the files.

        Raises ValueError where the root is not there, which is likely misspelt.
        """
        home = Path(where.root) / self.place

        def decode(workspace: Path) -> Decoded:
            if all((home / name).exists() for name in self.needs):
                return self._read(home, where.root, where.root, workspace)
            self._lay_out(home, workspace, where)
            decoded = self._read(workspace / self.place, str(workspace), where.root, workspace)
            if where.keep_raw:
                _move_missing(workspace / self.place, home)
            return decoded

        def state() -> str:
            stats = [(name, (home / name).stat()) for name in self.needs if (home / name).exists()]
            return " ".join(f"{name}:{stat.st_size}:{stat.st_mtime_ns}" for name, stat in stats)

        source = CachedDataset(
            spec, decode, Path(where.cache), origin=f"{home.resolve()} {how}".strip(), state=state
        )
        if not (
            Path(where.root).is_dir() or Path(where.root) == DEFAULT_ROOT or source.path.exists()
        ):
            raise ValueError(
                f"dataset.root={where.root}: no {self.name} files in {home}. Put them there, or let "
                f"train.py fetch them: dataset.root={DEFAULT_ROOT} dataset.download=true"
            )
        return source

    def _lay_out(self, home: Path, workspace: Path, where: Files) -> None:
        """Fill the workspace with what torchvision looks for, from the user's archives and from the network."""
        place = workspace / self.place
        try:
            paths = provide(self.resources(self._class()), home, place, where.download)
            for path in paths:
                if archives.is_archive(path):
                    log.info("unpacking %s", path)
                    inner = archives.unpack(path, place, self.wanted)
                    for nested in filter(archives.is_archive, inner):
                        archives.unpack(nested, place)
                elif path.parent != place:
                    place.mkdir(parents=True, exist_ok=True)
                    shutil.copy(path, place)
        except ValueError as error:
            raise ValueError(
                f"dataset.root={where.root}: no {self.name} files in {home}: {error}"
            ) from None

    def _read(self, place: Path, torchvision_root: str, root: str, workspace: Path) -> Decoded:
        try:
            return self.read(self._class(), torchvision_root, workspace)
        except (OSError, ImportError):  # which name their file, or package
            raise
        except Exception as error:  # torchvision's readers raise many kinds on what is damaged
            raise ValueError(
                f"dataset.root={root}: no readable {self.name} files in {place} ({error})"
            ) from None

    def _class(self) -> Any:
        import torchvision  # 2 s, and not needed once the cache is there

        return getattr(torchvision.datasets, self.name)


def _move_missing(source: Path, target: Path) -> None:
    """Move what is not there yet."""
    target.mkdir(parents=True, exist_ok=True)
    for entry in source.iterdir():
        if not (target / entry.name).exists():
            shutil.move(entry, target / entry.name)
