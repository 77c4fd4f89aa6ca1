"""Models and images whose bounds, KL, posteriors and spectra are known on paper."""

import torch
from torch import Tensor, nn

from genmodels.data.images import ImageData, ImageSet, ImageSpec, to_uint8
from genmodels.distributions import DiagonalGaussian
from genmodels.image_distributions import Gaussian
from genmodels.likelihoods import BernoulliLikelihood, Likelihood
from genmodels.models.priors import Prior
from genmodels.models.vae import MLPVAE, VAE

SIDE, PIXELS = 8, 64
STDDEV = 0.05  # of the likelihood
SCALES = torch.tensor([0.3, 0.15, 0.1])  # effects of the latent dimensions on the image
PRECISION = 1 + SCALES.double().square() / STDDEV**2  # of the exact posterior, by dimension
INFORMATION = 0.5 * PRECISION.log().sum().item()  # I(x; z) under the model, nats


class LogisticGaussianLikelihood(Likelihood):
    """The logistic function of the decoder's output is the mean of N(mean, STDDEV^2)."""

    def forward(self, output: Tensor) -> Gaussian:
        return Gaussian(torch.sigmoid(output), torch.tensor(STDDEV**2))


class LinearGaussianLikelihood(Likelihood):
    """The decoder's output is the mean as it is: the model is then linear in z."""

    def forward(self, output: Tensor) -> Gaussian:
        return Gaussian(output, torch.tensor(STDDEV**2))


def directions() -> Tensor:
    """W (PIXELS, 3): orthogonal columns of the lengths SCALES, so posteriors are diagonal."""
    torch.manual_seed(0)
    return torch.linalg.qr(torch.randn(PIXELS, 3))[0] * SCALES


def linear_gaussian(
    *,
    shift: float = 0.0,
    widen: float = 1.0,
    unused: int = 0,
    ignores_z: bool = False,
    likelihood: Likelihood | None = None,
    prior: Prior | None = None,
) -> VAE:
    """p(x|z) = N(W z + 1/2, STDDEV^2 I), with the exact posterior under N(0, I).

    Arguments:
    shift: is added to the posterior's means.
    widen: multiplies the posterior's variance.
    unused: more dimensions that change nothing, with N(0, 1) as their posterior.
    ignores_z: whether the decoder makes the same image of all z.
    likelihood: None for the linear one.
    prior: None for N(0, I).
    """
    weights, precision = directions(), PRECISION.float()
    to_mean = (weights / STDDEV**2 / precision).T  # (3, PIXELS)
    latent_dim = 3 + unused
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(PIXELS, 2 * latent_dim))
    decoder = nn.Sequential(nn.Linear(latent_dim, PIXELS), nn.Unflatten(1, (1, SIDE, SIDE)))
    for values in [*encoder.parameters(), *decoder.parameters()]:
        values.data.zero_()
    encoder[1].weight.data[:3] = to_mean
    encoder[1].bias.data[:3] = shift - to_mean.sum(dim=1) / 2
    _, log_variance_bias = encoder[1].bias.data.chunk(2)
    log_variance_bias[:3] = (widen / precision).log()
    if not ignores_z:
        decoder[0].weight.data[:, :3] = weights
    decoder[0].bias.data.fill_(0.5)
    model = VAE(
        encoder,
        decoder,
        likelihood or LinearGaussianLikelihood(),
        image_shape=(1, SIDE, SIDE),
        latent_dim=latent_dim,
        prior=prior,
    )
    return model.eval().requires_grad_(False)


def image_set(x: Tensor, labels: Tensor | None = None) -> ImageSet:
    """Rows (N, PIXELS) in [0, 1] as a split; without labels if None."""
    labels = torch.full((len(x),), -1) if labels is None else labels
    return ImageSet(to_uint8(x).view(-1, 1, SIDE, SIDE), labels, torch.arange(len(x)))


def model_images(count: int = 2000) -> ImageSet:
    """Images of the linear model's own making."""
    torch.manual_seed(1)
    z, noise = torch.randn(count, 3), torch.randn(count, PIXELS)
    return image_set(0.5 + z @ directions().T + STDDEV * noise)


def images_of_spectrum(*eigenvalues: float) -> ImageSet:
    """Images around 1/2 that vary so much in orthogonal directions, in units of STDDEV^2."""
    torch.manual_seed(3)
    basis = torch.linalg.qr(torch.randn(PIXELS, len(eigenvalues)))[0]
    coordinates = torch.randn(4000, len(eigenvalues)) * torch.tensor(eigenvalues).sqrt()
    return image_set(0.5 + STDDEV * coordinates @ basis.T)


def data_of(split: ImageSet, classes: tuple[str, ...] = ()) -> ImageData:
    """The same images as every split."""
    spec = ImageSpec("planted", tuple(split.images.shape[1:]), classes)  # type: ignore[arg-type]
    return ImageData(spec, split, split, split)


def entropy(p: Tensor) -> float:
    """Of Bernoulli variables, summed, in nats."""
    return (torch.special.entr(p) + torch.special.entr(1 - p)).sum().item()


class PlantedPosteriors(MLPVAE):
    """A VAE whose posteriors are known: those of the image's label."""

    def __init__(self, mean: Tensor, stddev: Tensor, prior: Prior | None = None) -> None:
        """mean, stddev: (K, D) of q(z|x) for images of each label; without one, of the first."""
        torch.manual_seed(0)
        super().__init__(
            image_shape=(1, SIDE, SIDE),
            latent_dim=mean.shape[1],
            widths=[16],
            likelihood=BernoulliLikelihood(),
            prior=prior,
        )
        self.planted = DiagonalGaussian(mean, 2 * stddev.log())
        self.eval().requires_grad_(False)

    def encode(self, images: Tensor, labels: Tensor | None = None) -> DiagonalGaussian:
        assert labels is not None
        rows = labels.clamp(min=0)
        return DiagonalGaussian(self.planted.mean[rows], self.planted.log_variance[rows])


def noise_images(labels: Tensor) -> ImageSet:
    """As many random images as labels."""
    noise = torch.Generator().manual_seed(1)
    return image_set(torch.rand(len(labels), PIXELS, generator=noise), labels)
