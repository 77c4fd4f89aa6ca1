"""The latent explorer: a page that makes the same images as torch."""

import json
from pathlib import Path

import pytest
import torch
from browser import needs_chromium, needs_node, run_in_page, run_node
from conftest import ROOT, train_in
from test_models import build_generative
from torch import Tensor, nn

from genmodels import checkpoint
from genmodels.data.images import ImageSet
from genmodels.explorer import page
from genmodels.explorer.browser_model import Weights, describe, describe_layer
from genmodels.figures.options import FigureOptions
from genmodels.figures.registry import draw
from genmodels.models.flow_prior import FlowPrior
from genmodels.models.gan import Generator
from genmodels.models.generative import GenerativeModel
from genmodels.models.mixtures import GaussianMixture
from genmodels.models.vae import VAE
from genmodels.registry import UnsuitedError

NETWORK = ROOT / "genmodels/explorer/network.js"
GRAY, COLOUR = (1, 28, 28), (3, 64, 64)
LABELS = 3  # classes of the models that are built here

# A user's first minute; what is seen after each step
USE = """
const drawn = async () => { do await wait(50); while (waiting); };
const picture = () => {
  const { data } = at("picture").getContext("2d").getImageData(0, 0, 28, 28);
  return Array.from(data).filter((_, index) => index % 4 === 0);
};
const outcome = {};
await drawn();
outcome.overflow = document.documentElement.scrollWidth - innerWidth;

const latents = Array.from(state.z);
document.querySelector('#classes [data-label="7"]').click();
outcome.ofClass = state.z.some((value, index) => value !== latents[index]);
const expected = model.latentsOf(state.noise, 1, 7);
outcome.ofNoise = state.z.every((value, index) => value === expected[index]);
at("origin").click();
await drawn();
outcome.atZero = picture();

const slider = document.querySelector("#sliders input");
slider.value = 1;
slider.dispatchEvent(new Event("input"));
await drawn();
outcome.moved = state.z.filter(value => value !== 0).length;
outcome.changed = picture().some((value, index) => value !== outcome.atZero[index]);

const along = z => project(z, state.plane.directions[0]);
const start = along(state.z);
pad.dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowRight", bubbles: true }));
outcome.right = along(state.z) - start;
outcome.step = 0.02 * state.plane.reach;

document.dispatchEvent(new KeyboardEvent("keydown", { key: "a", bubbles: true }));
at("noise").click();
at("set-b").click();
at("path").value = 0.5;
at("path").dispatchEvent(new Event("input"));
const { a, b } = state.ends;
const errors = state.z.map((value, index) => Math.abs(value - (a[index] + b[index]) / 2));
outcome.half = Math.max(...errors);

outcome.samples = document.querySelectorAll("#samples canvas").length;
outcome.sliders = document.querySelectorAll("#sliders input").length;
outcome.classes = at("classes").children.length;
outcome.points = points.labels.length;
at("tiles").click();
while (tiles.next < TILES ** 2) await drawn();
return outcome;
"""

CASES = [
    ("vae", GRAY, []),
    ("vae", (1, 28, 20), ["model.norm=batch", "model.activation=silu"]),
    ("vae", (3, 32, 32), ["model.norm=layer", "model.skips=false"]),
    pytest.param("vae", COLOUR, [], marks=pytest.mark.slow),
    ("vae_mlp", GRAY, ["model.norm=batch", "likelihood=continuous_bernoulli"]),
    ("vae_mlp", GRAY, ["model.norm=layer", "likelihood=gaussian_optimal"]),
    ("vae", (3, 16, 16), ["likelihood=discretised_logistic"]),
    ("vae", (3, 16, 16), ["likelihood=discretised_logistic_mixture"]),
    ("vae", (1, 16, 16), ["likelihood=discretised_logistic_mixture"]),
    ("cvae", GRAY, []),
    ("cvae_mlp", GRAY, ["model.skips=false"]),
    ("gan", GRAY, []),
    ("gan", (3, 32, 32), []),
    pytest.param("gan", COLOUR, [], marks=pytest.mark.slow),
    ("gan", GRAY, ["model.generator_norm=none"]),
    ("cgan", GRAY, ["model.generator_blocks=1"]),
]


def trained(name: str, shape: tuple[int, int, int], overrides: list[str]) -> GenerativeModel:
    """A model with weights of a size that makes different images, and moving statistics."""
    model, _ = build_generative(name, shape, *overrides)
    with torch.no_grad():
        for parameter in model.parameters():
            size = parameter.std() if parameter.numel() > 1 else 0.1
            parameter.add_(0.5 * size * torch.randn_like(parameter))
        for layer in model.modules():
            if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
                layer.momentum = None  # statistics are the mean over all batches
        for _ in range(3):
            labels = torch.randint(LABELS, (32,)) if model.num_classes else None
            images = model.train().generate(torch.randn(32, model.latent_dim), labels)
        if isinstance(model, Generator):
            model.body[-1].weight.mul_(0.3 / (images.std(dim=0).mean() + 0.001))
    return model.eval()


