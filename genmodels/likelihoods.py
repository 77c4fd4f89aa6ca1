"""Likelihoods: a decoder's output, read as a distribution over images.

The distributions are those of genmodels.image_distributions and genmodels.discretised_logistics.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from genmodels.discretised_logistics import DiscretisedLogistic, DiscretisedLogisticMixture
from genmodels.errors import require
from genmodels.image_distributions import (
    STDDEV_FLOOR,
    Bernoulli,
    ContinuousBernoulli,
    FittedGaussian,
    Gaussian,
    ImageDistribution,
)


class Likelihood(nn.Module):
    """p(x|z) from a decoder's output; a module, since some have parameters of their own."""

    parameters_per_value: int = 1  # decoder channels for each image channel
    binary: bool = False  # of black and white images: training and evaluation binarise gray ones
    quantised: bool = False  # of images with 256 levels; if neither, log_prob is of a density

    @property
    def fitted_stddev(self) -> float | None:
        """The learned standard deviation of pixels, on the scale of [0, 1]; None: not learned."""
        return None

    def output_shape(self, image_shape: Sequence[int]) -> tuple[int, int, int]:
        """The decoder's output for images (C, H, W): (parameters_per_value * C, H, W)."""
        channels, height, width = image_shape
        return channels * self.parameters_per_value, height, width

    def forward(self, output: Tensor) -> ImageDistribution:
        """(B, parameters_per_value * C, H, W), unbounded -> distribution over (B, C, H, W)."""
        raise NotImplementedError


class BernoulliLikelihood(Likelihood):
    """Bernoulli pixels with the output as logits: black and white, or gray values as means."""

    binary = True

    def forward(self, output: Tensor) -> Bernoulli:
        """(B, C, H, W) -> Bernoulli over (B, C, H, W)."""
        return Bernoulli(output)


class ContinuousBernoulliLikelihood(Likelihood):
    """Continuous Bernoulli pixels with the output as logits: values anywhere in [0, 1]."""

    def forward(self, output: Tensor) -> ContinuousBernoulli:
        """(B, C, H, W) -> ContinuousBernoulli over (B, C, H, W)."""
        return ContinuousBernoulli(output)


class GaussianLikelihood(Likelihood):
    """Gaussian pixels with means sigmoid(output) and a given standard deviation.

    The distortion is squared error / (2 stddev^2) + a constant: `stddev` acts as a KL weight.

    Arguments:
    stddev: of every pixel, on the scale of [0, 1]; at least STDDEV_FLOOR.
    """

    def __init__(self, *, stddev: float) -> None:
        super().__init__()
        require(
            STDDEV_FLOOR <= stddev < float("inf"),
            "stddev",
            stddev,
            f"a finite number >= {STDDEV_FLOOR} = 1/256",
        )
        self.variance = stddev**2

    def forward(self, output: Tensor) -> Gaussian:
        """(B, C, H, W) -> Gaussian over (B, C, H, W)."""
        variance = torch.tensor(self.variance, device=output.device)
        return Gaussian(torch.sigmoid(output.float()), variance)


class LearnedGaussianLikelihood(Likelihood):
    """As GaussianLikelihood, with one variance for all pixels, learned with the weights.

    A variance for each pixel would have no optimum where a pixel is constant: the density has no
    upper bound. It would also let the decoder call its errors noise. The standard deviation begins
    at 0.1: a large one makes distortion cheap, and the first steps would collapse.
    """

    def __init__(self) -> None:
        super().__init__()
        # of the variance above its floor
        self.log_variance = nn.Parameter(torch.tensor(2 * math.log(0.1)))

    @property
    def variance(self) -> Tensor:
        """() of every pixel, at least STDDEV_FLOOR^2."""
        return STDDEV_FLOOR**2 + self.log_variance.exp()

    @property
    def fitted_stddev(self) -> float:
        """Of the learned variance."""
        return self.variance.sqrt().item()

    def forward(self, output: Tensor) -> Gaussian:
        """(B, C, H, W) -> Gaussian over (B, C, H, W)."""
        return Gaussian(torch.sigmoid(output.float()), self.variance)


