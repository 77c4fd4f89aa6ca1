"""Distances between two sets of images, as functions of their features (N, F) and (M, F).

Whatever the features are (see `metrics.features`), these are the equations; all in float64 on the
CPU.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from genmodels.errors import TooFewError

NEIGHBOURS = 5  # k of precision, recall, density and coverage (Naeem et al. 2020, section 5)
KID_SUBSETS = 100  # of which KID is the mean
KID_SUBSET_SIZE = 1000  # images, but at most half of them, so that subsets differ
MAX_DISTANCES = 8_000_000  # that are held at once


def frechet_distance(a: Tensor, b: Tensor) -> float:
    """The squared Frechet distance between Gaussians with the moments of two sets of features.

    |mean_a - mean_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2)): Dowson & Landau 1982; of images, Heusel
    et al. 2017, eq. 6. In squared units of the features; 0 for equal moments. Small sets score too
    high: scores compare at equal numbers only. Raises TooFewError where a covariance has no full
    rank.
    """
    for features in (a, b):
        purpose = "a Frechet distance in as many features; kid takes fewer"
        require_enough(features, features.shape[1], purpose)
    difference = a.mean(dim=0) - b.mean(dim=0)
    cov_a, cov_b = torch.cov(a.T), torch.cov(b.T)
    values, vectors = torch.linalg.eigh(cov_a)
    root = vectors * values.clamp(min=0).sqrt() @ vectors.T  # C_a^(1/2)
    squares = torch.linalg.eigvalsh(root @ cov_b @ root).clamp(min=0)
    cross = squares.sqrt().sum()  # tr (C_a C_b)^(1/2)
    return (difference.square().sum() + cov_a.trace() + cov_b.trace() - 2 * cross).item()


def kernel_distance(a: Tensor, b: Tensor, generator: torch.Generator) -> tuple[float, float]:
    """KID: the squared maximum mean discrepancy under the kernel (x.y / F + 1)^3, without bias.

    Binkowski et al. 2018, "Demystifying MMD GANs", eq. 4. 0 in the mean for equal distributions,
    whatever the number of samples, so it may be below 0.

    Returns mean and standard deviation over KID_SUBSETS pairs of random subsets. Raises TooFewError
    for fewer than four samples.
    """
    for features in (a, b):
        require_enough(features, 3, "kid")
    size = min(len(a) // 2, len(b) // 2, KID_SUBSET_SIZE)
    distances = torch.empty(KID_SUBSETS, dtype=torch.float64)
    for index in range(KID_SUBSETS):
        rows_a = torch.randperm(len(a), generator=generator)[:size]
        rows_b = torch.randperm(len(b), generator=generator)[:size]
        distances[index] = squared_discrepancy(a[rows_a], b[rows_b])
    return distances.mean().item(), distances.std().item()


def squared_discrepancy(a: Tensor, b: Tensor) -> float:
    """The unbiased estimate of MMD^2 from two sets of the same size m.

    From means over pairs of different members.
    """
    m = len(a)
    pairs = m * (m - 1)
    aa = _kernel(a, a)  # (m, m)
    bb = _kernel(b, b)
    ab = _kernel(a, b)
    within = (aa.sum() - aa.trace() + bb.sum() - bb.trace()) / pairs
    return (within - 2 * ab.mean()).item()


def _kernel(a: Tensor, b: Tensor) -> Tensor:
    units = a.shape[1]
    return (a @ b.T / units + 1) ** 3


def coverage_scores(
    real: Tensor, fake: Tensor, k: int = NEIGHBOURS, max_distances: int = MAX_DISTANCES
) -> dict[str, float]:
    """Precision and recall, density and coverage, as shares but for density.

    Kynkaanniemi et al. 2019; Naeem et al. 2020, eq. 3, 4. Around each image is a ball that reaches
    to its k-th nearest of its own kind.

    Returns `precision`: the share of generated images in any ball of a real one; `recall`: of real
    images in any ball of a generated one; `density`: in how many balls of real ones a generated
    image is, over k (1 in the mean for equal distributions; may be more); `coverage`: the share of
    real ones with a generated image in their ball. Raises TooFewError for k samples or less.

    Coverage is 1 - 2^-k in the mean for equal distributions, if N = M and large: it fails where the
    k nearest of the other N + M - 1 images are all real, each with probability 1/2 (exactly
    1 - (N-1)...(N-k) / ((2N-1)...(2N-k))). It rises to 1 with M / N whatever the distribution of
    the generated images, so only numbers of equal N and M can be read against it.

    Arguments:
    real: features (N, F).
    fake: features (M, F).
    k: neighbours.
    max_distances: that are held at once.
    """
    for features in (real, fake):
        require_enough(features, k, "precision, recall, density and coverage")
    real_radii = radii(real, k, max_distances)
    fake_radii = radii(fake, k, max_distances)
    balls = torch.zeros(len(fake))  # in how many of real images each generated one is
    covered, recalled = [], []
    for rows, distance in _distances(real, fake, max_distances):
        within = distance <= real_radii[rows, None]
        balls += within.sum(dim=0)
        covered.append(within.any(dim=1))
        recalled.append((distance <= fake_radii).any(dim=1))
    return {
        "precision": (balls > 0).double().mean().item(),
        "recall": torch.cat(recalled).double().mean().item(),
        "density": balls.double().mean().item() / k,
        "coverage": torch.cat(covered).double().mean().item(),
    }


def radii(features: Tensor, k: int, max_distances: int = MAX_DISTANCES) -> Tensor:
    """The squared distance of each to its k-th nearest among the others, (N,)."""
    chunks = []
    for _, distance in _distances(features, features, max_distances):
        nearest = distance.topk(k + 1, dim=1, largest=False).values  # each is its own nearest
        chunks.append(nearest[:, -1])
    return torch.cat(chunks)


def require_enough(features: Tensor, number: int, purpose: str) -> None:
    """Raise TooFewError unless there are more images than this number."""
    count = len(features)
    if count <= number:
        raise TooFewError(
            f"samples={count}: must be more than {number}, of real images too, for {purpose}"
        )


def _distances(a: Tensor, b: Tensor, held: int) -> Iterator[tuple[slice, Tensor]]:
    """Squared distances of some of a at a time to all of b, as |a|^2 + |b|^2 - 2 ab."""
    chunk = max(held // len(b), 1)
    for start in range(0, len(a), chunk):
        rows = slice(start, start + chunk)
        chunk_a = a[rows]
        squares = chunk_a.square().sum(dim=1)[:, None] + b.square().sum(dim=1)
        distance = squares - 2 * chunk_a @ b.T
        yield rows, distance.clamp(min=0)
