"""Tensors on disk: safetensors files with a checksum, so that a damaged one is noticed."""

import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from genmodels import files
from genmodels.files import DamagedFileError


def save(path: Path, tensors: dict[str, Tensor], metadata: dict[str, Any]) -> None:
    """Write tensors and json-able metadata to a safetensors file, atomically and with a checksum of the tensors."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    texts = {key: json.dumps(value) for key, value in metadata.items()} | {
        "crc32": str(checksum(tensors))
    }
    with files.atomic_write(path) as temporary:
        temporary.touch()
        mode = (
            temporary.stat().st_mode
        )  # what the user's umask gives; the library would keep it private
        try:
            safetensors.torch.save_file(tensors, temporary, metadata=texts)
            temporary.chmod(mode)
        except SafetensorError as error:  # the library's name for a full disk
            raise OSError(f"{path}: cannot be written ({error})") from None


def load(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what `save` wrote: (tensors, metadata), with the checksum of the tensors as metadata["crc32"].

    The tensors are memory-mapped: they take no memory of their own, but the file's, as far as the system has it free.
    Raises FileNotFoundError where there is no such file, DamagedFileError where it is not whole.
    """
    try:
        with safe_open(path, framework="pt") as file:
            texts = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
        if texts.get("crc32") != str(checksum(tensors)):
            raise DamagedFileError(f"{path}: damaged (its checksum does not match)")
        return tensors, {key: json.loads(value) for key, value in texts.items()}
    except (SafetensorError, json.JSONDecodeError) as error:
        raise DamagedFileError(
            f"{path}: not a whole safetensors file of this project ({error})"
        ) from None


def checksum(tensors: Mapping[str, Tensor]) -> int:
    """The crc32 of tensors with their names, types and shapes, whatever their order and device."""
    crc = 0
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        crc = zlib.crc32(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode(), crc)
        crc = zlib.crc32(tensor.numpy().tobytes() if tensor.ndim == 0 else tensor.numpy().data, crc)
    return crc
