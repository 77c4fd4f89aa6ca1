"""Randomness as a pure function of (seed, stream, step), so that a resumed run repeats an uninterrupted one exactly."""

import zlib

import numpy as np
import torch

CONSTANT_SEED = 20131220  # splits, test binarisation, evaluation noise: the same for every run, whatever its seed


def derive_seed(seed: int, stream: str, step: int = 0) -> int:
    """A 32-bit seed for one stream of random numbers at one step (torch's CPU generator uses only the low 32 bits).

    Streams with different names, and steps of one stream, are independent (numpy's SeedSequence hashes them).
    """
    return int(np.random.SeedSequence([seed, zlib.crc32(stream.encode()), step]).generate_state(1)[0])


def reseed(seed: int, stream: str, step: int = 0) -> None:
    """Reseed torch's global generators, on the CPU and on every accelerator, for one step of a stream."""
    torch.manual_seed(derive_seed(seed, stream, step))


def generator(seed: int, stream: str, step: int = 0) -> torch.Generator:
    """A CPU generator of its own for one step of a stream; the global generators stay as they are."""
    return torch.Generator().manual_seed(derive_seed(seed, stream, step))
