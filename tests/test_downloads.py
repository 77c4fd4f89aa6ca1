"""TorchvisionSet data sets in their true formats, from a server that serves, stalls, breaks off, and lies."""

import contextlib
import gzip
import hashlib
import http.server
import io
import pickle
import struct
import tarfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision.datasets as tv
from conftest import idx_bytes
from PIL import Image

from genmodels.data import class_names, datasets, downloads, torchvision_readers
from genmodels.data.cached_dataset import CachedDataset
from genmodels.data.downloads import DownloadError, Resource, fetch

CONTENT = np.random.default_rng(0).bytes(300_000)


class Server:
    """Files by path, how the next requests are answered, and what was asked."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.moods: list[str] = []  # of the next requests; then it serves
        self.asked: list[tuple[str, str | None]] = []
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.asked.append((self.path, self.headers.get("Range")))
                server.answer(self, server.moods.pop(0) if server.moods else "serve")

            def log_message(self, *_: object) -> None:
                pass

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/"

    def resource(self, name: str, content: bytes = CONTENT, *mirrors: str) -> Resource:
        self.files.setdefault(name, content)
        return Resource(name, [self.url + name, *mirrors], hashlib.md5(content).hexdigest())

    def answer(self, request: http.server.BaseHTTPRequestHandler, mood: str) -> None:
        content = self.files.get(request.path.lstrip("/"))
        if content is None or mood.isdigit():
            return request.send_error(int(mood) if mood.isdigit() else 404)
        start = 0
        if (asked := request.headers.get("Range")) and mood not in ("no ranges", "other range"):
            start = int(asked.removeprefix("bytes=").rstrip("-"))
            if start >= len(content):
                return request.send_error(416)
        if mood == "lie":
            content = content[::-1]
        if mood == "page":
            content, start = b"<html>Quota exceeded</html>", 0
        request.send_response(206 if start or mood == "other range" else 200)
        if start or mood == "other range":
            request.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        if mood not in ("no length", "endless"):
            request.send_header("Content-Length", str(len(content) - start))
        request.end_headers()
        rest = content[start:]
        with contextlib.suppress(ConnectionError):
            if mood == "break off":
                rest = rest[: len(rest) // 2]
            if mood == "stall":
                request.wfile.write(rest[:1000])
                time.sleep(1)
                return None
            if mood == "endless":
                for _ in range(200):
                    request.wfile.write(bytes(100_000))
            request.wfile.write(rest)
        return None


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(downloads, "TIMEOUT", 0.3)
    monkeypatch.setattr(downloads, "PAUSE", 0.001)
    for name in (
        "http_proxy",
        "https_proxy",
        "all_proxy",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "ALL_PROXY",
    ):
        monkeypatch.delenv(name, raising=False)
    made = Server()
    thread = threading.Thread(target=made.http.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield made
    made.http.shutdown()
    made.http.server_close()
    thread.join()


@pytest.mark.parametrize(
    ("moods", "requests"),
    [
        ([], 1),
        (["no length"], 1),
        (["break off"], 2),
        (["break off", "break off", "break off"], 4),
        (["stall"], 2),
        (["500", "503"], 3),
        (["break off", "no ranges"], 2),
        (["break off", "other range"], 2),
        (["break off", "lie"], 3),  # joined halves of two files: begun anew
    ],
)
def test_a_moody_server_gives_the_file_in_the_end(
    moods: list[str], requests: int, server: Server, tmp_path: Path
) -> None:
    resource = server.resource("file.bin")
    server.moods = list(moods)
    assert fetch(resource, tmp_path / "in/here").read_bytes() == CONTENT
    assert len(server.asked) == requests
    assert [path.name for path in (tmp_path / "in/here").iterdir()] == ["file.bin"]
    if moods == ["break off"]:
        assert server.asked == [("/file.bin", None), ("/file.bin", "bytes=150000-")]


def test_another_process_goes_on_where_one_was_stopped(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file.bin.part").write_bytes(CONTENT[:123_456])
    fetch(server.resource("file.bin"), tmp_path)
    assert server.asked == [("/file.bin", "bytes=123456-")]
    for leftover in (
        CONTENT,
        CONTENT + b"more",
        b"something else",
        b"",
    ):  # whole; too long; another
        (tmp_path / "file.bin.part").write_bytes(leftover)
        assert fetch(server.resource("file.bin"), tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("moods", "reason"),
    [
        (["lie"], "sends another file (md5 "),
        (["page"], "sends another file (md5 "),
        (["404"], "HTTP 404"),
        (["403"], "HTTP 403"),
        (["500"] * 4, "HTTP 500"),
        (["stall"] * 4, "nothing came for 0.3 s"),
        (["endless"], "sends more than 1,000,000 bytes"),
    ],
)
def test_a_server_that_cannot_be_trusted(
    moods: list[str], reason: str, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downloads, "MAX_BYTES", 1_000_000)
    server.moods = list(moods)
    with pytest.raises(DownloadError) as caught:
        fetch(server.resource("file.bin"), tmp_path)
    assert str(caught.value).startswith(
        "file.bin cannot be fetched (http://127.0.0.1"
    ) and reason in str(caught.value)
    assert not (tmp_path / "file.bin").exists()
    if "stall" not in moods:  # of which the beginning is kept
        assert not list(tmp_path.iterdir())
    server.moods = list(moods)
    assert fetch(
        server.resource("file.bin", CONTENT, server.url + "file.bin"), tmp_path
    ).exists()  # from a mirror


def test_nobody_there(server: Server, tmp_path: Path) -> None:
    resource = Resource(
        "file.bin", ["http://127.0.0.1:1/file.bin", "http://nowhere.invalid/file.bin"], "0" * 32
    )
    with pytest.raises(DownloadError, match=r"127\.0\.0\.1:1.*refused.*nowhere\.invalid"):
        fetch(resource, tmp_path)


def test_no_room_for_a_download(server: Server, tmp_path: Path) -> None:
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
        with pytest.raises(OSError, match=r"too large.*file\.bin\.part"):
            fetch(server.resource("file.bin"), tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list(tmp_path.iterdir())


# The published formats, tiny. Each puts its files on the server and tells torchvision's class where they are.


def digits_like(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 28, 28), np.uint8)


def publish_idx(name: str, server: Server, patch: pytest.MonkeyPatch) -> None:
    parts = {"train": (30, 0), "t10k": (10, 1)}
    files = {
        f"{part}-images-idx3-ubyte.gz": idx_bytes(digits_like(*of)) for part, of in parts.items()
    }
    files |= {
        f"{part}-labels-idx1-ubyte.gz": idx_bytes(np.arange(count) % 10)
        for part, (count, _) in parts.items()
    }
    made = [server.resource(file, gzip.compress(content)) for file, content in files.items()]
    patch.setattr(getattr(tv, name), "mirrors", [server.url])
    patch.setattr(getattr(tv, name), "resources", [(each.name, each.md5) for each in made])


def publish_emnist(server: Server, patch: pytest.MonkeyPatch) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as zipped:
        for split in ("letters", "digits"):
            for part, (count, seed) in {"train": (30, 0), "test": (10, 1)}.items():
                labels = np.arange(count) % 26 + 1 if split == "letters" else np.arange(count) % 10
                turned = digits_like(count, seed).transpose(0, 2, 1)  # as NIST has them
                zipped.writestr(
                    f"gzip/emnist-{split}-{part}-images-idx3-ubyte.gz",
                    gzip.compress(idx_bytes(turned)),
                )
                zipped.writestr(
                    f"gzip/emnist-{split}-{part}-labels-idx1-ubyte.gz",
                    gzip.compress(idx_bytes(labels)),
                )
            zipped.writestr(f"gzip/emnist-{split}-mapping.txt", "1 65 97")
    made = server.resource("gzip.zip", buffer.getvalue())
    patch.setattr(tv.EMNIST, "url", server.url + "gzip.zip")
    patch.setattr(tv.EMNIST, "md5", made.md5)


def colours(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 3, 32, 32), np.uint8)


def tar_gz(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def publish_cifar10(server: Server, patch: pytest.MonkeyPatch) -> None:
    files = {
        f"data_batch_{number}": pickle.dumps(
            {"data": colours(6, number).reshape(6, -1), "labels": [number] * 6}
        )
        for number in range(1, 6)
    }
    files["test_batch"] = pickle.dumps({"data": colours(10, 9).reshape(10, -1), "labels": [9] * 10})
    files["batches.meta"] = pickle.dumps({"label_names": list(class_names.CIFAR10)})
    md5 = {name: hashlib.md5(content).hexdigest() for name, content in files.items()}
    archive = tar_gz({f"cifar-10-batches-py/{name}": content for name, content in files.items()})
    made = server.resource("cifar-10-python.tar.gz", archive)
    patch.setattr(tv.CIFAR10, "url", server.url + "cifar-10-python.tar.gz")
    patch.setattr(tv.CIFAR10, "tgz_md5", made.md5)
    patch.setattr(
        tv.CIFAR10, "train_list", [[f"data_batch_{n}", md5[f"data_batch_{n}"]] for n in range(1, 6)]
    )
    patch.setattr(tv.CIFAR10, "test_list", [["test_batch", md5["test_batch"]]])
    patch.setattr(tv.CIFAR10, "meta", tv.CIFAR10.meta | {"md5": md5["batches.meta"]})


def jpeg(colour: tuple[int, int, int], size: tuple[int, int]) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, "jpeg", quality=95)
    return buffer.getvalue()


def publish_flowers(server: Server, patch: pytest.MonkeyPatch) -> None:
    from scipy.io import savemat

    numbers = np.arange(1, 31)
    archive = tar_gz(
        {f"jpg/image_{n:05d}.jpg": jpeg((n * 8, 0, 0), (70 + n, 90)) for n in numbers.tolist()}
    )
    mats = {}
    for name, content in {
        "imagelabels.mat": {"labels": (numbers % 102 + 1)[None]},
        "setid.mat": {
            "trnid": numbers[None, :5],
            "valid": numbers[None, 5:9],
            "tstid": numbers[None, 9:],
        },
    }.items():
        savemat(buffer := io.BytesIO(), content)
        mats[name] = buffer.getvalue()
    made = [
        server.resource(name, content)
        for name, content in {"102flowers.tgz": archive, **mats}.items()
    ]
    patch.setattr(torchvision_readers, "FLOWERS_URL", server.url.rstrip("/"))
    patch.setattr(torchvision_readers, "FLOWERS_MD5", {each.name: each.md5 for each in made})


def publish_celeba(server: Server, patch: pytest.MonkeyPatch) -> None:
    names = [f"{number:06d}.jpg" for number in range(1, 31)]
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as zipped:
        for number, name in enumerate(names, 1):
            face = Image.new(
                "RGB", (178, 218), (255, 0, 0)
            )  # red outside the centred 148x148, which is not
            face.paste((0, 0, number * 8), (15, 35, 163, 183))
            face.save(content := io.BytesIO(), "jpeg", quality=95)
            zipped.writestr(f"img_align_celeba/{name}", content.getvalue())
    attributes = [
        f"{name} " + " ".join("1" if (index + column) % 3 == 0 else "-1" for column in range(40))
        for index, name in enumerate(names)
    ]
    texts = {
        "list_attr_celeba.txt": ["30", " ".join(class_names.CELEBA_ATTRIBUTES) + " ", *attributes],
        "identity_CelebA.txt": [f"{name} 7" for name in names],
        "list_bbox_celeba.txt": [
            "30",
            "image_id x_1 y_1 width height",
            *(f"{name} 1 2 3 4" for name in names),
        ],
        "list_landmarks_align_celeba.txt": ["30", "a b", *(f"{name} 1 2" for name in names)],
        "list_eval_partition.txt": [
            f"{name} {0 if index < 20 else 1 if index < 24 else 2}"
            for index, name in enumerate(names)
        ],
    }
    files = {"img_align_celeba.zip": buffer.getvalue()} | {
        name: ("\n".join(lines) + "\n").encode() for name, lines in texts.items()
    }
    made = [server.resource(name, content) for name, content in files.items()]
    patch.setattr(tv.CelebA, "file_list", [(each.name, each.md5, each.name) for each in made])
    patch.setattr(torchvision_readers, "CELEBA_URL", server.url + "{}")


PUBLISHED: dict[
    str, tuple[Callable, dict[str, Any], str, set[str]]
] = {  # how; options; place; what keep_raw keeps
    "mnist": (
        lambda *here: publish_idx("MNIST", *here),
        {},
        "MNIST/raw",
        {"train-images-idx3-ubyte"},
    ),
    "fashion_mnist": (
        lambda *here: publish_idx("FashionMNIST", *here),
        {},
        "FashionMNIST/raw",
        {"t10k-labels-idx1-ubyte.gz"},
    ),
    "kmnist": (
        lambda *here: publish_idx("KMNIST", *here),
        {},
        "KMNIST/raw",
        {"t10k-labels-idx1-ubyte"},
    ),
    "emnist": (
        publish_emnist,
        {"split": "letters"},
        "EMNIST/raw",
        {"gzip.zip", "emnist-letters-test-images-idx3-ubyte"},
    ),
    "cifar10": (publish_cifar10, {}, ".", {"cifar-10-python.tar.gz", "cifar-10-batches-py"}),
    "flowers": (
        publish_flowers,
        {"side": 16},
        "flowers-102",
        {"102flowers.tgz", "jpg", "setid.mat"},
    ),
    "celeba": (
        publish_celeba,
        {"side": 16, "attribute": None},
        "celeba",
        {"img_align_celeba", "img_align_celeba.zip"},
    ),
}


@pytest.fixture(params=PUBLISHED)
def published(
    request: pytest.FixtureRequest, server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> tuple[str, Callable[..., CachedDataset], Path, set[str]]:
    """(name, a function that opens the data set, its place below the root, some of what is published)."""
    publish, more, place, kept = PUBLISHED[request.param]
    publish(server, monkeypatch)
    (tmp_path / "root").mkdir()

    def open_it(**options: object) -> CachedDataset:
        usual = {
            "root": str(tmp_path / "root"),
            "download": True,
            "keep_raw": False,
            "cache": str(tmp_path / "cache"),
        }
        return getattr(datasets, request.param)(**usual | more | options)

    return request.param, open_it, tmp_path / "root" / place, kept


def everything(folder: Path) -> list[str]:
    return sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.suffix != ".lock"
    )


def test_download_then_tidy(published: tuple, server: Server, tmp_path: Path) -> None:
    _, open_it, _, _ = published
    data = open_it().load()
    assert data.spec.image_shape == tuple(data.train.images.shape[1:])
    assert sum(len(part) for part in data.splits.values()) in (30, 40)
    assert everything(tmp_path / "root") == []
    (cache,) = everything(tmp_path / "cache")
    assert cache.endswith(".safetensors")
    asked = len(server.asked)
    again = open_it(download=False).load()
    assert len(server.asked) == asked and again.checksum == data.checksum


def test_keep_raw_keeps_and_what_is_kept_is_read(
    published: tuple, server: Server, tmp_path: Path
) -> None:
    _, open_it, place, kept = published
    data = open_it(keep_raw=True).load()
    there = everything(tmp_path / "root")
    assert kept <= {path.name for path in place.iterdir()}
    asked = len(server.asked)
    other = open_it(download=False, cache=str(tmp_path / "other")).load()
    assert len(server.asked) == asked and torch.equal(other.train.images, data.train.images)
    open_it(
        cache=str(tmp_path / "third")
    ).load()  # and with keep_raw=false, what lies there stays there
    assert everything(tmp_path / "root") == there
    state = open_it().path.stat().st_mtime_ns
    open_it().load()
    assert (
        open_it().path.stat().st_mtime_ns == state
    )  # the files kept are those that the cache was made from


def test_archives_put_there_by_hand(published: tuple, server: Server, tmp_path: Path) -> None:
    """As the message says: without network, and they stay."""
    _, open_it, place, _ = published
    place.mkdir(parents=True, exist_ok=True)
    for name, content in server.files.items():
        (place / name).write_bytes(content)
    before = everything(tmp_path / "root")
    data = open_it(download=False).load()
    assert sum(len(part) for part in data.splits.values()) in (30, 40)
    assert server.asked == [] and everything(tmp_path / "root") == before
    assert len(everything(tmp_path / "cache")) == 1


def test_a_lying_server_changes_nothing(published: tuple, server: Server, tmp_path: Path) -> None:
    _, open_it, _, _ = published
    server.moods = ["page"] * 20
    with pytest.raises(
        ValueError,
        match=r"^dataset\.root=.*no .* files in .*sends another file.*Put into .* by "
        r"hand: .*md5.*The same command again",
    ) as caught:
        open_it().load()
    assert len(str(caught.value).splitlines()) <= 12
    assert everything(tmp_path) == ["cache", "root"]
    server.moods = []
    assert open_it().load()
    assert len(everything(tmp_path / "cache")) == 1


def test_no_download_and_nothing_there(published: tuple, server: Server, tmp_path: Path) -> None:
    _, open_it, _, _ = published
    with pytest.raises(
        ValueError, match=r"not there\. Put into .* by hand: .*, or let train\.py fetch them"
    ):
        open_it(download=False).load()
    assert server.asked == [] and everything(tmp_path) == ["cache", "root"]


def test_a_wrong_file_put_there_by_hand_is_named_and_stays(
    published: tuple, server: Server, tmp_path: Path
) -> None:
    _, open_it, place, _ = published
    place.mkdir(parents=True, exist_ok=True)
    name = next(iter(server.files))
    (place / name).write_bytes(b"something else")
    with pytest.raises(ValueError, match=f"{name}: not the published file, or damaged"):
        open_it().load()
    assert (place / name).read_bytes() == b"something else"


def test_a_broken_download_goes_on_later(published: tuple, server: Server, tmp_path: Path) -> None:
    _, open_it, _, _ = published
    server.moods = ["break off", *["500"] * 50]
    with pytest.raises(ValueError, match="cannot be fetched"):
        open_it().load()
    assert len(list((tmp_path / "cache").rglob("*.part"))) == 1
    server.moods = []
    open_it().load()
    assert any(asked for _, asked in server.asked) and len(everything(tmp_path / "cache")) == 1


def whole(source: CachedDataset) -> tuple[torch.Tensor, torch.Tensor]:
    data = source.load()
    return data.train.images, data.train.labels


@pytest.mark.parametrize("published", ["emnist"], indirect=True)
def test_letters_stand_upright_and_count_from_a(published: tuple) -> None:
    _, open_it, _, _ = published
    images, labels = whole(open_it())
    np.testing.assert_array_equal(images[:30, 0], digits_like(30, 0))
    assert labels[:30].tolist() == [number % 26 for number in range(30)]
    assert open_it().spec.classes[labels[2]] == "c" and open_it().spec.num_classes == 26
    images, labels = whole(open_it(split="digits"))
    assert (
        labels[:12].tolist() == [*range(10), 0, 1]
        and open_it(split="digits").spec.num_classes == 10
    )
    for split, count in {"byclass": 62, "bymerge": 47, "balanced": 47, "mnist": 10}.items():
        classes = class_names.EMNIST[split]
        assert len(classes) == count == len(set(classes))
        assert list(classes) == tv.EMNIST.classes_split_dict[split]
    with pytest.raises(ValueError, match="split=letter: must be one of byclass, bymerge"):
        open_it(split="letter")


@pytest.mark.parametrize("published", ["cifar10"], indirect=True)
def test_cifar10_in_its_order(published: tuple) -> None:
    _, open_it, _, _ = published
    images, labels = whole(open_it())
    np.testing.assert_array_equal(
        images, np.concatenate([colours(6, n) for n in range(1, 6)] + [colours(10, 9)])
    )
    assert labels.tolist() == [n for n in range(1, 6) for _ in range(6)] + [9] * 10
    assert open_it().load().test.rows.tolist() == list(range(30, 40))


@pytest.mark.parametrize("published", ["flowers"], indirect=True)
def test_flowers_of_all_parts_with_their_names(published: tuple) -> None:
    _, open_it, _, _ = published
    images, labels = whole(open_it())
    assert images.shape == (30, 3, 16, 16)
    numbers = (
        (images[:, 0].float().mean((1, 2)) / 8).round().long()
    )  # the colour says which picture it is
    assert sorted(numbers.tolist()) == list(range(1, 31))
    assert torch.equal(labels, numbers % 102)
    spec = open_it().spec
    assert spec.num_classes == 102 and spec.classes[0] == "pink primrose"
    data = open_it().load()
    assert [len(part) for part in data.splits.values()] == [22, 2, 6]


@pytest.mark.parametrize("published", ["celeba"], indirect=True)
def test_faces_are_cropped_and_their_parts_are_the_published_ones(published: tuple) -> None:
    _, open_it, _, _ = published
    images, labels = whole(open_it())
    assert (
        images[:, 0].max() < 40
        and labels.unique().tolist() == [-1]
        and open_it().spec.classes == ()
    )
    assert (images[:, 2].float().mean((1, 2)) / 8).round().tolist() == list(range(1, 31))
    assert open_it().load().test.rows.tolist() == list(range(24, 30))
    smiling = open_it(attribute="Smiling")
    column = class_names.CELEBA_ATTRIBUTES.index("Smiling")
    assert smiling.spec.classes == ("not Smiling", "Smiling")
    assert whole(smiling)[1].tolist() == [int((index + column) % 3 == 0) for index in range(30)]
    with pytest.raises(
        ValueError, match="attribute=Grumpy: must be null or one of 5_o_Clock_Shadow"
    ):
        open_it(attribute="Grumpy")


def test_idx_bytes_are_what_the_format_says() -> None:
    assert idx_bytes(np.zeros((2, 3), np.uint8)) == struct.pack(
        ">BBBBii", 0, 0, 8, 2, 2, 3
    ) + bytes(6)
