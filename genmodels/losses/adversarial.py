"""The losses of a GAN's generator G and discriminator D; penalties on D's gradients.

Logits (B,) of real images x and of generated images G(z). Both losses are (B,) and are minimised:
`discriminator(real, fake)` by D, `generator(fake, real)` by G. They are in nats per image where
logits are log-odds.
"""

import math
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from genmodels.errors import require
from genmodels.randomness import uniform
from genmodels.schedules import cosine_decay


class AdversarialLoss(Protocol):
    """What a trainer asks of a loss.

    D's loss saturates if it is bounded below: a D that is always right comes near the bound, learns
    no more, and what it says does not depend on how far generated images are from real ones
    (Arjovsky & Bottou 2017, "Towards principled methods for training generative adversarial
    networks", section 2). For such losses it is a bad sign that D is hardly ever wrong. The game's
    value is then a divergence at its maximum, also where G's own loss does not saturate. That holds
    for all but the Wasserstein loss, whose critic should be trained until it is as good as it can.
    """

    relative: bool  # G's loss depends on the logits of real images too
    saturates: bool  # D's loss is bounded below

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """D's loss (B,) from its logits (B,)."""
        ...

    def generator(self, fake: Tensor, real: Tensor) -> Tensor:
        """G's loss (B,) from the logits (B,); it depends on the real ones only if `relative`."""
        ...


@dataclass(frozen=True)
class Minimax:
    """D minimises -log D(x) - log(1 - D(G(z))), binary cross-entropy; G minimises log(1 - D(G(z))).

    Goodfellow et al. 2014, "Generative adversarial nets", eq. 1. The gradient of G's loss vanishes
    where D is sure.

    Arguments:
    label_smoothing: s in [0, 1); D's target for real images is 1 - s. Salimans et al. 2016,
        "Improved techniques for training GANs", section 3.4.
    """

    label_smoothing: float = 0.0
    relative = False
    saturates = True

    def __post_init__(self) -> None:
        _check_smoothing(self.label_smoothing)

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """-(1 - s) log D(x) - s log(1 - D(x)) - log(1 - D(G(z)))."""
        on_real = F.softplus(-real) + self.label_smoothing * real
        return on_real + F.softplus(fake)

    def generator(self, fake: Tensor, real: Tensor) -> Tensor:
        """log(1 - D(G(z))), at most 0."""
        return -F.softplus(fake)


class NonSaturating(Minimax):
    """D as in `Minimax`; G minimises -log D(G(z)), whose gradient does not vanish.

    Goodfellow et al. 2014, section 3. It is binary cross-entropy with generated images labelled
    real, which most code named DCGAN minimises.
    """

    def generator(self, fake: Tensor, real: Tensor) -> Tensor:
        """-log D(G(z))."""
        return F.softplus(-fake)


@dataclass(frozen=True)
class LeastSquares:
    """Squared distances of D's logits to 1 (real) and 0 (generated); G draws its own to 1.

    Mao et al. 2017, "Least squares generative adversarial networks", eq. 9.

    Arguments:
    label_smoothing: s in [0, 1); D's target for real images is 1 - s.
    """

    label_smoothing: float = 0.0
    relative = False
    saturates = True

    def __post_init__(self) -> None:
        _check_smoothing(self.label_smoothing)

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """(D(x) - (1 - s))^2 / 2 + D(G(z))^2 / 2."""
        target = 1 - self.label_smoothing
        return 0.5 * (real - target).square() + 0.5 * fake.square()

    def generator(self, fake: Tensor, real: Tensor) -> Tensor:
        """(D(G(z)) - 1)^2 / 2."""
        return 0.5 * (fake - 1).square()


class Hinge:
    """D learns only from logits within a margin of 1; G minimises -D(G(z)).

    Lim & Ye 2017, "Geometric GAN"; Miyato et al. 2018, "Spectral normalization for generative
    adversarial networks", eq. 16, 17.
    """

    relative = False
    saturates = True

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """max(0, 1 - D(x)) + max(0, 1 + D(G(z)))."""
        return F.relu(1 - real) + F.relu(1 + fake)

    def generator(self, fake: Tensor, real: Tensor) -> Tensor:
        """-D(G(z))."""
        return -fake


