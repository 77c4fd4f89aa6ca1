"""How often a classifier is right; and, with it as judge, whether generated images are of the class they should be.

Accuracies are shares in [0, 1].
"""

from collections.abc import Iterable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from genmodels import tensorfiles
from genmodels.data.images import Batch, ImageSet
from genmodels.metrics.evidence import Evidence
from genmodels.models.classifier import Classifier
from genmodels.models.generative import GenerativeModel
from genmodels.randomness import generator

BATCH = 500
SAMPLES = 10_000    # generated images, of all classes together


class Answers:
    """What a classifier says of labelled images, counted batch by batch."""

    def __init__(self, model: Classifier) -> None:
        self.model = model
        self.confusion = torch.zeros(model.num_classes, model.num_classes, dtype=torch.long)    # a row a true class
        self._log_probability = 0.0     # of the true classes, summed over the images

    @torch.no_grad()
    def add(self, images: Tensor, labels: Tensor) -> Tensor:
        """Count the answers to images (B, C, H, W) of classes (B,); returns the images' features (B, F)."""
        features = self.model.features(images)
        answer = self.model.classify(features)
        pairs = labels * self.model.num_classes + answer.logits.argmax(dim=1)
        self.confusion += torch.bincount(pairs.cpu(), minlength=self.confusion.numel()).view_as(self.confusion)
        self._log_probability += answer.log_prob(labels).double().sum().item()
        return features

    def numbers(self) -> dict[str, float]:
        """`accuracy`, the share of right answers, with its binomial standard error; `nll`, the mean of -log p(class|x)
        in nats per image; the number `n` of images."""
        n = int(self.confusion.sum())
        share = int(self.confusion.diagonal().sum()) / n
        return {"accuracy": share, "accuracy_standard_error": (share * (1 - share) / n) ** 0.5,
                "nll": -self._log_probability / n, "n": n}

    def by_class(self) -> Tensor:
        """The share of right answers for each true class, (K,) float64; NaN where there is no image of it."""
        return self.confusion.diagonal().double() / self.confusion.sum(dim=1)


class Spread:
    """The root mean square distance between two members of each class, from sums over the members alone.

    The mean of |a - b|^2 over all pairs of n is 2 n / (n - 1) (mean |x|^2 - |mean x|^2). Float64 on the CPU.
    """

    def __init__(self, classes: int) -> None:
        self._count = torch.zeros(classes, dtype=torch.float64)
        self._square = torch.zeros(classes, dtype=torch.float64)        # sums of |x|^2
        self._total: Tensor | float = 0.0                               # sums of x, (K, F)

    def add(self, values: Tensor, labels: Tensor) -> None:
        """Add members (B, ...) of classes (B,)."""
        values = values.flatten(1).cpu().double()                       # (B, F)
        member = F.one_hot(labels.cpu(), len(self._count)).double()     # (B, K)
        self._count += member.sum(dim=0)
        self._square += member.T @ values.square().sum(dim=1)
        self._total = self._total + member.T @ values

    def distance(self) -> Tensor:
        """(K,); NaN for a class of fewer than two."""
        mean = self._total / self._count[:, None]
        variance = (self._square / self._count - mean.square().sum(dim=1)).clamp(min=0)
        return torch.where(self._count > 1, 2 * self._count / (self._count - 1) * variance, torch.nan).sqrt()


def evaluate(model: Classifier, part: ImageSet) -> dict[str, float]:
    """`Answers.numbers` of a labelled part."""
    return answers(model, part).numbers()


def accuracy(model: Classifier, evidence: Evidence) -> dict[str, float]:
    """`evaluate` on the test part."""
    return evaluate(model, evidence.data.test)


def answers(model: Classifier, part: ImageSet) -> Answers:
    """What a classifier says of a labelled part."""
    found = Answers(model)
    for images, labels in part.batches(BATCH):
        found.add(images, labels)
    return found


