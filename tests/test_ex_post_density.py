"""Gaussian mixtures fitted to latents, and what is drawn from them."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import SMALL
from planted_models import PlantedPosteriors, data_of, noise_images
from torch import Tensor

import genmodels
from genmodels.data import datasets
from genmodels.data.images import ImageData
from genmodels.figures.options import FigureOptions
from genmodels.figures.registry import FIGURES
from genmodels.metrics import ex_post_density
from genmodels.metrics.evaluation import Evaluation
from genmodels.models.generative import GenerativeModel
from genmodels.models.mixtures import GaussianMixture
from genmodels.models.vae import VAE
from genmodels.randomness import generator
from genmodels.user_errors import UserError


def mixture(latent_dim: int) -> GaussianMixture:
    """Three components, correlated, far apart."""
    noise = torch.Generator().manual_seed(5)
    root = torch.randn(3, latent_dim, latent_dim, generator=noise, dtype=torch.float64) * 0.3
    covariances = root @ root.mT + 0.1 * torch.eye(latent_dim, dtype=torch.float64)
    means = torch.tensor([-6.0, 0.0, 6.0], dtype=torch.float64)[:, None].repeat(1, latent_dim)
    return GaussianMixture.of(
        torch.tensor([0.5, 0.2, 0.3], dtype=torch.float64), means, covariances
    )


def assert_same_mixture(fitted: GaussianMixture, planted: GaussianMixture, atol: float) -> None:
    """Up to the order of the components."""
    order = fitted.means[:, 0].argsort()
    torch.testing.assert_close(fitted.weights[order], planted.weights.float(), atol=0.02, rtol=0)
    torch.testing.assert_close(fitted.means[order], planted.means.float(), atol=atol, rtol=0)
    torch.testing.assert_close(
        fitted.covariances[order], planted.covariances.float(), atol=0.05, rtol=0.1
    )


def test_latents_are_fitted_as_they_are_drawn() -> None:
    """Two kinds of images, far apart: the mixture is q(z), not the distribution of the means."""
    mean, stddev = torch.tensor([[-4.0], [4.0]]), torch.tensor([[0.5], [1.5]])
    labels = (torch.arange(4000) % 4 == 0).long()
    model = PlantedPosteriors(mean, stddev)
    fitted = ex_post_density.gmm(model, data_of(noise_images(labels)), 2)
    weights = torch.tensor([0.75, 0.25], dtype=torch.float64)
    planted = GaussianMixture.of(weights, mean.double(), stddev.double().square()[:, :, None])
    assert_same_mixture(fitted, planted, atol=0.15)


@pytest.mark.parametrize(
    ("mean", "stddev", "components", "warned"), [(1.0, 0.3, 1, False), (0.0, 1.0, 8, True)]
)
def test_a_mixture_of_too_few_latents_is_warned_of(
    mean: float, stddev: float, components: int, warned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """One Gaussian where the prior does not fit; eight for sixty latents where it fits exactly."""
    model = PlantedPosteriors(torch.full((1, 6), mean), torch.full((1, 6), stddev))
    few, others = noise_images(torch.zeros(60).long()), noise_images(torch.zeros(400).long())
    data = ImageData(data_of(few).spec, few, few, others)
    ex_post_density.gmm(model, data, components)
    warning = f"components={components}: new latents are less probable under the mixture"
    assert (warning in caplog.text) == warned


def test_more_components_than_images_are_refused() -> None:
    model = PlantedPosteriors(torch.zeros(1, 2), torch.ones(1, 2))
    data = data_of(noise_images(torch.zeros(9).long()))
    message = "components=10: must be at most 9, the number of training images"
    with pytest.raises(ValueError, match=message):
        ex_post_density.gmm(model, data, 10)


def test_figures_and_metrics_draw_from_a_fitted_density() -> None:
    density = mixture(2)
    model = PlantedPosteriors(torch.zeros(1, 2), torch.ones(1, 2)).with_prior(density)
    options = FigureOptions(n=6, temperature=0.5, seed=2)
    result = FIGURES["samples"].call(model, options)
    z = density.sample(6, 0.5, generator(2, "samples"))
    assert [[row["z0"], row["z1"]] for row in result.table] == z.tolist()
    formula = "z ~ mixture of 3 Gaussians, covariances times 0.5"
    for name in ("samples", "interpolation"):
        title = FIGURES[name].call(model, options).figure.axes[0].get_title(loc="left")
        assert formula in title.replace("\n", " ")
    data = data_of(noise_images(torch.zeros(9).long()))
    drawn: list[Tensor] = []
    model.decoder.register_forward_pre_hook(lambda _, arguments: drawn.append(arguments[0]))
    assert len(Evaluation(model, data, samples=5, seed=2).generated) == 5
    assert torch.equal(drawn[0], density.sample(5, generator=generator(2, "scored samples")))


def samples_table() -> list[list[float]]:
    with open("results/run/samples-densitygmm-components4-seed1.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    columns = [f"z{index}" for index in range(4)]
    latents = []
    for row in rows:
        latents.append([float(row[column]) for column in columns])
    return latents


def test_inference_with_a_fitted_density(
    train_here: Callable,
    infer_here: Callable,
    cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    run = train_here(*SMALL, "max_steps=3")
    gmm = ("density=gmm", "components=4", "n=20", "seed=1")
    command = (f"checkpoint={run}", "figures=[samples]", *gmm)
    infer_here(*command, "metrics=[elbo]")
    first = samples_table()
    formula = "mixture of 4 Gaussians"
    assert f"z ~ {formula}: 1,295 images" in caplog.text
    assert (
        json.loads(Path("results/run/metrics-densitygmm-components4-seed1.json").read_text())[
            "prior"
        ]
        == formula
    )
    infer_here(*command, "metrics=[]")
    assert samples_table() == first
    model: GenerativeModel = genmodels.load(run)
    assert isinstance(model, VAE)
    density = ex_post_density.gmm(model, datasets.digits(cache=str(cache)).load(), 4)
    z = density.sample(20, generator=generator(1, "samples"))
    np.testing.assert_allclose(first, z, atol=1e-6)

    for setting, message in [
        ("components=2000", "^components=2000: must be .* 1000"),
        ("density=gmn", r"^density: gmn is none of prior, gmm\. Did you mean gmm\?"),
    ]:
        with pytest.raises(UserError, match=message):
            infer_here(*command, setting)

    def no_data(_: object) -> None:
        raise ValueError("dataset.root=x: no")

    monkeypatch.setattr(datasets.CachedDataset, "load", no_data)
    with pytest.raises(UserError, match=r"^density: gmm needs the data, but dataset\.root=x: no$"):
        infer_here(*command)
