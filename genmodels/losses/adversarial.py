"""The game of a generator G and a discriminator D as losses of D's logits, and what keeps D smooth.

Logits (B,) of real images x and of generated ones G(z), nats per image where they are log-odds. Each loss is minimised:
`discriminator(real, fake)` by D, `generator(fake, real)` by G, both (B,).
"""

import math
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from genmodels.errors import require
from genmodels.schedules import cosine_decay

PENALTY_PER_PIXEL = (
    0.0006  # weight of R1 and R2 for each pixel of an image: 0.5 at 28x28, 2.5 at 64x64
)


class AdversarialLoss(Protocol):
    """What a trainer asks of a loss."""

    relative: bool  # G's loss looks at the real images' logits too

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """D's loss (B,) from its logits (B,)."""
        ...

    def generator(self, fake: Tensor, real: Tensor) -> Tensor:
        """G's loss (B,) from the logits (B,); real ones are only looked at if `relative`."""
        ...


@dataclass(frozen=True)
class Minimax:
    """The original game (Goodfellow et al. 2014, "Generative adversarial nets", eq. 1).

    D minimises -log D(x) - log(1 - D(G(z))), which is binary cross-entropy; G minimises log(1 - D(G(z))), of which the
    gradient vanishes where D is sure. label_smoothing: D's target for real images is 1 minus that (Salimans et al.
    2016, "Improved techniques for training GANs", section 3.4).
    """

    label_smoothing: float = 0.0
    relative = False

    def __post_init__(self) -> None:
        _check_smoothing(self.label_smoothing)

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """-(1 - s) log D(x) - s log(1 - D(x)) - log(1 - D(G(z))), with s the label smoothing."""
        return F.softplus(-real) + self.label_smoothing * real + F.softplus(fake)

    def generator(self, fake: Tensor, real: Tensor) -> Tensor:
        """log(1 - D(G(z))): at most 0."""
        return -F.softplus(fake)


class NonSaturating(Minimax):
    """The same D, but G minimises -log D(G(z)) (Goodfellow et al. 2014, section 3), which is binary cross-entropy with
    its images called real: what most code named DCGAN does."""

    def generator(self, fake: Tensor, real: Tensor) -> Tensor:
        """-log D(G(z))."""
        return F.softplus(-fake)


@dataclass(frozen=True)
class LeastSquares:
    """Logits are drawn to 1 for real images and to 0 for generated ones (Mao et al. 2017, eq. 9)."""

    label_smoothing: float = 0.0
    relative = False

    def __post_init__(self) -> None:
        _check_smoothing(self.label_smoothing)

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """(D(x) - (1 - s))^2 / 2 + D(G(z))^2 / 2, with s the label smoothing."""
        return 0.5 * (real - (1 - self.label_smoothing)).square() + 0.5 * fake.square()

    def generator(self, fake: Tensor, real: Tensor) -> Tensor:
        """(D(G(z)) - 1)^2 / 2."""
        return 0.5 * (fake - 1).square()


class Hinge:
    """D only learns from logits within its margin of 1 (Lim & Ye 2017; Miyato et al. 2018, eq. 16, 17)."""

    relative = False

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """max(0, 1 - D(x)) + max(0, 1 + D(G(z)))."""
        return F.relu(1 - real) + F.relu(1 + fake)

    def generator(self, fake: Tensor, real: Tensor) -> Tensor:
        """-D(G(z))."""
        return -fake


class Wasserstein:
    """The dual form of the Wasserstein distance, for a D of slope 1 at most (Arjovsky et al. 2017, eq. 2, 3).

    That is for the gradient penalty to see to (Gulrajani et al. 2017).
    """

    relative = False

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """D(G(z)) - D(x)."""
        return fake - real

    def generator(self, fake: Tensor, real: Tensor) -> Tensor:
        """-D(G(z))."""
        return -fake


class RelativisticPairing:
    """Is this image more real than that one (Jolicoeur-Martineau 2019; Huang et al. 2024, "The GAN is dead; long live
    the GAN!", eq. 3)? D judges pairs, so that it cannot call all generated images false from behind one boundary: G is
    never worst off where the data's other modes are. With R1 and R2 it converges."""

    relative = True

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """-log sigmoid(D(x) - D(G(z)))."""
        return F.softplus(fake - real)

    def generator(self, fake: Tensor, real: Tensor) -> Tensor:
        """-log sigmoid(D(G(z)) - D(x))."""
        return F.softplus(real - fake)


@dataclass(frozen=True)
class Penalty:
    """What D pays for steepness: sums of squares of its logits' gradients with respect to images.

    Gradients are taken in images of the range [-1, 1], as papers have it, so that their weights can be used here.

    r1, r2: half of this times |grad D|^2 at real images, at generated ones (Mescheder et al. 2018, eq. 9); None: so
    much as suits the number of pixels. gradient: times (|grad D| - 1)^2 on the lines between a real and a generated one
    (Gulrajani et al. 2017, eq. 3). every: taken at each so many steps only, with so many times the weight (Karras et
    al. 2020, "Analyzing and improving the image quality of StyleGAN", appendix B). end: the share of r1 and r2 that is
    left at the end of the run, to which they fall as a half cosine.
    """

    r1: float | None
    r2: float | None
    gradient: float
    every: int
    end: float

    def __post_init__(self) -> None:
        for name in ("r1", "r2", "gradient"):
            weight = getattr(self, name)
            require(
                weight is None or 0 <= weight < math.inf,
                name,
                weight,
                "a finite number >= 0" + ("" if name == "gradient" else ", or null"),
            )
        require(self.every >= 1, "every", self.every, "an integer >= 1")
        require(0 <= self.end <= 1, "end", self.end, "a number in [0, 1]")

    @property
    def active(self) -> bool:
        """Whether there is any."""
        return self.r1 != 0 or self.r2 != 0 or self.gradient != 0

    def due(self, step: int) -> bool:
        """Whether this step takes it."""
        return self.active and step % self.every == 0

    def weights(self, progress: float) -> tuple[float, float]:
        """Those of R1 and R2 at this progress of the run, for images of so many pixels."""
        left = cosine_decay(progress, self.end)
        r1, r2 = (weight for weight in (self.r1, self.r2))
        return r1 * left, r2 * left


def squared_gradient(logits: Tensor, images: Tensor) -> Tensor:
    """|grad D|^2 (B,) of each logit (B,) with respect to its own image (B, C, H, W), in images of the range [-1, 1].

    A quarter of that in [0, 1]. Can be differentiated again. Each logit must depend on its own image alone.
    """
    (gradient,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
    return 0.25 * gradient.square().flatten(1).sum(dim=1)


def interpolate(real: Tensor, fake: Tensor) -> Tensor:
    """A random point on the line between each real image and its generated one, (B, C, H, W)."""
    return torch.lerp(real, fake, torch.rand(len(real), 1, 1, 1, device=real.device))


def _check_smoothing(share: float) -> None:
    require(0 <= share < 1, "label_smoothing", share, "a number >= 0 and < 1")
