"""What the benchmarks measure: the speed and memory of training loops, the machine's peak."""

import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from genmodels import hardware
from genmodels.checkpoint import CheckpointWriter
from genmodels.data.images import BatchStream, ImageData, ImageSet, ImageSpec
from genmodels.run_files import read_rows
from genmodels.run_folder import Run
from genmodels.trainers.loop import Cadence, Trainer, fit, train_steps

BATCH_SIZE = 128
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}
PEAK_SIDE = 2048  # of the matrices whose product stands for what the machine can do
Result = TypeVar("Result")


@dataclass(frozen=True)
class Measurement:
    """Of a training loop.

    images_per_second: seen by the model.
    flops: of matrix products and convolutions for each image, forwards and backwards.
    peak_memory: of its process, bytes.
    """

    images_per_second: float
    flops: float = 0.0
    peak_memory: int = 0

    @property
    def flops_per_second(self) -> float:
        """Operations that the loop gets done."""
        return self.flops * self.images_per_second


def measure_fit(trainer: Trainer, images: Tensor, steps: int, log_every: int) -> Measurement:
    """Measure `fit`, between its first and its last row of training terms.

    Arguments:
    trainer: of any model.
    images: (N, C, H, W) uint8, to train on.
    steps: of the run.
    log_every: steps from one row to the next.
    """
    train = ImageSet(images, torch.full((len(images),), -1), torch.arange(len(images)))
    few = ImageSet(images, train.labels, torch.arange(min(500, len(images))))
    _, channels, height, width = images.shape
    spec = ImageSpec("benchmark", (channels, height, width))
    data = ImageData(spec, train=train, validation=few, test=few)
    stream = BatchStream(train, BATCH_SIZE, seed=0)
    with FlopCounterMode(display=False) as counter:
        list(train_steps(trainer, stream, 0, 1))
    cadence = Cadence(total=steps, log=log_every, evaluate=steps, checkpoint=steps)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with Run(folder) as run:
            fit(trainer, stream, data, run, CheckpointWriter(folder, {}, {}), cadence)
        rows = [row for row in read_rows(folder) if "train" in row]
    first, last = rows[0], rows[-1]
    seconds = last["time"]["seconds"] - first["time"]["seconds"]
    rate = (last["step"] - first["step"]) * BATCH_SIZE / seconds
    return Measurement(rate, counter.get_total_flops() / BATCH_SIZE, peak_memory())


def peak_memory() -> int:
    """The most memory that this process has had, in bytes."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def peak_flops(precision: str) -> float:
    """Operations a second of a product of two large matrices."""
    matrix = torch.randn(PEAK_SIDE, PEAK_SIDE, dtype=PRECISIONS[precision])
    times = []
    for _ in range(5):
        start = time.perf_counter()
        matrix @ matrix
        times.append(time.perf_counter() - start)
    return 2 * PEAK_SIDE**3 / min(times)


def in_new_process(function: Callable[..., Result], *arguments: object) -> Result:
    """The result of a function in a process of its own, with train.py's settings of memory."""
    with ProcessPoolExecutor(
        1, mp_context=get_context("spawn"), initializer=hardware.keep_freed_memory
    ) as pool:
        return pool.submit(function, *arguments).result()


def format_spread(values: Sequence[float], digits: int = 2) -> str:
    """The median, with the smallest and the largest."""
    lowest, highest = min(values), max(values)
    return f"{statistics.median(values):.{digits}f} ({lowest:.{digits}f} to {highest:.{digits}f})"
