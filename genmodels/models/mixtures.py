"""Priors that are mixtures of Gaussians: learned ones, fitted ones, and the VampPrior.

A prior without classes has K = M components. With classes, the M components are divided among them:
the first K are those of class 0, the next K of class 1, and so on.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from genmodels.distributions import DiagonalGaussian, gaussian_log_probs
from genmodels.errors import require, require_choice
from genmodels.models.priors import (
    Encode,
    Prior,
    draw_noise,
    format_temperature,
    stddev_of,
)

COVARIANCES = ("diagonal", "full")
CHUNK = 1000  # latents whose densities under all components are held at once


class GaussianMixture(Prior):
    """p(z|y) = sum over k of weight_yk N(mean_yk, covariance_yk).

    Trained with its model it is the mixture prior of Dilokthanakul et al. 2016 and others. Fitted
    to the latents of a trained model (`fit`) it is the "ex-post density" of Ghosh et al. 2020,
    "From variational to deterministic autoencoders", section 4. With one component for each class
    it is the prior of a conditional VAE in Sohn et al. 2015, section 4.1, for labels.

    With W the inverse Cholesky factor of a covariance, W (z - mean) is standard normal. Its
    parameters are log_scales, minus the logarithm of W's diagonal, and `below`, what stands below
    the diagonal in units of it.

    Arguments:
    latent_dim: D.
    components: M, at most; K for each class, and at least one.
    covariance: "diagonal" or "full".
    num_classes: 0 for a prior without classes.
    """

    below: nn.Parameter | None  # (M, D, D), of which only what lies below the diagonal counts

    def __init__(
        self, latent_dim: int, components: int, covariance: str = "full", num_classes: int = 0
    ) -> None:
        super().__init__(latent_dim)
        require(components >= 1, "components", components, "an integer >= 1")
        require_choice("covariance", covariance, COVARIANCES)
        self.num_classes = num_classes
        self.logits = nn.Parameter(initial_logits(components, num_classes))
        count = self.logits.numel()
        self.means = nn.Parameter(torch.randn(count, latent_dim))
        self.log_scales = nn.Parameter(torch.zeros(count, latent_dim))
        below = None
        if covariance == "full":
            below = nn.Parameter(torch.zeros(count, latent_dim, latent_dim))
        self.register_parameter("below", below)

    @classmethod
    def of(cls, weights: Tensor, means: Tensor, covariances: Tensor) -> "GaussianMixture":
        """The mixture with these parameters.

        Arguments:
        weights: (K,) of sum 1, or (classes, K) each of sum 1.
        means: (M, D).
        covariances: (M, D, D).
        """
        num_classes = len(weights) if weights.dim() == 2 else 0
        mixture = cls(means.shape[1], len(means), "full", num_classes).to(means)
        assert mixture.below is not None
        factors = torch.linalg.cholesky(covariances)
        identity = torch.eye(means.shape[1]).to(means)
        whitening = torch.linalg.solve_triangular(factors, identity, upper=False)  # (M, D, D)
        diagonal = whitening.diagonal(dim1=1, dim2=2)  # (M, D)
        with torch.no_grad():
            mixture.logits.copy_(weights.log().view_as(mixture.logits))
            mixture.means.copy_(means)
            mixture.log_scales.copy_(-diagonal.log())
            mixture.below.copy_(whitening / diagonal[:, :, None] - identity)
        return mixture.requires_grad_(False)

    @classmethod
    def fit(cls, z: Tensor, components: int, seed: int) -> "GaussianMixture":
        """Fit by expectation maximisation from a k-means start.

        Arguments:
        z: latents (N, D), N >= components.
        components: K.
        seed: of the start.
        """
        from sklearn import mixture  # slow to import, and rarely needed
        from threadpoolctl import threadpool_limits

        fitted = mixture.GaussianMixture(components, max_iter=1000, random_state=seed)
        # numpy would take a thread for each core, busy or not: seven times as slow beside others
        with threadpool_limits(torch.get_num_threads()):
            fitted.fit(z.double().numpy())
        parameters = (fitted.weights_, fitted.means_, fitted.covariances_)
        return cls.of(*(torch.from_numpy(values) for values in parameters)).float()

    @classmethod
    def of_classes(cls, mixtures: Sequence["GaussianMixture"]) -> "GaussianMixture":
        """The prior p(z|y) whose class y is the y-th of these mixtures of K Gaussians each."""
        weights = torch.stack([mixture.weights for mixture in mixtures])  # (classes, K)
        means = torch.cat([mixture.means for mixture in mixtures])
        return cls.of(weights, means, torch.cat([mixture.covariances for mixture in mixtures]))

    @property
    def weights(self) -> Tensor:
        """Of all components in p(z), (M,), of sum 1."""
        return (self.logits.softmax(dim=1) / len(self.logits)).flatten().detach()

    @property
    def covariances(self) -> Tensor:
        """Of all components, (M, D, D)."""
        factors = self._factors()
        return factors @ factors.mT

    def sample(
        self,
        n: int,
        temperature: float = 1.0,
        generator: torch.Generator | None = None,
        labels: Tensor | None = None,
    ) -> Tensor:
        """z ~ sum over k of weight_k N(mean_k, temperature covariance_k), (n, D)."""
        stddev = stddev_of(temperature)
        noise = draw_noise(n, self.latent_dim, generator)
        component = draw_components(self.logits, n, labels, generator)
        means, factors = self.means.detach().cpu(), self._factors().cpu()
        z = torch.empty_like(noise)
        for index in component.unique().tolist():
            rows = component == index
            offsets = noise[rows].to(factors) @ factors[index].T
            z[rows] = (means[index] + stddev * offsets).float()
        return z.to(self.device)

    def log_prob(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """(B, D) -> (B,) nats."""
        densities = [self._component_log_probs(rows) for rows in z.split(CHUNK)]
        return mix(torch.cat(densities), self.logits, labels)

    def marginals(self) -> Sequence[Prior]:
        """The mixtures of the components' own marginals, without classes."""
        variances = self._factors().square().sum(dim=2)  # (M, D)
        return marginals_of(self.weights, self.means.detach(), variances)

    def formula(self, temperature: float | str = 1.0) -> str:
        """How many Gaussians."""
        classes, count = self.logits.shape
        kind = f"mixture of {count} Gaussians" if count > 1 else "Gaussian"
        return kind + (" for each class" if classes > 1 else "") + _scaled(temperature)

    def _whitening(self) -> Tensor:
        """W of all components, (M, D, D) lower triangular."""
        scales = self.log_scales.neg().exp()  # (M, D)
        if self.below is None:
            return scales.diag_embed()
        identity = torch.eye(self.latent_dim).to(scales)
        return scales[:, :, None] * (identity + self.below.tril(-1))

    @torch.no_grad()
    def _factors(self) -> Tensor:
        """Cholesky factors of the covariances, (M, D, D)."""
        whitening = self._whitening()
        identity = torch.eye(self.latent_dim).to(whitening)
        return torch.linalg.solve_triangular(whitening, identity, upper=False)

    def _component_log_probs(self, z: Tensor) -> Tensor:
        """log N(z; mean_m, covariance_m) of z (B, D), (B, M)."""
        if self.below is None:
            return gaussian_log_probs(z, self.means, self.log_scales.exp())
        whitening = self._whitening()
        count, latent_dim, _ = whitening.shape
        projected = z.to(whitening) @ whitening.flatten(0, 1).T  # (B, M D)
        centers = torch.einsum("mij,mj->mi", whitening, self.means)  # (M, D)
        noise = projected.view(len(z), count, latent_dim) - centers
        normaliser = self.log_scales.sum(dim=1) + _half_log_two_pi(latent_dim)
        return -0.5 * noise.square().sum(dim=2) - normaliser


