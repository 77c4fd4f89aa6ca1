"""Batch normalisation by the statistics of a whole batch, also where processes share it."""

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from genmodels import parallel


class BatchNorm1d(nn.BatchNorm1d):
    """torch's own over (B, C); in training several processes use the statistics of all."""

    def forward(self, values: Tensor) -> Tensor:
        """(B, C) -> (B, C)."""
        if self.training and parallel.count() > 1:
            return normalise(self, values, dims=(0,))
        return super().forward(values)


class BatchNorm2d(nn.BatchNorm2d):
    """torch's own over (B, C, H, W); in training several processes use the statistics of all."""

    def forward(self, values: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        if self.training and parallel.count() > 1:
            return normalise(self, values, dims=(0, 2, 3))
        return super().forward(values)


def normalise(layer: _BatchNorm, values: Tensor, dims: tuple[int, ...]) -> Tensor:
    """What a layer makes of its values in training, and how it moves its running statistics.

    torch.nn.SyncBatchNorm does the same on GPUs alone.

    Arguments:
    layer: with running statistics.
    values: of this process, (B, C, ...).
    dims: all but the channels.
    """
    numbers = values.float()
    mean = parallel.mean(numbers.mean(dims, keepdim=True))
    deviations = numbers - mean
    variance = parallel.mean(deviations.square().mean(dims, keepdim=True))
    _move_running_statistics(layer, mean, variance, parallel.count() * numbers.numel())
    normalised = deviations * torch.rsqrt(variance + layer.eps)
    if layer.affine:
        shape = mean.shape
        normalised = normalised * layer.weight.view(shape) + layer.bias.view(shape)
    return normalised.to(values.dtype)


@torch.no_grad()
def _move_running_statistics(
    layer: _BatchNorm, mean: Tensor, variance: Tensor, numbers: int
) -> None:
    """As torch's own layers do: `momentum` None means the mean over all batches so far."""
    assert layer.running_mean is not None and layer.running_var is not None
    assert layer.num_batches_tracked is not None
    layer.num_batches_tracked.add_(1)
    weight = layer.momentum
    if weight is None:
        weight = 1 / float(layer.num_batches_tracked)
    of_each_channel = numbers / mean.numel()
    unbiased = variance.flatten() * of_each_channel / (of_each_channel - 1)
    layer.running_mean.lerp_(mean.flatten(), weight)
    layer.running_var.lerp_(unbiased, weight)
