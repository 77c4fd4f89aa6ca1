"""Numbers that only real images have, if these lie beside the checkout.

The least distortion of any likelihood, the distortion of a model that ignores z, the largest useful
KL weights.
"""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import ROOT, SMALL, summary

from genmodels.data import datasets
from genmodels.likelihoods import BernoulliLikelihood
from genmodels.metrics.collapse_threshold import whitened_spectrum
from genmodels.models.vae import MLPVAE

DATA = ROOT.parent / "shared" / "data"
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason=f"no data in {DATA}")

MNIST = (45.0, 205.9, [32.3])
FASHION_MNIST = (190.2, 385.0, [90.7, 64.5])


@pytest.mark.parametrize(
    ("open_dataset", "least", "collapsed", "eigenvalues"),
    [(datasets.mnist, *MNIST), (datasets.fashion_mnist, *FASHION_MNIST)],
)
def test_known_numbers(
    open_dataset: Callable, least: float, collapsed: float, eigenvalues: list[float], cache: Path
) -> None:
    """In nats: the entropy of binarisation, which no model explains; the distortion of the mean."""
    dataset = open_dataset(root=str(DATA), download=False, keep_raw=False, cache=str(cache))
    data = dataset.load()
    images = data.test.batch(slice(None)).images.double()
    entropy = -(torch.xlogy(images, images) + torch.xlogy(1 - images, 1 - images))
    assert entropy.sum((1, 2, 3)).mean().item() == pytest.approx(least, abs=0.6)
    model = MLPVAE(
        image_shape=(1, 28, 28), latent_dim=2, widths=[8], likelihood=BernoulliLikelihood()
    )
    spectrum = whitened_spectrum(model, data.train)
    assert spectrum is not None
    first = spectrum.eigenvalues[: len(eigenvalues)].tolist()
    assert first == pytest.approx(eigenvalues, rel=0.02)
    assert spectrum.distortion(model, data.test) == pytest.approx(collapsed, abs=0.5)


@pytest.mark.slow
def test_a_short_run_lies_between_them(train_here: Callable[..., Path]) -> None:
    here = ["dataset=mnist", f"dataset.root={DATA}"]
    run = train_here(*SMALL, "model.widths=[256]", "lr=0.004", *here, "max_steps=200")
    test = summary(run)["metrics"]["test"]
    least, collapsed, _ = MNIST
    assert least < test["distortion"] < -test["elbo"] < collapsed
