"""How well a latent-variable model explains images: bounds on log p(x), so KL weight 1 whatever it trained with."""

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from genmodels.data.images import ImageSet, binarise
from genmodels.losses.vae import elbo_terms
from genmodels.metrics.evaluation import Evaluation
from genmodels.models.vae import VAE
from genmodels.randomness import CONSTANT_SEED, generator, reseed

DECODED = 800_000  # pixel values that are decoded at once: measured best on a CPU, and little memory anywhere


class Observations(NamedTuple):
    """What one pass of a model over a part of the data gives, in its order; float64 on the CPU."""

    distortion: Tensor  # (N,) nats
    kl: Tensor  # (N, D) nats
    mean: Tensor  # (N, D) of q(z|x)
    stddev: Tensor  # (N, D) of q(z|x)
    z: Tensor  # (N, D) drawn from q(z|x)
    swapped: Tensor  # (S,) distortion of the first S images at the z of another image

    @property
    def elbo(self) -> Tensor:
        """(N,) nats, one sample of z each."""
        return -self.distortion - self.kl.sum(dim=1)


@torch.no_grad()
def observe(model: VAE, part: ImageSet, *, swap: int = 0, batch_size: int = 500) -> Observations:
    """Every image of a part once through encoder and decoder, and the first `swap` (a whole batch at least) once more
    through the decoder, at the z of another one.

    Gray images are binarised for a Bernoulli likelihood. Binarisation and noise have constant seeds, anew for each
    batch: runs compare on the same images, also models of other latent sizes. Reseeds torch's global generators.
    """
    seen, swapped = [], [torch.empty(0, dtype=torch.float64)]
    for index, (images, labels) in enumerate(part.batches(batch_size)):
        reseed(CONSTANT_SEED, "evaluation", index)
        images = observed(model, images)
        terms = elbo_terms(model, images, labels)
        posterior = terms.posterior
        seen.append(
            [
                value.cpu().double()
                for value in (terms.distortion, terms.kl, posterior.mean, posterior.stddev, terms.z)
            ]
        )
        if index * batch_size < swap:
            z = terms.z[_others(len(images), index)]
            swapped.append(-model.decode(z, labels).log_prob(images).cpu().double())
    distortion, kl, mean, stddev, z = (torch.cat(values) for values in zip(*seen, strict=True))
    return Observations(distortion, kl, mean, stddev, z, torch.cat(swapped))


def bound(model: VAE, seen: Observations) -> dict[str, float]:
    """`elbo` in nats per image (higher is better), its two terms `distortion` and `rate` (elbo = -distortion - rate),
    the standard error of `elbo` over the images, and their number `n`. Of a conditional model on log p(x|y).

    Where a pixel has finitely many values, `bits_per_dimension` is what a value costs at most to store:
    -elbo / (C H W log 2); lower is better. The ELBO of a density (Gaussian, continuous Bernoulli) bounds no such cost:
    it grows without limit as the density sharpens around the 256 values that there are, and depends on the unit of
    brightness. Where such a density's width was found by training, `likelihood_stddev` is what it is, on the scale of
    [0, 1].
    """
    elbo = seen.elbo
    numbers = {
        "elbo": elbo.mean().item(),
        "elbo_standard_error": elbo.std().item() / len(elbo) ** 0.5,
        "distortion": seen.distortion.mean().item(),
        "kl": seen.kl.sum(dim=1).mean().item(),
    }
    if model.binary or model.likelihood.quantised:
        numbers["bits_per_dimension"] = -numbers["elbo"] / (
            math.prod(model.image_shape) * math.log(2)
        )
    if (stddev := model.likelihood.fitted_stddev) is not None:
        numbers["likelihood_stddev"] = stddev
    return numbers | {"n": len(elbo)}


def evaluate(model: VAE, part: ImageSet) -> dict[str, float]:
    """The `bound` on a part of the data, one sample of z each."""
    return bound(model, observe(model, part))


def elbo(model: VAE, evaluation: Evaluation) -> dict[str, float]:
    """`evaluate` on the test part."""
    return evaluate(model, evaluation.split)


