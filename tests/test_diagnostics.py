"""Diagnoses against what is known on paper: a linear-Gaussian model whose likelihood, KL and information are exact."""

import json
import math
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import SMALL
from scipy import stats
from torch import Tensor, nn

from genmodels import report, tracking
from genmodels.data import datasets
from genmodels.data.images import ImageData, ImageSet, ImageSpec, binarise, to_uint8
from genmodels.likelihoods import Bernoulli, BernoulliLikelihood, Likelihood
from genmodels.metrics import collapse, collapse_threshold, likelihood
from genmodels.metrics import vae_diagnosis as verdicts
from genmodels.metrics.evaluation import Evaluation
from genmodels.metrics.vae_diagnosis import (
    COLLAPSED,
    HEALTHY,
    PARTLY,
    STRAY,
    Case,
    examine,
    judge,
    names,
)
from genmodels.models.vae import MLPVAE, VAE
from genmodels.report import runs

SIDE, PIXELS = 8, 64
STDDEV = 0.05  # of the likelihood
SCALES = torch.tensor(
    [0.3, 0.15, 0.1]
)  # of the latent dimensions' effects on the image, per unit of z


class Gaussian:
    """N(mean, STDDEV^2) for each pixel."""

    def __init__(self, mean: Tensor) -> None:
        self.mean = mean
        self.variance = torch.tensor(STDDEV**2)

    def log_prob(self, images: Tensor) -> Tensor:
        squares = (images - self.mean).square().flatten(1).sum(dim=1)
        return -0.5 * squares / STDDEV**2 - 0.5 * PIXELS * math.log(2 * math.pi * STDDEV**2)


class GaussianLikelihood(Likelihood):
    parameters_per_value, binary = 1, False

    def forward(self, output: Tensor) -> Gaussian:  # type: ignore[override]
        return Gaussian(torch.sigmoid(output))


class Linear(GaussianLikelihood):
    """The decoder's output as it is: the model's mean is then linear in z."""

    def forward(self, output: Tensor) -> Gaussian:  # type: ignore[override]
        return Gaussian(output)


def directions() -> Tensor:
    """W, (PIXELS, 3): orthogonal columns of the lengths SCALES, so that the posterior's covariance is diagonal."""
    torch.manual_seed(0)
    return torch.linalg.qr(torch.randn(PIXELS, 3))[0] * SCALES


def linear_gaussian(
    *,
    shift: float = 0.0,
    widen: float = 1.0,
    dead: int = 0,
    deaf: bool = False,
    likelihood: Likelihood | None = None,
) -> VAE:
    """p(z) = N(0, I), p(x|z) = N(W z + 1/2, STDDEV^2 I), and the exact posterior: N(A (x - 1/2), variance).

    `shift` is added to the posterior's means, `widen` multiplies its variance. `dead` more dimensions change nothing
    and have the prior as their posterior; `deaf`: nor does any other dimension.
    """
    precision = 1 + SCALES.square() / STDDEV**2  # (3,)
    weights = directions()
    to_mean = (weights / STDDEV**2 / precision).T  # (3, PIXELS)
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(PIXELS, 2 * (3 + dead)))
    decoder = nn.Sequential(nn.Linear(3 + dead, PIXELS), nn.Unflatten(1, (1, SIDE, SIDE)))
    for values in [*encoder.parameters(), *decoder.parameters()]:
        values.data.zero_()
    encoder[1].weight.data[:3] = to_mean
    encoder[1].bias.data[:3] = shift - to_mean.sum(dim=1) / 2
    encoder[1].bias.data[3 + dead : 6 + dead] = (widen / precision).log()
    decoder[0].weight.data[:, :3] = 0 if deaf else weights
    decoder[0].bias.data.fill_(0.5)
    model = VAE(
        encoder, decoder, likelihood or Linear(), image_shape=(1, SIDE, SIDE), latent_dim=3 + dead
    )
    return model.eval().requires_grad_(False)


def subset(count: int = 2000, seed: int = 1) -> ImageSet:
    """Images of the model's own making."""
    torch.manual_seed(seed)
    x = 0.5 + torch.randn(count, 3) @ directions().T + STDDEV * torch.randn(count, PIXELS)
    return ImageSet(
        to_uint8(x).view(count, 1, SIDE, SIDE), torch.full((count,), -1), torch.arange(count)
    )


