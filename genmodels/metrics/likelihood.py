"""How well a latent-variable model explains images: the ELBO at KL weight 1, whatever weight it was trained with."""

import math

import torch
from torch import Tensor

from genmodels.data.images import ImageSet, binarise
from genmodels.losses.elbo import ELBOTerms, elbo_terms
from genmodels.metrics.evidence import Evidence
from genmodels.models.vae import VAE
from genmodels.randomness import CONSTANT_SEED, reseed


@torch.no_grad()
def evaluate(model: VAE, part: ImageSet, batch_size: int = 500) -> dict[str, float]:
    """The bound on a part of the data, in nats per image, one sample of z each; of a conditional model on log p(x|y).

    Gray images are binarised for a Bernoulli likelihood. Binarisation and noise have constant seeds: runs compare on
    the same images. Returns `elbo` (higher is better), its two terms `distortion` and `rate` (elbo = -distortion -
    rate), the standard error of `elbo` over the images, and their number `n`. Where a pixel has finitely many values,
    `bits_per_dimension` is what a value costs at most to store: -elbo / (C H W log 2); lower is better. The ELBO of a
    density (Gaussian, continuous Bernoulli) bounds no such cost: it grows without limit as the density sharpens around
    the 256 values that there are, and depends on the unit of brightness. Reseeds torch's global generators.
    """
    terms = _terms(model, part, batch_size)
    elbo = terms.elbo                                               # (N,)
    numbers = {"elbo": elbo.mean().item(), "elbo_standard_error": elbo.std().item() / len(elbo) ** 0.5,
               "distortion": terms.distortion.mean().item(), "rate": terms.kl.sum(dim=1).mean().item()}
    if model.binary or model.likelihood.quantised:
        numbers["bits_per_dimension"] = -numbers["elbo"] / (math.prod(model.image_shape) * math.log(2))
    return numbers | {"n": len(elbo)}


def elbo(model: VAE, evidence: Evidence) -> dict[str, float]:
    """`evaluate` on the test part."""
    return evaluate(model, evidence.data.test)


def observed(model: VAE, images: Tensor) -> Tensor:
    """Images as an evaluation sees them: gray ones drawn black and white for a likelihood of those."""
    return binarise(images) if model.binary else images


@torch.no_grad()
def kl_per_dimension(model: VAE, part: ImageSet, batch_size: int = 500) -> Tensor:
    """KL(q(z_d|x) || p(z_d)) averaged over a part of the data, (D,) float64 nats; their sum is the rate."""
    return _terms(model, part, batch_size).kl.mean(dim=0)


def _terms(model: VAE, part: ImageSet, batch_size: int) -> ELBOTerms:
    """The terms of every image, float64 on the CPU."""
    reseed(CONSTANT_SEED, "evaluation")
    distortions, kls = [], []
    for images, labels in part.batches(batch_size):
        distortion, kl = elbo_terms(model, observed(model, images), labels)
        distortions.append(distortion.cpu().double())
        kls.append(kl.cpu().double())
    return ELBOTerms(torch.cat(distortions), torch.cat(kls))
