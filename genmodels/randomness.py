"""Randomness as a pure function of (seed, stream, step), so that a resumed run repeats an uninterrupted one exactly."""

import hashlib

import torch

CONSTANT_SEED = 20131220  # splits, test binarisation, evaluation noise: the same for every run, whatever its seed


def derive_seed(seed: int, stream: str, step: int = 0) -> int:
    """A 32-bit seed for one stream of random numbers at one step (torch's CPU generator uses only the low 32 bits).

    Streams with different names, and steps of one stream, are independent: the three are hashed.
    """
    return int.from_bytes(
        hashlib.blake2b(f"{seed} {stream} {step}".encode(), digest_size=4).digest()
    )


def reseed(seed: int, stream: str, step: int = 0) -> None:
    """Reseed torch's global generators, on the CPU and on every accelerator, for one step of a stream."""
    number = derive_seed(seed, stream, step)
    torch.default_generator.manual_seed(
        number
    )  # torch.manual_seed takes a tenth of a millisecond for all devices
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(number)
    if torch.backends.mps.is_available():
        torch.mps.manual_seed(number)


def generator(seed: int, stream: str, step: int = 0) -> torch.Generator:
    """A CPU generator of its own for one step of a stream; the global generators stay as they are."""
    return torch.Generator().manual_seed(derive_seed(seed, stream, step))
