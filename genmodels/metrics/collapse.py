"""Does the model use its latent space, and does it lie where the prior is? Numbers from q(z|x) of many images.

"Posterior collapse": the encoder says nothing of the image (q(z|x) = p(z), the rate is 0), or the decoder does not
listen; in some dimensions or in all. Rate, distortion and bound are at KL weight 1, whatever weight it trained with.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from genmodels.data.images import ImageSet
from genmodels.distributions import kl_to_standard_normal
from genmodels.metrics.aggregated_posterior import ACTIVE
from genmodels.metrics.collapse_threshold import unexplained, whitened_spectrum
from genmodels.metrics.evaluation import Evaluation
from genmodels.metrics.likelihood import bound, observe
from genmodels.models.vae import VAE


@dataclass(frozen=True)
class LatentUsage:
    """What is known of a model's latent space; nats per image, tensors float64 by dimension."""

    bound: dict[str, float]  # elbo, distortion, rate, ...: as `likelihood.evaluate` has them
    kl: Tensor  # (D,) KL(q(z_d|x) || p(z_d)), averaged over the images
    active: Tensor  # (D,) bool: Var_x(E[z_d|x]) > ACTIVE (Burda et al. 2015, section 5)
    mean: Tensor  # (D,) of the aggregated posterior q(z) = E_x q(z|x); 0 where it is the prior
    variance: Tensor  # (D,) of the same, Var_x(E[z_d|x]) + E_x Var(z_d|x); 1 where it is the prior
    mutual_information: float  # I_q(x; z), estimated: too low where it is near its ceiling
    ceiling: float  # log of the number of images that it was estimated with
    shuffled_z: float  # D(x, z of another image) - D(x, z): 0 if the decoder does not listen

    @property
    def misfit(self) -> Tensor:
        """KL(N(mean, variance) || p(z_d)) of each dimension, (D,): no more than KL(q(z_d) || p(z_d)), for a Gaussian
        has the most entropy of all with its moments. So their sum is a lower bound of KL(q(z) || p(z))."""
        return kl_to_standard_normal(self.mean, self.variance, self.variance.log())

    @property
    def aggregated_kl(self) -> float:
        """KL(q(z) || p(z)) = rate - I_q(x; z) (Hoffman & Johnson 2016, eq. 6); too high where I_q is too low."""
        return self.bound["kl"] - self.mutual_information

    def numbers(self) -> dict[str, Any]:
        """The bound and the active units, and all else under "latent"."""
        return {
            **self.bound,
            "active_units": int(self.active.sum()),
            "latent": {
                "kl_per_dimension": [round(value, 6) for value in self.kl.tolist()],
                "mutual_information": self.mutual_information,
                "mutual_information_ceiling": self.ceiling,
                "aggregated_kl": self.aggregated_kl,
                "aggregated_kl_at_least": self.misfit.sum().item(),
                "aggregated_mean_largest": self.mean.abs().max().item(),
                "aggregated_variance_smallest": self.variance.min().item(),
                "aggregated_variance_largest": self.variance.max().item(),
                "shuffled_z": self.shuffled_z,
            },
        }


def latent_usage(
    model: VAE, split: ImageSet, *, pairs: int = 10_000, swap: int = 10_000
) -> LatentUsage:
    """One pass over a part. `pairs`: images for the mutual information, which costs their square; `swap`: images for
    the shuffled-z test. Reseeds torch's global generators."""
    seen = observe(model, split, swap=swap)
    mean, stddev = seen.mean, seen.stddev
    spread = mean.var(dim=0, correction=0)
    return LatentUsage(
        bound(model, seen),
        seen.kl.mean(dim=0),
        spread > ACTIVE,
        mean.mean(dim=0),
        spread + stddev.square().mean(dim=0),
        mutual_information(mean[:pairs], stddev[:pairs], seen.z[:pairs]),
        math.log(min(pairs, len(mean))),
        (seen.swapped - seen.distortion[: len(seen.swapped)]).mean().item(),
    )


def quick_metrics(model: VAE, split: ImageSet) -> dict[str, Any]:
    """The numbers of a diagnosis that costs little more than the bound: what a run logs as it trains."""
    return latent_usage(model, split, pairs=2000, swap=500).numbers()


def collapse(model: VAE, evaluation: Evaluation) -> dict[str, Any]:
    """A thorough diagnosis on the test images, with what the training images have to say: see `spectrum`."""
    train = evaluation.data.train
    found, rest = whitened_spectrum(model, train), unexplained(model, train)
    data = (
        {}
        if found is None
        else {
            "largest_useful_kl_weight": found.eigenvalues[0].item(),
            "eigenvalues": found.eigenvalues[:20].tolist(),
            "mean_image_distortion": found.distortion(model, evaluation.split),
            "unexplained_eigenvalue": rest,
        }
    )
    return latent_usage(model, evaluation.split).numbers() | data


def mutual_information(mean: Tensor, stddev: Tensor, z: Tensor, chunk: int = 500) -> float:
    """I_q(x; z) in nats from q(z|x) of M images and a draw of z from each, all (M, D) float64.

    E log q(z|x) - log q(z), with the mixture of the M posteriors as q(z): Hoffman & Johnson 2016, "ELBO surgery". It is
    at most log M, and a lower bound in expectation. M^2 D operations, `chunk` x M numbers at a time.
    """
    precision = stddev.square().reciprocal()  # (M, D)
    scale = stddev.log().sum(dim=1)  # (M,)
    constant = -0.5 * (mean.square() * precision).sum(dim=1) - scale
    own = -0.5 * ((z - mean) / stddev).square().sum(dim=1) - scale  # log q(z_i|x_i) + D/2 log 2 pi
    mixture = [
        torch.logsumexp(
            some @ (mean * precision).T - 0.5 * some.square() @ precision.T + constant, dim=1
        )
        for some in z.split(chunk)
    ]
    return (own - torch.cat(mixture)).mean().item() + math.log(len(z))
