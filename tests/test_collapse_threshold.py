"""What KL weight images can pay for, on planted spectra and against numpy."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from planted_models import (
    PIXELS,
    SCALES,
    SIDE,
    STDDEV,
    LinearGaussianLikelihood,
    LogisticGaussianLikelihood,
    data_of,
    entropy,
    image_set,
    images_of_spectrum,
    linear_gaussian,
    model_images,
)
from torch import Tensor, nn

from genmodels.data import datasets
from genmodels.data.images import ImageSet, binarise
from genmodels.image_distributions import Bernoulli
from genmodels.likelihoods import BernoulliLikelihood, Likelihood
from genmodels.metrics import collapse_threshold
from genmodels.metrics.collapse_threshold import unexplained, whitened_spectrum
from genmodels.metrics.evaluation import Evaluation
from genmodels.metrics.vae_diagnosis import diagnose, verdict_on
from genmodels.metrics.verdict import HEALTHY
from genmodels.models.vae import VAE


@pytest.mark.parametrize("exact", [True, False])
def test_a_planted_spectrum(exact: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not exact:
        monkeypatch.setattr(collapse_threshold, "MAX_EXACT", 10)
    model = linear_gaussian(likelihood=LogisticGaussianLikelihood())
    spectrum = whitened_spectrum(model, images_of_spectrum(20.0, 9.0, 2.0))
    assert spectrum is not None and len(spectrum.eigenvalues) == (PIXELS if exact else 50)
    np.testing.assert_allclose(spectrum.eigenvalues[:4], [20, 9, 2, 0], rtol=0.07, atol=0.01)
    assert [spectrum.count_above(weight) for weight in (1, 2.5, 10, 30)] == [3, 2, 1, 0]
    kl = 0.5 * math.log(20 / 5) + 0.5 * math.log(9 / 5)
    assert spectrum.linear_kl(5) == pytest.approx(kl, abs=0.06)
    assert spectrum.linear_kl(30) == 0


def bernoulli_model() -> VAE:
    return linear_gaussian(likelihood=BernoulliLikelihood())


def gray_images() -> ImageSet:
    """Gray images of three shades of rank one, one pixel always black, one always white."""
    torch.manual_seed(4)
    x = torch.sigmoid(torch.randn(3000, 3) @ torch.randn(3, PIXELS))
    x[:, 0], x[:, 1] = 0, 1
    return image_set(x, torch.arange(3000) % 2)


def test_binarisation_is_taken_into_account_exactly() -> None:
    """The spectrum of gray images is that of many draws of black and white ones, by numpy."""
    model, split = bernoulli_model(), gray_images()
    spectrum = whitened_spectrum(model, split)
    assert spectrum is not None
    torch.manual_seed(5)
    images = split.batch(slice(None)).images
    draws = torch.cat([binarise(images) for _ in range(20)]).flatten(1)[:, 2:].double().numpy()
    expected = np.linalg.eigvalsh(np.corrcoef(draws.T))[::-1]  # p (1 - p) is their variance
    np.testing.assert_allclose(spectrum.eigenvalues[:5], expected[:5], rtol=0.01)
    mean = images.flatten(1).double().mean(dim=0).clamp(1e-4, 1 - 1e-4)
    assert spectrum.distortion(model, split) == pytest.approx(entropy(mean), rel=1e-3)


def test_a_conditional_model_is_told_the_class() -> None:
    """Two classes of one image each: nothing is left to vary, and without z the image is known."""
    model = bernoulli_model()
    images = torch.zeros(200, 1, SIDE, SIDE, dtype=torch.uint8)
    images[::2, :, :4], images[1::2, :, 4:] = 255, 255
    split = ImageSet(images, torch.arange(200) % 2, torch.arange(200))
    unlabelled = ImageSet(images, torch.full((200,), -1), torch.arange(200))
    unconditional = whitened_spectrum(model, split)
    model.num_classes = 2
    conditional = whitened_spectrum(model, split)
    assert unconditional is not None and conditional is not None
    assert unconditional.eigenvalues[0].item() == pytest.approx(PIXELS, rel=0.01)
    assert conditional.eigenvalues[0] < 0.01
    one_bit_a_pixel = pytest.approx(PIXELS * math.log(2), rel=1e-3)
    assert unconditional.distortion(model, split) == one_bit_a_pixel
    assert conditional.distortion(model, split) == pytest.approx(0, abs=0.01)
    assert conditional.distortion(model, unlabelled) == one_bit_a_pixel


class WithoutVariance:
    """A Bernoulli that does not tell its variance."""

    def __init__(self, bernoulli: Bernoulli) -> None:
        self.mean = bernoulli.mean
        self.sample = bernoulli.sample
        self.log_prob = bernoulli.log_prob


class LikelihoodWithoutVariance(BernoulliLikelihood):
    def forward(self, output: Tensor) -> WithoutVariance:  # type: ignore[override]
        return WithoutVariance(super().forward(output))


@pytest.mark.parametrize(
    "likelihood",
    [LikelihoodWithoutVariance(), LinearGaussianLikelihood()],
    ids=["no variance", "its mean is not the logistic function of the output"],
)
def test_without_a_known_variance_there_is_no_spectrum(likelihood: Likelihood) -> None:
    """The verdict then leaves its sentences out."""
    split = model_images(300)
    model = linear_gaussian(likelihood=likelihood)
    assert whitened_spectrum(model, split) is None
    if isinstance(likelihood, LikelihoodWithoutVariance):
        assert unexplained(model, split) is None
        return
    verdict = verdict_on(diagnose(model, Evaluation(model, data_of(split), kl_weight=1.0)))
    assert verdict.label == HEALTHY
    assert "training images pay" not in " ".join(verdict.sentences)


def test_what_is_left_unexplained() -> None:
    """A decoder that uses the first of three planted directions leaves the second; noise is 1."""
    train = model_images(6000)
    model = linear_gaussian()
    assert unexplained(model, train) == pytest.approx(1, abs=0.25)
    model.decoder[0].weight[:, 1:] = 0
    expected = 1 + (SCALES[1] / STDDEV).square().item()  # of the noise and of the direction: 10
    assert unexplained(model, train) == pytest.approx(expected, rel=0.08)


def test_distortions_of_the_embedded_digits(cache: Path) -> None:
    """From below, the entropy of their binarisation bounds it; from above, the mean image."""
    data = datasets.digits(cache=str(cache)).load()
    networks = nn.Linear(1, 1), nn.Identity()
    model = VAE(*networks, BernoulliLikelihood(), image_shape=(1, 28, 28), latent_dim=2)
    spectrum = whitened_spectrum(model, data.train)
    assert spectrum is not None
    mean_image = spectrum.distortion(model, data.test)
    assert mean_image == pytest.approx(164.6, abs=0.5)
    least = entropy(data.test.batch(slice(None)).images.double()) / len(data.test)
    assert least < 0.5 * mean_image
    assert spectrum.eigenvalues[0].item() == pytest.approx(25.8, abs=0.2)
