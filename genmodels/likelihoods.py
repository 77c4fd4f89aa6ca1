"""What a decoder network ends in: a likelihood reads its output as a distribution over images.

The distributions themselves are in genmodels.image_distributions.
"""

import math

import torch
from torch import Tensor, nn

from genmodels.errors import require
from genmodels.image_distributions import (
    STDDEV_FLOOR,
    Bernoulli,
    ContinuousBernoulli,
    DiscretisedLogistic,
    FittedGaussian,
    Gaussian,
    ImageDistribution,
)


class Likelihood(nn.Module):
    """Reads a decoder's output as a distribution over images; a module, since some have parameters of their own."""

    parameters_per_value: int = 1  # decoder channels for each image channel
    binary: bool = False  # of black and white images: training and evaluation binarise gray ones
    quantised: bool = False  # of images with 256 levels; if neither, log_prob is of a density

    @property
    def fitted_stddev(self) -> float | None:
        """The standard deviation of all pixels that training has found, on the scale of [0, 1]; None: it seeks none."""
        return None

    def forward(self, output: Tensor) -> ImageDistribution:
        """(B, parameters_per_value * C, H, W), unbounded -> a distribution over images (B, C, H, W)."""
        raise NotImplementedError


class BernoulliLikelihood(Likelihood):
    """The decoder's output is the logits of Bernoulli pixels: black and white images, or gray values as means."""

    binary = True

    def forward(self, output: Tensor) -> Bernoulli:
        """(B, C, H, W) -> Bernoulli over (B, C, H, W)."""
        return Bernoulli(output)


class ContinuousBernoulliLikelihood(Likelihood):
    """The decoder's output is the logits of continuous Bernoulli pixels: values anywhere in [0, 1]."""

    def forward(self, output: Tensor) -> ContinuousBernoulli:
        """(B, C, H, W) -> ContinuousBernoulli over (B, C, H, W)."""
        return ContinuousBernoulli(output)


class GaussianLikelihood(Likelihood):
    """The sigmoid of the decoder's output is the means of Gaussian pixels; their standard deviation is given.

    The distortion is then squared error / (2 stddev^2) + a constant: `stddev` is a KL weight in disguise.
    """

    def __init__(self, *, stddev: float) -> None:
        """stddev: of every pixel, on the scale of [0, 1]; at least STDDEV_FLOOR."""
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
        return Gaussian(
            torch.sigmoid(output.float()), torch.tensor(self.variance, device=output.device)
        )


class LearnedGaussianLikelihood(Likelihood):
    """As GaussianLikelihood, with one variance for all pixels of all images, learned with the weights.

    One, not one for each pixel from the decoder: a density has no highest value where a pixel is always the same, and
    what a decoder does not get right it can then call noise. It begins at a standard deviation of 0.1: from a large
    one, which makes distortion cheap, the first steps would collapse.
    """

    def __init__(self) -> None:
        super().__init__()
        self.log_variance = nn.Parameter(
            torch.tensor(2 * math.log(0.1))
        )  # of what is above the floor

    @property
    def variance(self) -> Tensor:
        """() of every pixel, STDDEV_FLOOR^2 or more."""
        return STDDEV_FLOOR**2 + self.log_variance.exp()

    @property
    def fitted_stddev(self) -> float:
        """That of the learned variance."""
        return self.variance.sqrt().item()

    def forward(self, output: Tensor) -> Gaussian:
        """(B, C, H, W) -> Gaussian over (B, C, H, W)."""
        return Gaussian(torch.sigmoid(output.float()), self.variance)


class OptimalGaussianLikelihood(Likelihood):
    """As GaussianLikelihood, with the variance that is likeliest for each training batch: its mean squared error.

    The sigma-VAE (Rybkin et al. 2021). A buffer keeps the last batch's for evaluation; in averaged weights it is
    averaged as they are. It is the training images' error: where a model overfits, test images are far less likely.
    """

    def __init__(self) -> None:
        super().__init__()
        self.variance: Tensor
        self.register_buffer(
            "variance", torch.tensor(1 / 12)
        )  # of uniform noise, until there is a batch

    @property
    def fitted_stddev(self) -> float:
        """That of the variance that evaluation uses."""
        return self.variance.sqrt().item()

    def forward(self, output: Tensor) -> Gaussian:
        """(B, C, H, W) -> Gaussian over (B, C, H, W); in training mode, its log_prob sets the buffer."""
        kind = FittedGaussian if self.training else Gaussian
        return kind(torch.sigmoid(output.float()), self.variance)


class DiscretisedLogisticLikelihood(Likelihood):
    """The decoder's output is location - 1/2 and log-scale + 2 of every value: discretised logistic pixels.

    So an untrained decoder says middle gray, give or take 0.25 (a logistic's standard deviation is 1.8 scales). Masses
    are at most 1, so scales of single values are safe here. On 3x32x32 pictures 300 steps with them brought 5.14 bits
    per dimension, with one scale for all 5.20, with locations kept in [0, 1] by a sigmoid 5.34 (one seed each).
    """

    parameters_per_value = 2
    quantised = True

    def forward(self, output: Tensor) -> DiscretisedLogistic:
        """(B, 2 C, H, W) -> DiscretisedLogistic over (B, C, H, W)."""
        location, log_scale = output.float().chunk(2, dim=1)  # (B, C, H, W) each
        return DiscretisedLogistic(0.5 + location, log_scale - 2)
