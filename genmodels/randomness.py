"""Randomness as a pure function of (seed, stream, step).

So a resumed run repeats an uninterrupted one exactly.
"""

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor

from genmodels import parallel

# Of splits, test binarisation and evaluation noise, which are the same for every run.
CONSTANT_SEED = 20131220


def derive_seed(seed: int, stream: str, step: int = 0) -> int:
    """A 32-bit seed for one stream of random numbers at one step.

    The three are hashed, so streams with different names, and steps of one stream, are independent.
    torch's CPU generator uses only 32 bits.
    """
    key = f"{seed} {stream} {step}".encode()
    return int.from_bytes(hashlib.blake2b(key, digest_size=4).digest())


def reseed(seed: int, stream: str, step: int = 0) -> None:
    """Reseed torch's global generators, on the CPU and every accelerator, for a stream's step."""
    number = derive_seed(seed, stream, step)
    # torch.manual_seed would take a tenth of a millisecond for all devices.
    torch.default_generator.manual_seed(number)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(number)
    if torch.backends.mps.is_available():
        torch.mps.manual_seed(number)


def generator(seed: int, stream: str, step: int = 0) -> torch.Generator:
    """A CPU generator for one step of a stream; the global generators stay as they are."""
    return torch.Generator().manual_seed(derive_seed(seed, stream, step))


def uniform(
    shape: Sequence[int],
    *,
    dim: int = 0,
    device: torch.device | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Numbers from [0, 1) for a batch along `dim`.

    Like `normal` and `integers` it draws for the whole batch and gives this process its share. So
    several processes that are seeded alike draw what one would.
    """
    whole = torch.rand(_whole(shape, dim), device=device, generator=generator)
    return parallel.share(whole, dim)


def normal(shape: Sequence[int], *, dim: int = 0, device: torch.device | None = None) -> Tensor:
    """Standard normal numbers for a batch along `dim`."""
    return parallel.share(torch.randn(_whole(shape, dim), device=device), dim)


def integers(
    low: int,
    high: int,
    shape: Sequence[int],
    *,
    dim: int = 0,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Integers from low to high - 1 for a batch along `dim`, on the CPU."""
    whole = torch.randint(low, high, _whole(shape, dim), generator=generator)
    return parallel.share(whole, dim)


def _whole(shape: Sequence[int], dim: int) -> list[int]:
    """The shape of the whole batch, of which `shape` is this process's."""
    whole = list(shape)
    whole[dim] *= parallel.count()
    return whole
