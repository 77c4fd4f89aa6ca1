"""The terms of the bound against values known on paper, and the loss as a pure function."""

import math

import pytest
import torch
from torch.distributions import Normal
from torch.nn.functional import logsigmoid

from genmodels.distributions import LOG_VARIANCE_RANGE, DiagonalGaussian, kl_to_standard_normal
from genmodels.image_distributions import Bernoulli
from genmodels.likelihoods import BernoulliLikelihood, LearnedGaussianLikelihood
from genmodels.losses.objectives import ELBO, Capacity, FreeBits, Objective
from genmodels.losses.vae import VAELoss, elbo_terms
from genmodels.models.vae import MLPVAE


def vae(num_classes: int = 0) -> MLPVAE:
    torch.manual_seed(0)
    return MLPVAE(
        image_shape=(1, 6, 6),
        latent_dim=3,
        widths=[8],
        likelihood=LearnedGaussianLikelihood() if num_classes else BernoulliLikelihood(),
        num_classes=num_classes,
        label_dropout=0.1 if num_classes else 0.0,
        mean_batch_norm=0.6 if num_classes else None,
    )


@pytest.fixture
def model() -> MLPVAE:
    return vae()


def gaussians() -> DiagonalGaussian:
    return DiagonalGaussian(
        torch.tensor([[0.0, 1.5], [-2.0, 0.3]]), torch.tensor([[0.0, -3.0], [1.0, 0.5]])
    )


def kl_of(posterior: DiagonalGaussian) -> torch.Tensor:
    log_variance = posterior.log_variance
    return kl_to_standard_normal(posterior.mean, log_variance.exp(), log_variance)


def test_kl_agrees_with_quadrature() -> None:
    """The integral of q log(q/p) on a fine grid, in float64."""
    posterior = gaussians()
    z = torch.linspace(-40, 40, 400_001, dtype=torch.float64)[:, None, None]
    log_q = Normal(posterior.mean.double(), posterior.stddev.double()).log_prob(z)
    log_p = -0.5 * (z.square() + math.log(2 * math.pi))
    integral = torch.trapezoid(log_q.exp() * (log_q - log_p), z[:, 0, 0], dim=0)
    torch.testing.assert_close(kl_of(posterior).double(), integral, atol=1e-5, rtol=1e-5)


def test_kl_of_the_prior_is_zero() -> None:
    assert kl_of(DiagonalGaussian(torch.zeros(2, 3), torch.zeros(2, 3))).abs().max() == 0


def test_log_prob_agrees_with_torch() -> None:
    posterior, z = gaussians(), torch.tensor([[0.4, -1.0], [3.0, 0.0]])
    expected = Normal(posterior.mean, posterior.stddev).log_prob(z)
    torch.testing.assert_close(posterior.log_prob(z), expected)


def test_wild_log_variances_stay_finite() -> None:
    posterior = DiagonalGaussian(torch.zeros(1, 2), torch.tensor([[1e9, -1e9]]))
    assert kl_of(posterior).isfinite().all()
    assert posterior.rsample().isfinite().all()
    assert posterior.log_variance.tolist() == [[LOG_VARIANCE_RANGE[1], LOG_VARIANCE_RANGE[0]]]


def test_reparameterised_samples_have_the_right_moments_and_gradients() -> None:
    torch.manual_seed(0)
    mean = torch.full((200_000, 1), 2.0, requires_grad=True)
    z = DiagonalGaussian(mean, torch.full((200_000, 1), math.log(0.25))).rsample()
    assert z.mean().item() == pytest.approx(2.0, abs=0.01)
    assert z.std().item() == pytest.approx(0.5, abs=0.01)
    z.sum().backward()
    assert mean.grad is not None and mean.grad.eq(1).all()  # dz/dmean = 1


def test_samples_are_a_function_of_the_noise() -> None:
    posterior = gaussians()
    noise = torch.tensor([[0.5, -1.0], [2.0, 0.0]])
    expected = posterior.mean + posterior.stddev * noise
    torch.testing.assert_close(posterior.rsample(noise), expected, rtol=0, atol=0)


def test_bernoulli_log_prob_by_hand() -> None:
    """Probabilities 1/4 and 3/4, pixels 1 and 0.5: log 1/4 + (log 3/4 + log 1/4) / 2."""
    logits = torch.logit(torch.tensor([0.25, 0.75])).view(1, 1, 1, 2)
    images = torch.tensor([1.0, 0.5]).view(1, 1, 1, 2)
    expected = math.log(0.25) + 0.5 * (math.log(0.75) + math.log(0.25))
    assert Bernoulli(logits).log_prob(images).item() == pytest.approx(expected)