def from_page(model: GenerativeModel, z: Tensor, labels: Tensor) -> Tensor:
    """The images that network.js makes, (B, C, H, W)."""
    script = f"""
    const {{ BrowserModel }} = require({json.dumps(str(NETWORK))});
    const model = new BrowserModel(input.model);
    const images = input.z.map((z, index) => Array.from(model.generate(z, input.labels[index])));
    console.log(JSON.stringify(images));
    """
    value = {"model": describe(model), "z": z.tolist(), "labels": labels.tolist()}
    return torch.tensor(run_node(script, value)).view(-1, *model.image_shape)


@needs_node
@pytest.mark.parametrize(("name", "shape", "overrides"), CASES)
@torch.no_grad()
def test_the_page_makes_the_images_of_torch(
    name: str, shape: tuple[int, int, int], overrides: list[str]
) -> None:
    """At 100 random points, and for all labels that a model knows, within a gray level."""
    model = trained(name, shape, overrides)
    z = torch.randn(100, model.latent_dim)
    labels = torch.full((100,), -1)
    if model.num_classes:
        labels = torch.arange(100) % (LABELS + 1) - 1
    expected = model.generate(z, labels)
    assert expected.std(dim=0).mean() > 0.01, "all images are alike: the test would not notice"
    torch.testing.assert_close(from_page(model, z, labels), expected, rtol=0, atol=1 / 255)


def latents_of_page(model: GenerativeModel, noise: list[dict], label: int) -> Tensor:
    script = f"""
    const {{ BrowserModel }} = require({json.dumps(str(NETWORK))});
    const model = new BrowserModel(input.model);
    const latents = noise => Array.from(model.latentsOf(noise, input.temperature, input.label));
    console.log(JSON.stringify(input.noise.map(latents)));
    """
    value = {"model": describe(model), "noise": noise, "temperature": 0.25, "label": label}
    return torch.tensor(run_node(script, value))


def random_noise(n: int, latent_dim: int) -> list[dict]:
    noise = []
    for _ in range(n):
        component, of_class = torch.rand(2).tolist()
        normals = torch.randn(latent_dim).tolist()
        noise.append({"component": component, "classes": of_class, "normals": normals})
    return noise


@needs_node
@pytest.mark.parametrize("label", [-1, 0, 2])
@torch.no_grad()
def test_the_page_samples_from_a_flow(label: int) -> None:
    """The same noise gives the same latents; the temperature is that of the noise."""
    model, _ = build_generative("cvae_mlp", GRAY, "model.latent_dim=5")
    flow = FlowPrior(5, layers=3, hidden=16, num_classes=LABELS)
    for parameter in flow.parameters():
        parameter.add_(0.1 * torch.randn_like(parameter))
    noise = random_noise(50, 5)
    z = 0.5 * torch.tensor([draw["normals"] for draw in noise])
    labels = torch.full((50,), label)
    for layer in reversed(list(flow.layers)):
        z = layer.inverse(z, labels)
    drawn = latents_of_page(model.with_prior(flow), noise, label)
    torch.testing.assert_close(drawn, z, rtol=0.01, atol=0.01)


@needs_node
@torch.no_grad()
def test_the_page_samples_from_mixtures() -> None:
    """Components as often as they weigh, of the class asked for; covariances times temperature."""
    model, _ = build_generative("cvae_mlp", GRAY, "model.latent_dim=2")
    means = torch.tensor([[0.0, 0], [9, 0], [0, 9], [9, 9], [-9, 0], [-9, 9]])
    covariances = torch.tensor([[1.0, 0.8], [0.8, 1.0]]).repeat(6, 1, 1)
    weights = torch.tensor([[0.25, 0.75], [0.5, 0.5], [1.0, 1e-9]])
    model = model.with_prior(GaussianMixture.of(weights, means, covariances))
    torch.manual_seed(0)
    drawn = latents_of_page(model, random_noise(4000, 2), label=0)
    second = drawn[:, 0] > 4.5
    assert second.float().mean().item() == pytest.approx(0.75, abs=0.03)
    torch.testing.assert_close(drawn[second].mean(dim=0), means[1], rtol=0, atol=0.03)
    torch.testing.assert_close(torch.cov(drawn[second].T), 0.25 * covariances[0], rtol=0, atol=0.03)
    any_class = latents_of_page(model, random_noise(3000, 2), label=-1)
    shares = (torch.cdist(any_class, means).argmin(dim=1).bincount(minlength=6)) / 3000
    torch.testing.assert_close(shares, (weights / 3).flatten(), rtol=0, atol=0.03)


