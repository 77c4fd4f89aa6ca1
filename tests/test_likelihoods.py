"""Likelihoods against sums, integrals and torch.distributions; at extremes; and each of conf/likelihood in a run."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from conftest import ROOT, SMALL, composed, rows, summary, trained_states, weights, write_pictures
from omegaconf import OmegaConf
from torch import Tensor

import genmodels
from genmodels import checkpoint, config
from genmodels.data import datasets
from genmodels.data.images import ImageSpec
from genmodels.image_distributions import (
    STDDEV_FLOOR,
    ContinuousBernoulli,
    DiscretisedLogistic,
    Gaussian,
)
from genmodels.likelihoods import (
    BernoulliLikelihood,
    GaussianLikelihood,
    LearnedGaussianLikelihood,
    Likelihood,
    OptimalGaussianLikelihood,
)
from genmodels.metrics.likelihood import evaluate
from genmodels.models.vae import MLPVAE
from genmodels.report import runs
from genmodels.validation import UserError

CHOICES = sorted(
    path.stem for path in (ROOT / "conf/likelihood").glob("*.yaml") if path.stem != "auto"
)
LEVELS = (torch.arange(256) / 255).view(256, 1, 1, 1)  # images of one pixel, one of each value
UNIT = torch.linspace(0, 1, 20_001).view(-1, 1, 1, 1)
LOGITS = [-40.0, -8.0, -1.0, -0.51, -0.49, -1e-3, 0.0, 1e-9, 0.2, 0.4999, 0.5001, 3.0, 40.0]


def pixel(*values: float) -> Tensor:
    """Images (N, 1, 1, 1)."""
    return torch.tensor(values).view(-1, 1, 1, 1)


def made(choice: str) -> Likelihood:
    """As conf has it."""
    return checkpoint.rebuild(dict(composed("train", f"likelihood={choice}").likelihood))  # type: ignore


@pytest.mark.parametrize("log_scale", [-20.0, -7.0, -4.0, -2.0, 0.0, 2.0, 20.0])
@pytest.mark.parametrize("location", [-3.0, 0.0, 0.3, 0.5, 1.0, 1.01])
def test_the_masses_of_all_levels_sum_to_one(location: float, log_scale: float) -> None:
    logistic = DiscretisedLogistic(pixel(location), pixel(log_scale))
    assert logistic.log_prob(LEVELS).double().exp().sum().item() == pytest.approx(1, abs=2e-5)


def test_masses_are_differences_of_the_distribution_function() -> None:
    location, scale = 0.4, 0.05
    edges = (torch.arange(1, 256, dtype=torch.float64) - 0.5) / 255
    cdf = torch.cat([torch.zeros(1), torch.sigmoid((edges - location) / scale), torch.ones(1)])
    found = DiscretisedLogistic(pixel(location), pixel(math.log(scale))).log_prob(LEVELS)
    torch.testing.assert_close(found.double().exp(), cdf.diff(), rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize("logit", LOGITS)
def test_the_continuous_bernoulli_integrates_to_one_and_has_its_mean(logit: float) -> None:
    continuous = ContinuousBernoulli(pixel(logit))
    density = continuous.log_prob(UNIT).double().exp()
    assert torch.trapezoid(density, UNIT.flatten().double()).item() == pytest.approx(1, abs=2e-6)
    mean = torch.trapezoid(density * UNIT.flatten(), UNIT.flatten().double()).item()
    assert continuous.mean.item() == pytest.approx(mean, abs=2e-6)


def test_the_continuous_bernoulli_agrees_with_torch() -> None:
    logits = torch.linspace(-12, 12, 97)  # beyond, torch clamps
    theirs = torch.distributions.ContinuousBernoulli(logits=logits.double())
    ours = ContinuousBernoulli(logits.view(-1, 1, 1, 1))
    torch.testing.assert_close(ours.mean.flatten().double(), theirs.mean, rtol=0, atol=1e-6)
    for value in (0.0, 0.3, 1.0):
        expected = theirs.log_prob(torch.full_like(theirs.mean, value))
        torch.testing.assert_close(
            ours.log_prob(pixel(value)).double(), expected, rtol=0, atol=2e-6
        )


def test_the_continuous_bernoulli_is_smooth_where_its_series_end() -> None:
    """The derivative of the log normaliser is the mean: of log p at x = 0 it is minus the mean."""
    logits = torch.linspace(-1.5, 1.5, 3001).view(-1, 1, 1, 1).requires_grad_()
    ContinuousBernoulli(logits).log_prob(pixel(0.0)).sum().backward()
    assert logits.grad is not None
    torch.testing.assert_close(-logits.grad, ContinuousBernoulli(logits).mean, rtol=0, atol=2e-6)


def test_the_gaussian_agrees_with_torch() -> None:
    images, output = torch.rand(3, 2, 4, 4), torch.randn(3, 2, 4, 4)
    normal = torch.distributions.Normal(torch.sigmoid(output), 0.2)
    found = GaussianLikelihood(stddev=0.2)(output)
    torch.testing.assert_close(found.log_prob(images), normal.log_prob(images).flatten(1).sum(1))
    torch.testing.assert_close(found.mean, normal.mean)


@pytest.mark.parametrize("log_scale", [-8.0, -5.0, -3.0, -1.0, 1.0])
@pytest.mark.parametrize("location", [-0.5, 0.0, 0.1234, 0.5, 1.2])
def test_the_logistic_mean_is_that_of_its_levels_to_half_a_level(
    location: float, log_scale: float
) -> None:
    logistic = DiscretisedLogistic(pixel(location), pixel(log_scale))
    expected = (logistic.log_prob(LEVELS).exp() * LEVELS.flatten()).sum().item()
    assert abs(logistic.mean.item() - expected) <= (0.5 / 255 + 1e-6 if log_scale < -4 else 2e-5)


@pytest.mark.parametrize(
    "distribution",
    [
        lambda shape: ContinuousBernoulli(
            torch.linspace(-30, 30, 5).view(5, 1, 1, 1).expand(shape)
        ),
        lambda shape: DiscretisedLogistic(
            torch.linspace(-0.1, 0.7, 5).view(5, 1, 1, 1).expand(shape),
            torch.linspace(-7, -1, 5).view(5, 1, 1, 1).expand(shape),
        ),
        lambda shape: Gaussian(
            torch.linspace(0.3, 0.7, 5).view(5, 1, 1, 1).expand(shape), torch.tensor(0.01)
        ),
    ],
    ids=["continuous_bernoulli", "discretised_logistic", "gaussian"],
)
def test_samples_have_the_mean_and_stay_in_the_range(distribution: Callable) -> None:
    torch.manual_seed(0)
    there = distribution((5, 1, 200, 200))
    drawn = there.sample()
    assert drawn.shape == (5, 1, 200, 200) and drawn.min() >= 0 and drawn.max() <= 1
    standard_error = drawn.flatten(1).std(dim=1) / 200
    off = (drawn.flatten(1).mean(dim=1) - there.mean[:, 0, 0, 0]).abs()
    assert (
        off < 4 * standard_error + 0.5 / 255 * isinstance(there, DiscretisedLogistic) + 1e-6
    ).all()


def test_samples_come_as_often_as_they_should() -> None:
    torch.manual_seed(0)
    logistic = DiscretisedLogistic(pixel(0.1), pixel(-3.0))
    wide = DiscretisedLogistic(
        pixel(0.1).expand(1, 1, 500, 500), pixel(-3.0).expand(1, 1, 500, 500)
    )
    found = torch.bincount((wide.sample() * 255).round().long().flatten(), minlength=256) / 250_000
    torch.testing.assert_close(found, logistic.log_prob(LEVELS).exp(), rtol=0, atol=0.003)
    drawn = ContinuousBernoulli(pixel(3.0).expand(1, 1, 500, 500)).sample().flatten().sort().values
    cdf = torch.expm1(3.0 * drawn) / math.expm1(3.0)
    assert (
        cdf - torch.linspace(0, 1, 250_000)
    ).abs().max() < 0.004  # Kolmogorov & Smirnov: 0.0033 at 1 %


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("choice", CHOICES)
def test_extremes_are_finite(choice: str, dtype: torch.dtype) -> None:
    """Values, means and gradients, for any output of a decoder, at black, gray and white pixels."""
    likelihood = made(choice)
    size = likelihood.parameters_per_value
    values = torch.tensor([-1e4, -50.0, -1.0, 0.0, 1.0, 50.0, 1e4])
    output = torch.cartesian_prod(*[values] * size).view(-1, size, 1, 1).to(dtype).requires_grad_()
    for value in (0.0, 0.5, 1.0):
        there = likelihood(output)
        nats = there.log_prob(pixel(value))
        assert nats.dtype == torch.float32 and nats.isfinite().all()
        assert there.mean.min() >= 0 and there.mean.max() <= 1 and there.sample().isfinite().all()
        (nats.sum() + there.mean.sum()).backward()
        assert output.grad is not None and output.grad.isfinite().all()


@pytest.mark.parametrize("choice", CHOICES)
def test_sums_in_float32_and_broadcasts(choice: str) -> None:
    torch.manual_seed(0)
    likelihood = made(choice).eval()
    output = torch.randn(4, 3 * likelihood.parameters_per_value, 16, 16)
    images = (255 * torch.rand(4, 3, 16, 16)).round() / 255
    nats = likelihood(output).log_prob(images)
    assert nats.shape == (4,)
    torch.testing.assert_close(likelihood(output[:1]).log_prob(images)[0], nats[0])
    torch.testing.assert_close(likelihood(output[:1]).log_prob(images).shape, nats.shape)
    torch.testing.assert_close(likelihood(output).log_prob(images[2:3])[2], nats[2])
    rounded = output.bfloat16()
    torch.testing.assert_close(
        likelihood(rounded).log_prob(images), likelihood(rounded.float()).log_prob(images)
    )


def test_the_optimal_variance_is_the_mean_squared_error() -> None:
    """Its gradient is that of the logarithm of the squared error, though the variance is taken as a constant."""
    torch.manual_seed(0)
    likelihood, images = OptimalGaussianLikelihood(), torch.rand(6, 1, 5, 5)
    output = torch.randn(6, 1, 5, 5, requires_grad=True)
    nats = likelihood(output).log_prob(images)
    error = (images - torch.sigmoid(output)).square().mean()
    assert likelihood.variance.item() == pytest.approx(error.item())
    expected = -12.5 * (torch.log(2 * math.pi * error) + 1)  # of 25 pixels
    assert nats.mean().item() == pytest.approx(expected.item())
    for variance in (0.5, 2.0):  # no other variance is likelier
        assert (
            Gaussian(torch.sigmoid(output), variance * error).log_prob(images).mean() < nats.mean()
        )
    torch.testing.assert_close(
        torch.autograd.grad(nats.mean(), output), torch.autograd.grad(expected, output)
    )
    kept = likelihood.variance.clone()
    likelihood.eval()
    found = likelihood(output).log_prob(torch.zeros_like(images))
    assert torch.equal(likelihood.variance, kept)
    torch.testing.assert_close(
        found, Gaussian(torch.sigmoid(output), kept).log_prob(torch.zeros_like(images))
    )


def test_no_variance_falls_below_its_floor() -> None:
    optimal, learned = OptimalGaussianLikelihood(), LearnedGaussianLikelihood()
    optimal(torch.zeros(2, 1, 3, 3)).log_prob(torch.full((2, 1, 3, 3), 0.5))
    with torch.no_grad():
        learned.log_variance.fill_(-1000)
    assert (
        optimal.variance.item()
        == learned(torch.zeros(1, 1, 1, 1)).variance.item()
        == STDDEV_FLOOR**2
    )
    for stddev in (0.0, 0.003, float("inf")):
        with pytest.raises(ValueError, match=r"stddev=.*: must be a finite number >= 0\.0039"):
            GaussianLikelihood(stddev=stddev)


@pytest.mark.parametrize("choice", CHOICES)
def test_a_run_with_each(choice: str, train_here: Callable, cache: Path) -> None:
    """Trained, evaluated, saved, loaded again: the same numbers; bits per dimension where pixels have few values."""
    negative = choice == "continuous_bernoulli"  # its distortion is: the figures cope
    folder = train_here(*SMALL, f"likelihood={choice}", "max_steps=3", figures=negative)
    test = summary(folder)["metrics"]["test"]
    assert test["elbo"] == pytest.approx(-test["distortion"] - test["rate"])
    if choice in ("bernoulli", "discretised_logistic"):
        assert test["bits_per_dimension"] == pytest.approx(-test["elbo"] / 784 / math.log(2))
    else:
        assert "bits_per_dimension" not in test
    model = genmodels.load(folder)
    logged = [
        row["validation"].get("likelihood_stddev") for row in rows(folder) if "validation" in row
    ]
    assert logged[-1] == test.get("likelihood_stddev")
    if choice in (
        "gaussian_learned",
        "gaussian_optimal",
    ):  # at an output of 0, the mean of a pixel is 0.5
        output = torch.zeros(1, 1, 1, 1)
        off = model.likelihood(output).log_prob(pixel(0.5)) - model.likelihood(output).log_prob(
            pixel(0.75)
        )
        assert off.item() == pytest.approx(0.25**2 / (2 * logged[-1] ** 2), rel=1e-4)
        assert len(set(logged)) == len(logged) == 3
    else:
        assert set(logged) == {None}
    assert not model.training and model.sample(5).min() >= 0 and model.sample(5).max() <= 1
    assert evaluate(model, datasets.digits(cache=str(cache)).load().test).items() <= test.items()


def test_a_stopped_run_keeps_its_variance(train_resumed: Callable) -> None:
    """Resumed bit for bit; what evaluation uses is the average over training's last batches."""
    folder = train_resumed(
        *SMALL,
        "likelihood=gaussian_optimal",
        "max_steps=20",
        "lr=0.01",
        "trainer.updater.warmup_steps=5",
        stops=[13],
    )
    average, last = (
        trained_states(folder)["trainer"]["updater"][name]["likelihood.variance"].item()
        for name in ("average", "model")
    )
    assert weights(folder)["likelihood.variance"].item() == average != last
    assert 0.5 < average / last < 2 and average < 1 / 12 * 1.5
    nats = [row["train"]["distortion"] for row in rows(folder) if "train" in row]
    assert nats[-1] == pytest.approx(392 * (math.log(2 * math.pi * last) + 1), rel=1e-5)