class VampPrior(Prior):
    """The mixture of q(z|u_k) over K pseudo-inputs u_k, images that are learned with the model.

    Tomczak & Welling 2018, "VAE with a VampPrior", eq. 9. In a conditional model each class has K
    of its own, and p(z|y) is the mixture of q(z|u_yk, y).

    Arguments:
    latent_dim: D.
    image_shape: (C, H, W).
    components: M, at most; K for each class, and at least one.
    num_classes: 0 for a prior without classes.
    """

    uses_encoder = True

    def __init__(
        self, latent_dim: int, image_shape: Sequence[int], components: int, num_classes: int = 0
    ) -> None:
        super().__init__(latent_dim)
        require(components >= 1, "components", components, "an integer >= 1")
        self.num_classes = num_classes
        self.logits = nn.Parameter(initial_logits(components, num_classes))
        # of the pseudo-inputs: most pixels of an image are dark
        self.pseudo_logits = nn.Parameter(torch.randn(self.logits.numel(), *image_shape) - 2)

    def use_encoder(self, encode: Encode) -> None:
        """Receive q(z|x), of which the components are made."""
        self._encode = encode

    def components(self) -> DiagonalGaussian:
        """q(z|u) of all pseudo-inputs u, over (M, D)."""
        classes, components = self.logits.shape
        labels = torch.arange(classes, device=self.device).repeat_interleave(components)
        return self._encode(self.pseudo_logits.sigmoid(), labels)

    @torch.no_grad()
    def sample(
        self,
        n: int,
        temperature: float = 1.0,
        generator: torch.Generator | None = None,
        labels: Tensor | None = None,
    ) -> Tensor:
        """z ~ the mixture, variances of its components times the temperature, (n, D)."""
        stddev = stddev_of(temperature)
        noise = draw_noise(n, self.latent_dim, generator).to(self.device)
        component = draw_components(self.logits, n, labels, generator).to(self.device)
        components = self.components()
        return components.mean[component] + stddev * components.stddev[component] * noise

    def log_prob(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """(B, D) -> (B,) nats."""
        components = self.components()
        densities = gaussian_log_probs(z, components.mean, components.stddev)
        return mix(densities, self.logits, labels)

    @torch.no_grad()
    def marginals(self) -> Sequence[Prior]:
        """The mixtures of the components' own marginals, without classes."""
        components = self.components()
        weights = self.logits.softmax(dim=1).flatten() / len(self.logits)
        return marginals_of(weights, components.mean, components.stddev.square())

    def formula(self, temperature: float | str = 1.0) -> str:
        """How many pseudo-inputs."""
        each = " for each class" if self.num_classes else ""
        return f"VampPrior of {self.logits.shape[1]} pseudo-inputs{each}{_scaled(temperature)}"


def marginals_of(weights: Tensor, means: Tensor, variances: Tensor) -> list[Prior]:
    """Each dimension's mixture; weights (M,), means and variances (M, D)."""
    mixtures: list[Prior] = []
    for dimension_means, dimension_variances in zip(means.T, variances.T, strict=True):
        covariances = dimension_variances[:, None, None]
        mixtures.append(GaussianMixture.of(weights, dimension_means[:, None], covariances))
    return mixtures


def initial_logits(components: int, num_classes: int) -> Tensor:
    """Zeros (classes, K), for equal weights; one class without classes."""
    classes = max(num_classes, 1)
    return torch.zeros(classes, max(components // classes, 1))


def mix(densities: Tensor, logits: Tensor, labels: Tensor | None) -> Tensor:
    """log p(z|y) of a mixture for each class, (B,) nats.

    Arguments:
    densities: log-densities of z under all components, (B, M).
    logits: of the components' weights, (classes, K).
    labels: (B,) int64; -1, or None for all: the mean over the classes, p(z).
    """
    classes, components = logits.shape
    log_weights = logits.to(densities).log_softmax(dim=1)
    weighted = densities.view(-1, classes, components) + log_weights
    of_classes = weighted.logsumexp(dim=2)  # (B, classes)
    if classes == 1:
        return of_classes[:, 0]
    of_all = of_classes.logsumexp(dim=1) - math.log(classes)
    if labels is None:
        return of_all
    of_label = of_classes.gather(1, labels.clamp(min=0)[:, None])[:, 0]
    return torch.where(labels < 0, of_all, of_label)


def draw_components(
    logits: Tensor, n: int, labels: Tensor | None, generator: torch.Generator | None
) -> Tensor:
    """Indices (n,) of random components, on the CPU, of the given classes (n,), -1 for any."""
    classes, components = logits.shape
    weights = logits.detach().cpu().double().softmax(dim=1)
    drawn = torch.multinomial(weights.flatten(), n, replacement=True, generator=generator)
    if classes == 1 or labels is None:
        return drawn
    labels = labels.cpu()
    of_label = torch.empty(n, dtype=torch.long)
    for label in labels.unique().tolist():
        rows = labels == label
        row_weights = weights[label]
        count = int(rows.sum())
        of_label[rows] = torch.multinomial(
            row_weights, count, replacement=True, generator=generator
        )
    return torch.where(labels < 0, drawn, labels * components + of_label)


def _half_log_two_pi(latent_dim: int) -> float:
    return 0.5 * latent_dim * math.log(2 * math.pi)


def _scaled(temperature: float | str) -> str:
    if temperature == 1:
        return ""
    return f", covariances times {format_temperature(temperature)}"
