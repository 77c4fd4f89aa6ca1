"""Batch normalisation of posterior means, which bounds the KL from below."""

import torch
from torch import Tensor, nn

from genmodels import parallel
from genmodels.errors import require
from genmodels.models.batch_norm import BatchNorm1d

EPSILON = 1e-20  # added to the variance, so that equal values give no NaN


class FixedScaleBatchNorm(BatchNorm1d):
    """scale * (x - mean) / stddev + shift, over a batch (B, D) -> (B, D); the shift is learned.

    Applied to posterior means this is BN-VAE (Zhu et al. 2020, "A batch normalized inference
    network keeps the KL vanishing away", section 4): the batch's mean KL is then at least
    scale^2 / 2 nats in each dimension.

    By default nn.BatchNorm1d adds 1e-5 to the variance. A KL weight of 30 shrinks the encoder's
    output until that is most of the variance, and the bound is gone. Here next to nothing is
    added, so the size of the output makes no difference.

    Arguments:
    dimensions: D.
    scale: standard deviation of each dimension over a batch.
    """

    def __init__(self, dimensions: int, scale: float) -> None:
        super().__init__(dimensions, eps=EPSILON, affine=False)
        self.scale = scale
        self.shift = nn.Parameter(torch.zeros(dimensions))

    def forward(self, values: Tensor) -> Tensor:
        """(B, D) -> (B, D) float32, also under autocast. Raises ValueError if B = 1 in training."""
        if self.training:
            whole = len(values) * parallel.count()
            require(whole > 1, "batch_size", whole, "at least 2 for BatchNorm")
        return self.scale * super().forward(values.float()) + self.shift
