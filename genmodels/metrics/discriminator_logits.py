"""What a GAN's discriminator D says of real and generated images."""

import copy
import math
from typing import NamedTuple

import torch
from torch import Tensor

from genmodels.models.gan import Discriminator

BATCH = 250  # images that a network takes at once, at most


class Logits(NamedTuple):
    """D's logits (N,) of real images and (M,) of generated ones."""

    real: Tensor
    fake: Tensor

    @property
    def real_above_fake(self) -> float:
        """The share of all pairs of a real and a generated image in which D prefers the real one.

        0.5 where it cannot tell them, 1 where it is never wrong (the area under its ROC curve).
        """
        real = self.real[:, None]
        above = (real > self.fake).double()
        ties = (real == self.fake).double()
        return (above + 0.5 * ties).mean().item()

    @property
    def stddev(self) -> float:
        """Standard deviation over all images: 0 where D says the same of everything."""
        return torch.cat([self.real, self.fake]).double().std(correction=0).item()


@torch.no_grad()
def discriminate(
    discriminator: Discriminator, real: Tensor, fake: Tensor, labels: Tensor
) -> Logits:
    """The logits of a discriminator as it plays.

    One that uses batch statistics sees real and generated images in separate batches, normalised by
    the statistics of each, as in training. Its running statistics, which are neither's, are not
    used and not changed.

    Arguments:
    discriminator: in evaluation mode.
    real: (N, C, H, W) in [0, 1].
    fake: (N, C, H, W) in [0, 1].
    labels: (N,) int64 of both.
    """
    if discriminator.uses_batch_statistics:
        discriminator = copy.deepcopy(discriminator).train()
    return Logits(
        real=_logits(discriminator, real, labels), fake=_logits(discriminator, fake, labels)
    )


def _logits(discriminator: Discriminator, images: Tensor, labels: Tensor) -> Tensor:
    parts = math.ceil(len(images) / BATCH)  # of nearly equal size, for the batch statistics
    logits = []
    for batch in zip(images.tensor_split(parts), labels.tensor_split(parts), strict=True):
        logits.append(discriminator(*batch))
    return torch.cat(logits)
