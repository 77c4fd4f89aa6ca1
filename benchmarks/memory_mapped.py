"""What random batches of a memory-mapped data set cost: `python benchmarks/memory_mapped.py`.

A million 28x28 images of noise (784 MB), written by the project's own cache, then read as `CachedDataset.load` reads it:
once as if memory were short, once into memory. Batches of 128 in shuffled order, in turns, so that a noisy machine is
equally noisy to both; the ratio is what counts. The file was just verified, so its pages are in the system's cache,
as those of a set are that fits beside all else; what is larger is limited by the disk.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import torch

from genmodels.data import cached_dataset
from genmodels.data.cached_dataset import CachedDataset, Decoded
from genmodels.data.images import BatchStream, ImageData, ImageSpec

BATCH_SIZE = 128


def milliseconds(stream: BatchStream, first: int, steps: int) -> float:
    """The mean of some batches."""
    start = time.perf_counter()
    for step in range(first, first + steps):
        stream.batch(step)
    return (time.perf_counter() - start) / steps * 1000


def loaded(source: CachedDataset, share: float) -> tuple[ImageData, float]:
    """The data, and the seconds that it took to have them."""
    cached_dataset.MEMORY_SHARE = share
    start = time.perf_counter()
    return source.load(), time.perf_counter() - start


def main() -> None:
    """Print medians over rounds, their range, and the ratio."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--steps", type=int, default=400)
    options = parser.parse_args()

    def decode(_: Path) -> Decoded:
        pixels = torch.randint(0, 256, (options.images, 1, 28, 28), dtype=torch.uint8)
        return Decoded(
            pixels, torch.zeros(options.images, dtype=torch.long), test_from=options.images - 1000
        )

    with tempfile.TemporaryDirectory(dir=".") as folder:
        source = CachedDataset(ImageSpec("noise", (1, 28, 28)), decode, Path(folder))
        source.load()
        (mapped, seconds), (memory, _) = loaded(source, 0.0), loaded(source, 1.0)
        print(f"{source.path.stat().st_size / 1e6:,.0f} MB, verified and mapped in {seconds:.2f} s")
        streams = [BatchStream(data.train, BATCH_SIZE, seed=0) for data in (memory, mapped)]
        for stream in streams:
            stream.batch(0)
        rounds = [
            [milliseconds(stream, turn * options.steps, options.steps) for stream in streams]
            for turn in range(options.rounds)
        ]
    for name, times in zip(("memory", "mapped"), zip(*rounds, strict=True), strict=True):
        print(
            f"{name}: {statistics.median(times):.4f} ms a batch ({min(times):.4f}-{max(times):.4f})"
        )
    ratios = [mapped / memory for memory, mapped in rounds]
    print(
        f"mapped / memory: {statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f}), n = {len(ratios)}"
    )


if __name__ == "__main__":
    main()
