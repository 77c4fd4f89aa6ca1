"""The one training loop. It owns steps, cadence, resume, progress; a trainer owns the update."""

import contextlib
import logging
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor, nn
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from genmodels import checkpoint, parallel, run_files
from genmodels.checkpoint import Checkpoint, CheckpointWriter
from genmodels.data.images import Batch, BatchStream, ImageData, ImageSet
from genmodels.errors import require
from genmodels.figures.snapshots import snapshots
from genmodels.formatting import format_evaluation
from genmodels.metrics.evaluation import Evaluation
from genmodels.metrics.verdict import Verdict
from genmodels.quantities import quantity
from genmodels.randomness import reseed
from genmodels.run_folder import Run
from genmodels.signals import caught_signals
from genmodels.trainers.progress import BestEvaluation, Clock, Means

log = logging.getLogger(__name__)

LOG_ROWS = 100  # rows of training terms in a run
EVALUATIONS = 10  # in a run
STATISTICS_BATCHES = 32  # of which BatchNorm's statistics are recomputed

Score = Callable[[nn.Module], Mapping[str, float]]


class Trainer(Protocol):
    """What the loop asks of a family of models."""

    @property
    def evaluates(self) -> tuple[str, ...]:
        """The quantities that `evaluate` gives, as far as one can select by them."""
        ...

    @property
    def inference_model(self) -> Any:
        """The model to evaluate, show and keep."""
        ...

    def plan(self, step: int, total: int) -> dict[str, float]:
        """What changes over time by plan at a step: weights, learning rates. A pure function."""
        ...

    def inputs(self, batch: Batch) -> Tensor:
        """The batch's images (B, C, H, W) as `update` sees them."""
        ...

    def update(self, batch: Batch, step: int, total: int) -> dict[str, Tensor]:
        """One training step of `total`; returns scalars to log. torch is seeded for this step."""
        ...

    def recompute_statistics(self, batches: Iterable[Batch]) -> None:
        """Give the inference model what averaging cannot: BatchNorm's statistics, of batches.

        It changes nothing that a later update depends on.
        """
        ...

    def evaluate(self, split: ImageSet) -> dict[str, Any]:
        """Numbers that compare models, whatever the training's weights are; details nested."""
        ...

    def diagnose(self, evaluation: Evaluation) -> Verdict | None:
        """What has become of the model, in words; None where a family has no verdict."""
        ...

    def facts(self) -> dict[str, Any]:
        """What a checkpoint is to say of this training besides its settings."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """All that a continuation needs and that is not a function of the step."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` gave."""
        ...


@dataclass(frozen=True)
class Cadence:
    """How long a run is, and how often it logs, evaluates and saves, in steps."""

    total: int
    log: int
    evaluate: int
    checkpoint: int

    @classmethod
    def choose(
        cls, total: int, evaluate_every: int | None, checkpoint_every: int | None
    ) -> "Cadence":
        """None chooses: EVALUATIONS in a run, a checkpoint with each, about LOG_ROWS rows."""
        evaluate = evaluate_every or math.ceil(total / EVALUATIONS)
        return cls(
            total,
            log=math.ceil(total / LOG_ROWS),
            evaluate=evaluate,
            checkpoint=checkpoint_every or evaluate,
        )

    def due(self, every: int, step: int) -> bool:
        """Whether something comes after this step; everything comes after the last step."""
        return step % every == 0 or step == self.total


def fit(
    trainer: Trainer,
    stream: BatchStream,
    data: ImageData,
    run: Run,
    writer: CheckpointWriter,
    cadence: Cadence,
    *,
    score: Score = lambda _: {},
    select: str | None = None,
) -> dict[str, Any]:
    """Train to the end of a run, from its last checkpoint if there is one.

    A step is a pure function of the states at its beginning and of (seed, step). So a resumed run
    ends bit-identical to one that was never stopped, and how often it logs, evaluates and draws
    makes no difference. SIGINT, SIGTERM, SIGHUP, SIGUSR1 and SIGUSR2 finish the step, save, and
    raise SystemExit(128 + signal); before, a handler that was there gets its signal. A signal that
    is ignored, as SIGHUP under nohup, stays so. Of several processes all stop after the same step.

    Arguments:
    trainer: owns the update.
    stream: of training batches.
    data: whose validation split is evaluated as training goes, and whose test split at the end.
    run: the folder for rows, snapshots and the summary.
    writer: of the checkpoints.
    cadence: how long and how often.
    score: numbers of the inference model that are added to each evaluation.
    select: a quantity of the evaluations; the inference model of the best evaluation is kept, and
        is what the trainer has in the end. None: the last one.

    Returns the final metrics of the validation and test splits.
    """
    means, clock = Means(), Clock()
    states: dict[str, parallel.Stateful] = {"trainer": trainer, "means": means, "clock": clock}
    total = cadence.total
    start = parallel.by_first(_resume, run, states, total)
    parallel.take_on(states)
    keeper = _Keeper(trainer, data, run, writer, clock, total, score, select)
    with caught_signals() as caught, _progress_bar(start, total) as bar:
        for step, terms in train_steps(trainer, stream, start, total):
            means.add(terms)
            bar.update()
            if cadence.due(cadence.log, step):
                row = means.take() | trainer.plan(step - 1, total)
                _log_terms(run, bar, step, row, clock, stream)
            evaluates = cadence.due(cadence.evaluate, step)
            saves = cadence.due(cadence.checkpoint, step)
            stopped_by = parallel.largest(caught[0] if caught else 0)
            if evaluates or saves or stopped_by:
                with clock.excluded():
                    trainer.recompute_statistics(map(stream.batch, range(STATISTICS_BATCHES)))
                    if evaluates:
                        parallel.by_first(keeper.evaluate, step)
                        stopped_by = parallel.largest(caught[0] if caught else 0)
                    if saves or stopped_by:  # perhaps as it was evaluated
                        parallel.by_first(keeper.save, step, states)
            if stopped_by:
                raise SystemExit(128 + stopped_by)
    return parallel.by_first(keeper.result)


