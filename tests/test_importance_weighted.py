"""The importance-weighted objective on a linear Gaussian model, and its gradient."""

import math

import pytest
import torch
from planted_models import PIXELS, PRECISION, STDDEV, directions, linear_gaussian, model_images
from torch import Tensor
from torch.distributions import MultivariateNormal

from genmodels.losses.importance_weighted import IWAE, sampled_terms
from genmodels.losses.objectives import ELBO
from genmodels.losses.vae import VAELoss, elbo_terms
from genmodels.models.vae import VAE

WRONG = {"shift": 0.03, "widen": 1.5}  # of a posterior that is not the exact one


@pytest.fixture(scope="module")
def images() -> Tensor:
    return model_images().batch(slice(0, 8)).images


def noise_of(k: int, images: Tensor) -> Tensor:
    torch.manual_seed(1)
    return torch.randn(k, len(images), 3)


def iwae_loss(model: VAE, images: Tensor, k: int, weight: float = 1.0) -> Tensor:
    loss = VAELoss(model, IWAE(k, start=0.0))
    return loss(images, None, noise_of(k, images), weight, 0.5).loss


def log_likelihood(images: Tensor) -> Tensor:
    """log N(x; 1/2, W W^T + STDDEV^2 I), (B,)."""
    weights = directions().double()
    covariance = weights @ weights.T + STDDEV**2 * torch.eye(PIXELS, dtype=torch.float64)
    mean = torch.full((PIXELS,), 0.5, dtype=torch.float64)
    return MultivariateNormal(mean, covariance).log_prob(images.flatten(1).double()).float()


def test_loss_by_hand() -> None:
    """Two samples of one image, of 3 and 5 nats at weight 1: -log of the mean of e^-3 and e^-5."""
    distortion, kl = torch.tensor([[1.0], [2.0]]), torch.tensor([[[2.0]], [[3.0]]])
    expected = -math.log((math.exp(-3) + math.exp(-5)) / 2)
    assert IWAE(2, start=0.5)(distortion, kl, 1.0, 0.5).item() == pytest.approx(expected)
    expected = -math.log((math.exp(-2) + math.exp(-3.5)) / 2)
    assert IWAE(2, start=0.5)(distortion, kl, 0.5, 0.5).item() == pytest.approx(expected)


def test_before_its_start_it_is_the_elbo(images: Tensor) -> None:
    objective, model = IWAE(4, start=0.5), linear_gaussian(**WRONG)
    assert [objective.samples(progress) for progress in (0.0, 0.49, 0.5, 1.0)] == [1, 1, 4, 4]
    noise = noise_of(1, images)[0]
    loss = VAELoss(model, objective)(images, None, noise, 0.3, 0.49)
    expected = VAELoss(model, ELBO())(images, None, noise, 0.3, 0.49)
    assert all(map(torch.equal, loss, expected))


@pytest.mark.parametrize("k", [2, 5])
def test_with_the_exact_posterior_every_draw_gives_the_likelihood(images: Tensor, k: int) -> None:
    loss = iwae_loss(linear_gaussian(), images, k)
    torch.testing.assert_close(loss, -log_likelihood(images), rtol=1e-4, atol=1e-3)


def test_the_bound_rises_with_k_from_the_elbo_to_the_likelihood(images: Tensor) -> None:
    """A posterior that is off loses KL(q || p(z|x)) in the ELBO, the mean over one sample."""
    model, exact = linear_gaussian(**WRONG), log_likelihood(images).mean()
    shift, widen = WRONG["shift"], WRONG["widen"]
    gap = 0.5 * (widen - 1 - math.log(widen) + shift**2 * PRECISION).sum()
    terms = sampled_terms(model, images, None, noise_of(10_000, images), 1.0)
    elbo = -(terms.distortion + terms.kl[:, :, 0]).mean()
    torch.testing.assert_close(elbo, exact - gap.float(), rtol=0, atol=0.02)
    few = -iwae_loss(model, images.repeat(1000, 1, 1, 1), 5).mean()
    many = -iwae_loss(model, images, 10_000).mean()
    assert elbo + 0.05 < few < many - 0.02
    torch.testing.assert_close(many, exact, rtol=0, atol=0.02)


def test_terms_are_means_over_samples_and_their_elbo_is_the_model_s(images: Tensor) -> None:
    model, noise = linear_gaussian(**WRONG), noise_of(20_000, images)
    terms = VAELoss(model, IWAE(20_000, start=0.0))(images, None, noise, 1.0, 0.5)
    assert terms.distortion.shape == (8,) and terms.kl.shape == (8, 1)
    closed_form = elbo_terms(model, images, None, noise[0]).kl.sum(dim=1)
    torch.testing.assert_close(terms.kl[:, 0], closed_form, rtol=0, atol=0.03)


def gradients(model: VAE, loss: Tensor) -> dict[str, Tensor]:
    names, parameters = zip(*model.named_parameters(), strict=True)
    return dict(zip(names, torch.autograd.grad(loss.mean(), parameters), strict=True))


def plain_loss(model: VAE, images: Tensor, noise: Tensor, weight: float) -> Tensor:
    """The same value, through which automatic differentiation takes the plain gradient."""
    losses = []
    for sample in noise:
        posterior = model.encode(images)
        z = posterior.rsample(sample)
        kl = posterior.log_prob(z).sum(dim=1) - model.prior.log_prob(z)
        losses.append(-model.decode(z).log_prob(images) + weight * kl)
    return math.log(len(noise)) - torch.logsumexp(-torch.stack(losses), dim=0)


@pytest.mark.parametrize("weight", [1.0, 0.5])
def test_the_gradient_is_the_plain_one_in_expectation(images: Tensor, weight: float) -> None:
    """The decoder's for each draw, the encoder's as a mean over 50,000 draws of 3 samples."""
    model = linear_gaussian(**WRONG).requires_grad_()
    repeated = images[:1].repeat(50_000, 1, 1, 1)
    noise = noise_of(3, repeated)
    loss = VAELoss(model, IWAE(3, start=0.0))(repeated, None, noise, weight, 0.5).loss
    plain = plain_loss(model, repeated, noise, weight)
    torch.testing.assert_close(loss, plain, rtol=1e-4, atol=1e-3)
    doubly, expected = gradients(model, loss), gradients(model, plain)
    for name in ("decoder.0.weight", "decoder.0.bias"):
        torch.testing.assert_close(doubly[name], expected[name], rtol=1e-3, atol=1e-2)
    name = "encoder.1.bias"
    torch.testing.assert_close(doubly[name], expected[name], rtol=0, atol=0.01)


def test_with_the_exact_posterior_no_draw_gives_the_encoder_a_gradient(images: Tensor) -> None:
    """The weights do not depend on z, so there is no variance; the plain gradient has some."""
    model = linear_gaussian().requires_grad_()
    name = "encoder.1.bias"
    doubly = gradients(model, iwae_loss(model, images, 4))[name]
    plain = gradients(model, plain_loss(model, images, noise_of(4, images), 1.0))[name]
    assert doubly.abs().max() < 1e-3 * plain.abs().max()


@pytest.mark.parametrize(
    ("k", "start", "message"), [(1, 0.5, "k=1"), (5, 1.0, "start=1"), (5, -0.1, "start=-0.1")]
)
def test_illegal_parameters_are_named(k: int, start: float, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        IWAE(k, start)
