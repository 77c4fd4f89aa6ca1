"""The loss of a variational autoencoder, term by term, in nats."""

from typing import NamedTuple

from torch import Tensor, nn

from genmodels.distributions import DiagonalGaussian
from genmodels.losses.importance_weighted import sampled_terms
from genmodels.losses.objectives import Objective
from genmodels.models.vae import VAE


class ELBOTerms(NamedTuple):
    """The terms of the evidence lower bound, still per image and per latent dimension."""

    distortion: Tensor  # (B,) -log p(x|z) in nats, z ~ q(z|x), summed over pixels
    kl: Tensor  # (B, D) KL(q(z_d|x) || p(z_d)) in nats; (B, 1) where the prior tells only the sum
    posterior: DiagonalGaussian  # q(z|x)
    z: Tensor  # (B, D)

    @property
    def elbo(self) -> Tensor:
        """log p(x) >= -distortion - KL, (B,) nats: the bound at KL weight 1.

        Kingma & Welling 2014, eq. 3 with one sample of z. Of a conditional model, and given labels
        y, it bounds log p(x|y) (Sohn et al. 2015, eq. 4).
        """
        return -self.distortion - self.kl.sum(dim=1)


def elbo_terms(
    model: VAE, images: Tensor, labels: Tensor | None = None, noise: Tensor | None = None
) -> ELBOTerms:
    """The terms at one reparameterised sample of z for each image.

    Arguments:
    model: of any prior and likelihood.
    images: (B, C, H, W) in [0, 1].
    labels: (B,) int64 for a conditional model.
    noise: standard normal (B, D), from which z is made; None draws it.
    """
    posterior = model.encode(images, labels)
    z = posterior.rsample(noise)  # (B, D)
    distortion = -model.decode(z, labels).log_prob(images)  # (B,)
    return ELBOTerms(distortion, model.prior.kl(posterior, z, labels), posterior, z)


class VAELossTerms(NamedTuple):
    """The loss of each image, and the two terms that it is made of, in nats.

    Of several samples of z, both are means over the samples.
    """

    loss: Tensor  # (B,)
    distortion: Tensor  # (B,)
    kl: Tensor  # (B, D), or (B, 1)


class VAELoss(nn.Module):
    """A model's loss under an objective: a function of images, labels and noise alone.

    Arguments:
    model: of any prior and likelihood.
    objective: distortion, KL, KL weight and progress -> loss of each image.
    """

    def __init__(self, model: VAE, objective: Objective) -> None:
        super().__init__()
        self.model = model
        self.objective = objective

    def forward(
        self,
        images: Tensor,
        labels: Tensor | None,
        noise: Tensor,
        weight: float | None,
        progress: float,
    ) -> VAELossTerms:
        """The loss of each image of a batch, and its terms, in nats.

        Arguments:
        images: (B, C, H, W) in [0, 1].
        labels: (B,) int64 for a conditional model, -1 for no label.
        noise: standard normal (B, D), from which z is made; (k, B, D) where the objective takes
            k samples, more than one, at this progress.
        weight: of the KL, already scheduled; None where the objective learns it.
        progress: through the run, in [0, 1].
        """
        if self.objective.samples(progress) > 1:
            return self._at_samples(images, labels, noise, weight, progress)
        terms = elbo_terms(self.model, images, labels, noise)
        loss = self.objective(terms.distortion, terms.kl, weight, progress)  # (B,)
        return VAELossTerms(loss, terms.distortion, terms.kl)

    def _at_samples(
        self,
        images: Tensor,
        labels: Tensor | None,
        noise: Tensor,
        weight: float | None,
        progress: float,
    ) -> VAELossTerms:
        assert weight is not None  # an objective that learns the weight takes one sample
        terms = sampled_terms(self.model, images, labels, noise, weight)
        loss = self.objective(terms.distortion, terms.kl, weight, progress)  # (B,)
        return VAELossTerms(loss, terms.distortion.mean(dim=0), terms.kl.mean(dim=0))
