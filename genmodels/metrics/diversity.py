"""How different images of one class are from each other."""

import torch
import torch.nn.functional as F
from torch import Tensor


class ClassDiversity:
    """The root mean square distance between two members of each class, from sums alone.

    The mean of |a - b|^2 over all pairs of n is 2 n / (n - 1) (mean |x|^2 - |mean x|^2). Float64 on
    the CPU.
    """

    def __init__(self, classes: int) -> None:
        self._count = torch.zeros(classes, dtype=torch.float64)
        self._square = torch.zeros(classes, dtype=torch.float64)  # sums of |x|^2
        self._total: Tensor | float = 0.0  # sums of x, (K, F)

    def add(self, values: Tensor, labels: Tensor) -> None:
        """Add members (B, ...) of classes (B,)."""
        values = values.flatten(1).cpu().double()  # (B, F)
        member = F.one_hot(labels.cpu(), len(self._count)).double()  # (B, K)
        self._count += member.sum(dim=0)
        self._square += member.T @ values.square().sum(dim=1)
        self._total = self._total + member.T @ values

    def distance(self) -> Tensor:
        """(K,); NaN for a class of fewer than two."""
        mean = self._total / self._count[:, None]
        mean_square = self._square / self._count
        variance = (mean_square - mean.square().sum(dim=1)).clamp(min=0)
        correction = 2 * self._count / (self._count - 1)
        squared_distance = correction * variance
        return torch.where(self._count > 1, squared_distance, torch.nan).sqrt()
