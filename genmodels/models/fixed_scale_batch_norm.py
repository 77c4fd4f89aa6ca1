"""Batch normalisation of posterior means, which bounds the KL from below."""

import torch
from torch import Tensor, nn

from genmodels.errors import require

MIN_VARIANCE = 1e-20  # smaller ones count as 0


class FixedScaleBatchNorm(nn.Module):
    """scale * (x - mean) / stddev + shift, over a batch (B, D) -> (B, D); the shift is learned.

    Applied to posterior means this is BN-VAE (Zhu et al. 2020, "A batch normalized inference
    network keeps the KL vanishing away", section 4): the batch's mean KL is then at least
    scale^2 / 2 nats in each dimension.

    nn.BatchNorm1d adds 1e-5 to the variance. A KL weight of 30 shrinks the encoder's output until
    that is most of the variance, and the bound is gone. Here nothing is added, so the size of the
    output makes no difference.

    Arguments:
    dimensions: D.
    scale: standard deviation of each dimension over a batch.
    """

    momentum = 0.1  # of the running statistics, which evaluation uses

    running_mean: Tensor  # (D,)
    running_variance: Tensor  # (D,)

    def __init__(self, dimensions: int, scale: float) -> None:
        super().__init__()
        self.scale = scale
        self.shift = nn.Parameter(torch.zeros(dimensions))
        self.register_buffer("running_mean", torch.zeros(dimensions))
        self.register_buffer("running_variance", torch.ones(dimensions))

    def forward(self, values: Tensor) -> Tensor:
        """(B, D) -> (B, D) float32, also under autocast. Raises ValueError if B = 1 in training."""
        values = values.float()
        mean, variance = self.running_mean, self.running_variance  # (D,)
        if self.training:
            require(len(values) > 1, "batch_size", len(values), "at least 2 for BatchNorm")
            mean, variance = values.mean(dim=0), values.var(dim=0, correction=0)
            self.running_mean.lerp_(mean.detach(), self.momentum)
            self.running_variance.lerp_(variance.detach(), self.momentum)
        return self.scale * (values - mean) * variance.clamp(min=MIN_VARIANCE).rsqrt() + self.shift