class _Keeper:
    """What the first process does between steps: it evaluates, shows and saves the model."""

    def __init__(
        self,
        trainer: Trainer,
        data: ImageData,
        run: Run,
        writer: CheckpointWriter,
        clock: Clock,
        total: int,
        score: Score,
        select: str | None,
    ) -> None:
        self._trainer = trainer
        self._data = data
        self._run = run
        self._writer = writer
        self._clock = clock
        self._total = total
        self._score = score
        self._select = select
        self._best = BestEvaluation(select, run_files.read_rows(run.folder))
        self._last: tuple[int, dict[str, Any]] | None = None  # evaluation of this process

    def evaluate(self, step: int) -> None:
        """Evaluate on the validation split; keep what the model makes, and the best model."""
        validation = self._validate()
        self._last = step, validation
        _log_evaluation(self._run, step, self._total, validation, self._clock)
        model = self._trainer.inference_model
        self._run.log_snapshots(step, snapshots(model, self._data.test))
        if self._best.add(step, validation):
            self._writer.export(step, model)

    def save(self, step: int, states: Mapping[str, parallel.Stateful]) -> None:
        """Write a checkpoint, with the weights for inference unless the best are selected."""
        if self._select is None:
            self._writer.export(step, self._trainer.inference_model)
        self._writer.save(step, {name: state.state_dict() for name, state in states.items()})
        self._run.update_summary(step=step, seconds=self._clock.seconds())

    def result(self) -> dict[str, Any]:
        """The metrics of the finished model on the validation and test splits."""
        model = self._trainer.inference_model
        if self._select is not None:
            self._run.update_summary(selected={"by": self._select, "step": self._best.step})
            self._writer.load_exported(model)
        elif self._last is not None and self._last[0] == self._total:
            return self._with_test(self._last[1])
        return self._with_test(self._validate())

    def _validate(self) -> dict[str, Any]:
        numbers = self._trainer.evaluate(self._data.validation)
        return {**numbers, **self._score(self._trainer.inference_model)}

    def _with_test(self, validation: dict[str, Any]) -> dict[str, Any]:
        test = self._trainer.evaluate(self._data.test)
        time = {"seconds": self._clock.seconds()}
        self._run.log_row(self._total, {"test": test, "time": time})
        return {"validation": validation, "test": test}


def train_steps(
    trainer: Trainer, stream: BatchStream, start: int, total: int
) -> Iterator[tuple[int, dict[str, Tensor]]]:
    """Update a trainer from step `start` on; yields the number of steps done, and the terms."""
    for step in range(start, total):
        reseed(stream.seed, "train", step)
        terms = trainer.update(stream.batch(step), step, total)
        yield step + 1, terms


def _resume(run: Run, states: Mapping[str, Any], total: int) -> int:
    """Load the newest checkpoint into the states and drop the rows beyond it; returns its step."""

    def load(saved: Checkpoint) -> None:
        require(0 <= saved.step <= total, "step", saved.step, f"from 0 to {total}")
        for name, state in states.items():
            state.load_state_dict(saved.states[name])

    newest = checkpoint.restore(run.folder, load)
    if newest is None:
        run.drop_rows_after(0)
        return 0
    run.drop_rows_after(newest.step)
    states["clock"].steps_per_second(newest.step)  # counts from here
    log.info("resuming at step %d", newest.step)
    return newest.step


def _log_terms(
    run: Run, bar: tqdm, step: int, terms: dict[str, float], clock: Clock, stream: BatchStream
) -> None:
    epoch = step * stream.batch_size / len(stream.split)
    images_per_second = clock.steps_per_second(step) * stream.batch_size
    timing = {"seconds": clock.seconds(), "images_per_second": round(images_per_second, 1)}
    run.log_row(step, {"epoch": round(epoch, 4), "train": terms, "time": timing})
    shown = {}
    for name, value in terms.items():
        if quantity(name).progress_bar:
            shown[name] = f"{value:.4g}"
    shown["images/s"] = f"{images_per_second:.0f}"
    bar.set_postfix(shown, refresh=False)


def _log_evaluation(
    run: Run, step: int, total: int, validation: dict[str, Any], clock: Clock
) -> None:
    seconds = clock.seconds()
    run.log_row(step, {"validation": validation, "time": {"seconds": seconds}})
    numbers = format_evaluation(validation)
    log.info("step %d of %d, %.0f s: validation %s", step, total, seconds, numbers)


@contextlib.contextmanager
def _progress_bar(start: int, total: int) -> Iterator[tqdm]:
    hidden = None if parallel.is_first() else True  # None: where there is no terminal
    bar = tqdm(initial=start, total=total, unit="step", disable=hidden, mininterval=0.5)
    with logging_redirect_tqdm(), bar:
        yield bar
