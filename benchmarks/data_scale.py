"""What a batch costs, and what memory it takes, as data sets grow.

    python benchmarks/data_scale.py

Noise of 28x28 in files of the project's own cache, 10 thousand to 2 million images (1.6 GB on
disk), memory-mapped as data sets are that take more than a quarter of the memory. Batches of 128 in
shuffled order, and a whole evaluation of the test images by an MLP VAE. Each number of images has a
process of its own, and the most memory that it had is told.
"""

import argparse
import tempfile
import time
from functools import partial
from pathlib import Path

import torch
from measure import BATCH_SIZE, in_new_process, peak_memory
from memory_mapped import milliseconds, random_images

from genmodels.data.cached_dataset import CachedDataset
from genmodels.data.images import BatchStream, ImageSpec
from genmodels.likelihoods import BernoulliLikelihood
from genmodels.metrics.collapse import quick_metrics
from genmodels.models.vae import MLPVAE

SIZES = (10_000, 100_000, 1_000_000, 2_000_000)
STEPS = 400


def measure(images: int, folder: Path) -> str:
    """A row of the table."""
    spec = ImageSpec("noise", (1, 28, 28))
    dataset = CachedDataset(
        spec, partial(random_images, images), folder, origin=str(images), memory_share=0.0
    )
    data = dataset.load()
    start = time.perf_counter()
    stream = BatchStream(data.train, BATCH_SIZE, seed=0)
    stream.batch(0)
    shuffling = time.perf_counter() - start
    batch = milliseconds(stream, 1, STEPS)
    model = MLPVAE(
        image_shape=(1, 28, 28), latent_dim=20, widths=[400], likelihood=BernoulliLikelihood()
    )
    start = time.perf_counter()
    quick_metrics(model.eval(), data.test)
    evaluation = 1e6 * (time.perf_counter() - start) / len(data.test)
    memory = peak_memory() / 2**20
    return (
        f"| {images:,} | {batch:.3f} | {shuffling:.3f} | {evaluation:.0f} | {memory:,.0f} "
        f"| {dataset.path.stat().st_size / 2**20:,.0f} |"
    )


def write(images: int, folder: Path) -> None:
    """Write the cache, which holds all images for a moment."""
    spec = ImageSpec("noise", (1, 28, 28))
    CachedDataset(spec, partial(random_images, images), folder, origin=str(images)).load()


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, nargs="+", default=SIZES)
    print(
        "| images | ms a batch | s to shuffle | µs to evaluate an image | memory, MB | file, MB |"
    )
    print("|---|---|---|---|---|---|")
    for images in parser.parse_args().images:
        with tempfile.TemporaryDirectory(dir=".") as folder:
            in_new_process(write, images, Path(folder))
            print(in_new_process(measure, images, Path(folder)))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
