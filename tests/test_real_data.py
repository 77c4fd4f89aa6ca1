"""Anchors that only real images have, where they lie beside the checkout: the floor of any likelihood, the distortion
of a model that ignores z, the largest useful KL weights."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import ROOT, SMALL, summary

from genmodels.data import datasets
from genmodels.data.images import ImageData
from genmodels.likelihoods import BernoulliLikelihood
from genmodels.metrics.collapse_threshold import spectrum
from genmodels.models.vae import MLPVAE

DATA = ROOT.parent / "shared" / "data"
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason=f"no data in {DATA}")
ANCHORS = {  # nats: entropy of binarisation, which no model explains; the mean image's distortion; eigenvalues
    "mnist": (45.0, 205.9, [32.3]),
    "fashion_mnist": (190.2, 385.0, [90.7, 64.5]),
}


def load(name: str, cache: Path) -> ImageData:
    return getattr(datasets, name)(
        root=str(DATA), download=False, keep_raw=False, cache=str(cache)
    ).load()


@pytest.mark.parametrize("name", ANCHORS)
def test_anchors(name: str, cache: Path) -> None:
    floor, collapsed, eigenvalues = ANCHORS[name]
    data = load(name, cache)
    images = data.test.batch(slice(None)).images.double()
    entropy = (
        -(torch.xlogy(images, images) + torch.xlogy(1 - images, 1 - images))
        .sum((1, 2, 3))
        .mean()
        .item()
    )
    assert entropy == pytest.approx(floor, abs=0.6)
    model = MLPVAE(
        image_shape=(1, 28, 28), latent_dim=2, widths=[8], likelihood=BernoulliLikelihood()
    )
    found = spectrum(model, data.train)
    assert found.eigenvalues[: len(eigenvalues)].tolist() == pytest.approx(eigenvalues, rel=0.02)
    assert found.distortion(model, data.test) == pytest.approx(collapsed, abs=0.5)


def test_a_short_run_lies_between_them(train_here: Callable[..., Path]) -> None:
    floor, collapsed, _ = ANCHORS["mnist"]
    run = train_here(
        *SMALL,
        "model.widths=[256]",
        "lr=0.004",
        "dataset=mnist",
        f"dataset.root={DATA}",
        "max_steps=200",
    )
    found = summary(run)["metrics"]["test"]
    assert floor < found["distortion"] < -found["elbo"] < collapsed
