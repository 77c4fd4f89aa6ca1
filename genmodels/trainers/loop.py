"""The one training loop. It owns time: steps, cadence, resume, progress; a trainer owns the update."""

import contextlib
import logging
import math
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

from torch import Tensor, nn
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from genmodels import checkpoint, run_files, safetensors_io
from genmodels.data.images import (
    NO_AUGMENTATION,
    Augmentation,
    Batch,
    BatchStream,
    ImageData,
    ImageSet,
)
from genmodels.figures import snapshots
from genmodels.metrics.evaluation import Evaluation
from genmodels.metrics.vae_diagnosis import Verdict
from genmodels.randomness import reseed
from genmodels.tracking import Run, in_words

log = logging.getLogger(__name__)

LOWER = ("fd", "kid")  # of which less is better, unlike the elbo
LOG_ROWS = 100  # rows of training terms in a run
SHOWN = (
    "elbo",
    "distortion",
    "kl",
    "kl_weight",
    "accuracy",
    "discriminator_loss",
    "generator_loss",
    "real_above_fake",
)  # of them on the progress bar, where there are such


class Trainer(Protocol):
    """What the loop asks of a family of models."""

    @property
    def inference_model(self) -> nn.Module:
        """The model to evaluate, show and keep."""
        ...

    def plan(self, step: int, total: int) -> dict[str, float]:
        """What changes over time by plan, at a step of `total`: weights, learning rates. A pure function."""
        ...

    def inputs(self, batch: Batch) -> Tensor:
        """The batch's images (B, C, H, W) as `update` sees them."""
        ...

    def update(self, batch: Batch, step: int, total: int) -> dict[str, Tensor]:
        """One training step of `total`; returns scalars to log. The global generators are seeded for this step."""
        ...

    def evaluate(self, part: ImageSet) -> dict[str, Any]:
        """Numbers that compare models, whatever the training's weights are now; details in nested dicts."""
        ...

    def verdict(self, evaluation: Evaluation) -> Verdict | None:
        """What has become of the model, in words; None where a family has none."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """All that a continuation needs and that is not a function of the step."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` gave."""
        ...


@dataclass(frozen=True)
class Cadence:
    """How long a run is and how often it looks up, in steps."""

    total: int
    log: int
    evaluate: int
    checkpoint: int

    @classmethod
    def choose(
        cls, total: int, evaluate_every: int | None, checkpoint_every: int | None
    ) -> "Cadence":
        """None chooses well: ten evaluations a run, a checkpoint with each, some hundred rows of training terms."""
        evaluate = evaluate_every or math.ceil(total / 10)
        return cls(
            total,
            log=math.ceil(total / LOG_ROWS),
            evaluate=evaluate,
            checkpoint=checkpoint_every or evaluate,
        )

    def due(self, every: int, step: int) -> bool:
        """Whether something that comes every so many steps comes after this one; all of it comes after the last."""
        return step % every == 0 or step == self.total


class Means:
    """Running means of the terms since the last row, on the device: no synchronisation until they are read."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.counts: dict[str, int] = {}

    def add(self, terms: dict[str, Tensor]) -> None:
        """Add one step's terms, of which each has its own mean: a step need not have all of them."""
        for name, value in terms.items():
            self.sums[name] = self.sums[name] + value if name in self.sums else value
            self.counts[name] = self.counts.get(name, 0) + 1

    def take(self) -> dict[str, float]:
        """The means, and start anew."""
        means = {name: value.item() / self.counts[name] for name, value in self.sums.items()}
        self.sums, self.counts = {}, {}
        return means

    def state_dict(self) -> dict[str, Any]:
        """Sums and counts."""
        return {"sums": dict(self.sums), "counts": dict(self.counts)}

    def load_state_dict(self, state: dict) -> None:
        """Take over what `state_dict` gave."""
        self.sums, self.counts = dict(state["sums"]), dict(state["counts"])


