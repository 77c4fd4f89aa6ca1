"""What random batches of a memory-mapped data set cost: `python benchmarks/memory_mapped.py`.

A million 28x28 images of noise (784 MB), written by the project's own cache, then read as
`CachedDataset.load` reads it: once as if memory were short, once into memory. Batches of 128 in
shuffled order, in turns, so that a noisy machine is equally noisy to both; the ratio is what
counts. The file was just verified, so its pages are in the system's cache, as those of a data set
are that fits into memory; a larger one is limited by the disk.
"""

import argparse
import statistics
import tempfile
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from genmodels.data.cached_dataset import CachedDataset, DecodedImages
from genmodels.data.images import BatchStream, ImageSpec

BATCH_SIZE = 128
TEST_IMAGES = 1000


def random_images(count: int, _: Path) -> DecodedImages:
    """Noise instead of decoded files."""
    images = torch.randint(0, 256, (count, 1, 28, 28), dtype=torch.uint8)
    labels = torch.full((count,), -1)
    return DecodedImages(images, labels, test_start=count - TEST_IMAGES)


def milliseconds(stream: BatchStream, first: int, steps: int) -> float:
    """The mean time of some batches."""
    start = time.perf_counter()
    for step in range(first, first + steps):
        stream.batch(step)
    return (time.perf_counter() - start) / steps * 1000


def describe(name: str, values: list[float], unit: str) -> str:
    """Median and range."""
    median = statistics.median(values)
    return f"{name}: {median:.4f}{unit} ({min(values):.4f}-{max(values):.4f}), n = {len(values)}"


def main() -> None:
    """Print medians over rounds, their range, and the ratio."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--steps", type=int, default=400)
    options = parser.parse_args()

    with tempfile.TemporaryDirectory(dir=".") as folder:
        spec = ImageSpec("noise", (1, 28, 28))
        dataset = CachedDataset(spec, partial(random_images, options.images), Path(folder))
        dataset.load()
        start = time.perf_counter()
        mapped = BatchStream(replace(dataset, memory_share=0.0).load().train, BATCH_SIZE, seed=0)
        seconds = time.perf_counter() - start
        print(
            f"{dataset.path.stat().st_size / 1e6:,.0f} MB, verified and mapped in {seconds:.2f} s"
        )
        memory = BatchStream(replace(dataset, memory_share=1.0).load().train, BATCH_SIZE, seed=0)
        memory.batch(0)  # shuffles
        mapped.batch(0)
        memory_times, mapped_times = [], []
        for turn in range(options.rounds):
            first = turn * options.steps
            memory_times.append(milliseconds(memory, first, options.steps))
            mapped_times.append(milliseconds(mapped, first, options.steps))
    ratios = [mapped / memory for memory, mapped in zip(memory_times, mapped_times, strict=True)]
    print(describe("memory", memory_times, " ms a batch"))
    print(describe("mapped", mapped_times, " ms a batch"))
    print(describe("mapped / memory", ratios, ""))


if __name__ == "__main__":
    main()
