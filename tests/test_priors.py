"""Priors against torch.distributions, their estimated KL, and a prior that is learned."""

import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import (
    Categorical,
    MixtureSameFamily,
    MultivariateNormal,
    Normal,
    kl_divergence,
)

from genmodels.distributions import DiagonalGaussian
from genmodels.likelihoods import BernoulliLikelihood
from genmodels.losses.objectives import ELBO
from genmodels.losses.vae import VAELoss
from genmodels.models.mixtures import GaussianMixture
from genmodels.models.priors import Prior, StandardNormal
from genmodels.models.vae import MLPVAE

DRAWS = 40_000


class LearnedNormal(Prior):
    """N(mean, diag(exp(log_variance))), learned with the model."""

    def __init__(self, latent_dim: int) -> None:
        super().__init__(latent_dim)
        self.mean = nn.Parameter(torch.linspace(-0.5, 0.5, latent_dim))
        self.log_variance = nn.Parameter(torch.linspace(0.2, -0.3, latent_dim))

    def sample(
        self,
        n: int,
        temperature: float = 1.0,
        generator: torch.Generator | None = None,
        labels: Tensor | None = None,
    ) -> Tensor:
        noise = torch.randn(n, self.latent_dim, generator=generator).to(self.device)
        return self.mean + math.sqrt(temperature) * torch.exp(0.5 * self.log_variance) * noise

    def log_prob(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        return Normal(self.mean, torch.exp(0.5 * self.log_variance)).log_prob(z).sum(dim=1)

    def marginals(self) -> Sequence[Prior]:
        marginals = []
        for dimension in range(self.latent_dim):
            marginal = LearnedNormal(1)
            marginal.mean.data = self.mean.data[[dimension]]
            marginal.log_variance.data = self.log_variance.data[[dimension]]
            marginals.append(marginal)
        return marginals


class EstimatedStandardNormal(StandardNormal):
    """N(0, I), of which only the density is used."""

    kl = Prior.kl
    kl_per_dimension = Prior.kl_per_dimension


def posterior_of(count: int) -> DiagonalGaussian:
    """The same posterior (D = 2) for each of `count` images."""
    mean, log_variance = torch.tensor([0.7, -1.2]), torch.tensor([-1.0, 0.4])
    return DiagonalGaussian(mean.expand(count, 2), log_variance.expand(count, 2))


def mixture_of() -> tuple[GaussianMixture, MixtureSameFamily]:
    """Two Gaussians in two dimensions, ours and torch's."""
    weights = torch.tensor([0.3, 0.7], dtype=torch.float64)
    means = torch.tensor([[-1.0, 0.5], [2.0, -0.5]], dtype=torch.float64)
    covariances = torch.tensor(
        [[[1.0, 0.6], [0.6, 0.8]], [[0.3, -0.1], [-0.1, 0.5]]], dtype=torch.float64
    )
    theirs = MixtureSameFamily(Categorical(weights), MultivariateNormal(means, covariances))
    return GaussianMixture.of(weights, means, covariances), theirs


def assert_mean(values: Tensor, expected: Tensor) -> None:
    """The mean over (N, ...) is within 4 standard errors of what is expected."""
    standard_error = values.std(dim=0) / math.sqrt(len(values))
    assert ((values.mean(dim=0) - expected).abs() < 4 * standard_error).all()


def test_kl_to_n_0_i_agrees_with_torch() -> None:
    torch.manual_seed(0)
    posterior = DiagonalGaussian(torch.randn(5, 3), torch.randn(5, 3))
    z = posterior.rsample()
    expected = kl_divergence(Normal(posterior.mean, posterior.stddev), Normal(0, 1))
    prior = StandardNormal(3)
    torch.testing.assert_close(prior.kl(posterior, z), expected)
    assert torch.equal(prior.kl_per_dimension(posterior, z, []), prior.kl(posterior, z))


def test_log_prob_of_n_0_i_agrees_with_torch() -> None:
    z = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
    expected = MultivariateNormal(torch.zeros(3), torch.eye(3)).log_prob(z)
    torch.testing.assert_close(StandardNormal(3).log_prob(z), expected)


def test_the_estimated_kl_is_the_closed_form_in_the_mean() -> None:
    torch.manual_seed(0)
    posterior, prior = posterior_of(DRAWS), EstimatedStandardNormal(2)
    z = posterior.rsample()
    exact = StandardNormal(2).kl(posterior, z)[0]  # (2,)
    estimate = prior.kl(posterior, z)
    assert estimate.shape == (DRAWS, 1)
    assert_mean(estimate, exact.sum())
    assert_mean(prior.kl_per_dimension(posterior, z, prior.marginals()), exact)


@pytest.mark.parametrize("prior", [LearnedNormal(2), EstimatedStandardNormal(2)])
def test_kl_per_dimension_of_a_product_sums_to_the_kl(prior: Prior) -> None:
    """Of independent dimensions this holds for each draw, so in the mean too."""
    torch.manual_seed(0)
    posterior = posterior_of(100)
    z = posterior.rsample()
    per_dimension = prior.kl_per_dimension(posterior, z, prior.marginals())
    assert per_dimension.shape == (100, 2)
    total = prior.kl(posterior, z)
    torch.testing.assert_close(per_dimension.sum(dim=1, keepdim=True), total, atol=1e-5, rtol=1e-5)


def test_kl_of_a_mixture_is_float32_and_that_of_quadrature() -> None:
    torch.manual_seed(0)
    mixture, theirs = mixture_of()
    posterior = posterior_of(DRAWS)
    estimate = mixture.kl(posterior, posterior.rsample())
    assert estimate.dtype == torch.float32

    axis = torch.linspace(-8, 8, 801, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis)
    q = Normal(posterior.mean[0].double(), posterior.stddev[0].double())
    log_q = q.log_prob(grid).sum(dim=1)
    integral = (log_q.exp() * (log_q - theirs.log_prob(grid))).sum() * (axis[1] - axis[0]) ** 2
    assert_mean(estimate, integral)


def test_a_learned_prior_is_trained_with_its_model() -> None:
    torch.manual_seed(0)
    model = MLPVAE(
        image_shape=(1, 6, 6),
        latent_dim=3,
        widths=[8],
        likelihood=BernoulliLikelihood(),
        prior=LearnedNormal(3),
    )
    loss = VAELoss(model, ELBO())
    terms = loss(torch.rand(4, 1, 6, 6), None, torch.randn(4, 3), 1.0, 0.0)
    assert terms.kl.shape == (4, 1)
    terms.loss.mean().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.any(), name
    names = {"prior.mean", "prior.log_variance"}
    assert names <= dict(model.named_parameters()).keys() & model.state_dict().keys()
    assert model.sample(2).shape == (2, 1, 6, 6)


def test_a_prior_of_another_dimension_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^prior\.latent_dim=2: must be 3, the model's own$"):
        MLPVAE(
            image_shape=(1, 6, 6),
            latent_dim=3,
            widths=[8],
            likelihood=BernoulliLikelihood(),
            prior=StandardNormal(2),
        )


def test_n_0_i_leaves_no_trace_in_the_state() -> None:
    assert StandardNormal(3).state_dict() == {}


def test_the_mixture_agrees_with_torch() -> None:
    mixture, theirs = mixture_of()
    z = torch.randn(1500, 2, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(mixture.log_prob(z), theirs.log_prob(z.double()))
    for dimension in (0, 1):
        components = Normal(
            mixture.means[:, dimension], mixture.covariances[:, dimension, dimension].sqrt()
        )
        expected = MixtureSameFamily(Categorical(mixture.weights), components)
        torch.testing.assert_close(
            mixture.marginals()[dimension].log_prob(z[:, [dimension]]),
            expected.log_prob(z[:, dimension].double()),
        )


@pytest.mark.parametrize("temperature", [0.0, 0.25, 1.0, 4.0])
@pytest.mark.parametrize("prior", [StandardNormal(2), LearnedNormal(2)])
def test_temperature_is_a_factor_of_the_variance(prior: Prior, temperature: float) -> None:
    generator = torch.Generator().manual_seed(1)
    z = prior.sample(DRAWS, temperature, generator)
    reference = prior.sample(DRAWS, 1.0, torch.Generator().manual_seed(1))
    center = prior.sample(1, 0.0)
    assert z.shape == (DRAWS, 2)
    torch.testing.assert_close(z - center, math.sqrt(temperature) * (reference - center))


@pytest.mark.parametrize("temperature", [0.0, 0.25, 1.0])
def test_samples_of_the_mixture_have_its_moments(temperature: float) -> None:
    """The temperature scales the components' covariances; weights and means stay."""
    mixture, _ = mixture_of()
    z = mixture.sample(DRAWS, temperature, torch.Generator().manual_seed(2)).double()
    mean = mixture.weights @ mixture.means
    assert_mean(z, mean)
    offsets = mixture.means - mean
    between = torch.einsum("k,ki,kj->ij", mixture.weights, offsets, offsets)
    within = torch.einsum("k,kij->ij", mixture.weights, mixture.covariances)
    products = (z - mean)[:, :, None] * (z - mean)[:, None, :]
    assert_mean(products, between + temperature * within)


@pytest.mark.parametrize("prior", [StandardNormal(2), mixture_of()[0]])
def test_draws_follow_the_generator(prior: Prior) -> None:
    draws = [prior.sample(5, 1.0, torch.Generator().manual_seed(seed)) for seed in (3, 3, 4)]
    assert torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[2])
    assert draws[0].dtype == torch.float32
    with pytest.raises(ValueError, match=r"^temperature=-1: must be a number >= 0"):
        prior.sample(1, -1)


def test_a_fitted_mixture_is_that_of_its_latents() -> None:
    mixture, _ = mixture_of()
    z = mixture.sample(DRAWS, 1.0, torch.Generator().manual_seed(5))
    fitted = GaussianMixture.fit(z, components=2, seed=0)
    order = fitted.means[:, 0].argsort()
    for name in ("weights", "means", "covariances"):
        expected = getattr(mixture, name).float()
        torch.testing.assert_close(getattr(fitted, name)[order], expected, atol=0.05, rtol=0.05)


def test_formulas() -> None:
    mixture, _ = mixture_of()
    assert StandardNormal(2).formula() == "N(0, I)"
    assert StandardNormal(2).formula(0.5) == "N(0, 0.5 I)"
    assert StandardNormal(2).formula("T") == "N(0, T I)"
    assert mixture.formula() == "mixture of 2 Gaussians"
    assert mixture.formula(0.5).endswith(", covariances times 0.5")