def test_gray_values_give_the_expectation_over_their_binarisation() -> None:
    torch.manual_seed(0)
    likelihood, gray = Bernoulli(torch.randn(1, 1, 4, 4)), torch.rand(1, 1, 4, 4)
    draws = likelihood.log_prob(torch.bernoulli(gray.expand(20_000, 1, 4, 4)))
    standard_error = draws.std().item() / math.sqrt(20_000)
    expected = pytest.approx(draws.mean().item(), abs=5 * standard_error)
    assert likelihood.log_prob(gray).item() == expected


def test_bernoulli_sums_in_float32_under_bf16() -> None:
    logits = torch.full((1, 1, 28, 28), 0.3, dtype=torch.bfloat16)
    exact = 784 * logsigmoid(logits[0, 0, 0, 0].double())
    nats = Bernoulli(logits).log_prob(torch.ones(1, 1, 28, 28))
    assert nats.item() == pytest.approx(exact.item(), rel=1e-5)


def test_terms_stay_per_image_and_per_dimension(model: MLPVAE) -> None:
    terms = elbo_terms(model, torch.rand(5, 1, 6, 6))
    assert terms.distortion.shape == (5,) and terms.kl.shape == (5, 3)
    assert terms.z.shape == terms.posterior.mean.shape == (5, 3)


@pytest.mark.parametrize(
    ("objective", "weight"),
    [(ELBO(), 1.0), (ELBO(), 0.0), (FreeBits(0.5), 2.0), (Capacity(3.0, 0.5), 2.0)],
)
def test_the_loss_is_the_objective_of_the_bounds_terms(
    model: MLPVAE, objective: Objective, weight: float
) -> None:
    images, noise = torch.rand(5, 1, 6, 6), torch.randn(5, 3)
    terms = elbo_terms(model, images, None, noise)
    result = VAELoss(model, objective)(images, None, noise, weight, 0.25)
    assert torch.equal(result.distortion, terms.distortion) and torch.equal(result.kl, terms.kl)
    expected = objective(terms.distortion, terms.kl, weight, 0.25)
    assert result.loss.shape == (5,) and torch.equal(result.loss, expected)


def test_the_loss_at_weight_one_is_minus_the_elbo(model: MLPVAE) -> None:
    images, noise = torch.rand(5, 1, 6, 6), torch.randn(5, 3)
    elbo = elbo_terms(model, images, None, noise).elbo
    loss = VAELoss(model, ELBO())
    torch.testing.assert_close(loss(images, None, noise, 1.0, 0.5).loss, -elbo)
    at_zero = loss(images, None, noise, 0.0, 0.5)
    torch.testing.assert_close(at_zero.loss, at_zero.distortion)


def test_the_loss_is_a_function_of_its_arguments(model: MLPVAE) -> None:
    """The same noise gives the same loss; it draws no random number and changes no state."""
    loss, images, noise = VAELoss(model, ELBO()), torch.rand(4, 1, 6, 6), torch.randn(4, 3)
    state = {name: value.clone() for name, value in loss.state_dict().items()}
    generator_state = torch.get_rng_state()
    first, second = (loss(images, None, noise, 3.0, 0.5).loss for _ in range(2))
    assert torch.equal(first, second)
    assert not torch.equal(first, loss(images, None, noise + 1, 3.0, 0.5).loss)
    assert torch.equal(torch.get_rng_state(), generator_state)
    assert all(torch.equal(value, state[name]) for name, value in loss.state_dict().items())


def test_duplicating_every_image_leaves_the_mean_loss_unchanged(model: MLPVAE) -> None:
    loss, images, noise = VAELoss(model, ELBO()), torch.rand(4, 1, 6, 6), torch.randn(4, 3)
    once = loss(images, None, noise, 3.0, 0.5).loss.mean()
    twice = loss(images.repeat(2, 1, 1, 1), None, noise.repeat(2, 1), 3.0, 0.5).loss.mean()
    torch.testing.assert_close(twice, once, rtol=1e-6, atol=0)


@pytest.mark.parametrize("num_classes", [0, 4])
def test_every_parameter_has_a_gradient(num_classes: int) -> None:
    """Also of label embedding, likelihood and BatchNorm of the means."""
    model = vae(num_classes)
    labels = torch.arange(4) if num_classes else None
    loss = VAELoss(model, ELBO())(torch.rand(4, 1, 6, 6), labels, torch.randn(4, 3), 1.0, 0.0)
    loss.loss.mean().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.any(), name
