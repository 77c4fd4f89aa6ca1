"""Runs with each likelihood of conf/likelihood; what the data choose, and what is refused."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import (
    ROOT,
    SMALL,
    rows,
    settings_of,
    summary,
    trained_states,
    weights,
    write_pictures,
)

import genmodels
from genmodels.caption import caption
from genmodels.data.datasets import digits
from genmodels.data.images import ImageSet, ImageSpec
from genmodels.likelihoods import BernoulliLikelihood
from genmodels.metrics.likelihood import evaluate
from genmodels.models.vae import MLPVAE, VAE
from genmodels.run_name import number_settings
from genmodels.settings import read_settings
from genmodels.user_errors import UserError

CHOICES = sorted({path.stem for path in (ROOT / "conf/likelihood").glob("*.yaml")} - {"auto"})
LEARNED = ("gaussian_learned", "gaussian_optimal")
# bits per dimension are known of these
COUNTABLE = ("bernoulli", "discretised_logistic", "discretised_logistic_mixture")


@pytest.mark.parametrize("choice", CHOICES)
def test_a_run_with_each(choice: str, train_here: Callable, cache: Path) -> None:
    """Trained, evaluated, saved and loaded again: the same numbers."""
    negative = choice == "continuous_bernoulli"  # its distortion is: the figures cope
    folder = train_here(*SMALL, f"likelihood={choice}", "max_steps=3", figures=negative)
    test = summary(folder)["metrics"]["test"]
    assert test["elbo"] == pytest.approx(-test["distortion"] - test["kl"])
    assert ("bits_per_dimension" in test) == (choice in COUNTABLE)
    if choice in COUNTABLE:
        assert test["bits_per_dimension"] == pytest.approx(-test["elbo"] / 784 / math.log(2))

    model = genmodels.load(folder)
    assert isinstance(model, VAE) and not model.training
    images = model.sample(5)
    assert images.min() >= 0 and images.max() <= 1
    assert evaluate(model, digits(cache=str(cache)).load().test).items() <= test.items()

    evaluations = [row["validation"] for row in rows(folder) if "validation" in row]
    stddevs = [evaluation.get("likelihood_stddev") for evaluation in evaluations]
    assert stddevs[-1] == test.get("likelihood_stddev")
    assert len(stddevs) == 3
    if choice in LEARNED:
        assert len(set(stddevs)) == 3
        # at an output of 0, the mean of a pixel is 0.5
        distribution = model.likelihood(torch.zeros(1, 1, 1, 1))
        gray, lighter = torch.full((1, 1, 1, 1), 0.5), torch.full((1, 1, 1, 1), 0.75)
        difference = distribution.log_prob(gray) - distribution.log_prob(lighter)
        assert difference.item() == pytest.approx(0.25**2 / (2 * stddevs[-1] ** 2), rel=1e-4)
    else:
        assert set(stddevs) == {None}


@pytest.mark.parametrize("binarise", [True, False])
def test_evaluations_say_where_training_saw_gray_values(
    binarise: bool, train_here: Callable, infer_here: Callable, caplog: pytest.LogCaptureFixture
) -> None:
    folder = train_here(*SMALL, "max_steps=3", f"trainer.binarise={str(binarise).lower()}")
    assert ("trainer.binarise=false: training sees gray values" in caplog.text) != binarise
    infer_here(f"checkpoint={folder}", "figures=[]", "metrics=[elbo,verdict]")
    path = Path("results") / folder.name / "metrics.json"
    measured = json.loads(path.read_text())
    for numbers in (*summary(folder)["metrics"].values(), measured["elbo"]):
        assert numbers.get("trained_on_gray") == (None if binarise else True)
    for verdict in (summary(folder)["verdict"], measured["verdict"]):
        assert ("which it has never seen" in " ".join(verdict["sentences"])) != binarise


def test_a_stopped_run_keeps_its_variance(train_resumed: Callable) -> None:
    """Resumed bit for bit; evaluation uses the average over training's last batches."""
    folder = train_resumed(
        *SMALL,
        "likelihood=gaussian_optimal",
        "max_steps=20",
        "lr=0.01",
        "lr_schedule.warmup_steps=5",
        stops=[13],
    )
    updater = trained_states(folder)["trainer"]["updater"]
    average = updater["average"]["likelihood.variance"].item()
    last = updater["model"]["likelihood.variance"].item()
    assert weights(folder)["likelihood.variance"].item() == average != last
    assert 0.5 < average / last < 2 and average < 1 / 12 * 1.5
    nats = [row["train"]["distortion"] for row in rows(folder) if "train" in row]
    assert nats[-1] == pytest.approx(392 * (math.log(2 * math.pi * last) + 1), rel=1e-5)


