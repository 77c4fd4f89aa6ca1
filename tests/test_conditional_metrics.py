"""How much of the label is left in z, and whether the decoder uses the label: planted models."""

import pytest
import torch
from planted_models import data_of, image_set
from torch import Tensor, nn
from torch.nn.functional import logsigmoid, one_hot

from genmodels.likelihoods import BernoulliLikelihood
from genmodels.metrics import conditional
from genmodels.metrics.aggregated_posterior import Posteriors
from genmodels.metrics.evaluation import Evaluation
from genmodels.models.vae import MLPVAE, VAE

CLASSES = ("a", "b", "c", "d")


def cvae() -> VAE:
    torch.manual_seed(0)
    model = MLPVAE(
        image_shape=(1, 8, 8),
        latent_dim=3,
        widths=[16],
        likelihood=BernoulliLikelihood(),
        num_classes=len(CLASSES),
    )
    return model.eval().requires_grad_(False)


@pytest.mark.parametrize("separable", [True, False])
def test_the_probe_on_planted_latents(separable: bool) -> None:
    """Classes 20 standard deviations apart are read without fault, others at chance."""
    torch.manual_seed(0)

    def planted(count: int) -> Posteriors:
        labels = (torch.arange(count) % 10 - 5).clamp(min=0)  # class 0 has 6 of 10 images
        mean = torch.randn(count, 8, dtype=torch.float64)
        if separable:
            mean += 20 * one_hot(labels, 8)
        mean[:, 7] = 3.0  # a collapsed dimension
        return Posteriors(mean, torch.ones_like(mean), torch.zeros_like(mean), labels)

    metrics = conditional.probe(planted(3000), planted(2000))
    assert metrics["chance"] == pytest.approx(0.6) and metrics["n"] == 2000
    assert metrics["accuracy"] == pytest.approx(1.0 if separable else 0.6, abs=0.02)


class QuarterDecoder(nn.Module):
    """Ignores z, and expects quarter y of the image to be white, where it uses the label y."""

    def __init__(self, uses_label: bool) -> None:
        super().__init__()
        self.uses_label = uses_label

    def forward(self, z: Tensor, embedding: Tensor) -> Tensor:
        logits = z.new_full((len(z), len(CLASSES), 1, 16), -3.0)
        if self.uses_label:
            logits[torch.arange(len(z)), embedding[:, 0].long() - 1] = 3.0
        return logits.view(-1, 1, 8, 8)


class PriorEncoder(nn.Module):
    """q(z|x) = N(0, I)."""

    def forward(self, images: Tensor, _: Tensor) -> Tensor:
        return images.new_zeros(len(images), 6)


@pytest.mark.parametrize("uses_label", [True, False])
def test_elbo_classification_of_a_planted_model(uses_label: bool) -> None:
    """Images of one white quarter each, which is their label.

    Of a decoder that ignores the label all bounds are equal, and argmax says 0. The bounds: 64 log
    sigmoid(3), less 3 for each pixel that is wrong.
    """
    model = cvae()
    model.encoder, model.decoder = PriorEncoder(), QuarterDecoder(uses_label)
    rows = torch.arange(len(CLASSES) + 1.0)[:, None]
    model.label_embedding.weight.copy_(rows.expand(-1, 32))
    labels = torch.arange(20) % len(CLASSES)
    images = one_hot(labels, len(CLASSES)).float().repeat_interleave(16, dim=1)
    evaluation = Evaluation(model, data_of(image_set(images, labels), CLASSES), n=16)
    metrics = conditional.elbo_classification(model, evaluation)
    assert metrics["n"] == 16 and metrics["chance"] == 0.25
    if not uses_label:
        assert 0 < metrics["accuracy"] < 0.5
        return
    assert metrics["accuracy"] == 1.0
    elbos = conditional.class_elbos(model, evaluation.split.batch(slice(0, 1)).images)
    right = 64 * logsigmoid(torch.tensor(3.0)).item()
    torch.testing.assert_close(elbos, torch.tensor([[right, *[right - 32 * 3.0] * 3]]))


def test_all_classes_see_the_same_noise() -> None:
    model = cvae()
    model.label_embedding.weight.zero_()  # so that labels make no difference
    elbos = conditional.class_elbos(model, torch.rand(5, 1, 8, 8))
    assert elbos.eq(elbos[:, :1]).all() and elbos[:, 0].unique().numel() == 5