@pytest.fixture(scope="module")
def part() -> ImageSet:
    return drawn()


def data_of(train: ImageSet, test: ImageSet | None = None) -> ImageData:
    test = test or train
    return ImageData(ImageSpec("planted", (1, SIDE, SIDE)), train, test, test)


def exact_log_likelihood(part: ImageSet) -> np.ndarray:
    """log N(x; 1/2, W W^T + STDDEV^2 I) of every image."""
    weights = directions().double().numpy()
    x = part.batch(slice(None)).images.flatten(1).double().numpy()
    return stats.multivariate_normal(
        np.full(PIXELS, 0.5), weights @ weights.T + STDDEV**2 * np.eye(PIXELS)
    ).logpdf(x)


PRECISION = 1 + SCALES.double().square() / STDDEV**2  # of the exact posterior, by dimension
INFORMATION = 0.5 * PRECISION.log().sum().item()  # I(x; z) under the model, nats


def test_the_bound_is_tight_with_the_exact_posterior(part: ImageSet) -> None:
    """KL(q || p(z|x)) = 0, so L_k = log p(x) for each image, for every k, whatever is drawn."""
    found, exact = (
        likelihood.iwae(linear_gaussian(), Evaluation(data_of(part), k=3, n=300)),
        exact_log_likelihood(part),
    )
    assert found["n"] == 300
    assert found["gap"] == pytest.approx(0, abs=1e-3) and found[
        "effective_samples"
    ] == pytest.approx(3, abs=1e-3)
    whole = likelihood.iwae(linear_gaussian(), Evaluation(data_of(part), k=1, n=5000))
    assert whole["n"] == 2000 and whole["iwae"] == whole["elbo"] == pytest.approx(
        exact.mean(), abs=2e-3
    )
    assert whole["iwae_standard_error"] == pytest.approx(exact.std(ddof=1) / 2000**0.5, rel=1e-3)


def test_the_bound_rises_with_k_towards_the_likelihood(part: ImageSet) -> None:
    """A posterior that is off by `shift` and `widen` loses KL(q || p(z|x)) at k = 1, which k = 1000 wins back."""
    shift, widen = 0.1, 2.0
    model = linear_gaussian(shift=shift, widen=widen)
    variance = 1 / PRECISION
    loss = 0.5 * (widen - 1 - math.log(widen) + shift**2 / variance).sum().item()
    bounds = [
        likelihood.iwae(model, Evaluation(data_of(part), k=k, n=400, seed=2)) for k in (1, 10, 1000)
    ]
    exact = likelihood.iwae(linear_gaussian(), Evaluation(data_of(part), k=1, n=400))[
        "iwae"
    ]  # of the same images
    assert exact - bounds[2]["elbo"] == pytest.approx(loss, abs=0.02)
    assert (
        bounds[0]["iwae"] < bounds[1]["iwae"] < bounds[2]["iwae"] == pytest.approx(exact, abs=0.02)
    )
    assert (
        bounds[2]["gap"] == pytest.approx(loss, abs=0.02) and bounds[2]["gap_standard_error"] < 0.01
    )


