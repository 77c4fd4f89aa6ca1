"""Tensors on disk: safetensors files with a checksum, so that a damaged one is noticed."""

import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from genmodels import files
from genmodels.files import DamagedFileError


def save(path: Path, tensors: dict[str, Tensor], metadata: dict[str, Any]) -> None:
    """Write tensors with json-able metadata to a safetensors file, atomically, with checksums."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    texts = {key: json.dumps(value) for key, value in metadata.items()}
    texts["crc32"] = str(checksum(tensors))
    texts["metadata_crc32"] = str(_checksum_of_texts(texts))
    with files.atomic_write(path) as temporary:
        temporary.touch()
        mode = temporary.stat().st_mode  # by the user's umask; the library would keep it private
        try:
            safetensors.torch.save_file(tensors, temporary, metadata=texts)
            temporary.chmod(mode)
        except SafetensorError as error:  # the library's name for a full disk
            raise OSError(f"{path}: cannot be written ({error})") from None


def load(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what `save` wrote: (tensors, metadata), the latter with the checksum as "crc32".

    The tensors are memory-mapped: they take no memory beyond the system's cache of the file. Raises
    FileNotFoundError where there is no such file, DamagedFileError where it is not whole.
    """
    with files.reading(path, "not a whole safetensors file of this project"):
        with safe_open(path, framework="pt") as file:
            texts = dict(file.metadata() or {})
            names = file.keys()  # the file itself cannot be iterated over
            tensors = {name: file.get_tensor(name) for name in names}
        of_texts = texts.pop("metadata_crc32", None)
        if of_texts != str(_checksum_of_texts(texts)) or texts["crc32"] != str(checksum(tensors)):
            raise DamagedFileError(f"{path}: damaged (its checksum does not match)")
        return tensors, {key: json.loads(value) for key, value in texts.items()}


def checksum(tensors: Mapping[str, Tensor]) -> int:
    """The crc32 of tensors with their names, types and shapes, whatever their order and device."""
    crc = 0
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        crc = zlib.crc32(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode(), crc)
        values = tensor.reshape(-1).view(torch.uint8)  # numpy knows no bfloat16
        crc = zlib.crc32(values.numpy().data, crc)
    return crc


def _checksum_of_texts(texts: Mapping[str, str]) -> int:
    return zlib.crc32(json.dumps(texts, sort_keys=True).encode())
