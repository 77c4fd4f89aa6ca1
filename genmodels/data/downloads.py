"""Files from the network: verified before anything opens them, and gone on with where a connection broke off."""

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
from genmodels.files import naming

log = logging.getLogger(__name__)

TIMEOUT = 30.0  # seconds in which a server may send nothing
ATTEMPTS = 4  # at each address
PAUSE = 1.0  # seconds before the second attempt; doubled before each further one
MAX_BYTES = 8 * 2**30  # of one file
CHUNK = 2**18

NETWORK_ERRORS = (
    urllib.error.URLError,
    http.client.HTTPException,
    TimeoutError,
    ConnectionError,
    ssl.SSLError,
)


class DownloadError(ValueError):
    """A file could not be had from any of its addresses."""


@dataclass(frozen=True)
class Resource:
    """A file that a data set is published as."""

    name: str
    urls: Sequence[str]  # mirrors, tried in this order
    md5: str  # what its publisher says; the data sets state no stronger checksum


def provide(
    resources: Sequence[Resource], home: Path, workspace: Path, download: bool
) -> list[Path]:
    """Each resource as a verified file: the user's own in `home`, or one in `workspace`, downloaded if need be.

    Raises ValueError, saying where to put which file by hand, where one is missing and cannot be had, or is another
    file than its checksum says.
    """
    found, missing = {}, []
    for resource in resources:
        own = home / resource.name
        if own.is_file():
            if (md5 := checksum(own)) != resource.md5:
                raise ValueError(
                    f"{own}: not the published file, or damaged (md5 {md5} instead of {resource.md5})"
                )
            found[resource.name] = own
        elif _verified(workspace / resource.name, resource):
            found[resource.name] = workspace / resource.name
        else:
            missing.append(resource)
    by_hand = f"Put into {home} by hand: " + ", ".join(
        f"{each.name} (md5 {each.md5})" for each in missing
    )
    if missing and not download:
        raise ValueError(
            f"{', '.join(each.name for each in missing)}: not there. {by_hand}, or let train.py fetch "
            "them: dataset.download=true"
        )
    for resource in missing:
        try:
            found[resource.name] = fetch(resource, workspace)
        except DownloadError as error:
            raise ValueError(
                f"{error}. {by_hand}. The same command again goes on where this one stopped"
            ) from None
    return [found[resource.name] for resource in resources]


def fetch(resource: Resource, folder: Path) -> Path:
    """Download a file into a folder, verify it, and return its path.

    What a broken connection left, now or in an earlier process, is gone on with. Raises DownloadError where no address
    gives the file; OSError, leaving nothing, where it cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path, partial = folder / resource.name, folder / f"{resource.name}.part"
    failures = []
    for url in resource.urls:
        log.info("downloading %s", url)
        for attempt in range(ATTEMPTS):
            begun = partial.exists()
            try:
                if not _verified(partial, resource):
                    _go_on(url, partial)
            except NETWORK_ERRORS as error:
                failure = f"{url}: {_reason(error)}"
                if (
                    isinstance(error, urllib.error.HTTPError)
                    and error.code != 416
                    and 400 <= error.code < 500
                ):
                    break
                if (
                    isinstance(error, urllib.error.HTTPError) and error.code == 416
                ):  # there is no such remainder
                    partial.unlink(missing_ok=True)
                log.info("%s (attempt %d of %d)", failure, attempt + 1, ATTEMPTS)
                time.sleep(PAUSE * 2**attempt if attempt + 1 < ATTEMPTS else 0)
                continue
            except DownloadError as error:
                failure = f"{url}: {error}"
                partial.unlink()
                break
            except OSError:
                partial.unlink(missing_ok=True)
                raise
            if _verified(partial, resource):
                os.replace(partial, path)
                return path
            failure = (
                f"{url}: sends another file (md5 {checksum(partial)} instead of {resource.md5})"
            )
            partial.unlink()
            if not begun:  # else its beginning may have been another server's
                break
        failures.append(failure)
    raise DownloadError(f"{resource.name} cannot be fetched ({'; '.join(failures)})")


def checksum(path: Path) -> str:
    """A file's md5, in hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _verified(path: Path, resource: Resource) -> bool:
    return path.is_file() and checksum(path) == resource.md5


def _go_on(url: str, partial: Path) -> None:
    """Append to the file what it lacks, or write it anew where the server sends all of it."""
    done = partial.stat().st_size if partial.exists() else 0
    headers = {"User-Agent": f"genmodels/{__version__}"} | (
        {"Range": f"bytes={done}-"} if done else {}
    )
    with urllib.request.urlopen(
        urllib.request.Request(url, headers=headers), timeout=TIMEOUT
    ) as response:
        if response.status != 206 or not response.headers.get("Content-Range", "").startswith(
            f"bytes {done}-"
        ):
            done = 0
        length = response.headers.get("Content-Length")
        total = done + int(length) if length and length.isdigit() else None
        with (
            open(partial, "ab" if done else "wb") as file,
            tqdm(
                desc=partial.stem,
                initial=done,
                total=total,
                unit="B",
                unit_scale=True,
                disable=None,
            ) as bar,
        ):
            while chunk := response.read1(CHUNK):
                with naming(partial):
                    file.write(chunk)
                    file.flush()
                done += len(chunk)
                bar.update(len(chunk))
                if done > MAX_BYTES:
                    raise DownloadError(f"sends more than {MAX_BYTES:,} bytes")
    if total is not None and done < total:
        raise ConnectionError(f"broke off after {done:,} of {total:,} bytes")


def _reason(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"HTTP {error.code} {error.reason}"
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    return f"nothing came for {TIMEOUT:g} s" if isinstance(reason, TimeoutError) else str(reason)
