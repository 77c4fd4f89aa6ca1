"""Does the model use its latent space, and does q(z) lie where the prior is?

"Posterior collapse": the encoder says nothing of the image (q(z|x) = p(z), the KL is 0), or the
decoder ignores z; in some dimensions or in all. KL, distortion and bound are at KL weight 1,
whatever weight the model was trained with.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from genmodels.data.images import ImageSet
from genmodels.distributions import kl_to_standard_normal
from genmodels.metrics.aggregated_posterior import ACTIVE
from genmodels.metrics.collapse_threshold import has_kl_threshold, unexplained, whitened_spectrum
from genmodels.metrics.evaluation import Evaluation
from genmodels.metrics.likelihood import elbo_metrics, observe
from genmodels.models.priors import StandardNormal
from genmodels.models.vae import VAE

EIGENVALUES = 20  # of the whitened spectrum that are reported


@dataclass(frozen=True)
class LatentUsage:
    """What is known of a model's latent space; nats per image, tensors float64 by dimension."""

    bound: dict[str, float]  # elbo, distortion, kl, ...: see `likelihood.elbo_metrics`
    kl: Tensor  # (D,) KL(q(z_d|x) || p(z_d)), averaged over the images
    active: Tensor  # (D,) bool: Var_x(E[z_d|x]) > ACTIVE (Burda et al. 2015, section 5)
    mean: Tensor  # (D,) of the aggregated posterior q(z) = E_x q(z|x)
    variance: Tensor  # (D,) of the same, Var_x(E[z_d|x]) + E_x Var(z_d|x)
    prior_gap: Tensor | None  # (D,) see `standard_normal_gap`; None: the prior is not N(0, I)
    # KL(q(z) || p(z)) is at least so many nats, by the moments of q(z); None: p is not N(0, I)
    aggregated_kl_at_least: float | None
    mutual_information: float  # I_q(x; z), estimated: too low where it is near its ceiling
    ceiling: float  # log of the number of images that it was estimated with
    shuffled_z: float  # D(x, z of another image) - D(x, z): 0 where the decoder ignores z

    @property
    def aggregated_kl(self) -> float:
        """KL(q(z) || p(z)) = KL - I_q(x; z): Hoffman & Johnson 2016, eq. 6.

        It is too high where I_q is too low.
        """
        return self.bound["kl"] - self.mutual_information

    def numbers(self) -> dict[str, Any]:
        """The bound and the active units, and all else under "latent"."""
        latent = {
            "kl_per_dimension": [round(value, 6) for value in self.kl.tolist()],
            "mutual_information": self.mutual_information,
            "mutual_information_ceiling": self.ceiling,
            "aggregated_kl": self.aggregated_kl,
            "aggregated_mean_largest": self.mean.abs().max().item(),
            "aggregated_variance_smallest": self.variance.min().item(),
            "aggregated_variance_largest": self.variance.max().item(),
            "shuffled_z": self.shuffled_z,
        }
        if self.aggregated_kl_at_least is not None:
            latent["aggregated_kl_at_least"] = self.aggregated_kl_at_least
        return {**self.bound, "active_units": int(self.active.sum()), "latent": latent}


def latent_usage(
    model: VAE, split: ImageSet, *, pairs: int = 10_000, swap: int = 10_000
) -> LatentUsage:
    """How a model uses its latent space, from one pass over a split.

    Reseeds torch's global generators.

    Arguments:
    model: in evaluation mode.
    split: of N images.
    pairs: images for the mutual information, which costs their square.
    swap: images that are decoded from the z of another one.
    """
    seen = observe(model, split, swap=swap)
    variance_of_means = seen.mean.var(dim=0, correction=0)
    mean = seen.mean.mean(dim=0)
    variance = variance_of_means + seen.stddev.square().mean(dim=0)
    own_distortion = seen.distortion[: len(seen.swapped)]
    prior_gap = standard_normal_gap(model, mean, variance)
    at_least = None
    if prior_gap is not None:
        at_least = max(prior_gap.sum().item(), gaussian_gap(seen.mean, seen.stddev))
    return LatentUsage(
        bound=elbo_metrics(model, seen),
        kl=seen.kl_per_dimension.mean(dim=0),
        active=variance_of_means > ACTIVE,
        mean=mean,
        variance=variance,
        prior_gap=prior_gap,
        aggregated_kl_at_least=at_least,
        mutual_information=mutual_information(
            seen.mean[:pairs], seen.stddev[:pairs], seen.z[:pairs]
        ),
        ceiling=math.log(min(pairs, len(seen.mean))),
        shuffled_z=(seen.swapped - own_distortion).mean().item(),
    )