@torch.no_grad()
def reconstruction(model: VAE, evaluation: Evaluation, batch_size: int = 500) -> dict[str, float]:
    """How far reconstructions (the mean image at the posterior's mean) are from their test images, in brightness from 0
    to 1: `mse`, the mean squared error of a value, and its peak signal-to-noise ratio `psnr` in dB."""
    errors = [
        (model.reconstruct(images, labels) - images).double().square().mean(dim=(1, 2, 3)).cpu()
        for images, labels in evaluation.split.batches(batch_size)
    ]
    mse = torch.cat(errors).mean().item()
    return {"mse": mse, "psnr": -10 * math.log10(max(mse, 1e-12)), "n": len(evaluation.split)}


@torch.no_grad()
def iwae(model: VAE, evaluation: Evaluation, batch_size: int = 100) -> dict[str, float]:
    """The importance-weighted bound L_k on `evaluation.n` test images: Burda et al. 2015, eq. 8, with k = `evaluation.k`.

    L_k = E log 1/k sum_i w_i, w_i = p(x|z_i) p(z_i) / q(z_i|x), rises with k from the ELBO (L_1) to log p(x); the usual
    "NLL" is -L_k at a k that is stated. Images and their binarisation have constant seeds, the samples have
    `evaluation.seed`. Nats per image: `iwae`, `elbo` (the mean over the same k samples), their difference `gap` with
    standard errors over the images; `effective_samples` of k, (sum w)^2 / sum w^2: near 1, L_k is far from log p(x).
    """
    k, noise = evaluation.k, generator(CONSTANT_SEED, "importance-weighted images")
    part = evaluation.split.subset(evaluation.n, noise, in_order=True)
    bounds, singles, effective = [], [], []
    for index, (images, labels) in enumerate(part.batches(batch_size)):
        reseed(CONSTANT_SEED, "importance-weighted images", index)
        images = observed(model, images)
        reseed(evaluation.seed, "importance samples", index)
        weights = torch.cat(list(log_weights(model, images, labels, k)), dim=1)  # (B, k)
        bounds.append(weights.logsumexp(dim=1) - math.log(k))
        singles.append(weights.mean(dim=1))
        effective.append((2 * weights.logsumexp(dim=1) - (2 * weights).logsumexp(dim=1)).exp())
    tight, single = torch.cat(bounds), torch.cat(singles)  # (n,) L_k and L_1
    gap, root = tight - single, len(tight) ** 0.5
    return {
        "iwae": tight.mean().item(),
        "iwae_standard_error": tight.std().item() / root,
        "elbo": single.mean().item(),
        "gap": gap.mean().item(),
        "gap_standard_error": gap.std().item() / root,
        "effective_samples": torch.cat(effective).mean().item(),
        "k": k,
        "n": len(tight),
    }


def log_weights(model: VAE, images: Tensor, labels: Tensor, k: int) -> Iterator[Tensor]:
    """log p(x|z) + log p(z) - log q(z|x) for k draws from q(z|x) of each image (B, C, H, W), some draws at a time.

    Each (B, draws) float64 on the CPU, nats. The encoder runs once; of the two Gaussians the constants cancel.
    """
    posterior = model.encode(images, labels)
    stddev = posterior.stddev[:, None]  # (B, 1, D)
    draws = max(1, min(k, DECODED // images.numel()))
    for start in range(0, k, draws):
        now = min(draws, k - start)
        noise = torch.randn(len(images), now, stddev.shape[-1], device=stddev.device)
        z = posterior.mean[:, None] + stddev * noise  # (B, draws, D)
        likelihood = model.decode(z.flatten(0, 1), labels.repeat_interleave(now))
        log_prob = likelihood.log_prob(images.repeat_interleave(now, dim=0)).view(len(images), now)
        ratio = (0.5 * (noise.square() - z.square()) + stddev.log()).sum(
            dim=2
        )  # log p(z) - log q(z|x)
        yield (log_prob + ratio).cpu().double()


def observed(model: VAE, images: Tensor) -> Tensor:
    """Images as an evaluation sees them: gray ones drawn black and white for a likelihood of those."""
    return binarise(images) if model.binary else images


def _others(size: int, index: int) -> Tensor:
    """For each of `size` images of a batch another one: all of them once round a random circle."""
    circle = torch.randperm(size, generator=generator(CONSTANT_SEED, "another image", index))
    return circle.roll(1)[circle.argsort()]