def fit(
    trainer: Trainer,
    data: ImageData,
    run: Run,
    *,
    cadence: Cadence,
    batch_size: int,
    seed: int,
    model_config: dict[str, Any],
    about: dict[str, Any],
    augment: Augmentation = NO_AUGMENTATION,
    score: Callable[[nn.Module], dict[str, float]] = lambda _: {},
    select: str | None = None,
) -> dict[str, Any]:
    """Train to the end of the run, from its last checkpoint if there is one; returns the final metrics.

    A step is a pure function of the states at its beginning and of (seed, step). So a resumed run ends bit-identical to
    one that was never stopped, and how often it logs, evaluates and draws makes no difference. model_config and about
    go into the checkpoints. SIGINT, SIGTERM, SIGUSR1 and SIGUSR2 finish the step, save, and raise
    SystemExit(128 + signal); before, a handler that was there gets its signal.

    score: of the inference model, added to each evaluation. select: a number of an evaluation, on the validation part;
    the inference model of the evaluation where it was best (LOWER, or highest) is kept, and is what the trainer has in
    the end. None: the last one.
    """
    means, clock = Means(), _Clock()
    states: dict[str, Any] = {"trainer": trainer, "means": means, "clock": clock}
    stream = BatchStream(data.train, batch_size, seed, augment)

    def keep(step: int) -> None:
        checkpoint.export(
            run.folder / run_files.INFERENCE,
            trainer.inference_model,
            model_config,
            about | {"step": step},
        )

    def save(step: int) -> None:
        if select is None:
            keep(step)
        checkpoint.save(
            run.folder,
            checkpoint.Checkpoint(
                step, {name: state.state_dict() for name, state in states.items()}, model_config
            ),
        )
        run.summarise(step=step, seconds=clock.seconds())

    start = _resume(run, states)
    with _signals() as caught, _progress(start, cadence.total) as bar:
        for step in range(start, cadence.total):
            reseed(seed, "train", step)
            means.add(trainer.update(stream.batch(step), step, cadence.total))
            done = step + 1
            bar.update()
            if cadence.due(cadence.log, done):
                _log_terms(
                    run,
                    bar,
                    done,
                    means.take() | trainer.plan(step, cadence.total),
                    clock,
                    batch_size,
                    epoch=done * batch_size / len(data.train),
                )
            if cadence.due(cadence.evaluate, done):
                validation = trainer.evaluate(data.validation) | score(trainer.inference_model)
                run.row(done, {"validation": validation, "time": {"seconds": clock.seconds()}})
                log.info(
                    "step %d of %d, %.0f s: validation %s",
                    done,
                    cadence.total,
                    clock.seconds(),
                    in_words(validation),
                )
                run.pictures(done, snapshots(trainer.inference_model, data.test))
                if select is not None and best_step(run.folder, select) == done:
                    keep(done)
            if cadence.due(cadence.checkpoint, done) or caught:
                save(done)
            if caught:
                raise SystemExit(128 + caught[0])
    if select is not None:
        run.summarise(selected={"by": select, "step": best_step(run.folder, select)})
        trainer.inference_model.load_state_dict(
            safetensors_io.load(run.folder / run_files.INFERENCE)[0]
        )
    final = trainer.evaluate(data.validation) | score(trainer.inference_model)
    metrics = {"validation": final, "test": trainer.evaluate(data.test)}
    run.row(cadence.total, {"test": metrics["test"], "time": {"seconds": clock.seconds()}})
    return metrics


def best_step(folder: Path, name: str) -> int:
    """The step of a run's best evaluation so far by this number, the first of equals: a pure function of its rows."""
    found = {
        row["step"]: row["validation"][name]
        for row in run_files.read_rows(folder)
        if "validation" in row
    }
    return (min if name in LOWER else max)(found, key=lambda step: found[step])


class _Clock:
    """Seconds of training, over all the processes that worked on a run."""

    def __init__(self) -> None:
        self._start = time.perf_counter()
        self._mark = (0, 0.0)

    def seconds(self) -> float:
        return round(time.perf_counter() - self._start, 3)

    def rate(self, step: int) -> float:
        """Steps per second since the last call."""
        (last_step, last_seconds), self._mark = self._mark, (step, self.seconds())
        return (step - last_step) / max(self._mark[1] - last_seconds, 1e-9)

    def state_dict(self) -> dict[str, float]:
        return {"seconds": self.seconds()}

    def load_state_dict(self, state: dict[str, float]) -> None:
        self._start = time.perf_counter() - state["seconds"]


def _resume(run: Run, states: dict) -> int:
    """Load the newest checkpoint into the states and cut the rows beyond it; returns the step to go on from."""
    found = checkpoint.latest(run.folder)
    if found is None:
        run.cut(0)
        return 0
    for name, state in states.items():
        state.load_state_dict(found.states[name])
    run.cut(found.step)
    states["clock"].rate(found.step)  # from here on
    log.info("resuming at step %d", found.step)
    return found.step


def _log_terms(
    run: Run,
    bar: tqdm,
    step: int,
    terms: dict[str, float],
    clock: _Clock,
    batch_size: int,
    epoch: float,
) -> None:
    timing = {
        "seconds": clock.seconds(),
        "images_per_second": round(clock.rate(step) * batch_size, 1),
    }
    run.row(step, {"epoch": round(epoch, 4), "train": terms, "time": timing})
    shown = {name: f"{terms[name]:.4g}" for name in terms if name in SHOWN}
    bar.set_postfix(shown | {"images/s": f"{timing['images_per_second']:.0f}"}, refresh=False)


@contextlib.contextmanager
def _progress(start: int, total: int) -> Iterator[tqdm]:
    with (
        logging_redirect_tqdm(),
        tqdm(initial=start, total=total, unit="step", disable=None, mininterval=0.5) as bar,
    ):
        yield bar


@contextlib.contextmanager
def _signals() -> Iterator[list[int]]:
    """The list of signals caught so far. A second interrupt ends the process at once, as without this.

    At the end the first one is handed to the handler that was there before, such as that of a batch system's launcher,
    which queues the job again.
    """
    caught: list[int] = []

    def note(number: int, _: FrameType | None) -> None:
        if caught:
            raise KeyboardInterrupt
        caught.append(number)
        log.warning("%s: saving after this step", signal.Signals(number).name)

    numbers = [
        getattr(signal, name)
        for name in ("SIGINT", "SIGTERM", "SIGUSR1", "SIGUSR2")
        if hasattr(signal, name)
    ]
    try:
        before = {number: signal.signal(number, note) for number in numbers}
    except ValueError:  # not in the main thread: signals are someone else's
        before = {}
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if caught and callable(own := before[caught[0]]) and own is not signal.default_int_handler:
            own(caught[0], None)