def quick_metrics(model: VAE, split: ImageSet) -> dict[str, Any]:
    """`LatentUsage.numbers` for little more than the cost of the ELBO: what training logs."""
    usage = latent_usage(model, split, pairs=2000, swap=500)
    return usage.numbers()


def collapse(model: VAE, evaluation: Evaluation) -> dict[str, Any]:
    """`LatentUsage.numbers`, with what the training images can pay for: `collapse_threshold`."""
    train, split = evaluation.data.train, evaluation.split
    metrics = latent_usage(model, split).numbers()
    spectrum = whitened_spectrum(model, train)
    if spectrum is None:
        return metrics
    metrics["mean_image_distortion"] = spectrum.distortion(model, split)
    if has_kl_threshold(model):
        metrics["largest_useful_kl_weight"] = spectrum.eigenvalues[0].item()
        metrics["eigenvalues"] = spectrum.eigenvalues[:EIGENVALUES].tolist()
        metrics["unexplained_eigenvalue"] = unexplained(model, train)
    return metrics


def standard_normal_gap(model: VAE, mean: Tensor, variance: Tensor) -> Tensor | None:
    """A lower bound of KL(q(z_d) || p(z_d)) from the moments (D,) of q(z); None: p is not N(0, I).

    It is KL(N(mean, variance) || N(0, 1)), (D,) nats, since a Gaussian has the most entropy of all
    distributions with its moments. The sum is a lower bound of KL(q(z) || p(z)): `gaussian_gap`
    finds more where dimensions are correlated.
    """
    if not isinstance(model.prior, StandardNormal):
        return None
    return kl_to_standard_normal(mean, variance, variance.log())


def gaussian_gap(mean: Tensor, stddev: Tensor) -> float:
    """A lower bound of KL(q(z) || N(0, I)) in nats, from mean m and full covariance C of q(z).

    It is KL(N(m, C) || N(0, I)) = (tr C + |m|^2 - D - log det C) / 2, less the bias of its estimate
    from N images. C is the covariance S of posterior means, which is estimated, plus their mean
    variances, which are known. With F = C^-1/2 S C^-1/2 the bias is, to first order in 1/N and for
    Gaussian means, ((tr F)^2 + tr F^2) / 4N + tr S / 2N: at most D (D + 1) / 4N + D / 2N for C = I.
    0 where there are fewer than 2 D images, which do not suffice, and where nothing is left.

    Arguments:
    mean: (N, D) of q(z|x), float64.
    stddev: (N, D) likewise.
    """
    count, dimensions = mean.shape
    if count < 2 * dimensions:
        return 0.0
    between = torch.cov(mean.T, correction=0).view(dimensions, dimensions)  # S
    covariance = between + stddev.square().mean(dim=0).diag()
    center = mean.mean(dim=0)
    trace = covariance.trace() + center.square().sum()
    gap = 0.5 * (trace - dimensions - covariance.logdet())
    estimated = torch.linalg.solve(covariance, between)  # similar to F
    traces = estimated.trace().square() + (estimated @ estimated).trace()
    bias = traces / (4 * count) + between.trace() / (2 * count)
    return max((gap - bias).item(), 0.0)


def mutual_information(mean: Tensor, stddev: Tensor, z: Tensor, chunk: int = 500) -> float:
    """I_q(x; z) in nats: E log q(z|x) - log q(z), with the mixture of the M posteriors as q(z).

    Hoffman & Johnson 2016, "ELBO surgery". It is at most log M, and a lower bound in expectation.

    Arguments:
    mean: (M, D) of q(z|x) of M images, float64.
    stddev: (M, D) likewise.
    z: (M, D) one draw from each.
    chunk: of M^2 D operations, chunk x M numbers are held at a time.
    """
    precision = stddev.square().reciprocal()  # (M, D)
    log_scale = stddev.log().sum(dim=1)  # (M,)
    constant = -0.5 * (mean.square() * precision).sum(dim=1) - log_scale
    scaled = (z - mean) / stddev
    own = -0.5 * scaled.square().sum(dim=1) - log_scale  # log q(z|x) + D/2 log 2 pi
    mixture = []
    for rows in z.split(chunk):
        linear = rows @ (mean * precision).T
        log_prob = linear - 0.5 * rows.square() @ precision.T + constant  # (chunk, M)
        mixture.append(log_prob.logsumexp(dim=1))
    return (own - torch.cat(mixture)).mean().item() + math.log(len(z))
