"""Checks of a training that has not begun: does it learn, is its KL right, can it go on."""

import math
import statistics
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from genmodels import checkpoint
from genmodels.checkpoint import CheckpointWriter
from genmodels.data.images import BatchStream, ImageData
from genmodels.fitting import Components, build
from genmodels.losses.vae import elbo_terms
from genmodels.models.vae import VAE
from genmodels.randomness import generator, reseed
from genmodels.run_files import CHECKPOINT
from genmodels.settings import TrainSettings
from genmodels.trainers.loop import Trainer, train_steps

OK, NOTE, WRONG = "ok", "note", "WRONG"

IMAGES = 32  # that are trained on again and again
SECONDS_OF_TRAINING = 5.0
STEPS = (20, 150)  # at least and at most
FALL = 0.05  # of a loss, relative to its first value, that counts as learning
TOLD_APART = 0.9  # share of pairs of a real and a generated image that D can learn to tell apart
KL_SAMPLES = 200  # of z for each image
KL_ERRORS = 5  # standard errors by which its two estimates may differ
NO_GRADIENT, ZERO_GRADIENT, GRADIENT = 0, 1, 2
MAX_LISTED = 4  # names


class Finding(NamedTuple):
    """What a check came to."""

    status: str  # OK, NOTE or WRONG
    text: str


Findings = Iterator[Finding]


def check_learning(settings: TrainSettings, components: Components, data: ImageData) -> Findings:
    """Whether the same few images are learned better and better, and by which parameters."""
    trainer = components.trainer
    stream = _same_images(settings, data)
    steps = _affordable_steps(settings, stream)
    history: dict[str, list[float]] = {}
    gradients = {name: NO_GRADIENT for name, _ in components.model.named_parameters()}
    for _, terms in train_steps(trainer, stream, 0, steps):
        for name, value in terms.items():
            history.setdefault(name, []).append(value.item())
        for name, weights in components.model.named_parameters():
            gradients[name] = max(gradients[name], _gradient(weights))
    where = f"in {steps} steps on the same {stream.batch_size} images"
    yield _judge_learning(history, where)
    yield from _judge_gradients(gradients)


def check_kl(settings: TrainSettings, components: Components, data: ImageData) -> Findings:
    """Whether the KL of the prior is that of its density: E_q[log q(z|x) - log p(z)], by samples.

    Models without a posterior have none.
    """
    model = components.trainer.inference_model
    if not isinstance(model, VAE):
        return
    images, labels = _same_images(settings, data).batch(0)
    reseed(settings.seed, "doctor")
    by_prior, by_samples = [], []
    with torch.no_grad():
        for _ in range(KL_SAMPLES):
            terms = elbo_terms(model, images, labels)
            log_posterior = terms.posterior.log_prob(terms.z).sum(dim=1)  # (B,)
            log_prior = model.prior.log_prob(terms.z, labels)  # (B,)
            by_prior.append(terms.kl.sum(dim=1).mean().item())
            by_samples.append((log_posterior - log_prior).mean().item())
    kl, estimate = statistics.mean(by_prior), statistics.mean(by_samples)
    error = statistics.stdev(by_samples) / math.sqrt(KL_SAMPLES)
    text = f"KL {kl:.2f} nats by the prior, {estimate:.2f} +- {error:.2f} by samples of z"
    if abs(kl - estimate) <= KL_ERRORS * error + 1e-3 * abs(kl):
        yield Finding(OK, text)
    else:
        yield Finding(WRONG, f"{text}: its kl and its log_prob disagree")


def check_resume(settings: TrainSettings, components: Components, data: ImageData) -> Findings:
    """Whether a training that goes on from its checkpoint does the same, bit for bit."""
    trainer, resumed = components.trainer, build(settings).trainer
    stream = _same_images(settings, data)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        writer = CheckpointWriter(folder, settings.model, {})
        writer.save(1, {"trainer": trainer.state_dict()})
        megabytes = (folder / CHECKPOINT).stat().st_size / 1e6
        checkpoint.restore(folder, lambda saved: resumed.load_state_dict(saved.states["trainer"]))
    _train(trainer, stream, range(1, 3))
    _train(resumed, stream, range(1, 3))
    different = list(_differences(trainer.state_dict(), resumed.state_dict()))
    if different:
        yield Finding(WRONG, f"after a checkpoint the next steps differ in {_list(different)}")
    else:
        text = f"after a checkpoint ({megabytes:.1f} MB) the next steps are the same, bit for bit"
        yield Finding(OK, text)


