"""The importance-weighted bound of several samples of z, as a training objective."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from genmodels.distributions import DiagonalGaussian
from genmodels.errors import require
from genmodels.losses.objectives import Objective
from genmodels.models.vae import VAE


class IWAE(Objective):
    """-log 1/k sum over i of w_i, where log w_i = -distortion_i - weight * KL_i; at first the ELBO.

    Burda et al. 2015, "Importance weighted autoencoders", eq. 8, at weight 1, where KL_i is
    log q(z_i|x) - log p(z_i). The bound rises with k from the ELBO to log p(x). Its first samples
    teach an encoder less than the ELBO does, so the run begins with distortion + weight * KL.

    Arguments:
    k: samples of z for each image, at least 2.
    start: the fraction of the run before which the ELBO is maximised, below 1.
    """

    def __init__(self, k: int, start: float) -> None:
        super().__init__()
        require(k >= 2, "k", k, "an integer >= 2 (objective=elbo has one sample)")
        require(0 <= start < 1, "start", start, "a fraction of the run, at least 0 and below 1")
        self.k = k
        self.start = start

    def samples(self, progress: float) -> int:
        """k from `start` on, 1 before."""
        return self.k if progress >= self.start else 1

    def forward(self, distortion: Tensor, kl: Tensor, weight: float, progress: float) -> Tensor:
        """distortion (B,), kl (B, D) -> loss (B,); (k, B) and (k, B, D) where there are samples."""
        loss = distortion + weight * kl.sum(dim=-1)
        if self.samples(progress) == 1:
            return loss
        return math.log(self.k) - torch.logsumexp(-loss, dim=0)


class SampledTerms(NamedTuple):
    """The terms of the bound at k samples of z for each image, in nats."""

    distortion: Tensor  # (k, B) -log p(x|z_i)
    kl: Tensor  # (k, B, 1) log q(z_i|x) - log p(z_i)


def sampled_terms(
    model: VAE, images: Tensor, labels: Tensor | None, noise: Tensor, weight: float
) -> SampledTerms:
    """The terms at k samples for each image, with which IWAE's gradient is doubly reparameterised.

    Tucker et al. 2019, "Doubly reparameterized gradient estimators for Monte Carlo objectives",
    eq. 10: the encoder receives no gradient through the density of q, and through sample i the
    gradient of log w_i times the square of v_i = w_i / sum of w. Its expectation is that of the
    plain gradient, with a smaller variance. IWAE's loss gives the factor v_i, so another one is
    applied here; at a KL weight of b it is 1 - b + b v_i, by the same derivation.

    Arguments:
    model: of any prior and likelihood.
    images: (B, C, H, W) in [0, 1].
    labels: (B,) int64 for a conditional model, -1 for no label.
    noise: standard normal (k, B, D), from which the samples are made.
    weight: of the KL.
    """
    k, batch_size, _ = noise.shape
    posterior = model.encode(images, labels)
    z = posterior.rsample(noise)  # (k, B, D)
    rows = z.flatten(0, 1)  # (k B, D)
    repeated_labels = None if labels is None else labels.repeat(k)
    likelihood = model.decode(rows, repeated_labels)
    distortion = -likelihood.log_prob(images.repeat(k, 1, 1, 1)).view(k, batch_size)
    fixed = DiagonalGaussian(posterior.mean.detach(), posterior.log_variance.detach())
    log_posterior = fixed.log_prob(z).sum(dim=2)  # (k, B)
    # densities need more digits than bfloat16 has
    with torch.autocast(z.device.type, enabled=False):
        log_prior = model.prior.log_prob(rows, repeated_labels)
    kl = log_posterior - log_prior.to(rows).view(k, batch_size)
    if z.requires_grad:
        log_weights = -(distortion + weight * kl).detach()
        shares = log_weights.softmax(dim=0)[:, :, None]  # (k, B, 1)
        factor = 1 - weight + weight * shares
        z.register_hook(lambda gradient: gradient * factor)
    return SampledTerms(distortion, kl[:, :, None])
