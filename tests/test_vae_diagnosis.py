"""The verdicts on VAEs: each label from a model made for it, with its numbers in the sentences."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import SMALL, rows, summary
from planted_models import (
    LogisticGaussianLikelihood,
    data_of,
    images_of_spectrum,
    linear_gaussian,
    model_images,
)

from genmodels.data.images import ImageSet
from genmodels.metrics.collapse import LatentUsage, latent_usage
from genmodels.metrics.evaluation import Evaluation
from genmodels.metrics.held_out_gain import HeldOutGain
from genmodels.metrics.vae_diagnosis import (
    COLLAPSED,
    NOT_GENERATIVE,
    PARTLY,
    VAEDiagnosis,
    diagnose,
    verdict_on,
)
from genmodels.metrics.vae_diagnosis_sentences import format_dimensions
from genmodels.metrics.verdict import HEALTHY, Verdict
from genmodels.models.vae import VAE


@pytest.fixture(scope="module")
def train() -> ImageSet:
    return model_images(3000)


@pytest.fixture(scope="module")
def healthy(train: ImageSet) -> VAEDiagnosis:
    """Of an exact model at KL weight 1; what its data can pay for is not known."""
    usage = latent_usage(linear_gaussian(), train, pairs=100, swap=100)
    return VAEDiagnosis(usage, kl_weight=1.0, gain=gain(0.1))


def gain(nats: float, components: int = 10, conditional: bool = False) -> HeldOutGain:
    return HeldOutGain(nats, 0.05, 2500, components, conditional, prior="N(0, I)")


def silence(model: VAE, dimensions: slice) -> VAE:
    """A model that makes nothing of these of its three first latent dimensions."""
    layer, latent_dim = model.encoder[1], model.latent_dim
    layer.weight[:latent_dim][dimensions] = 0
    layer.bias[:latent_dim][dimensions] = 0
    layer.bias[latent_dim:][dimensions] = 0
    model.decoder[0].weight[:, dimensions] = 0
    return model


def check(verdict: Verdict, label: str, *phrases: str) -> None:
    text = " ".join(verdict.sentences)
    assert verdict.label == label, text
    for phrase in phrases:
        assert phrase in text, text


def verdict_of(model: VAE, split: ImageSet, kl_weight: float | None) -> Verdict:
    evaluation = Evaluation(model, data_of(split), kl_weight=kl_weight)
    return verdict_on(diagnose(model, evaluation))


def test_a_healthy_model_may_have_unused_dimensions(train: ImageSet) -> None:
    verdict = verdict_of(linear_gaussian(unused=4), train, 1.0)
    check(verdict, HEALTHY, "3 of 7 latent dimensions are in use, with 3.", "(z3-z6)")


def test_an_empty_model_is_collapsed(train: ImageSet) -> None:
    empty = silence(linear_gaussian(), slice(0, 3))
    check(
        verdict_of(empty, train, 1.0),
        COLLAPSED,
        "the KL is under 0.01 nats",
        "none of 3 dimensions is active",
    )
    empty.encoder[1].bias[:3] = 5.0  # all images at the same place, far from the prior
    same_latents = "37.5 nats, but from the same latents for all images"
    check(verdict_of(empty, train, None), COLLAPSED, same_latents, "kl_schedule=late")


def test_unused_dimensions_that_would_save_distortion_are_a_partial_collapse(
    train: ImageSet,
) -> None:
    model = silence(linear_gaussian(unused=2), slice(1, 3))
    diagnosis = diagnose(model, Evaluation(model, data_of(train), kl_weight=1.0))
    use = "1 of 5 latent dimensions are in use"
    saving = diagnosis.saving
    assert saving is not None
    for weight, phrases in [
        (1.0, ("(z1-z4)", "training has not found that", "warm-up")),
        (20.0, ("what the objective asks for; annealing cannot help", "capacity")),
        (0.8 * saving, ("nearly what the objective asks for, and a longer warm-up may find",)),
        (None, ("the objective does not ask for more",)),
    ]:
        verdict = verdict_on(replace(diagnosis, kl_weight=weight))
        check(verdict, PARTLY, use, f"would save {saving:.1f} nats", *phrases)


@pytest.mark.parametrize(
    ("weight", "remedy"),
    [(0.3, "try kl_weight=1,"), (1.0, "try more steps"), (None, "try a lower target for the KL")],
)
def test_latents_far_from_the_prior(train: ImageSet, weight: float | None, remedy: str) -> None:
    """5^2 / 2 nats in each of three dimensions."""
    verdict = verdict_of(linear_gaussian(shift=5.0), train, weight)
    check(verdict, NOT_GENERATIVE, "Gaussians, fitted to latents", "37.", "apart: z", remedy)


def test_correlated_latents_are_far_from_the_prior(train: ImageSet) -> None:
    """Three times the same latent, of variance 1: no moment of a single dimension tells."""
    model = linear_gaussian()
    layer = model.encoder[1]
    layer.weight[:3], layer.bias[:3] = layer.weight[0].clone(), layer.bias[0].clone()
    layer.bias[3:] = -12.0  # a standard deviation of 0.0025
    diagnosis = diagnose(model, Evaluation(model, data_of(train), kl_weight=1.0))
    assert diagnosis.usage.prior_gap is not None and diagnosis.usage.prior_gap.sum() < 0.1
    verdict = verdict_on(replace(diagnosis, mean_image=None))
    check(verdict, NOT_GENERATIVE, "fitted to latents of training images")


@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_the_gap_counts_not_the_kl_weight(healthy: VAEDiagnosis, weight: float) -> None:
    """At KL weight 0 too, codes may lie where the prior is (BN-VAE)."""
    near = replace(healthy, kl_weight=weight)
    check(verdict_on(near), HEALTHY, "near enough to sample")
    far = verdict_on(replace(near, gain=gain(6.0)))
    cause = "at KL weight 0 nothing" if weight == 0 else "too little"
    check(far, NOT_GENERATIVE, f"{cause} keeps the latents near the prior", "6 nats better")


@pytest.mark.parametrize(
    ("nats", "dimensions", "label"),
    [(0.6, 1, HEALTHY), (4.5, 3, HEALTHY), (6.0, 3, NOT_GENERATIVE), (6.0, 256, HEALTHY)],
)
def test_the_limit_of_the_gap_grows_with_the_dimensions(
    healthy: VAEDiagnosis, nats: float, dimensions: int, label: str
) -> None:
    active = torch.ones(dimensions, dtype=torch.bool)
    usage = replace(healthy.usage, active=active, kl=torch.ones(dimensions), prior_gap=None)
    verdict = verdict_on(replace(healthy, usage=usage, gain=gain(nats)))
    check(verdict, label, f"{nats:.2g} nats better than the prior, N(0, I)")
    assert "near enough" not in " ".join(verdict.sentences)


def test_what_a_gap_means_is_said(healthy: VAEDiagnosis) -> None:
    def text(gap: HeldOutGain | None) -> str:
        return " ".join(verdict_on(replace(healthy, gain=gap)).sentences)

    warning = "1.4 nats better than the prior, N(0, I), does: samples from the prior come partly"
    assert warning in text(gain(1.4)) and "density=gmm" in text(gain(1.4))
    few = text(gain(-0.2, components=1))
    assert "A Gaussian, fitted" in few and "no better than the prior" in few
    assert "near enough to sample, as far as 2,500 held-out latents can tell" in few
    assert "A Gaussian for each class, fitted" in text(gain(1.4, 1, conditional=True))
    unknown = text(None)  # too few images
    assert "by their moments alone" in unknown and "near enough" not in unknown


def test_the_reason_of_a_collapse_is_computed_from_the_data() -> None:
    """The same empty model: above the largest eigenvalue, near it, and far below it."""
    model = silence(linear_gaussian(likelihood=LogisticGaussianLikelihood()), slice(0, 3))
    model.decoder[0].bias.zero_()  # a gray of 1/2
    split = images_of_spectrum(20.0, 9.0, 2.0)
    diagnosis = diagnose(model, Evaluation(model, data_of(split)))
    for weight, phrases in [
        (25.0, ("weight of 20", "it is 25, and pays for none", "no annealing can help")),
        (18.0, ("leaves room for 0.0", "no annealing can help", "capacity")),
        (12.0, ("leaves little room: 0.2", "A longer warm-up", "can find what room there is")),
        (1.0, ("The KL weight, 1, is not the reason", "for 3 directions", "warm-up")),
        (None, ("higher one for the KL", "up to a KL weight of 20")),
    ]:
        check(verdict_on(replace(diagnosis, kl_weight=weight)), COLLAPSED, *phrases)


@pytest.mark.parametrize(
    ("distortion", "label"),
    [(96.0, HEALTHY), (98.0, HEALTHY), (102.0, HEALTHY), (120.0, NOT_GENERATIVE)],
)
def test_a_distortion_near_that_of_the_mean_image(
    healthy: VAEDiagnosis, distortion: float, label: str
) -> None:
    """It is a sign of collapse only where another image's z makes no difference either."""
    usage = replace(healthy.usage, bound={**healthy.usage.bound, "distortion": distortion})
    diagnosis = replace(healthy, usage=usage, mean_image=100.0)
    check(verdict_on(diagnosis), label)
    check(verdict_on(replace(diagnosis, mean_image=None)), HEALTHY)  # not known: left out
    deaf = replace(diagnosis, usage=replace(usage, shuffled_z=0.1), conditional=True)
    beside = "that of the mean image of each class is 100.0"
    near = distortion in (98.0, 102.0)
    check(verdict_on(deaf), COLLAPSED, beside if near else "from another image's z costs 0.1 nats")
    if label != HEALTHY:
        of_class = replace(diagnosis, conditional=True)
        check(verdict_on(of_class), label, beside)