def class_accuracy(model: GenerativeModel, evidence: Evidence, samples: int = SAMPLES) -> dict[str, Any]:
    """Whether a conditional model makes what it is asked for, and not always the same one.

    As many samples of each class, at temperature 1. `accuracy`: the share that the judge takes for the class that was
    asked. It alone can pass for a model that makes one good image of each class; so `diversity`: the root mean square
    distance between two samples of a class over that between two of its test images, in the judge's features, averaged
    over the classes (1: as diverse, 0: all the same). `pixel_diversity` is the same in pixels; there the noise of the
    data counts, which mean images lack. Beside them the judge's own accuracy on the test part and the checksum of its
    weights: what other judges say does not compare.
    """
    judge, classes = _judge(evidence), evidence.data.spec.classes
    labels = torch.arange(len(classes)).repeat_interleave(max(2, samples // len(classes)))
    made, made_spreads = _seen(judge, _made(model, labels, evidence.seed))
    real, real_spreads = _seen(judge, evidence.data.test.batches(BATCH))
    ratios = [mine.distance() / theirs.distance() for mine, theirs in zip(made_spreads, real_spreads, strict=True)]
    columns = dict(zip(("accuracy", "diversity", "pixel_diversity"), (made.by_class(), *ratios), strict=True))
    numbers = made.numbers()
    return {name: numbers[name] for name in ("accuracy", "accuracy_standard_error", "n")} | {
        name: columns[name].nanmean().item() for name in ("diversity", "pixel_diversity")} | {
        "judge_accuracy": real.numbers()["accuracy"], "judge_crc32": _crc32(judge),
        "classes": {name: {column: values[index].item() for column, values in columns.items()}
                    for index, name in enumerate(classes)}}


def class_shares(model: GenerativeModel, evidence: Evidence, samples: int = SAMPLES) -> dict[str, Any]:
    """Of which classes a model's samples are, in the judge's eyes; a conditional one is asked for all equally often.

    `entropy` of these shares and `test_entropy` of the test images' (at most log K), and `kl_to_test`, the KL
    divergence of the first from the second, 0 where they are the same; all in nats.
    """
    judge, classes, test = _judge(evidence), evidence.data.spec.classes, evidence.data.test
    made, _ = _seen(judge, _made(model, torch.arange(samples) % len(classes), evidence.seed))
    found = made.confusion.sum(dim=0).double() / samples                                                    # (K,)
    expected = torch.bincount(test.labels[test.rows].cpu(), minlength=len(classes)).double() / len(test)    # (K,)
    return {"entropy": _entropy(found), "test_entropy": _entropy(expected),
            "kl_to_test": -_entropy(found) - torch.xlogy(found, expected).sum().item(), "n": samples,
            "judge_crc32": _crc32(judge),
            "classes": {name: {"samples": found[index].item(), "test": expected[index].item()}
                        for index, name in enumerate(classes)}}


def _judge(evidence: Evidence) -> Classifier:
    assert evidence.judge is not None, "asked only where there is a judge"
    return evidence.judge()


@torch.no_grad()
def _made(model: GenerativeModel, labels: Tensor, seed: int) -> Iterator[Batch]:
    """What a model makes of noise at temperature 1 when it is asked for these classes (N,), if it knows any."""
    noise = generator(seed, "judged samples")
    for some in labels.split(BATCH):
        z = model.prior(len(some), generator=noise)
        yield Batch(model.generate(z, some.to(z.device)), some.to(z.device))


def _seen(judge: Classifier, batches: Iterable[Batch]) -> tuple[Answers, tuple[Spread, Spread]]:
    """The judge's answers, and the spread of each class in its features and in pixels."""
    found, features, pixels = Answers(judge), Spread(judge.num_classes), Spread(judge.num_classes)
    for images, labels in batches:
        features.add(found.add(images, labels), labels)
        pixels.add(images, labels)
    return found, (features, pixels)


def _entropy(shares: Tensor) -> float:
    return -torch.xlogy(shares, shares).sum().item()


def _crc32(judge: Classifier) -> str:
    return f"{tensorfiles.checksum(judge.state_dict()):08x}"