def colours(folder: Path) -> list[str]:
    write_pictures(folder / "pictures", count=40)
    return [
        *SMALL,
        "dataset=folder",
        f"dataset.root={folder / 'pictures'}",
        "dataset.side=16",
        "batch_size=16",
        "max_steps=3",
    ]


def test_auto_is_settled_by_the_data(
    train_here: Callable, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The run keeps the likelihood that it got; asking for that one by name is asking for the same run."""
    gray = train_here(*SMALL, "max_steps=3", folder="gray")
    found = yaml.safe_load((gray / "config.yaml").read_text())
    assert found["choices"]["likelihood"] == "bernoulli"
    assert (
        found["likelihood"]
        == found["model"]["likelihood"]
        == {"_target_": "genmodels.likelihoods.BernoulliLikelihood"}
    )
    train_here(*SMALL, "max_steps=3", "likelihood=bernoulli", folder="gray")
    assert "is finished" in caplog.text
    with pytest.raises(UserError, match="other settings: likelihood"):
        train_here(*SMALL, "max_steps=3", "likelihood.gray=continuous_bernoulli", folder="gray")

    coloured = train_here(*colours(tmp_path), folder="coloured")
    assert (
        yaml.safe_load((coloured / "config.yaml").read_text())["choices"]["likelihood"]
        == "discretised_logistic"
    )
    test = summary(coloured)["metrics"]["test"]
    assert test["bits_per_dimension"] == pytest.approx(-test["elbo"] / 768 / math.log(2))
    assert 7 < test["bits_per_dimension"] < 12  # noise of 256 levels has 8
    assert genmodels.load(coloured).sample(2).shape == (2, 3, 16, 16)


@pytest.mark.parametrize(
    ("channels", "choice", "words"),
    [
        (1, "bernoulli", "dimensions \N{MIDDLE DOT} KL"),
        (3, "discretised_logistic", "dimensions \N{MIDDLE DOT} KL"),
        (3, "gaussian", "dimensions \N{MIDDLE DOT} likelihood gaussian \N{MIDDLE DOT} KL"),
        (1, "discretised_logistic", "likelihood discretised_logistic"),
        (1, "auto", "dimensions \N{MIDDLE DOT} KL"),
    ],
)
def test_captions_name_a_likelihood_that_is_not_the_usual_one(
    channels: int, choice: str, words: str
) -> None:
    cfg = composed("train", f"likelihood={choice}")
    settings = config.record(cfg, config.settle(cfg, ImageSpec("planted", (channels, 8, 8))))
    about = {"settings": config.numbers(settings), "choices": settings["choices"]}
    assert words in config.caption(about, 1)


def test_combinations_that_make_no_sense_are_refused(train_here: Callable, tmp_path: Path) -> None:
    with pytest.raises(
        UserError,
        match=r"^likelihood=BernoulliLikelihood: must be one for colours, such as discret",
    ):
        train_here(*colours(tmp_path), "likelihood=bernoulli")
    for choice in set(CHOICES) - {"bernoulli"}:
        with pytest.raises(
            UserError,
            match=r"^trainer\.binarise=True: must be false for \w+Likelihood, which is not",
        ):
            train_here(*SMALL, f"likelihood={choice}", "trainer.binarise=true")
    with pytest.raises(
        UserError,
        match=r"^likelihood\.gray=normal: must be one of bernoulli, continuous_bernoulli, ",
    ):
        train_here(*SMALL, "likelihood.gray=normal")
    with pytest.raises(
        UserError, match=r"^likelihood\.stddev=0\.001: must be a finite number >= 0\.0039"
    ):
        train_here(*SMALL, "likelihood=gaussian", "likelihood.stddev=0.001")
    assert not (tmp_path / "run").exists()


def test_settling_leaves_other_models_alone() -> None:
    cfg, spec = composed("train", "likelihood=gaussian"), ImageSpec("planted", (3, 8, 8))
    assert config.settle(cfg, spec) == {} and cfg.likelihood.stddev == 0.1
    assert config.settle(OmegaConf.create({"model": {"image_shape": "???"}}), spec) == {}


def test_a_job_that_was_refused_is_not_another_likelihood(
    train_here: Callable, tmp_path: Path
) -> None:
    """What it recorded has likelihood=auto, which the finished ones settled: nothing that was swept."""
    done = train_here(*SMALL, "max_steps=2", folder="sweep/done")
    refused = tmp_path / "sweep/refused"
    refused.mkdir()
    config.save(refused, config.record(composed("train", *SMALL, "max_steps=2", "kl_weight=-1")))
    (refused / "summary.json").write_text(json.dumps({"status": "failed"}))
    assert runs.swept_settings([runs.read_job(folder) for folder in (done, refused)]) == [
        "kl_weight"
    ]


def test_bits_per_dimension_of_gray_values_as_probabilities_are_not_claimed() -> None:
    """A Bernoulli likelihood of colours, which older runs have: neither masses of 256 levels nor of two."""
    torch.manual_seed(0)
    model = MLPVAE(
        image_shape=(3, 4, 4), latent_dim=2, widths=[4], likelihood=BernoulliLikelihood()
    )
    part = genmodels.data.images.ImageSet(
        torch.randint(0, 256, (9, 3, 4, 4), dtype=torch.uint8),
        torch.full((9,), -1),
        torch.arange(9),
    )
    assert "bits_per_dimension" not in evaluate(model, part)
