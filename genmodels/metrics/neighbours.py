"""Which images of a split are nearest to given ones: does a model copy what it saw?"""

from dataclasses import dataclass

import torch
from torch import Tensor

from genmodels.data.images import ImageSet

HELD_VALUES = 4_000_000  # float64 numbers held at once: pixel values of a split, or distances


@dataclass(frozen=True)
class Neighbours:
    """For each of N images the K nearest of a split, the nearest first; on the CPU."""

    distance: Tensor  # (N, K) float64: squared, summed over the pixels, which are in [0, 1]
    index: Tensor  # (N, K) int64: the position in the split

    def __getitem__(self, images: slice) -> "Neighbours":
        return Neighbours(self.distance[images], self.index[images])

    def merge(self, other: "Neighbours", count: int) -> "Neighbours":
        """The `count` nearest of both (all, if these are fewer)."""
        distance = torch.cat([self.distance, other.distance], dim=1)
        index = torch.cat([self.index, other.index], dim=1)
        kept, places = distance.topk(min(count, distance.shape[1]), largest=False)
        return Neighbours(kept, index.gather(1, places))


@torch.no_grad()
def neighbours(images: Tensor, split: ImageSet, count: int) -> Neighbours:
    """The `count` images of a split (all, if it has fewer) that are nearest to each of images.

    Exact: all pairs are compared, as |a|^2 + |b|^2 - 2 ab in float64, on the CPU whatever the
    model's device. The split is read once, batch by batch, and no more than a batch of it is held.

    Arguments:
    images: (N, C, H, W) in [0, 1].
    split: of M images.
    count: K.
    """
    a = images.flatten(1).cpu().double()  # (N, P)
    nearest = Neighbours(a.new_empty(len(a), 0), torch.empty(len(a), 0, dtype=torch.int64))
    start = 0
    batch_size = max(HELD_VALUES // max(a.shape), 1)
    for batch in split.batches(batch_size):
        b = batch.images.flatten(1).cpu().double()  # (B, P)
        squares = a.square().sum(dim=1)[:, None] + b.square().sum(dim=1)
        distance = (squares - 2 * a @ b.T).clamp(min=0)  # (N, B)
        distance = distance.round(decimals=6)  # a copy's is 0; one level of one pixel is 1.5e-5
        kept, places = distance.topk(min(count, len(b)), largest=False)
        nearest = nearest.merge(Neighbours(kept, start + places), count)
        start += len(b)
    return nearest
