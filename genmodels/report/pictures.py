"""The pictures of a report: what each run drew, and which of them become part of the page."""

import base64
import io
import logging
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from PIL import Image

from genmodels import hardware, run_files
from genmodels.report.runs import RunRecord

log = logging.getLogger(__name__)

# Kinds that come first, with what they show
NOTES = {
    "samples": "the same noise for every run",
    "reconstructions": "test images above their reconstructions, the same for every run",
    "latent_scatter": "posterior means of the test images by class",
}
MAX_EMBEDDED_BYTES = 10 * 2**20
THUMBNAIL_SIDE = 240  # pixels
THUMBNAIL_QUALITY = 60


@dataclass(frozen=True)
class Picture:
    """A file that a run drew.

    Arguments:
    path: of the png.
    step: of a snapshot; None for a figure of the end.
    """

    path: Path
    step: int | None


Pictures = dict[str, list[Picture]]  # by kind; of snapshots the earliest first


def pictures_of(run: RunRecord) -> Pictures:
    """All that a run drew: snapshots of training, and figures of other kinds of its end."""
    kinds: Pictures = {}
    for path in sorted((run.folder / run_files.HISTORY).glob("*.png")):
        kind, _, step = path.stem.rpartition("-")
        if step.isdigit():
            kinds.setdefault(kind, []).append(Picture(path, int(step)))
    for path in sorted((run.folder / run_files.FIGURES).glob("*.png")):
        kinds.setdefault(path.stem, [Picture(path, None)])
    first = [kind for kind in NOTES if kind in kinds]
    return {kind: kinds[kind] for kind in [*first, *sorted(kinds.keys() - NOTES.keys())]}


class Embedding:
    """Which pictures become part of the page, and how.

    The newest picture of the kinds in NOTES always does: as it is, or of a large sweep as a
    thumbnail. Earlier snapshots, and then other figures, do as far as MAX_EMBEDDED_BYTES allow;
    otherwise the page shows the file in the run's folder, as long as that is beside it.
    """

    def __init__(self, pictures: Sequence[Pictures], folder: Path) -> None:
        """Arguments:
        pictures: of all runs.
        folder: of the page.
        """
        self._folder = folder
        self._addresses: dict[Path, str] = {}
        newest, earlier, others = [], [], []
        for of_run in pictures:
            for kind, of_kind in of_run.items():
                if kind in NOTES:
                    newest.append(of_kind[-1].path)
                    earlier += [picture.path for picture in of_kind[:-1]]
                else:
                    others += [picture.path for picture in of_kind]
        size = _size(newest)
        self._embed(newest, data_uri if size <= MAX_EMBEDDED_BYTES else thumbnail_uri)
        for paths in (earlier, others):
            size += _size(paths)
            if size <= MAX_EMBEDDED_BYTES:
                self._embed(paths, data_uri)

    def entry(self, picture: Picture) -> dict[str, Any]:
        """A picture as the page has it: its step, a link to its file, and itself if embedded."""
        entry = {"link": relative(picture.path, self._folder), "step": picture.step}
        if picture.path in self._addresses:
            entry["source"] = self._addresses[picture.path]
        return entry

    def _embed(self, paths: Sequence[Path], address: Callable[[Path], str]) -> None:
        with ThreadPoolExecutor(hardware.cores()) as pool:  # decoding and scaling in parallel
            self._addresses |= zip(paths, pool.map(address, paths), strict=True)


def relative(path: Path, folder: Path) -> str:
    """The address of a file for a page in a folder."""
    return quote(Path(os.path.relpath(path, folder)).as_posix())


def data_uri(path: Path) -> str:
    """A png as it is."""
    text = base64.b64encode(path.read_bytes()).decode()
    return f"data:image/png;base64,{text}"


def thumbnail_uri(path: Path) -> str:
    """A small picture of a picture; "" of a damaged one."""
    buffer = io.BytesIO()
    try:
        with Image.open(path) as image:
            small = image.convert("RGB")
        small.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
        small.save(buffer, format="jpeg", quality=THUMBNAIL_QUALITY)  # 20 times faster than webp
    except OSError as error:
        log.warning("%s: left out (%s)", path, error)
        return ""
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _size(paths: Sequence[Path]) -> int:
    return sum(path.stat().st_size for path in paths)
