"""Priors that are learned: what holds for every file in conf/prior, and their densities."""

import copy
import math

import pytest
import torch
from conftest import settings_of
from torch import Tensor
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal, Normal

from genmodels import checkpoint
from genmodels.composition import CONF
from genmodels.distributions import gaussian_log_probs
from genmodels.fitting import build
from genmodels.losses.vae import elbo_terms
from genmodels.models.flow_prior import FlowPrior
from genmodels.models.mixtures import GaussianMixture, VampPrior
from genmodels.models.priors import Prior
from genmodels.models.vae import VAE

PRIORS = sorted(path.stem for path in CONF.glob("prior/*.yaml"))
DRAWS = 40_000


def small_model(prior: str, model: str = "vae_mlp") -> VAE:
    widths = "model.widths=[16]"
    settings = settings_of(f"model={model}", f"prior={prior}", widths, "model.latent_dim=3")
    return build(settings).model


def randomised(prior: Prior) -> Prior:
    """The prior with random parameters, so that nothing is at the value where it began."""
    noise = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for weights in prior.parameters():
            scale = weights.shape[-1] ** -0.5
            weights.copy_(scale * torch.randn(weights.shape, generator=noise))
    return prior


def labels_of(count: int) -> Tensor:
    """-1, 0, 1, 2, -1, ..."""
    return torch.arange(count) % 4 - 1


@pytest.mark.parametrize("model", ["vae_mlp", "cvae_mlp"])
@pytest.mark.parametrize("prior", PRIORS)
def test_every_prior_is_trained_evaluated_and_rebuilt(prior: str, model: str) -> None:
    trained = small_model(prior, model).train()
    images, labels = torch.rand(6, *trained.image_shape), labels_of(6)
    terms = elbo_terms(trained, images, labels)
    terms.elbo.mean().backward()
    for name, weights in trained.named_parameters():
        assert weights.grad is not None and weights.grad.isfinite().all(), name

    trained.eval()
    z = trained.prior.sample(6, 0.5, torch.Generator().manual_seed(1), labels)
    again = trained.prior.sample(6, 0.5, torch.Generator().manual_seed(1), labels)
    assert z.shape == (6, 3) and z.dtype == torch.float32 and torch.equal(z, again)
    assert trained.prior.log_prob(z, labels).shape == (6,)
    assert trained.prior.marginals()[1].log_prob(z[:, [1]]).shape == (6,)
    assert trained.sample(4, labels[:4]).shape == (4, *trained.image_shape)
    with pytest.raises(ValueError, match=r"^temperature=-1: must be a number >= 0"):
        trained.prior.sample(1, -1)

    average = copy.deepcopy(trained)  # as the moving average is made
    torch.testing.assert_close(average.prior.log_prob(z, labels), trained.prior.log_prob(z, labels))
    config = settings_of(
        f"model={model}", f"prior={prior}", "model.widths=[16]", "model.latent_dim=3"
    ).model
    rebuilt = checkpoint.rebuild(config)
    rebuilt.load_state_dict(trained.state_dict())
    rebuilt.eval()
    torch.testing.assert_close(rebuilt.prior.log_prob(z, labels), trained.prior.log_prob(z, labels))


@pytest.mark.parametrize("model", ["vae_mlp", "cvae_mlp"])
@pytest.mark.parametrize("prior", PRIORS)
def test_every_prior_has_the_density_of_its_draws(prior: str, model: str) -> None:
    """E over draws of exp(log q - log p) is 1 for any density q."""
    vae = small_model(prior, model).eval()
    vae.prior = randomised(vae.prior)
    for label in (-1, 2):
        labels = torch.full((DRAWS,), label)
        z = vae.prior.sample(DRAWS, 1.0, torch.Generator().manual_seed(2), labels).double()
        log_prob = vae.prior.log_prob(z.float(), labels).double()
        q = Normal(z.mean(dim=0), 0.2 * z.std(dim=0))  # within the tails of p
        ratio = (q.log_prob(z).sum(dim=1) - log_prob).exp()
        standard_error = ratio.std() / math.sqrt(DRAWS)
        assert standard_error < 0.1
        assert (ratio.mean() - 1).abs() < 4 * standard_error


@pytest.mark.parametrize("prior", [name for name in PRIORS if name != "standard_normal"])
def test_a_conditional_model_has_a_prior_for_each_class(prior: str) -> None:
    vae = small_model(prior, "cvae_mlp").eval()
    randomised(vae.prior)
    z = torch.randn(5, 3, generator=torch.Generator().manual_seed(3))
    of_classes = [vae.prior.log_prob(z, torch.full((5,), label)) for label in (0, 1)]
    assert not torch.allclose(of_classes[0], of_classes[1])
    torch.testing.assert_close(vae.prior.log_prob(z), vae.prior.log_prob(z, torch.full((5,), -1)))


@pytest.mark.parametrize("covariance", ["diagonal", "full"])
def test_a_mixture_for_each_class_agrees_with_torch(covariance: str) -> None:
    prior = randomised(GaussianMixture(2, 6, covariance, num_classes=2))
    z = torch.randn(1500, 2, generator=torch.Generator().manual_seed(0))
    of_classes = []
    for label in (0, 1):
        rows = slice(3 * label, 3 * label + 3)
        components = MultivariateNormal(prior.means[rows], prior.covariances[rows])
        theirs = MixtureSameFamily(Categorical(logits=prior.logits[label]), components)
        expected = theirs.log_prob(z)
        ours = prior.log_prob(z, torch.full((1500,), label))
        torch.testing.assert_close(ours.float(), expected, atol=1e-4, rtol=1e-4)
        of_classes.append(expected)
    both = torch.stack(of_classes).logsumexp(dim=0) - math.log(2)
    torch.testing.assert_close(prior.log_prob(z).float(), both, atol=1e-4, rtol=1e-4)