def seconds_of_a_step(settings: TrainSettings, stream: BatchStream, steps: int = 3) -> float:
    """The median over some steps of a fresh training, after its first one."""
    trainer = build(settings).trainer
    seconds = []
    for step in range(steps + 1):
        start = time.perf_counter()
        _train(trainer, stream, range(step, step + 1))
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[1:])


def _same_images(settings: TrainSettings, data: ImageData) -> BatchStream:
    """A stream of the same few images."""
    size = min(IMAGES, settings.batch_size, len(data.train))
    chosen = data.train.subset(size, generator(settings.seed, "doctor"))
    return BatchStream(chosen, size, settings.seed)


def _affordable_steps(settings: TrainSettings, stream: BatchStream) -> int:
    least, most = STEPS
    steps = round(SECONDS_OF_TRAINING / seconds_of_a_step(settings, stream))
    return min(max(steps, least), most)


def _train(trainer: Trainer, stream: BatchStream, steps: range) -> None:
    for _ in train_steps(trainer, stream, steps.start, steps.stop):
        pass


def _gradient(weights: Tensor) -> int:
    """What a parameter received in the latest step."""
    if weights.grad is None:
        return NO_GRADIENT
    return GRADIENT if weights.grad.any() else ZERO_GRADIENT


def _judge_gradients(gradients: Mapping[str, int]) -> Findings:
    """gradients: the best that each parameter received."""
    missing = [name for name, best in gradients.items() if best == NO_GRADIENT]
    zero = [name for name, best in gradients.items() if best == ZERO_GRADIENT]
    if missing:
        yield Finding(WRONG, f"the loss does not depend on {_list(missing)}: no gradient")
    if zero:  # of D's last bias in games that compare two of its outputs this is right
        yield Finding(NOTE, f"the gradient is always 0 of {_list(zero)}")
    if not missing and not zero:
        yield Finding(OK, "every parameter receives a gradient")


def _judge_learning(history: Mapping[str, list[float]], where: str) -> Finding:
    """Arguments:
    history: of each term of the update.
    where: what it was trained on, for the text.
    """
    for name in ("distortion", "loss"):
        if name in history:
            return _judge_fall(name, history[name], where)
    if "real_above_fake" not in history:
        return Finding(NOTE, f"the update gives no distortion and no loss, but {_list(history)}")
    best = max(history["real_above_fake"])
    text = f"D tells up to {best:.0%} of the pairs apart {where}"
    if best >= TOLD_APART:
        return Finding(OK, text)
    return Finding(WRONG, f"{text}: it does not learn. Try another trainer.discriminator.lr")


def _judge_fall(name: str, values: list[float], where: str) -> Finding:
    tenth = max(1, len(values) // 10)
    first, last = statistics.mean(values[:tenth]), statistics.mean(values[-tenth:])
    text = f"{name} {first:.4g} -> {last:.4g} {where}"
    if last < first - FALL * abs(first):
        return Finding(OK, text)
    return Finding(WRONG, f"{text}: it does not learn. Try another lr")


def _differences(one: Any, other: Any, name: str = "") -> Iterator[str]:
    """The names of the tensors in which two nested states differ."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        for key in one.keys() | other.keys():
            below = f"{name}.{key}" if name else str(key)
            yield from _differences(one.get(key), other.get(key), below)
    elif isinstance(one, Tensor) and isinstance(other, Tensor):
        if not torch.equal(one, other):
            yield name
    elif isinstance(one, Tensor) or isinstance(other, Tensor):
        yield name


def _list(names: Iterable[str]) -> str:
    listed = list(names)
    more = f" and {len(listed) - MAX_LISTED} more" if len(listed) > MAX_LISTED else ""
    return ", ".join(listed[:MAX_LISTED]) + more
