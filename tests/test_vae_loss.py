"""The terms of the bound against values known on paper."""

import math

import pytest
import torch

from genmodels.distributions import (
    LOG_VARIANCE_RANGE,
    Bernoulli,
    BernoulliLikelihood,
    DiagonalGaussian,
)
from genmodels.losses.objectives import ELBO
from genmodels.losses.vae import elbo_terms
from genmodels.models.vae import MLPVAE


@pytest.fixture
def model() -> MLPVAE:
    torch.manual_seed(0)
    return MLPVAE(image_shape=(1, 6, 6), latent_dim=3, widths=[8], likelihood=BernoulliLikelihood())


def gaussians() -> DiagonalGaussian:
    return DiagonalGaussian(
        torch.tensor([[0.0, 1.5], [-2.0, 0.3]]), torch.tensor([[0.0, -3.0], [1.0, 0.5]])
    )


def test_kl_agrees_with_torch_distributions() -> None:
    posterior = gaussians()
    normal = torch.distributions.Normal(posterior.mean, posterior.stddev)
    expected = torch.distributions.kl_divergence(normal, torch.distributions.Normal(0, 1))
    torch.testing.assert_close(kl(posterior), expected)


def test_kl_agrees_with_quadrature() -> None:
    """The integral of q log(q/p) on a fine grid, in float64."""
    posterior = gaussians()
    z = torch.linspace(-40, 40, 400_001, dtype=torch.float64)[:, None, None]
    q = torch.distributions.Normal(posterior.mean.double(), posterior.stddev.double())
    p = torch.distributions.Normal(
        torch.zeros((), dtype=torch.float64), torch.ones((), dtype=torch.float64)
    )
    integral = torch.trapezoid(
        q.log_prob(z).exp() * (q.log_prob(z) - p.log_prob(z)), z[:, 0, 0], dim=0
    )
    torch.testing.assert_close(kl(posterior).double(), integral, atol=1e-5, rtol=1e-5)


def test_kl_of_the_prior_is_zero() -> None:
    assert (
        DiagonalGaussian(torch.zeros(2, 3), torch.zeros(2, 3)).kl_to_standard_normal().abs().max()
        == 0
    )


def test_wild_log_variances_stay_finite() -> None:
    posterior = DiagonalGaussian(torch.zeros(1, 2), torch.tensor([[1e9, -1e9]]))
    assert kl(posterior).isfinite().all()
    assert posterior.rsample().isfinite().all()
    assert posterior.log_variance.tolist() == [[LOG_VARIANCE_RANGE[1], LOG_VARIANCE_RANGE[0]]]


def test_reparameterised_samples_have_the_right_moments_and_gradients() -> None:
    mean, log_variance = (
        torch.full((200_000, 1), 2.0, requires_grad=True),
        torch.full((200_000, 1), math.log(0.25)),
    )
    torch.manual_seed(0)
    z = DiagonalGaussian(mean, log_variance).rsample()
    assert z.mean().item() == pytest.approx(2.0, abs=0.01) and z.std().item() == pytest.approx(
        0.5, abs=0.01
    )
    z.sum().backward()
    assert mean.grad is not None and mean.grad.eq(1).all()  # dz/dmean = 1


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
    assert likelihood.log_prob(gray).item() == pytest.approx(
        draws.mean().item(), abs=5 * draws.std().item() / 141
    )


def test_bernoulli_sums_in_float32_under_bf16() -> None:
    logits = torch.full((1, 1, 28, 28), 0.3, dtype=torch.bfloat16)
    exact = 784 * torch.nn.functional.logsigmoid(logits[0, 0, 0, 0].double())
    assert Bernoulli(logits).log_prob(torch.ones(1, 1, 28, 28)).item() == pytest.approx(
        exact.item(), rel=1e-5
    )


def test_loss_at_weight_one_is_minus_the_elbo(model: MLPVAE) -> None:
    terms = elbo_terms(model, torch.rand(5, 1, 6, 6))
    torch.testing.assert_close(ELBO()(terms.distortion, terms.kl, 1.0, 0.5), -terms.elbo)
    torch.testing.assert_close(ELBO()(terms.distortion, terms.kl, 0.0, 0.5), terms.distortion)


def test_terms_stay_per_image_and_per_dimension(model: MLPVAE) -> None:
    terms = elbo_terms(model, torch.rand(5, 1, 6, 6))
    assert terms.distortion.shape == (5,) and terms.kl.shape == (5, 3)


def test_duplicating_every_image_leaves_the_loss_unchanged(
    model: MLPVAE, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        torch, "randn_like", torch.zeros_like
    )  # the same noise for an image and its copy
    images = torch.rand(4, 1, 6, 6)

    def loss(batch: torch.Tensor) -> float:
        terms = elbo_terms(model, batch)
        return ELBO()(terms.distortion, terms.kl, 3.0, 0.5).mean().item()

    assert loss(torch.cat([images, images])) == pytest.approx(loss(images), rel=1e-6)