def colour_run(folder: Path) -> list[str]:
    """The overrides of a short run on 40 pictures in colour, which are written to a folder."""
    write_pictures(folder / "pictures", count=40)
    root = f"dataset.root={folder / 'pictures'}"
    return [*SMALL, "dataset=folder", root, "dataset.side=16", "batch_size=16", "max_steps=3"]


def test_the_data_choose_where_likelihood_is_auto(
    train_here: Callable, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """config.yaml has the likelihood that was chosen; asking for it by name is the same run."""
    gray = train_here(*SMALL, "max_steps=3", folder="gray")
    settings = read_settings(gray)
    assert settings["choices"]["likelihood"] == "bernoulli"
    bernoulli = {"_target_": "genmodels.likelihoods.BernoulliLikelihood"}
    assert settings["likelihood"] == settings["model"]["likelihood"] == bernoulli
    train_here(*SMALL, "max_steps=3", "likelihood=bernoulli", folder="gray")
    assert "is finished" in caplog.text
    with pytest.raises(UserError, match="other settings: likelihood"):
        train_here(*SMALL, "max_steps=3", "likelihood.gray=continuous_bernoulli", folder="gray")

    coloured = train_here(*colour_run(tmp_path), folder="coloured")
    assert read_settings(coloured)["choices"]["likelihood"] == "discretised_logistic"
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
    spec = ImageSpec("planted", (channels, 8, 8))
    settings = settings_of(f"likelihood={choice}", spec=spec)
    about = {"settings": number_settings(settings.as_dict()), "choices": settings.choices}
    assert words in caption(about, 1)


def test_black_and_white_pixels_are_refused_for_colours(
    train_here: Callable, tmp_path: Path
) -> None:
    message = r"^likelihood=BernoulliLikelihood: must be one for colours, such as discret"
    with pytest.raises(UserError, match=message):
        train_here(*colour_run(tmp_path), "likelihood=bernoulli")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        *(
            (
                [f"likelihood={choice}", "trainer.binarise=true"],
                r"trainer\.binarise=True: must be false for \w+Likelihood, which is not",
            )
            for choice in CHOICES
            if choice != "bernoulli"
        ),
        (
            ["likelihood.gray=normal"],
            r"likelihood\.gray=normal: must be one of bernoulli, continuous_bernoulli, ",
        ),
        (
            ["likelihood=gaussian", "likelihood.stddev=0.001"],
            r"likelihood\.stddev=0\.001: must be a finite number >= 0\.0039",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(
    overrides: list[str], message: str, train_here: Callable, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=f"^{message}"):
        train_here(*SMALL, *overrides)
    assert not (tmp_path / "run").exists()


def test_bits_per_dimension_of_gray_values_as_probabilities_are_not_claimed() -> None:
    """A Bernoulli likelihood of colours has neither masses of 256 levels nor of two."""
    torch.manual_seed(0)
    model = MLPVAE(
        image_shape=(3, 4, 4), latent_dim=2, widths=[4], likelihood=BernoulliLikelihood()
    )
    images = torch.randint(0, 256, (9, 3, 4, 4), dtype=torch.uint8)
    split = ImageSet(images, torch.full((9,), -1), torch.arange(9))
    assert "bits_per_dimension" not in evaluate(model, split)
