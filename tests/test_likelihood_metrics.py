"""Bounds on log p(x) of a linear-Gaussian model, whose likelihood is known exactly."""

import math

import numpy as np
import pytest
import torch
from planted_models import (
    PIXELS,
    PRECISION,
    STDDEV,
    data_of,
    directions,
    linear_gaussian,
    model_images,
)
from scipy import stats

from genmodels.data.images import ImageSet
from genmodels.likelihoods import BernoulliLikelihood
from genmodels.metrics import likelihood
from genmodels.metrics.evaluation import Evaluation
from genmodels.models.vae import MLPVAE, VAE


@pytest.fixture(scope="module")
def split() -> ImageSet:
    return model_images()


def iwae(model: VAE, split: ImageSet, **options: int) -> dict[str, float]:
    return likelihood.iwae(model, Evaluation(model, data_of(split), **options))


def exact_log_likelihood(split: ImageSet) -> np.ndarray:
    """log N(x; 1/2, W W^T + STDDEV^2 I) of every image."""
    weights = directions().double().numpy()
    covariance = weights @ weights.T + STDDEV**2 * np.eye(PIXELS)
    x = split.batch(slice(None)).images.flatten(1).double().numpy()
    return stats.multivariate_normal(np.full(PIXELS, 0.5), covariance).logpdf(x)


def test_iwae_is_tight_with_the_exact_posterior(split: ImageSet) -> None:
    """KL(q || p(z|x)) = 0, so L_k = log p(x) for each image, for every k, whatever is drawn."""
    some = iwae(linear_gaussian(), split, k=3, n=300)
    assert some["n"] == 300
    assert some["gap"] == pytest.approx(0, abs=1e-3)
    assert some["effective_samples"] == pytest.approx(3, abs=1e-3)
    whole = iwae(linear_gaussian(), split, k=1, n=5000)
    exact = exact_log_likelihood(split)
    assert whole["n"] == 2000
    assert whole["iwae"] == whole["elbo"] == pytest.approx(exact.mean(), abs=2e-3)
    assert whole["iwae_standard_error"] == pytest.approx(exact.std(ddof=1) / 2000**0.5, rel=1e-3)


def test_iwae_rises_with_k_towards_the_likelihood(split: ImageSet) -> None:
    """A posterior that is off loses KL(q || p(z|x)) at k = 1, which k = 1000 wins back."""
    shift, widen = 0.1, 2.0
    model = linear_gaussian(shift=shift, widen=widen)
    loss = 0.5 * (widen - 1 - math.log(widen) + shift**2 * PRECISION).sum().item()
    one, ten, many = (iwae(model, split, k=k, n=400, seed=2) for k in (1, 10, 1000))
    exact = iwae(linear_gaussian(), split, k=1, n=400)["iwae"]  # of the same images
    assert exact - many["elbo"] == pytest.approx(loss, abs=0.02)
    assert one["iwae"] < ten["iwae"] < many["iwae"] == pytest.approx(exact, abs=0.02)
    assert many["gap"] == pytest.approx(loss, abs=0.02) and many["gap_standard_error"] < 0.01


@pytest.mark.parametrize(
    ("decoded_values", "chunks"), [(1, [1] * 10), (7 * PIXELS * 4, [4, 4, 2]), (10**9, [10])]
)
def test_every_image_gets_all_of_its_draws(
    split: ImageSet, decoded_values: int, chunks: list[int]
) -> None:
    images, labels = split.batch(slice(0, 7))
    weights = likelihood.log_weights(linear_gaussian(), images, labels, 10, decoded_values)
    assert [chunk.shape for chunk in weights] == [(7, draws) for draws in chunks]


def test_the_seed_sets_the_draws(split: ImageSet) -> None:
    model = linear_gaussian(widen=1.5)
    first, again, other = (iwae(model, split, k=5, n=50, seed=seed)["iwae"] for seed in (0, 0, 1))
    assert first == again != other


def record_inputs(network: torch.nn.Module) -> list[torch.Tensor]:
    inputs: list[torch.Tensor] = []
    network.register_forward_pre_hook(lambda _, arguments: inputs.append(arguments[0]))
    return inputs


@pytest.mark.parametrize("count", [500, 1])
def test_images_are_decoded_from_the_latents_of_another_image(split: ImageSet, count: int) -> None:
    model = linear_gaussian()
    decoded = record_inputs(model.decoder)
    few = ImageSet(split.images, split.labels, split.rows[:count])
    seen = likelihood.observe(model, few, swap=1)
    z, other_z = decoded
    assert len(seen.swapped) == count and torch.equal(seen.z, z.double())
    assert torch.equal(other_z.unique(dim=0), z.unique(dim=0))
    assert (other_z != z).all() or count == 1


def test_models_of_any_latent_size_are_evaluated_on_the_same_images() -> None:
    """The binarised images of all batches, not only of the first."""
    gray = torch.randint(0, 256, (1100, 1, 4, 4), dtype=torch.uint8)
    split = ImageSet(gray, torch.zeros(1100, dtype=torch.long), torch.arange(1100))
    encoded = []
    for latent_dim in (1, 7):
        likelihood_ = BernoulliLikelihood()
        model = MLPVAE(
            image_shape=(1, 4, 4), latent_dim=latent_dim, widths=[4], likelihood=likelihood_
        )
        encoded.append(record_inputs(model.encoder))
        likelihood.evaluate(model, split)
    assert [len(images) for images in encoded[0]] == [500, 500, 100]
    assert all(map(torch.equal, *encoded))
    assert set(encoded[0][0].unique().tolist()) == {0, 1}


def test_reconstruction_errors(split: ImageSet) -> None:
    """A decoder that ignores z reconstructs 1/2 everywhere."""
    model = linear_gaussian(ignores_z=True)
    numbers = likelihood.reconstruction(model, Evaluation(model, data_of(split)))
    images = split.batch(slice(None)).images.double()
    assert numbers["mse"] == pytest.approx((images - 0.5).square().mean().item(), rel=1e-6)
    assert numbers["psnr"] == pytest.approx(-10 * math.log10(numbers["mse"]))
    assert numbers["n"] == 2000


def test_the_nll_is_that_of_the_whole_split(split: ImageSet) -> None:
    """With the exact posterior the gap is 0, and any n images tell the NLL of all of them."""
    exact = exact_log_likelihood(split)
    some = iwae(linear_gaussian(), split, k=3, n=50)
    assert some["n_whole"] == len(split) and some["n"] == 50
    assert some["nll"] == pytest.approx(-exact.mean(), abs=0.05)
    assert abs(some["iwae"] - exact.mean()) > 0.2  # the 50 images are not like the average
    standard_error = exact.std(ddof=1) / len(split) ** 0.5
    assert some["nll_standard_error"] == pytest.approx(standard_error, rel=0.1)


def test_the_gap_of_some_images_corrects_the_bound_of_all(split: ImageSet) -> None:
    exact = exact_log_likelihood(split).mean()
    result = iwae(linear_gaussian(shift=0.3, widen=1.5), split, k=1000, n=400)
    assert -result["nll"] == pytest.approx(exact, abs=4 * result["gap_standard_error"] + 0.1)
    assert result["gap"] > 0.2