def test_components_are_drawn_of_the_class_that_is_asked_for() -> None:
    """Class 0 lies at -5, class 1 at 5; without a label both are drawn equally often."""
    means = torch.tensor([[-5.0], [-5.0], [5.0], [5.0]])
    weights = torch.tensor([[0.9, 0.1], [0.5, 0.5]])
    prior = GaussianMixture.of(weights, means, torch.full((4, 1, 1), 0.01))
    labels = torch.arange(3000) % 3 - 1
    z = prior.sample(3000, 1.0, torch.Generator().manual_seed(0), labels)[:, 0]
    assert (z[labels == 0] < 0).all() and (z[labels == 1] > 0).all()
    share = (z[labels == -1] > 0).float().mean().item()
    assert share == pytest.approx(0.5, abs=0.07)


def test_mixtures_of_classes_are_put_together() -> None:
    parts = [randomised(GaussianMixture(2, 3)) for _ in range(2)]
    parts[1].means.data += 1
    prior = GaussianMixture.of_classes(parts)
    z = torch.randn(20, 2, generator=torch.Generator().manual_seed(0))
    for label, part in enumerate(parts):
        ours = prior.log_prob(z, torch.full((20,), label))
        torch.testing.assert_close(ours, part.log_prob(z), atol=1e-4, rtol=1e-4)


def test_the_vampprior_is_the_mixture_of_encoded_pseudo_inputs() -> None:
    vae = small_model("vampprior").eval()
    prior = vae.prior
    assert isinstance(prior, VampPrior)
    z = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    q = vae.encode(prior.pseudo_logits.sigmoid())
    components = Normal(q.mean, q.stddev).log_prob(z[:, None]).sum(dim=2)  # (4, K)
    expected = components.logsumexp(dim=1) - math.log(len(q.mean))
    torch.testing.assert_close(prior.log_prob(z).float(), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("components", [0, 6])
def test_a_flow_is_invertible_with_the_determinant_of_its_jacobian(components: int) -> None:
    prior = randomised(FlowPrior(4, layers=5, hidden=8, components=components, num_classes=3))
    assert isinstance(prior, FlowPrior)
    noise = torch.randn(4, 4, generator=torch.Generator().manual_seed(0))
    labels = labels_of(4)

    def to_noise(z: Tensor) -> Tensor:
        for layer in prior.layers:
            z, _ = layer(z, labels)
        return z

    z = noise
    for layer in reversed(prior.layers):
        z = layer.inverse(z, labels)
    torch.testing.assert_close(to_noise(z), noise, atol=1e-5, rtol=1e-5)
    jacobian = torch.autograd.functional.jacobian(to_noise, z)  # (4, 4, 4, 4)
    of_noise = prior.noise.log_prob(noise, labels)
    if not components:
        torch.testing.assert_close(of_noise, Normal(0, 1).log_prob(noise).sum(dim=1))
    for index in range(4):
        log_det = torch.linalg.slogdet(jacobian[index, :, index]).logabsdet
        expected = of_noise[index] + log_det
        log_prob = prior.log_prob(z, labels)[index]
        torch.testing.assert_close(log_prob, expected, atol=1e-4, rtol=1e-4)


def test_a_flow_begins_as_n_0_i() -> None:
    z = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    expected = Normal(0, 1).log_prob(z).sum(dim=1)
    torch.testing.assert_close(FlowPrior(4, layers=3, hidden=8).log_prob(z), expected)


def test_densities_of_many_gaussians_agree_with_torch() -> None:
    noise = torch.Generator().manual_seed(0)
    z, means = torch.randn(7, 3, generator=noise), 5 * torch.randn(4, 3, generator=noise)
    stddevs = torch.rand(4, 3, generator=noise) + 0.01
    expected = Normal(means.double(), stddevs.double()).log_prob(z.double()[:, None]).sum(dim=2)
    torch.testing.assert_close(gaussian_log_probs(z, means, stddevs), expected)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: GaussianMixture(2, 0), r"^components=0: must be an integer >= 1"),
        (lambda: GaussianMixture(2, 3, "round"), r"^covariance=round: must be one of diagonal"),
        (lambda: FlowPrior(1, 2, 8), r"^latent_dim=1: must be at least 2 for a flow"),
        (lambda: FlowPrior(2, 2, 8, -1), r"^components=-1: must be an integer >= 0"),
        (lambda: VampPrior(2, (1, 8, 8), 0), r"^components=0: must be an integer >= 1"),
    ],
)
def test_wrong_arguments_are_refused(make: type, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_another_prior_shares_the_networks() -> None:
    model = small_model("standard_normal")
    other = model.with_prior(GaussianMixture(3, 2))
    assert other.encoder is model.encoder and other.prior is not model.prior
    assert "prior.means" in other.state_dict() and "prior.means" not in model.state_dict()
    with pytest.raises(ValueError, match=r"^prior\.latent_dim=2: must be 3"):
        model.with_prior(GaussianMixture(2, 2))


def test_components_are_divided_among_classes() -> None:
    for components, of_each in ((50, 5), (12, 1), (3, 1)):
        assert GaussianMixture(2, components, num_classes=10).logits.shape == (10, of_each)


@pytest.mark.parametrize("setting", ["model.norm=batch", "model.mean_batch_norm=0.6"])
def test_pseudo_inputs_and_batch_statistics_do_not_go_together(setting: str) -> None:
    settings = settings_of("model=vae_mlp", "prior=vampprior", setting)
    with pytest.raises(ValueError, match=r"^prior=VampPrior: must be another one .*norm=batch"):
        build(settings)