def test_how_draws_are_cut_into_chunks_makes_no_difference_but_noise(
    part: ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every image gets all of its k draws, also where they do not divide evenly; seeds repeat, others differ."""
    model = linear_gaussian(widen=1.5)
    images, labels = part.batch(slice(0, 7))
    for values in (1, 7 * PIXELS * 4, 10**9):
        monkeypatch.setattr(likelihood, "DECODED", values)
        chunks = list(likelihood.log_weights(model, images, labels, 10))
        assert sum(chunk.shape[1] for chunk in chunks) == 10
        assert len(chunks) == {1: 10, 7 * PIXELS * 4: 3, 10**9: 1}[values]
    runs = [
        likelihood.iwae(model, Evaluation(data_of(part), k=5, n=50, seed=seed))["iwae"]
        for seed in (0, 0, 1)
    ]
    assert runs[0] == runs[1] != runs[2]


def test_the_diagnosis_of_an_exact_model(part: ImageSet) -> None:
    """Rate, mutual information, active units and moments of the exact posterior under its own data."""
    found = collapse.diagnose(linear_gaussian(dead=2), part)
    assert found.bound["rate"] == pytest.approx(
        INFORMATION, rel=0.02
    )  # E KL(p(z|x) || p(z)) = I(x; z)
    expected = torch.cat([0.5 * PRECISION.log(), torch.zeros(2).double()])
    torch.testing.assert_close(found.kl, expected, atol=0.06, rtol=0)
    assert found.active.tolist() == [True, True, True, False, False]
    torch.testing.assert_close(
        found.mean, torch.zeros(5).double(), atol=0.07, rtol=0
    )  # q(z) = p(z)
    torch.testing.assert_close(found.variance, torch.ones(5).double(), atol=0.1, rtol=0)
    assert 0 <= found.misfit.sum() < 0.02
    assert found.ceiling == math.log(2000)
    assert found.mutual_information == pytest.approx(INFORMATION, abs=0.1)  # 3.8 of at most 7.6


def test_a_variance_at_the_border_is_active_above_a_hundredth() -> None:
    """Burda et al. 2015: Var_x(E[z_d|x]) > 0.01, of the means, not of z."""
    torch.manual_seed(0)
    x = torch.rand(4000, PIXELS)
    part = ImageSet(
        to_uint8(x).view(-1, 1, SIDE, SIDE), torch.full((4000,), -1), torch.arange(4000)
    )
    model = linear_gaussian()
    model.encoder[1].weight.data.zero_()
    for dimension, variance in enumerate((0.009, 0.011, 1.0)):
        model.encoder[1].weight.data[dimension, dimension] = (
            12 * variance
        ) ** 0.5  # uniform pixels have 1/12
    assert collapse.diagnose(model, part).active.tolist() == [False, True, True]


@pytest.mark.parametrize("count", [50, 500])
def test_mutual_information_saturates_at_log_m(count: int) -> None:
    """Posteriors that do not overlap: the index of the image is all that z can say."""
    mean = torch.arange(count * 2).view(count, 2).double() / 10
    stddev = torch.full_like(mean, 0.001)
    z = mean + stddev * torch.randn(
        mean.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )
    assert collapse.mutual_information(mean, stddev, z, chunk=7) == pytest.approx(
        math.log(count), abs=1e-4
    )
    flat = torch.zeros_like(mean), torch.ones_like(mean), torch.randn_like(mean)
    assert collapse.mutual_information(*flat) == pytest.approx(0, abs=1e-12)


def test_mutual_information_is_that_of_numpy() -> None:
    generator = torch.Generator().manual_seed(1)
    mean = torch.randn(40, 3, generator=generator, dtype=torch.float64)
    stddev = torch.rand(40, 3, generator=generator, dtype=torch.float64) + 0.2
    z = mean + stddev * torch.randn(40, 3, generator=generator, dtype=torch.float64)
    logs = stats.norm.logpdf(z.numpy()[:, None], mean.numpy(), stddev.numpy()).sum(
        axis=2
    )  # [i, j] log q(z_i|x_j)
    expected = np.mean(np.diag(logs) - np.log(np.exp(logs).mean(axis=1)))
    assert collapse.mutual_information(mean, stddev, z, chunk=9) == pytest.approx(
        expected, abs=1e-12
    )


def test_moments_bound_the_distance_of_the_prior(part: ImageSet) -> None:
    """Moved by 2 in each dimension: KL(N(2, 1) || N(0, 1)) = 2 each, exactly, since q(z) is Gaussian here."""
    found = collapse.diagnose(linear_gaussian(shift=2.0), part)
    torch.testing.assert_close(found.misfit, torch.full((3,), 2.0).double(), atol=0.1, rtol=0)
    assert found.aggregated_kl == pytest.approx(6, abs=0.5)
    assert found.aggregated_kl > found.misfit.sum()


def test_shuffled_z(part: ImageSet) -> None:
    """A decoder that ignores z does not care; the linear one errs by |W (z - z')|^2 / 2 STDDEV^2, in expectation
    sum of scale^2 / STDDEV^2 for independent z and z' of variance 1."""
    deaf = collapse.diagnose(linear_gaussian(deaf=True), part)
    assert deaf.shuffled_z == 0 and deaf.bound["rate"] > 3 and deaf.active.all()
    found = collapse.diagnose(linear_gaussian(), part)
    exact = (SCALES.double().square() / STDDEV**2).sum().item()
    assert found.shuffled_z == pytest.approx(exact, rel=0.05)
    assert likelihood._others(500, 3).sort().values.tolist() == list(range(500))
    assert (likelihood._others(500, 3) != torch.arange(500)).all() and likelihood._others(
        1, 0
    ).tolist() == [0]


def test_a_glance_has_the_same_bound_and_leaves_the_noise_alone(part: ImageSet) -> None:
    """Looking at more must not change what is compared."""
    model = linear_gaussian(widen=1.2)
    found, plain = collapse.glance(model, part), likelihood.evaluate(model, part)
    assert {name: found[name] for name in plain} == plain
    assert len(found["latent"]["kl_per_dimension"]) == 3
    assert sum(found["latent"]["kl_per_dimension"]) == pytest.approx(plain["rate"], abs=1e-5)


def planted(*eigenvalues: float, count: int = 4000) -> tuple[VAE, ImageSet]:
    """Images that vary in orthogonal directions so much, in units of the likelihood's variance, around 1/2."""
    torch.manual_seed(3)
    basis = torch.linalg.qr(torch.randn(PIXELS, len(eigenvalues)))[0]
    x = (
        0.5
        + STDDEV
        * (torch.randn(count, len(eigenvalues)) * torch.tensor(eigenvalues).sqrt())
        @ basis.T
    )
    part = ImageSet(
        to_uint8(x).view(-1, 1, SIDE, SIDE), torch.full((count,), -1), torch.arange(count)
    )
    return linear_gaussian(likelihood=GaussianLikelihood()), part


@pytest.mark.parametrize("exact", [True, False])
def test_the_spectrum_of_planted_data(exact: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not exact:
        monkeypatch.setattr(collapse_threshold, "EXACT", 10)
    found = collapse_threshold.spectrum(*planted(20.0, 9.0, 2.0))
    assert found is not None and len(found.eigenvalues) == (PIXELS if exact else 50)
    np.testing.assert_allclose(found.eigenvalues[:4], [20, 9, 2, 0], rtol=0.07, atol=0.01)
    assert [found.paying(weight) for weight in (1, 2.5, 10, 30)] == [3, 2, 1, 0]
    assert found.linear_rate(5) == pytest.approx(
        0.5 * math.log(4) + 0.5 * math.log(9 / 5), abs=0.06
    )
    assert found.linear_rate(30) == 0


def gray(count: int = 3000) -> tuple[VAE, ImageSet]:
    """Gray images of three rank-one shades, one pixel always black, one always white, and a Bernoulli model."""
    torch.manual_seed(4)
    x = torch.sigmoid(torch.randn(count, 3) @ torch.randn(3, PIXELS))
    x[:, 0], x[:, 1] = 0, 1
    part = ImageSet(
        to_uint8(x).view(-1, 1, SIDE, SIDE), torch.arange(count) % 2, torch.arange(count)
    )
    return linear_gaussian(likelihood=BernoulliLikelihood()), part


def test_binarising_is_taken_into_account_exactly() -> None:
    """The spectrum of gray images for a Bernoulli model is that of many draws of black and white ones, by numpy."""
    model, part = gray()
    found = collapse_threshold.spectrum(model, part)
    assert found is not None
    torch.manual_seed(5)
    images = part.batch(slice(None)).images
    draws = torch.cat([binarise(images) for _ in range(20)]).flatten(1)[:, 2:].double().numpy()
    expected = np.linalg.eigvalsh(np.corrcoef(draws.T))[::-1]  # p (1 - p) is their variance
    np.testing.assert_allclose(found.eigenvalues[:5], expected[:5], rtol=0.01)
    mean = np.clip(images.flatten(1).double().mean(dim=0).numpy(), 1e-4, 1 - 1e-4)
    entropy = -(mean * np.log(mean) + (1 - mean) * np.log(1 - mean)).sum()
    assert found.distortion(model, part) == pytest.approx(entropy, rel=1e-3)


def test_a_conditional_model_is_told_the_class() -> None:
    """Two classes, each of one image: nothing is left to vary, and the best empty code knows the image."""
    model, _ = gray()
    images = torch.zeros(200, 1, SIDE, SIDE, dtype=torch.uint8)
    images[::2, :, :4], images[1::2, :, 4:] = 255, 255
    part = ImageSet(images, torch.arange(200) % 2, torch.arange(200))
    blind = collapse_threshold.spectrum(model, part)
    model.num_classes = 2  # type: ignore[assignment]
    told = collapse_threshold.spectrum(model, part)
    assert blind is not None and told is not None
    assert (
        blind.eigenvalues[0].item() == pytest.approx(PIXELS, rel=0.01)
        and told.eigenvalues[0] < 0.01
    )
    assert blind.distortion(model, part) == pytest.approx(PIXELS * math.log(2), rel=1e-3)
    assert told.distortion(model, part) == pytest.approx(0, abs=0.01)
    unlabelled = ImageSet(images, torch.full((200,), -1), torch.arange(200))
    assert told.distortion(model, unlabelled) == pytest.approx(PIXELS * math.log(2), rel=1e-3)


def test_without_a_variance_there_is_no_spectrum(part: ImageSet) -> None:
    """The verdict then leaves its sentences out."""

    class Other(BernoulliLikelihood):
        def forward(self, output: Tensor) -> Bernoulli:
            found = super().forward(output)
            return type("NoVariance", (), {"mean": found.mean, "log_prob": found.log_prob})()  # type: ignore

    for given in (
        Other(),
        Linear(),
    ):  # the second has one, but its mean is not the logistic of the output
        model = linear_gaussian(likelihood=given)
        assert collapse_threshold.spectrum(model, part) is None
    assert collapse_threshold.unexplained(linear_gaussian(likelihood=Other()), part) is None
    said = judge(examine(linear_gaussian(), data_of(part), 1.0))
    assert said.label == HEALTHY and not any(
        "training images" in sentence for sentence in said.sentences
    )


def test_what_is_left_unexplained() -> None:
    """A decoder that listens to the first of three planted directions only leaves the second; noise alone is 1."""
    train = drawn(6000)
    model = linear_gaussian()
    assert collapse_threshold.unexplained(model, train) == pytest.approx(1, abs=0.25)
    model.decoder[0].weight.data[:, 1:] = 0
    expected = 1 + (SCALES[1] / STDDEV).square().item()  # of the noise and of the direction: 10
    assert collapse_threshold.unexplained(model, train) == pytest.approx(expected, rel=0.08)


def said(case: Case) -> tuple[str, str]:
    verdict = judge(case)
    return verdict.label, " ".join(verdict.sentences)


def of(model: VAE, part: ImageSet, weight: float | None) -> tuple[str, str]:
    return said(examine(model, data_of(part), weight))


def test_verdicts_on_planted_models() -> None:
    """Each label from a model made for it, with its numbers in the sentences."""
    train = drawn(3000)
    label, words = of(linear_gaussian(dead=4), train, 1.0)
    assert (
        label == HEALTHY
        and "3 of 7 latent dimensions are in use, with 3." in words
        and "z3-z6" in words
    )

    empty = linear_gaussian(deaf=True)
    for values in empty.encoder.parameters():
        values.zero_()
    label, words = of(empty, train, 1.0)
    assert (
        label == COLLAPSED
        and "the rate is under 0.01 nats" in words
        and "none of 3 dimensions is active" in words
    )

    empty.encoder[1].bias.data[:3] = 5.0  # all images at the same place, far from the prior
    label, words = of(empty, train, None)
    assert (
        label == COLLAPSED
        and "37.5 nats, but from one code for all images" in words
        and "late" in words
    )

    label, words = of(linear_gaussian(deaf=True), train, 1.0)
    assert (
        label == COLLAPSED
        and "another image's z costs under 0.01 nats" in words
        and "rate" not in words
    )

    half = linear_gaussian(dead=2)
    half.encoder[1].weight.data[1] = 0  # z1 and z2 fall silent, in encoder and decoder
    half.encoder[1].weight.data[2] = 0
    half.encoder[1].bias.data[[1, 2, 6, 7]] = 0
    half.decoder[0].weight.data[:, 1:] = 0
    label, words = of(half, train, 1.0)
    assert label == PARTLY and "1 of 5 latent dimensions are in use" in words and "(z1-z4)" in words
    assert "training has not found it" in words and "warm-up" in words
    label, words = of(half, train, 20.0)
    assert (
        label == PARTLY
        and "what the objective asks for; annealing cannot help" in words
        and "capacity" in words
    )
    saved = float(re.search(r"would save ([\d.]+) nats", words)[1])
    label, words = of(half, train, 0.8 * saved)
    assert (
        label == PARTLY
        and "nearly what the objective asks for, and a longer warm-up may find the rest" in words
    )
    label, words = of(half, train, None)
    assert label == PARTLY and "the objective does not ask for more" in words

    for weight, remedy in [
        (0.3, "try kl_weight=1,"),
        (1.0, "try more steps"),
        (None, "try a lower target for the KL"),
    ]:
        label, words = of(
            linear_gaussian(shift=5.0), train, weight
        )  # 5^2 / 2 nats in each of three dimensions
        assert (
            label == STRAY and "at least 37." in words and "apart: z" in words and remedy in words
        ), words
    label, words = of(linear_gaussian(), train, 0.0)
    assert label == STRAY and "at KL weight 0 nothing keeps the codes near the prior" in words


def test_the_reason_of_a_collapse_is_computed_from_the_data() -> None:
    """The same empty model: above the largest eigenvalue, near it, and far below it."""
    model, part = planted(20.0, 9.0, 2.0)
    for values in model.encoder.parameters():
        values.zero_()
    model.decoder[0].weight.data.zero_()
    model.decoder[0].bias.data.zero_()
    for weight, expected in [
        (25.0, ("weight of 20", "it is 25, and pays for none", "no annealing can help")),
        (18.0, ("leaves room for 0.0", "no annealing can help", "capacity")),
        (12.0, ("leaves little room: 0.2", "A longer warm-up", "can find what room there is")),
        (1.0, ("The KL weight, 1, is not the reason", "for 3 directions", "warm-up")),
    ]:
        label, words = of(model, part, weight)
        assert label == COLLAPSED and all(part in words for part in expected), words
    label, words = of(model, part, None)
    assert (
        label == COLLAPSED
        and "higher one for the KL" in words
        and "up to a KL weight of 20" in words
    )


@pytest.mark.parametrize(
    ("distortion", "label"),
    [(96.0, HEALTHY), (98.0, COLLAPSED), (102.0, COLLAPSED), (120.0, STRAY)],
)
def test_a_distortion_near_that_of_the_mean_image(
    part: ImageSet, distortion: float, label: str
) -> None:
    found = collapse.diagnose(linear_gaussian(), part, pairs=100, swap=100)
    found.bound["distortion"] = distortion
    assert judge(Case(found, 1.0, mean_image=100.0)).label == label
    assert judge(Case(found, 1.0)).label == HEALTHY  # not known: left out


def test_a_model_that_needs_more_or_other_dimensions(part: ImageSet) -> None:
    found = collapse.diagnose(linear_gaussian(), part, pairs=100, swap=100)
    label, words = said(Case(found, 1.0, missed=14.0))
    assert label == HEALTHY and "It could use more: one more dimension would save 14.0" in words
    assert "latent_dim=6" in words
    label, words = said(Case(found, 30.0, missed=25.0))
    assert label == HEALTHY and "does not pay at KL weight 30" in words
    words = said(Case(found, 1.0, missed=1.4))[1]
    assert "could use more" not in words and "compresses" not in words


@pytest.mark.parametrize(
    ("indices", "words"),
    [
        ([], ""),
        ([0], "z0"),
        ([0, 1], "z0-z1"),
        ([2, 4, 5, 6, 9], "z2, z4-z6, z9"),
        (
            list(range(0, 32, 2)),
            ", ".join(f"z{index}" for index in range(0, 24, 2)) + " and 4 more",
        ),
    ],
)
def test_names_of_dimensions(indices: list[int], words: str) -> None:
    chosen = torch.zeros(32, dtype=torch.bool)
    chosen[indices] = True
    assert names(chosen) == words


def test_a_run_ends_with_its_verdict(
    train_here: Callable,
    infer_here: Callable,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In terminal, summary and report; rows hold the details, the terminal's line does not; infer says the same."""
    monkeypatch.setattr("genmodels.figures.draw", lambda *_: [])
    run = train_here(*SMALL, "max_steps=20", "evaluate_every=10", "kl_weight=0")
    summary = json.loads((run / "summary.json").read_text())
    assert summary["verdict"]["label"] in (STRAY, COLLAPSED)
    assert (
        f"verdict: {summary['verdict']['label']}\n  {summary['verdict']['sentences'][0]}"
        in caplog.text
    )
    row = next(
        row for row in map(json.loads, (run / "metrics.jsonl").open()) if "validation" in row
    )["validation"]
    assert len(row["latent"]["kl_per_dimension"]) == 4 and 0 <= row["active_units"] <= 4
    (line,) = [
        record.getMessage()
        for record in caplog.records
        if record.getMessage().startswith("step 10 of")
    ]
    assert "active units" in line and "[" not in line and "{" not in line and len(line) < 160
    assert tracking.flatten(row)["latent/kl_per_dimension"] == row["latent"]["kl_per_dimension"]

    infer_here(f"checkpoint={run}", "figures=[]", "metrics=[verdict,collapse,iwae]", "k=5")
    metrics = json.loads(Path("results/run/metrics.json").read_text())
    assert metrics["verdict"] == summary["verdict"]
    assert (
        metrics["collapse"]["largest_useful_kl_weight"]
        == metrics["collapse"]["eigenvalues"][0]
        > 20
    )
    assert metrics["iwae"]["k"] == 5 and metrics["iwae"]["iwae"] > metrics["iwae"]["elbo"]
    report.write([run])
    assert summary["verdict"]["label"] in capsys.readouterr().out
    assert set(runs.read_job(run).metrics) == {
        "elbo",
        "distortion",
        "rate",
        "bits_per_dimension",
        "active_units",
    }


def test_floors_on_real_images(cache: Path) -> None:
    """On the embedded digits: gray values leave a floor, the entropy of their binarisation; the mean image a roof."""
    data = datasets.digits(cache=str(cache)).load()
    model = VAE(
        nn.Linear(1, 1), nn.Identity(), BernoulliLikelihood(), image_shape=(1, 28, 28), latent_dim=2
    )
    found = collapse_threshold.spectrum(model, data.train)
    assert found is not None
    x = data.test.batch(slice(None)).images.flatten(1).double()
    floor = torch.special.entr(x).add(torch.special.entr(1 - x)).sum(dim=1).mean().item()
    roof = found.distortion(model, data.test)
    assert roof == pytest.approx(164.6, abs=0.5) and floor < 0.5 * roof
    assert found.eigenvalues[0].item() == pytest.approx(25.8, abs=0.2)
    assert verdicts.RATE == 0.5 and verdicts.NEAR_MEAN == 0.03


def test_models_of_any_latent_size_are_evaluated_on_the_same_images(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The binarised images of all batches, not only of the first."""
    gray = torch.randint(0, 256, (1100, 1, 4, 4), dtype=torch.uint8)
    part = ImageSet(gray, torch.zeros(1100, dtype=torch.long), torch.arange(1100))
    seen: dict[int, list[torch.Tensor]] = {}
    for dimensions in (1, 7):
        model = MLPVAE(
            image_shape=(1, 4, 4),
            latent_dim=dimensions,
            widths=[4],
            likelihood=BernoulliLikelihood(),
        )
        encode = model.encode
        monkeypatch.setattr(
            model,
            "encode",
            lambda images, labels, encode=encode, key=dimensions: (
                seen.setdefault(key, []).append(images),
                encode(images, labels),
            )[1],
        )
        likelihood.evaluate(model, part)
    assert len(seen[1]) == 3 and all(
        torch.equal(*pair) for pair in zip(seen[1], seen[7], strict=True)
    )
