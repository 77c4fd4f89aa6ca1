"""Downloads that are verified before anything opens them, and resumed where a connection broke."""

import hashlib
import http.client
import logging
import os
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from genmodels import __version__
from genmodels.files import name_in_errors

log = logging.getLogger(__name__)

TIMEOUT = 30.0  # seconds in which a server may send nothing
ATTEMPTS = 4  # at each address
PAUSE = 1.0  # seconds before the second attempt; doubled before each further one
MAX_BYTES = 8 * 2**30  # of one file
CHUNK_BYTES = 2**18

NETWORK_ERRORS = (
    urllib.error.URLError,
    http.client.HTTPException,
    TimeoutError,
    ConnectionError,
    ssl.SSLError,
)


class DownloadError(ValueError):
    """None of its addresses gave a file."""


class _AttemptError(Exception):
    """An attempt at one address failed."""

    def __init__(self, reason: str, *, retry: bool) -> None:
        super().__init__(reason)
        self.retry = retry


@dataclass(frozen=True)
class Resource:
    """A file that a data set is published as.

    Arguments:
    name: of the file.
    urls: mirrors, tried in this order.
    md5: in hex, as its publisher states it; the data sets state no stronger checksum.
    """

    name: str
    urls: Sequence[str]
    md5: str


def provide(
    resources: Sequence[Resource], home: Path, workspace: Path, download: bool
) -> list[Path]:
    """The path of each resource's verified file, in `home` or in `workspace`.

    Raises ValueError, saying where to put which file by hand, where one is missing and cannot be
    downloaded, or is another file than its checksum says.

    Arguments:
    resources: what is needed.
    home: the user's own folder, where nothing is written.
    workspace: where missing files are downloaded, and are looked for too.
    download: whether they may be.
    """
    paths = {resource.name: _local_file(resource, home, workspace) for resource in resources}
    missing = [resource for resource in resources if paths[resource.name] is None]
    listed = ", ".join(f"{resource.name} (md5 {resource.md5})" for resource in missing)
    by_hand = f"Put into {home} by hand: {listed}"
    if missing and not download:
        names = ", ".join(resource.name for resource in missing)
        raise ValueError(
            f"{names}: not there. {by_hand}, or let train.py fetch them: dataset.download=true"
        )
    for resource in missing:
        try:
            paths[resource.name] = fetch(resource, workspace)
        except DownloadError as error:
            raise ValueError(
                f"{error}. {by_hand}. The same command again goes on where this one stopped"
            ) from None
    return [path for path in paths.values() if path is not None]


def fetch(resource: Resource, folder: Path) -> Path:
    """Download a file into a folder, verify it, and return its path.

    Resumes what a broken connection left, now or in an earlier process. Raises DownloadError
    where no address gives the file; OSError, leaving nothing, where it cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f"{resource.name}.part"
    failures = []
    for url in resource.urls:
        log.info("downloading %s", url)
        failure = _fetch_from(url, resource, partial)
        if not failure:
            path = folder / resource.name
            os.replace(partial, path)
            return path
        failures.append(f"{url}: {failure}")
    raise DownloadError(f"{resource.name} cannot be fetched ({'; '.join(failures)})")


def checksum(path: Path) -> str:
    """A file's md5, in hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _local_file(resource: Resource, home: Path, workspace: Path) -> Path | None:
    own = home / resource.name
    if own.is_file():
        md5 = checksum(own)
        if md5 != resource.md5:
            raise ValueError(
                f"{own}: not the published file, or damaged (md5 {md5} instead of {resource.md5})"
            )
        return own
    earlier = workspace / resource.name
    return earlier if _is_verified(earlier, resource) else None


def _is_verified(path: Path, resource: Resource) -> bool:
    return path.is_file() and checksum(path) == resource.md5


def _fetch_from(url: str, resource: Resource, partial: Path) -> str:
    """Try one address several times. Returns why the last attempt failed, "" for success."""
    failure = ""
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(PAUSE * 2 ** (attempt - 1))
        try:
            _attempt(url, resource, partial)
            return ""
        except _AttemptError as error:
            failure = str(error)
            if not error.retry:
                break
            log.info("%s: %s (attempt %d of %d)", url, failure, attempt + 1, ATTEMPTS)
    return failure


def _attempt(url: str, resource: Resource, partial: Path) -> None:
    """Complete the partial file and verify it, or raise _AttemptError."""
    if _is_verified(partial, resource):
        return
    resumed = partial.exists()
    try:
        _append_remainder(url, partial)
    except urllib.error.HTTPError as error:
        if error.code == 416:  # the server has no such remainder: start over
            partial.unlink(missing_ok=True)
        retry = error.code == 416 or not 400 <= error.code < 500
        raise _AttemptError(f"HTTP {error.code} {error.reason}", retry=retry) from None
    except NETWORK_ERRORS as error:
        raise _AttemptError(_reason(error), retry=True) from None
    except (OSError, _AttemptError):
        partial.unlink(missing_ok=True)
        raise
    if not _is_verified(partial, resource):
        reason = f"sends another file (md5 {checksum(partial)} instead of {resource.md5})"
        partial.unlink()
        # The beginning of a resumed file may have been another server's.
        raise _AttemptError(reason, retry=resumed)


def _append_remainder(url: str, partial: Path) -> None:
    """Append what the file lacks, or write it anew where the server sends all of it."""
    done = partial.stat().st_size if partial.exists() else 0
    headers = {"User-Agent": f"genmodels/{__version__}"}
    if done:
        headers["Range"] = f"bytes={done}-"
    request = urllib.request.Request(url, headers=headers)
    with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
        content_range = response.headers.get("Content-Range", "")
        if response.status != 206 or not content_range.startswith(f"bytes {done}-"):
            done = 0
        length = response.headers.get("Content-Length", "")
        total = done + int(length) if length.isdigit() else None
        done = _write_chunks(response, partial, done, total)
    if total is not None and done < total:
        raise ConnectionError(f"broke off after {done:,} of {total:,} bytes")


def _write_chunks(
    response: http.client.HTTPResponse, partial: Path, done: int, total: int | None
) -> int:
    """Write a response behind the first `done` bytes of a file; returns the file's size then."""
    progress = tqdm(
        desc=partial.stem, initial=done, total=total, unit="B", unit_scale=True, disable=None
    )
    with progress, open(partial, "ab" if done else "wb") as file:
        while chunk := response.read1(CHUNK_BYTES):
            with name_in_errors(partial):
                file.write(chunk)
                file.flush()
            done += len(chunk)
            progress.update(len(chunk))
            if done > MAX_BYTES:
                raise _AttemptError(f"sends more than {MAX_BYTES:,} bytes", retry=False)
    return done


def _reason(error: Exception) -> str:
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(reason, TimeoutError):
        return f"nothing came for {TIMEOUT:g} s"
    return str(reason)
