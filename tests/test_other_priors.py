"""Metrics of models whose prior is not N(0, I)."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from planted_models import LogisticGaussianLikelihood, data_of, linear_gaussian, model_images
from scipy import optimize, stats
from torch import Tensor
from torch.distributions import Categorical, Distribution, Laplace, MixtureSameFamily, Normal

from genmodels.data.images import ImageSet
from genmodels.metrics import conditional, likelihood
from genmodels.metrics.aggregated_posterior import (
    LatentPlane,
    PriorDensity,
    posteriors,
    share_in_holes,
)
from genmodels.metrics.collapse import collapse
from genmodels.metrics.diagnosis import verdict
from genmodels.metrics.evaluation import Evaluation
from genmodels.metrics.verdict import HEALTHY
from genmodels.models.priors import Prior, StandardNormal


class AnyPrior(Prior):
    """Independent dimensions of any distribution, of which nothing is known in closed form."""

    def __init__(self, latent_dim: int, make: Callable[[Tensor], Distribution]) -> None:
        super().__init__(latent_dim)
        self.make = make
        self.dimension = make(torch.zeros(latent_dim))

    def sample(
        self,
        n: int,
        temperature: float = 1.0,
        generator: torch.Generator | None = None,
        labels: Tensor | None = None,
    ) -> Tensor:
        with torch.random.fork_rng():
            if generator is not None:
                torch.manual_seed(generator.initial_seed())
            return math.sqrt(temperature) * self.dimension.sample((n,))

    def log_prob(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        return self.dimension.log_prob(z.float()).sum(dim=1)

    def marginals(self) -> Sequence[Prior]:
        return [AnyPrior(1, self.make)] * self.latent_dim

    def formula(self, temperature: float | str = 1.0) -> str:
        return "some prior"


def normal(zeros: Tensor) -> Distribution:
    return Normal(zeros, 1)


def laplace(zeros: Tensor) -> Distribution:
    return Laplace(zeros, 0.7)


def mixture(zeros: Tensor) -> Distribution:
    components = Normal(torch.stack([zeros - 1, zeros + 1], dim=-1), 0.6)
    return MixtureSameFamily(
        Categorical(torch.tensor([0.4, 0.6]).expand(*zeros.shape, 2)), components
    )


@pytest.fixture(scope="module")
def split() -> ImageSet:
    split = model_images(600)
    return ImageSet(split.images, torch.arange(600) % 2, split.rows)


def numbers_in(metrics: Any) -> list[float]:
    if isinstance(metrics, dict):
        metrics = list(metrics.values())
    if isinstance(metrics, list):
        return [number for value in metrics for number in numbers_in(value)]
    return [] if isinstance(metrics, str) else [metrics]


@pytest.mark.parametrize("make", [laplace, mixture])
def test_all_metrics_are_finite(make: Callable[[Tensor], Distribution], split: ImageSet) -> None:
    model = linear_gaussian(prior=AnyPrior(3, make))
    evaluation = Evaluation(model, data_of(split, ("a", "b")), kl_weight=1.0, k=5, n=100)
    for metric in (likelihood.elbo, collapse, verdict, likelihood.iwae, conditional.leakage):
        numbers = numbers_in(metric(model, evaluation))
        assert all(map(math.isfinite, numbers)), metric
    diagnosed = verdict(model, evaluation)
    assert diagnosed["label"] == HEALTHY
    sentences = " ".join(diagnosed["sentences"])
    assert "better than the prior, some prior, does" in sentences and "moments" not in sentences


def test_what_is_known_of_n_0_i_alone_is_left_out(split: ImageSet) -> None:
    metrics = []
    for prior in (StandardNormal(3), AnyPrior(3, laplace)):
        model = linear_gaussian(likelihood=LogisticGaussianLikelihood(), prior=prior)
        metrics.append(collapse(model, Evaluation(model, data_of(split))))
    known, other = metrics
    thresholds = {"largest_useful_kl_weight", "eigenvalues", "unexplained_eigenvalue"}
    assert known.keys() - other.keys() == thresholds
    assert known["latent"].keys() - other["latent"].keys() == {"aggregated_kl_at_least"}


def test_bounds_are_those_of_n_0_i_written_as_any_prior(split: ImageSet) -> None:
    """The same draws of z have the same importance weights; the KL is estimated from them."""
    results = []
    for prior in (StandardNormal(3), AnyPrior(3, normal)):
        model = linear_gaussian(shift=0.1, widen=1.5, prior=prior)
        evaluation = Evaluation(model, data_of(split), k=20, n=300)
        results.append((likelihood.iwae(model, evaluation), likelihood.elbo(model, evaluation)))
    (iwae, exact), (iwae_of_any, estimated) = results
    of_whole = ("nll", "nll_standard_error")  # whose KL is in closed form, or estimated
    for name in of_whole:
        assert iwae_of_any.pop(name) == pytest.approx(iwae.pop(name), abs=0.3)
    assert iwae_of_any == pytest.approx(iwae, abs=1e-4)
    assert estimated["distortion"] == exact["distortion"]
    assert estimated["kl"] == pytest.approx(exact["kl"], abs=0.3)


def test_holes_of_a_laplace_prior(split: ImageSet) -> None:
    """In three dimensions p(z) is estimated from draws; it is exact for N(0, I)."""
    model = linear_gaussian()
    data = posteriors(model, split)
    plane = LatentPlane.along(0, 3)
    estimated = share_in_holes(data, PriorDensity(AnyPrior(3, normal)), plane)
    assert estimated == pytest.approx(
        share_in_holes(data, PriorDensity(StandardNormal(3)), plane), abs=0.01
    )

    def above_hole(z: float) -> float:  # of the data, which are N(0, 1)
        return float(stats.norm.pdf(z) - 0.1 * stats.laplace.pdf(z, scale=3))

    border = optimize.brentq(above_hole, 1, 10)
    share = share_in_holes(
        data, PriorDensity(AnyPrior(3, lambda zeros: Laplace(zeros, 3.0))), plane
    )
    assert share == pytest.approx(2 * stats.laplace.sf(border, scale=3), abs=0.03)