def test_noisy_images_are_no_collapse() -> None:
    """Gray photographs, drawn black and white: 2 % less distortion is 60 nats of the image."""
    bound = {"elbo": -2778.0, "distortion": 2740.0, "kl": 38.0}
    usage = LatentUsage(
        bound=bound,
        kl=torch.full((8,), 4.75),
        active=torch.ones(8, dtype=torch.bool),
        mean=torch.zeros(8),
        variance=torch.ones(8),
        prior_gap=torch.zeros(8),
        aggregated_kl_at_least=0.0,
        mutual_information=7.0,
        ceiling=7.6,
        shuffled_z=150.0,
    )
    verdict = verdict_on(VAEDiagnosis(usage, kl_weight=1.0, gain=gain(0.1), mean_image=2800.0))
    check(verdict, HEALTHY, "All 8 latent dimensions are in use, with 38.0 nats")


@pytest.mark.parametrize(
    ("weight", "saving", "phrases"),
    [
        (1.0, 14.0, ("It could use more: one more dimension would save 14.0", "latent_dim=6")),
        (30.0, 25.0, ("does not pay at KL weight 30",)),
    ],
)
def test_a_model_that_needs_more_dimensions(
    healthy: VAEDiagnosis, weight: float, saving: float, phrases: tuple[str, ...]
) -> None:
    check(verdict_on(replace(healthy, kl_weight=weight, saving=saving)), HEALTHY, *phrases)