class Wasserstein:
    """The dual form of the Wasserstein distance, for a D with slopes of at most 1.

    Arjovsky et al. 2017, "Wasserstein GAN", eq. 2, 3. The gradient penalty enforces the slope
    (Gulrajani et al. 2017, "Improved training of Wasserstein GANs").
    """

    relative = False
    saturates = False

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """D(G(z)) - D(x)."""
        return fake - real

    def generator(self, fake: Tensor, real: Tensor) -> Tensor:
        """-D(G(z))."""
        return -fake


class RelativisticPairing:
    """D learns which image of a pair is real; G to make its image look more real than the other.

    Jolicoeur-Martineau 2019, "The relativistic discriminator"; Huang et al. 2024, "The GAN is dead;
    long live the GAN!", eq. 3. D cannot put all generated images on one side of a single boundary,
    so G gains nothing by dropping modes of the data. With R1 and R2 it converges.
    """

    relative = True
    saturates = True

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """-log sigmoid(D(x) - D(G(z)))."""
        return F.softplus(fake - real)

    def generator(self, fake: Tensor, real: Tensor) -> Tensor:
        """-log sigmoid(D(G(z)) - D(x))."""
        return F.softplus(real - fake)


@dataclass(frozen=True)
class Penalty:
    """Penalties on the gradients of D's logits with respect to images of the range [-1, 1].

    r1 / 2 |grad D(x)|^2 + r2 / 2 |grad D(G(z))|^2 + gradient (|grad D(x')| - 1)^2, where x' is a
    random point between x and G(z). Papers have images in [-1, 1], so their weights can be used.

    Arguments:
    r1: weight at real images. Mescheder et al. 2018, "Which training methods for GANs do actually
        converge?", eq. 9.
    r2: weight at generated images.
    gradient: weight between them. Gulrajani et al. 2017, eq. 3.
    every: the penalties are computed in one of so many steps, with so many times the weight.
        Karras et al. 2020, "Analyzing and improving the image quality of StyleGAN", appendix B.
    end: the share of r1 and r2 at the end of the run, to which they fall as half a cosine.
    """

    r1: float
    r2: float
    gradient: float
    every: int
    end: float

    def __post_init__(self) -> None:
        weights = {"r1": self.r1, "r2": self.r2, "gradient": self.gradient}
        for name, weight in weights.items():
            require(0 <= weight < math.inf, name, weight, "a finite number >= 0")
        require(self.every >= 1, "every", self.every, "an integer >= 1")
        require(0 <= self.end <= 1, "end", self.end, "a number in [0, 1]")

    @property
    def active(self) -> bool:
        """Whether any weight is not 0."""
        return max(self.r1, self.r2, self.gradient) > 0

    def due(self, step: int) -> bool:
        """Whether this step, counted from 0, computes the penalties."""
        return self.active and step % self.every == 0

    def weights(self, progress: float) -> tuple[float, float]:
        """r1 and r2 at this progress of the run, in [0, 1]."""
        remaining = cosine_decay(progress, self.end)
        return self.r1 * remaining, self.r2 * remaining


def squared_gradient(logits: Tensor, images: Tensor) -> Tensor:
    """|grad D|^2 (B,) with respect to images of the range [-1, 1]; can be differentiated again.

    Arguments:
    logits: (B,), each of which must depend on its own image alone.
    images: (B, C, H, W) in [0, 1], in which gradients are twice as long.
    """
    (gradient,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
    return 0.25 * gradient.square().flatten(1).sum(dim=1)


def interpolate(real: Tensor, fake: Tensor) -> Tensor:
    """A random point on the line between each real image and its generated one, (B, C, H, W)."""
    fractions = uniform((len(real), 1, 1, 1), device=real.device)
    return torch.lerp(real, fake, fractions)


def _check_smoothing(share: float) -> None:
    require(0 <= share < 1, "label_smoothing", share, "a number >= 0 and < 1")
