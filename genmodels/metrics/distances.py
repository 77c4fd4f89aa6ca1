"""How far a set of generated images is from a set of real ones, as functions of their features (N, F) and (M, F).

Whatever the features are (see genmodels.metrics.features), these are the equations; all in float64 on the CPU.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from genmodels.errors import TooFewError

NEIGHBOURS = 5  # k of precision, recall, density and coverage (Naeem et al. 2020, section 5)
SUBSETS = 100  # of which KID is the mean
SUBSET = 1000  # images in each, but at most half of them, so that subsets differ
COMPARED = 8_000_000  # distances that are held at once


def frechet_distance(a: Tensor, b: Tensor) -> float:
    """The squared Frechet distance between Gaussians with the means and covariances of two sets of features.

    |mean_a - mean_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2)): Dowson & Landau 1982; of images, Heusel et al. 2017, eq. 6.
    In squared units of the features; 0 for equal moments. Too high for small sets: it compares at equal numbers only.
    Raises TooFewError where a covariance has no full rank.
    """
    for features in (a, b):
        enough(
            features, features.shape[1], "a Frechet distance in as many features; kid takes fewer"
        )
    difference = a.mean(dim=0) - b.mean(dim=0)
    cov_a, cov_b = torch.cov(a.T), torch.cov(b.T)
    values, vectors = torch.linalg.eigh(cov_a)
    root = vectors * values.clamp(min=0).sqrt() @ vectors.T  # C_a^(1/2)
    cross = (
        torch.linalg.eigvalsh(root @ cov_b @ root).clamp(min=0).sqrt().sum()
    )  # tr (C_a C_b)^(1/2)
    return (difference.square().sum() + cov_a.trace() + cov_b.trace() - 2 * cross).item()


def kernel_distance(a: Tensor, b: Tensor, generator: torch.Generator) -> tuple[float, float]:
    """KID: the squared maximum mean discrepancy under the kernel (x.y / F + 1)^3, without bias (Binkowski et al. 2018,
    "Demystifying MMD GANs", eq. 4): mean and standard deviation over SUBSETS pairs of random subsets.

    0 in the mean for equal distributions, whatever the number of samples, so it may be below 0. Raises TooFewError for
    fewer than four samples.
    """
    for features in (a, b):
        enough(features, 3, "kid")
    size = min(len(a) // 2, len(b) // 2, SUBSET)
    found = torch.tensor(
        [
            squared_discrepancy(
                *(some[torch.randperm(len(some), generator=generator)[:size]] for some in (a, b))
            )
            for _ in range(SUBSETS)
        ],
        dtype=torch.float64,
    )
    return found.mean().item(), found.std().item()


def squared_discrepancy(a: Tensor, b: Tensor) -> float:
    """The unbiased estimate of MMD^2 from two sets of the same size m: means over pairs of different members."""
    m, units = a.shape
    aa, bb, ab = ((x @ y.T / units + 1) ** 3 for x, y in ((a, a), (b, b), (a, b)))  # (m, m)
    within = (aa.sum() - aa.trace() + bb.sum() - bb.trace()) / (m * (m - 1))
    return (within - 2 * ab.mean()).item()


def coverage_scores(real: Tensor, fake: Tensor, k: int = NEIGHBOURS) -> dict[str, float]:
    """Precision and recall (Kynkaanniemi et al. 2019), density and coverage (Naeem et al. 2020, eq. 3, 4).

    Around each image a ball that reaches to its k-th nearest of its own kind. `precision`: the share of generated
    images in any ball of a real one; `recall`: of real images in any ball of a generated one; `density`: in how many
    balls of real ones a generated image is, over k (1 in the mean for equal distributions; may be more); `coverage`:
    the share of real ones with a generated image in their ball (for equal distributions of equal size 1 - 2^-k in the
    mean). Raises TooFewError for k samples or less.
    """
    for features in (real, fake):
        enough(features, k, "precision, recall, density and coverage")
    reach_real, reach_fake = radii(real, k), radii(fake, k)
    inside, nearest, recalled = torch.zeros(len(fake)), [], []
    for some, distance in _distances(real, fake):
        within = distance <= reach_real[some, None]  # in the ball of this real image
        inside += within.sum(dim=0)
        nearest.append(within.any(dim=1))
        recalled.append((distance <= reach_fake).any(dim=1))
    return {
        "precision": (inside > 0).double().mean().item(),
        "recall": torch.cat(recalled).double().mean().item(),
        "density": inside.double().mean().item() / k,
        "coverage": torch.cat(nearest).double().mean().item(),
    }


def radii(features: Tensor, k: int) -> Tensor:
    """The squared distance of each to its k-th nearest among the others, (N,)."""
    return torch.cat(
        [
            distance.topk(k + 1, dim=1, largest=False).values[:, -1]  # one is its own nearest
            for _, distance in _distances(features, features)
        ]
    )


def enough(features: Tensor, number: int, purpose: str) -> None:
    """Raise TooFewError unless there are more images than this number."""
    if len(features) <= number:
        raise TooFewError(
            f"samples={len(features)}: must be more than {number}, of real images too, for {purpose}"
        )


def _distances(a: Tensor, b: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Squared distances of some of a at a time to all of b, as |a|^2 + |b|^2 - 2 ab."""
    chunk = max(COMPARED // len(b), 1)
    for start in range(0, len(a), chunk):
        some = slice(start, start + chunk)
        distance = a[some].square().sum(dim=1)[:, None] + b.square().sum(dim=1) - 2 * a[some] @ b.T
        yield some, distance.clamp(min=0)
