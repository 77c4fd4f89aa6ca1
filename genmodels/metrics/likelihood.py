"""How well a latent-variable model explains images: lower bounds on log p(x) in nats per image.

These are bounds at KL weight 1, whatever weight the model was trained with, and hold for any prior.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from genmodels.data.images import EVALUATION_BATCH, ImageSet, binarise
from genmodels.distributions import DiagonalGaussian
from genmodels.losses.vae import elbo_terms
from genmodels.metrics.evaluation import Evaluation
from genmodels.models.vae import VAE
from genmodels.randomness import CONSTANT_SEED, generator, reseed

DECODED_VALUES = 800_000  # pixels decoded at once: measured best on a CPU, and little memory


class Observations(NamedTuple):
    """What one pass of a model over a split gives, in its order; float64 on the CPU."""

    distortion: Tensor  # (N,) nats
    kl: Tensor  # (N, D) nats; (N, 1) where the prior knows only the sum
    kl_per_dimension: Tensor  # (N, D) nats, of each dimension's marginal
    mean: Tensor  # (N, D) of q(z|x)
    stddev: Tensor  # (N, D) of q(z|x)
    z: Tensor  # (N, D) drawn from q(z|x)
    swapped: Tensor  # (S,) distortion of the first S images at the z of another image

    @property
    def elbo(self) -> Tensor:
        """(N,) nats, one sample of z each."""
        return -self.distortion - self.kl.sum(dim=1)


@torch.no_grad()
def observe(
    model: VAE, split: ImageSet, *, swap: int = 0, batch_size: int = EVALUATION_BATCH
) -> Observations:
    """Every image of a split once through encoder and decoder.

    Gray images are binarised for a Bernoulli likelihood. Binarisation and noise have constant
    seeds, anew for each batch, so that all models see the same images, whatever their latent size.
    Reseeds torch's global generators.

    Arguments:
    model: in evaluation mode.
    split: of N images.
    swap: how many of the first images (a whole batch at least) are decoded once more, from the z of
        another image.
    batch_size: another one means other noise.
    """
    marginals = model.prior.marginals()
    batches = []
    for index, (images, labels) in enumerate(split.batches(batch_size)):
        reseed(CONSTANT_SEED, "evaluation", index)
        images = binarise_for(model, images)
        terms = elbo_terms(model, images, labels)
        swapped = images.new_empty(0)
        if index * batch_size < swap:
            z = terms.z[_other_images(len(images), index)]
            swapped = -model.decode(z, labels).log_prob(images)
        values = (
            terms.distortion,
            terms.kl,
            model.prior.kl_per_dimension(terms.posterior, terms.z, marginals),
            terms.posterior.mean,
            terms.posterior.stddev,
            terms.z,
            swapped,
        )
        batches.append([value.cpu().double() for value in values])
    return Observations(*map(torch.cat, zip(*batches, strict=True)))


def elbo_metrics(model: VAE, observations: Observations) -> dict[str, float]:
    """The ELBO with its terms, in nats per image; of a conditional model a bound on log p(x|y).

    Returns `elbo` = -`distortion` - `kl` (higher is better), its standard error over the images,
    and their number `n`. Where a pixel has finitely many values, `bits_per_dimension` is what a
    value costs at most to store: -elbo / (C H W log 2); lower is better. The ELBO of a density
    (Gaussian, continuous Bernoulli) bounds no such cost: it grows without limit as the density
    sharpens around the 256 values that there are, and depends on the unit of brightness. Where
    training has found the width of such a density, `likelihood_stddev` states it, on the scale of
    [0, 1].
    """
    elbo = observations.elbo
    metrics = {
        "elbo": elbo.mean().item(),
        "elbo_standard_error": _standard_error(elbo),
        "distortion": observations.distortion.mean().item(),
        "kl": observations.kl.sum(dim=1).mean().item(),
    }
    if model.binary or model.likelihood.quantised:
        values = math.prod(model.image_shape)
        metrics["bits_per_dimension"] = -metrics["elbo"] / (values * math.log(2))
    stddev = model.likelihood.fitted_stddev
    if stddev is not None:
        metrics["likelihood_stddev"] = stddev
    return metrics | {"n": len(elbo)}


def evaluate(model: VAE, split: ImageSet) -> dict[str, float]:
    """The `elbo_metrics` on a split, with one sample of z for each image."""
    observations = observe(model, split)
    return elbo_metrics(model, observations)


def elbo(model: VAE, evaluation: Evaluation) -> dict[str, float]:
    """The `elbo_metrics` on the evaluation's images.

    `trained_on_gray` is true, and else left out, where these are drawn black and white for a model
    that was trained on gray values: the numbers compare with other models', but are of images that
    the model has never seen.
    """
    metrics = evaluate(model, evaluation.split)
    return metrics | {"trained_on_gray": True} if evaluation.trained_on_gray else metrics


@torch.no_grad()
def reconstruction(model: VAE, evaluation: Evaluation) -> dict[str, float]:
    """How far images are from their reconstructions, the mean images at the posterior's mean.

    Returns `mse`, the mean squared error of a value, in brightness from 0 to 1; its peak
    signal-to-noise ratio `psnr` in dB; and the number `n` of images.
    """
    errors = []
    for images, labels in evaluation.split.batches(EVALUATION_BATCH):
        residuals = (model.reconstruct(images, labels) - images).double()
        errors.append(residuals.square().mean(dim=(1, 2, 3)).cpu())
    error = torch.cat(errors)  # (N,)
    mse = error.mean().item()
    psnr = -10 * math.log10(max(mse, 1e-12))
    return {"mse": mse, "psnr": psnr, "n": len(error)}


@torch.no_grad()
def iwae(model: VAE, evaluation: Evaluation, batch_size: int = 100) -> dict[str, float]:
    """The importance-weighted bound L_k of `evaluation.n` images, k = `evaluation.k`.

    L_k = E log 1/k sum_i w_i with w_i = p(x|z_i) p(z_i) / q(z_i|x): Burda et al. 2015, eq. 8. It
    rises with k from the ELBO (L_1) to log p(x); the usual "NLL" is -L_k at a k that is stated.
    Images and their binarisation have constant seeds, the samples have `evaluation.seed`.

    These images may be easier or harder than the others: the ELBO of 2,000 test images of MNIST is
    0.7 nats above that of all 10,000. So `nll`, the number to publish, is that of the whole split:
    minus its ELBO, minus the mean `gap` on the n images (a control variate; Owen 2013, "Monte Carlo
    theory, methods and examples", section 8.9). Its `standard_error` is over the images of the
    split. Two models are compared on the same images: there the error is that of the gap, plus the
    noise of one sample of z for each image.

    Returns, in nats per image, `nll` and, of the n images, `iwae`, `elbo` (the mean over the same k
    samples) and their difference `gap`, with standard errors over the images; and
    `effective_samples` of k, (sum w)^2 / sum w^2: where it is near 1, L_k is far from log p(x).
    """
    k, noise = evaluation.k, generator(CONSTANT_SEED, "importance-weighted images")
    split = evaluation.split.subset(evaluation.n, noise, in_order=True)
    bounds, elbos, effective = [], [], []
    for index, (images, labels) in enumerate(split.batches(batch_size)):
        reseed(CONSTANT_SEED, "importance-weighted images", index)
        images = binarise_for(model, images)
        reseed(evaluation.seed, "importance samples", index)
        weights = torch.cat(list(log_weights(model, images, labels, k)), dim=1)  # (B, k)
        total = weights.logsumexp(dim=1)
        bounds.append(total - math.log(k))
        elbos.append(weights.mean(dim=1))
        effective.append((2 * total - (2 * weights).logsumexp(dim=1)).exp())
    bound, elbo = torch.cat(bounds), torch.cat(elbos)  # (n,) L_k and L_1
    gap = bound - elbo
    whole = observe(model, evaluation.split).elbo  # (N,)
    errors = (_standard_error(gap), _standard_error(whole))
    return {
        "nll": -(whole.mean() + gap.mean()).item(),
        "nll_standard_error": math.hypot(*errors),
        "iwae": bound.mean().item(),
        "iwae_standard_error": _standard_error(bound),
        "elbo": elbo.mean().item(),
        "gap": gap.mean().item(),
        "gap_standard_error": _standard_error(gap),
        "effective_samples": torch.cat(effective).mean().item(),
        "k": k,
        "n": len(bound),
        "n_whole": len(whole),
    }


def log_weights(
    model: VAE, images: Tensor, labels: Tensor, k: int, decoded_values: int = DECODED_VALUES
) -> Iterator[Tensor]:
    """log p(x|z) + log p(z) - log q(z|x) for k draws of z from q(z|x), some draws at a time.

    The encoder runs once. Yields (B, draws) float64 on the CPU, nats.

    Arguments:
    model: in evaluation mode.
    images: (B, C, H, W) in [0, 1].
    labels: (B,) int64.
    k: draws for each image.
    decoded_values: how many pixels are decoded at once, at most.
    """
    posterior = model.encode(images, labels)
    chunk = max(1, min(k, decoded_values // images.numel()))
    for start in range(0, k, chunk):
        draws = min(chunk, k - start)
        repeated = DiagonalGaussian(
            posterior.mean.repeat_interleave(draws, dim=0),
            posterior.log_variance.repeat_interleave(draws, dim=0),
        )
        z = repeated.rsample()  # (B draws, D)
        repeated_labels = labels.repeat_interleave(draws)
        likelihood = model.decode(z, repeated_labels)
        log_likelihood = likelihood.log_prob(images.repeat_interleave(draws, dim=0))
        log_weight = (
            log_likelihood
            + model.prior.log_prob(z, repeated_labels)
            - repeated.log_prob(z).sum(dim=1)
        )
        yield log_weight.view(len(images), draws).cpu().double()


def binarise_for(model: VAE, images: Tensor) -> Tensor:
    """Images as an evaluation sees them: gray ones drawn black and white for a model of those."""
    return binarise(images) if model.binary else images


def _standard_error(values: Tensor) -> float:
    return values.std().item() / len(values) ** 0.5


def _other_images(size: int, index: int) -> Tensor:
    """For each of `size` images of a batch another one: all of them once round a random circle."""
    circle = torch.randperm(size, generator=generator(CONSTANT_SEED, "another image", index))
    return circle.roll(1)[circle.argsort()]