def test_a_model_that_needs_nothing(healthy: VAEDiagnosis) -> None:
    text = " ".join(verdict_on(replace(healthy, saving=1.4)).sentences)
    assert not re.search("could use more|compresses", text)


@pytest.mark.parametrize(
    ("dimensions", "text"),
    [
        ([], ""),
        ([0], "z0"),
        ([0, 1], "z0-z1"),
        ([2, 4, 5, 6, 9], "z2, z4-z6, z9"),
        (range(0, 32, 2), "z0, z2, z4, z6, z8, z10, z12, z14, z16, z18, z20, z22 and 4 more"),
    ],
)
def test_names_of_dimensions(dimensions: list[int], text: str) -> None:
    chosen = torch.zeros(32, dtype=torch.bool)
    chosen[list(dimensions)] = True
    assert format_dimensions(chosen) == text


def test_a_run_ends_with_its_verdict(
    train_here: Callable, infer_here: Callable, caplog: pytest.LogCaptureFixture
) -> None:
    """In terminal and summary; evaluations hold the details, the terminal's line does not."""
    run = train_here(*SMALL, "max_steps=20", "evaluate_every=10", "kl_weight=0")
    verdict = summary(run)["verdict"]
    assert verdict["label"] in (NOT_GENERATIVE, COLLAPSED)
    assert f"verdict: {verdict['label']}\n  {verdict['sentences'][0]}" in caplog.text
    evaluations = [row["validation"] for row in rows(run) if "validation" in row]
    assert len(evaluations[0]["latent"]["kl_per_dimension"]) == 4
    assert 0 <= evaluations[0]["active_units"] <= 4
    (line,) = re.findall(r"step 10 of .*", caplog.text)
    assert "active units" in line and not re.search(r"[\[{]", line) and len(line) < 160

    infer_here(f"checkpoint={run}", "figures=[]", "metrics=[verdict,collapse,iwae]", "k=5")
    metrics = json.loads(Path("results/run/metrics-k5.json").read_text())
    assert metrics["verdict"] == verdict
    collapse, iwae = metrics["collapse"], metrics["iwae"]
    assert collapse["largest_useful_kl_weight"] == collapse["eigenvalues"][0] > 20
    assert iwae["k"] == 5 and iwae["iwae"] > iwae["elbo"]
