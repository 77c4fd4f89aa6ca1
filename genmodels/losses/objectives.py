"""Training objectives of latent-variable models, in nats.

(distortion (B,), kl (B, D), weight, progress) -> loss (B,). Distortion is summed over pixels, the
KL over latent dimensions; the trainer averages losses over the batch. So a KL weight means the same
for every image size, and weight 1 is the ELBO. Where a paper has a term of the batch's mean KL,
each image's loss has that term, and the mean of the losses is the paper's objective. The KL is
(B, 1) under a prior that gives only its sum.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from genmodels import parallel
from genmodels.errors import require


class Objective(nn.Module):
    """A loss, what of it is scheduled, and multipliers: buffers that move after each step."""

    learns_weight = False  # whether it learns the KL weight, and is called with None for it
    limits_share = False  # whether it limits the distortion to a share of a measured one

    def kl_price(self, weight: float | None) -> float | None:
        """What a nat of KL costs at this KL weight, in nats of distortion; None: not a constant."""
        return None

    def samples(self, progress: float) -> int:
        """How many samples of z the loss takes for each image."""
        return 1

    def plan(self, progress: float) -> dict[str, float]:
        """What is scheduled besides the KL weight, by name: a pure function of the progress."""
        return {}

    def multipliers(self) -> dict[str, Tensor]:
        """The current multipliers (), by the names under which they are logged."""
        return {}

    def update_multipliers(self, distortion: Tensor, kl: Tensor, progress: float) -> None:
        """Move the multipliers after a step.

        Arguments:
        distortion, kl: the batch's means (), in nats per image.
        progress: through the run, in [0, 1].
        """


class ELBO(Objective):
    """distortion + weight * KL: minus the evidence lower bound at weight 1, a beta-VAE otherwise.

    Kingma & Welling 2014, eq. 3; Higgins et al. 2017, eq. 4, where the weight is called beta.
    """

    def kl_price(self, weight: float | None) -> float | None:
        """The weight."""
        return weight

    def forward(self, distortion: Tensor, kl: Tensor, weight: float, progress: float) -> Tensor:
        """distortion (B,), kl (B, D) -> loss (B,). The progress is not used."""
        return distortion + weight * kl.sum(dim=1)


class FreeBits(Objective):
    """distortion + weight * sum over d of max(nats_per_dimension, mean over the batch of KL_d).

    Kingma et al. 2016, "Improved variational inference with inverse autoregressive flow", eq. 15: a
    dimension below that many nats costs nothing, so none is driven to 0.

    Arguments:
    nats_per_dimension: free nats of each dimension, at least 0.
    """

    def __init__(self, nats_per_dimension: float) -> None:
        super().__init__()
        require(
            0 <= nats_per_dimension < math.inf,
            "nats_per_dimension",
            nats_per_dimension,
            "a finite number >= 0",
        )
        self.nats_per_dimension = nats_per_dimension

    def forward(self, distortion: Tensor, kl: Tensor, weight: float, progress: float) -> Tensor:
        """distortion (B,), kl (B, D) -> loss (B,). The progress is not used."""
        per_dimension = parallel.mean(kl.mean(dim=0))  # (D,)
        return distortion + weight * per_dimension.clamp(min=self.nats_per_dimension).sum()


class Capacity(Objective):
    """distortion + weight * |KL - C|, where C rises linearly from 0 to `capacity`.

    Burgess et al. 2018, "Understanding disentangling in beta-VAE", eq. 8, where the weight is
    called gamma. KL is the batch's mean, as in disentanglement_lib (Locatello et al. 2019): images
    may differ in how many nats they need.

    Arguments:
    capacity: final value of C, in nats per image.
    rise: the fraction of the run over which C rises.
    """

    def __init__(self, capacity: float, rise: float) -> None:
        super().__init__()
        require(0 <= capacity < math.inf, "capacity", capacity, "a finite number of nats >= 0")
        require(0 < rise <= 1, "rise", rise, "a fraction of the run, above 0 and at most 1")
        self.capacity = capacity
        self.rise = rise

    def plan(self, progress: float) -> dict[str, float]:
        """C at this progress, in nats per image."""
        return {"capacity": self.capacity * min(1.0, progress / self.rise)}

    def forward(self, distortion: Tensor, kl: Tensor, weight: float, progress: float) -> Tensor:
        """distortion (B,), kl (B, D) -> loss (B,)."""
        capacity = self.plan(progress)["capacity"]
        mean_kl = parallel.mean(kl.sum(dim=1).mean())  # ()
        return distortion + weight * (mean_kl - capacity).abs()


class LearnedWeight(Objective):
    """distortion + w * KL, where w is a multiplier, `kl_weight`."""

    learns_weight = True

    def forward(self, distortion: Tensor, kl: Tensor, weight: None, progress: float) -> Tensor:
        """distortion (B,), kl (B, D) -> loss (B,). The progress is not used."""
        return distortion + self.multipliers()["kl_weight"] * kl.sum(dim=1)


class KLTarget(LearnedWeight):
    """distortion + w * KL, where a PI controller moves w until the KL is at a target.

    Shao et al. 2020, "ControlVAE", eq. 8 and algorithm 1. With the error e = target - KL,
    w = proportional / (1 + exp(e)) - integral * (sum of e over steps), within its limits. The sum
    is limited likewise, so it does not wind up while w is at a limit. w starts at the lower one.

    Arguments:
    target: of the KL, in nats per image.
    proportional: gain of the current error.
    integral: gain of the summed errors, per step and nat.
    weight_limits: lowest and highest w.
    """

    weight: Tensor  # () w of the next step
    accumulated: Tensor  # () -integral * (sum of e)

    def __init__(
        self, target: float, proportional: float, integral: float, weight_limits: Sequence[float]
    ) -> None:
        super().__init__()
        require(0 < target < math.inf, "target", target, "a finite number of nats > 0")
        require(0 <= proportional < math.inf, "proportional", proportional, "a finite number >= 0")
        require(0 < integral < math.inf, "integral", integral, "a finite number > 0")
        _check_limits(weight_limits, lowest=0.0)
        self.target = target
        self.proportional = proportional
        self.integral = integral
        self.weight_limits = tuple(weight_limits)
        self.register_buffer("weight", torch.tensor(float(weight_limits[0])))
        self.register_buffer("accumulated", torch.tensor(float(weight_limits[0])))

    def multipliers(self) -> dict[str, Tensor]:
        """The KL weight."""
        return {"kl_weight": self.weight.clone()}

    @torch.no_grad()
    def update_multipliers(self, distortion: Tensor, kl: Tensor, progress: float) -> None:
        """One step of the controller, towards the target from this mean KL ()."""
        error = self.target - kl
        self.accumulated.sub_(self.integral * error).clamp_(*self.weight_limits)
        weight = self.accumulated + self.proportional * torch.sigmoid(-error)
        self.weight.copy_(weight).clamp_(*self.weight_limits)


class GECO(LearnedWeight):
    """distortion + w * KL, where w falls while the distortion exceeds a limit.

    Rezende & Viola 2018, "Taming VAEs", eq. 3 and algorithm 1: KL + lambda * (distortion - limit),
    with lambda <- lambda * exp(step_size * constraint) after each step. Here w = 1 / lambda, which
    divides their loss by lambda and leaves its optimum. The constraint is relative:
    (moving average of the distortion - limit) / |reference|.

    The reference is the distortion of a model that ignores z: the one reached while w is held at
    its upper limit, at the start of the run. The limit is reference - (1 - share) |reference|,
    which lies below the reference whatever its sign is. For likelihoods that are probabilities the
    distortion is positive, and this is the share of it; so the same share suits other data. The
    distortion of a density depends on the unit of brightness, and so would a share of it:
    `VAETrainer` refuses that.

    Arguments:
    distortion: the limit in nats per image, whose size is then the reference; None: `share` of the
        measured one.
    share: of the reference, between 0 and 1.
    reference_fraction: the fraction of the run that measures the reference.
    decay: of the moving average per step: the share of it that stays.
    step_size: of log w per step.
    weight_limits: lowest and highest w.
    """

    log_weight: Tensor  # () log w
    average: Tensor  # () of the distortion, nats per image; 0 before the first step
    reference: Tensor  # () nats per image; 0 while it is not known

    def __init__(
        self,
        distortion: float | None,
        share: float,
        reference_fraction: float,
        decay: float,
        step_size: float,
        weight_limits: Sequence[float],
    ) -> None:
        super().__init__()
        require(
            distortion is None or 0 < abs(distortion) < math.inf,
            "distortion",
            distortion,
            "a finite number of nats other than 0, or null",
        )
        require(0 < share < 1, "share", share, "a number between 0 and 1")
        require(
            0 < reference_fraction < 1,
            "reference_fraction",
            reference_fraction,
            "a fraction of the run between 0 and 1",
        )
        require(0 <= decay < 1, "decay", decay, "a number >= 0 and below 1")
        require(0 < step_size < math.inf, "step_size", step_size, "a finite number > 0")
        _check_limits(weight_limits, lowest=1e-9)
        self.distortion = distortion
        self.limits_share = distortion is None
        self.share = share
        self.reference_fraction = reference_fraction
        self.decay = decay
        self.step_size = step_size
        self.log_limits = (math.log(weight_limits[0]), math.log(weight_limits[1]))
        self.register_buffer("log_weight", torch.zeros(()).clamp(*self.log_limits))
        self.register_buffer("average", torch.zeros(()))
        self.register_buffer("reference", torch.tensor(abs(distortion or 0.0)))

    def multipliers(self) -> dict[str, Tensor]:
        """The KL weight: at its upper limit while the reference is not known."""
        highest = self.log_limits[1]
        log_weight = torch.where(self.reference == 0, highest, self.log_weight)
        return {"kl_weight": log_weight.exp()}

    @torch.no_grad()
    def update_multipliers(self, distortion: Tensor, kl: Tensor, progress: float) -> None:
        """Average the mean distortion (), and move the weight once there is a reference."""
        average = torch.lerp(distortion, self.average, self.decay)
        self.average.copy_(torch.where(self.average == 0, distortion, average))
        known = self.reference != 0
        violation = (self.average - self._limit()) / self.reference.abs()
        constraint = torch.where(known, violation, 0.0)
        self.log_weight.sub_(self.step_size * constraint).clamp_(*self.log_limits)
        if progress >= self.reference_fraction:
            self.reference.copy_(torch.where(known, self.reference, self.average))

    def _limit(self) -> Tensor | float:
        """Of the distortion, in nats per image."""
        if self.distortion is not None:
            return self.distortion
        return self.reference - (1 - self.share) * self.reference.abs()


def _check_limits(limits: Sequence[float], lowest: float) -> None:
    require(
        len(limits) == 2 and lowest <= limits[0] < limits[1] < math.inf,
        "weight_limits",
        list(limits),
        f"two finite numbers, a lower one >= {lowest:g} and an upper one",
    )