class OptimalGaussianLikelihood(Likelihood):
    """As GaussianLikelihood, with the mean squared error of each training batch as the variance.

    The sigma-VAE (Rybkin et al. 2021, "Simple and effective VAE training with calibrated
    decoders"). Evaluation uses the last batch's variance, kept in a buffer, or in averaged weights
    its average. It is the error on training images: where a model overfits, test images are far
    less likely.
    """

    variance: Tensor  # ()

    def __init__(self) -> None:
        super().__init__()
        # of uniform noise, until there is a batch
        self.register_buffer("variance", torch.tensor(1 / 12))

    @property
    def fitted_stddev(self) -> float:
        """Of the variance that evaluation uses."""
        return self.variance.sqrt().item()

    def forward(self, output: Tensor) -> Gaussian:
        """(B, C, H, W) -> Gaussian over (B, C, H, W); in training its log_prob sets the buffer."""
        distribution = FittedGaussian if self.training else Gaussian
        return distribution(torch.sigmoid(output.float()), self.variance)


class DiscretisedLogisticLikelihood(Likelihood):
    """Discretised logistic pixels; the output is location - 1/2 and log-scale + 2 of each value.

    So an untrained decoder predicts middle gray +- 0.25 (a logistic's standard deviation is 1.8
    scales). Probabilities are at most 1, so a scale for each value is safe here. On 3x32x32 images
    300 steps gave 5.14 bits per dimension, with one scale for all values 5.20, with locations kept
    in [0, 1] by a sigmoid 5.34 (one seed each).
    """

    parameters_per_value = 2
    quantised = True

    def forward(self, output: Tensor) -> DiscretisedLogistic:
        """(B, 2 C, H, W) -> DiscretisedLogistic over (B, C, H, W)."""
        location, log_scale = output.float().chunk(2, dim=1)  # (B, C, H, W) each
        return DiscretisedLogistic(0.5 + location, log_scale - 2)


class DiscretisedLogisticMixtureLikelihood(Likelihood):
    """Mixtures of discretised logistics; green depends on red, and blue on both.

    The output is each component's logit, locations - (k + 1/2) / K, log-scales + 2 and
    coefficients, so that the K components of an untrained decoder cover the range evenly. With free
    parameters for each pixel of 16x16 images in place of a decoder, 250 steps gave 4.81 bits per
    dimension with K = 5; with locations around 1/2 4.88, without coefficients 5.10, with K = 1
    5.38, with a single logistic for each channel 5.77 (one seed each). With K = 3 they gave 4.94,
    with coefficients bounded by tanh 5.00, with those of the paper 5.00.

    Arguments:
    components: K of each pixel.
    """

    quantised = True

    def __init__(self, *, components: int) -> None:
        super().__init__()
        require(components >= 1, "components", components, "an integer >= 1")
        self.components = components

    def output_shape(self, image_shape: Sequence[int]) -> tuple[int, int, int]:
        """K (C + 1) (C + 2) / 2 channels for images of C, as `DiscretisedLogisticMixture` has."""
        channels, height, width = image_shape
        parameters = (channels + 1) * (channels + 2) // 2
        return self.components * parameters, height, width

    def forward(self, output: Tensor) -> DiscretisedLogisticMixture:
        """(B, K (C + 1) (C + 2) / 2, H, W) -> DiscretisedLogisticMixture over (B, C, H, W)."""
        per_component = output.float().unflatten(1, (self.components, -1))  # (B, K, P, H, W)
        parameters = per_component.shape[2]
        channels = (math.isqrt(8 * parameters + 1) - 3) // 2
        sizes = (1, channels, channels, channels * (channels - 1) // 2)
        logits, location, log_scale, coefficients = per_component.split(sizes, dim=2)
        centers = (torch.arange(self.components, device=output.device) + 0.5) / self.components
        location = centers.view(-1, 1, 1, 1) + location
        return DiscretisedLogisticMixture(logits.squeeze(2), location, log_scale - 2, coefficients)