@needs_node
@torch.no_grad()
def test_the_page_samples_from_a_vampprior() -> None:
    """Its components are q(z|u) of the pseudo-inputs: at temperature 0 their means."""
    model, _ = build_generative("vae_mlp", GRAY, "model.latent_dim=3", "prior=vampprior")
    noise = [draw | {"normals": [0, 0, 0]} for draw in random_noise(20, 3)]
    drawn = latents_of_page(model.eval(), noise, label=-1)
    distances = torch.cdist(drawn, model.prior.components().mean)
    assert distances.min(dim=1).values.max() < 1e-3


def test_what_the_page_cannot_run_is_refused(tmp_path: Path) -> None:
    """By name in one line; otherwise the figure is left out."""
    model, _ = build_generative("vae_mlp", GRAY)
    assert isinstance(model, VAE)
    model.decoder.body.insert(0, nn.Bilinear(2, 2, 2))
    with pytest.raises(
        UnsuitedError, match="figures: explorer: a page cannot run a layer of the kind Bilinear"
    ):
        draw(model, ["explorer"], FigureOptions(), tmp_path, "", refuse=True)
    assert draw(model, ["explorer"], FigureOptions(), tmp_path, "") == []
    for layer in (
        nn.Conv2d(2, 2, 3, stride=2),
        nn.Conv2d(2, 2, 3, groups=2),
        nn.ConvTranspose2d(2, 2, 3, output_padding=1, stride=2),
        nn.GroupNorm(2, 4),
    ):
        with pytest.raises(UnsuitedError, match="a page cannot run"):
            list(describe_layer(layer, Weights()))
    with pytest.raises(UnsuitedError, match="too large for the float16"):
        Weights().add(torch.tensor([1e6]))


def test_dimensions_are_sorted() -> None:
    """By their KL where there are test images, else by what they change in an image."""
    model, _ = build_generative("vae_mlp", GRAY, "model.latent_dim=4", "model.skips=false")
    assert isinstance(model, VAE)
    with torch.no_grad():
        first = model.decoder.body[0]
        first.weight.mul_(torch.tensor([0.0, 3, 1, 0.3]))
    by_effect = page.explorer(model, FigureOptions()).data
    assert by_effect["unit"] == "effect" and by_effect["points"] is None
    assert [dimension["index"] for dimension in by_effect["dimensions"]] == [1, 2, 3, 0]
    images = torch.randint(256, (50, 1, 28, 28), dtype=torch.uint8)
    options = FigureOptions(
        test=ImageSet(images, torch.zeros(50, dtype=torch.long), torch.arange(50))
    )
    by_kl = page.explorer(model, options).data
    kl = options.posteriors(model).kl.mean(dim=0)
    order = kl.argsort(descending=True).tolist()
    assert by_kl["unit"] == "KL, nats" and by_kl["planes"]
    assert [dimension["index"] for dimension in by_kl["dimensions"]] == order
    for dimension in by_kl["dimensions"]:
        assert dimension["value"] == pytest.approx(kl[dimension["index"]].item())


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Path:
    """A trained conditional VAE, with its explorer."""
    folder = tmp_path_factory.mktemp("explorer") / "run"
    small = ["model=cvae_mlp", "model.widths=[32]", "model.latent_dim=4", "prior.layers=2"]
    return train_in(folder, cache, *small, "max_steps=20", "figures=[explorer]", figures=True)


@needs_chromium
@pytest.mark.parametrize("width", [1400, 400])
def test_the_page_in_a_browser(run: Path, width: int) -> None:
    """Buttons, sliders, pad, keys and classes work; nothing is wider than the window."""
    path = run / "figures/explorer.html"
    outcome = run_in_page(path, USE, width=width)
    assert outcome["overflow"] <= 0
    # this prior is another one for each class
    assert outcome["ofClass"] and outcome["ofNoise"]
    assert outcome["moved"] == 1 and outcome["changed"]
    assert outcome["right"] == pytest.approx(outcome["step"], rel=1e-3)
    assert outcome["half"] < 1e-6
    assert (outcome["samples"], outcome["sliders"], outcome["classes"]) == (12, 4, 11)
    assert outcome["points"] == 359
    model, _ = checkpoint.open_run(str(run))
    with torch.no_grad():
        expected = model.generate(torch.zeros(1, 4), torch.tensor([7])).flatten()
    torch.testing.assert_close(
        torch.tensor(outcome["atZero"]) / 255, expected, rtol=0, atol=1.5 / 255
    )


def test_the_page_is_alone(run: Path) -> None:
    """It asks for nothing from elsewhere."""
    text = (run / "figures/explorer.html").read_text(encoding="utf-8")
    for source in ("http://", "https://", "src=", "@import", "url(", "fetch(", "XMLHttpRequest"):
        assert source not in text, source
