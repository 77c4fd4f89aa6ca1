"""What a latent-variable model minimises: (distortion (B,), kl (B, D), weight, progress) -> loss (B,), in nats.

Distortion and KL are summed over pixels and latent dimensions; the trainer averages the losses over the batch. So a KL
weight means the same for every image size, and weight 1 is the ELBO. Where a paper has a term of the batch's mean KL,
every image's loss has that term, and the mean of the losses is the paper's objective.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from genmodels.errors import require


class Objective(nn.Module):
    """A loss, what of it changes by plan, and the multipliers that it moves after each step, kept in its buffers."""

    learns_weight = (
        False  # whether it finds the KL weight itself: it is then called with None for it
    )

    def kl_price(self, weight: float | None) -> float | None:
        return None

    def plan(self, progress: float) -> dict[str, float]:
        """What changes over time by plan, besides the KL weight: a pure function of the progress in [0, 1]."""
        return {}

    def multipliers(self) -> dict[str, Tensor]:
        """The multipliers () as they are now, by the names under which they are logged."""
        return {}

    def update_multipliers(self, distortion: Tensor, kl: Tensor, progress: float) -> None:
        """Move the multipliers after a step that had these means () over the batch, in nats per image."""


class ELBO(Objective):
    def kl_price(self, weight):
        return weight

    """distortion + weight * KL: minus the evidence lower bound at weight 1, the beta-VAE otherwise.

    Kingma & Welling 2014, eq. 3; Higgins et al. 2017, eq. 4, where the weight is called beta.
    """

    def forward(self, distortion: Tensor, kl: Tensor, weight: float, progress: float) -> Tensor:
        """distortion (B,), kl (B, D) -> loss (B,). The progress through the run makes no difference here."""
        return distortion + weight * kl.sum(dim=1)


class FreeBits(Objective):
    """distortion + weight * sum over d of max(nats_per_dimension, mean over the batch of KL_d).

    Kingma et al. 2016, "Improved variational inference with inverse autoregressive flow", eq. 15: a dimension below
    that many nats costs nothing, so that none is driven to 0.
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
        """distortion (B,), kl (B, D) -> loss (B,). The progress through the run makes no difference here."""
        return distortion + weight * kl.mean(dim=0).clamp(min=self.nats_per_dimension).sum()


class Capacity(Objective):
    """distortion + weight * |KL - C|, where C rises from 0 to `capacity` nats over the first `rise` of the run.

    Burgess et al. 2018, "Understanding disentangling in beta-VAE", eq. 8, where the weight is called gamma. KL is the
    batch's mean, as in disentanglement_lib (Locatello et al. 2019): images may differ in how many nats they need.
    """

    def __init__(self, capacity: float, rise: float) -> None:
        """capacity: in nats per image. rise: a fraction of the run."""
        super().__init__()
        require(0 <= capacity < math.inf, "capacity", capacity, "a finite number of nats >= 0")
        require(0 < rise <= 1, "rise", rise, "a fraction of the run, above 0 and at most 1")
        self.capacity = capacity
        self.rise = rise

    def plan(self, progress: float) -> dict[str, float]:
        """The KL asked for at this progress, in nats per image."""
        return {"capacity": self.capacity * min(1.0, progress / self.rise)}

    def forward(self, distortion: Tensor, kl: Tensor, weight: float, progress: float) -> Tensor:
        """distortion (B,), kl (B, D) -> loss (B,)."""
        return distortion + weight * (kl.sum(dim=1).mean() - self.plan(progress)["capacity"]).abs()


class KLTarget(Objective):
    """distortion + w * KL, where a PI controller moves w so that the KL comes to `target` nats per image.

    Shao et al. 2020, "ControlVAE", eq. 8 and algorithm 1: with the error e = target - KL, w is
    proportional / (1 + exp(e)) - integral * (sum of e), within weight_limits. The sum stays where w is within them too,
    so that it does not wind up while w cannot follow. w starts at its lower limit.
    """

    learns_weight = True
    weight: Tensor  # () of the next step
    accumulated: Tensor  # () -integral * (sum of e)

    def __init__(
        self, target: float, proportional: float, integral: float, weight_limits: Sequence[float]
    ) -> None:
        """proportional, integral: the two gains, the second one for each step and nat."""
        super().__init__()
        require(0 < target < math.inf, "target", target, "a finite number of nats > 0")
        require(0 <= proportional < math.inf, "proportional", proportional, "a finite number >= 0")
        require(0 < integral < math.inf, "integral", integral, "a finite number > 0")
        _check_limits(weight_limits, lowest=0.0)
        self.target, self.proportional, self.integral = target, proportional, integral
        self.weight_limits = tuple(weight_limits)
        self.register_buffer("weight", torch.tensor(float(weight_limits[0])))
        self.register_buffer("accumulated", torch.tensor(float(weight_limits[0])))

    def forward(self, distortion: Tensor, kl: Tensor, weight: None, progress: float) -> Tensor:
        """distortion (B,), kl (B, D) -> loss (B,). The progress through the run makes no difference here."""
        return distortion + self.weight * kl.sum(dim=1)

    def multipliers(self) -> dict[str, Tensor]:
        """The KL weight."""
        return {"kl_weight": self.weight.clone()}

    @torch.no_grad()
    def update_multipliers(self, distortion: Tensor, kl: Tensor, progress: float) -> None:
        """One step of the controller."""
        error = self.target - kl
        self.accumulated.sub_(self.integral * error).clamp_(*self.weight_limits)
        self.weight.copy_(self.accumulated + self.proportional * torch.sigmoid(-error)).clamp_(
            *self.weight_limits
        )


class GECO(Objective):
    """The least KL at a distortion that stays below a limit: distortion + w * KL, where w falls while it is above.

    Rezende & Viola 2018, "Taming VAEs", eq. 3 and algorithm 1: KL + lambda * (distortion - limit), with
    lambda <- lambda * exp(speed * constraint) after each step. Here w = 1 / lambda, which divides their loss by lambda
    and leaves its optimum, and the constraint is a share, (moving average of the distortion - limit) / reference.

    The reference is the distortion of a model that ignores z: what is reached while w is held at its upper limit, over
    the first `measure` of the run. A share of it is a limit that transfers from one data set to another.
    """

    learns_weight = True
    log_weight: Tensor  # ()
    average: Tensor  # () of the distortion, nats per image; 0: none seen
    reference: Tensor  # () nats per image; 0: not measured yet

    def __init__(
        self,
        distortion: float | None,
        share: float,
        measure: float,
        memory: float,
        speed: float,
        weight_limits: Sequence[float],
    ) -> None:
        """distortion: the limit in nats per image, nothing is measured then; None: `share` of the reference.

        memory: what the moving average keeps at each step. speed: of log w, for each step.
        """
        super().__init__()
        require(
            distortion is None or 0 < abs(distortion) < math.inf,
            "distortion",
            distortion,
            "a finite number of nats other than 0, or null",
        )
        require(0 < share < 1, "share", share, "a number between 0 and 1")
        require(0 < measure < 1, "measure", measure, "a fraction of the run between 0 and 1")
        require(0 <= memory < 1, "memory", memory, "a number >= 0 and below 1")
        require(0 < speed < math.inf, "speed", speed, "a finite number > 0")
        _check_limits(weight_limits, lowest=1e-9)
        self.distortion, self.share, self.measure, self.memory, self.speed = (
            distortion,
            share,
            measure,
            memory,
            speed,
        )
        self.log_limits = (math.log(weight_limits[0]), math.log(weight_limits[1]))
        self.register_buffer("log_weight", torch.zeros(()).clamp(*self.log_limits))
        self.register_buffer("average", torch.zeros(()))
        self.register_buffer("reference", torch.tensor(abs(distortion or 0.0)))

    def forward(self, distortion: Tensor, kl: Tensor, weight: None, progress: float) -> Tensor:
        """distortion (B,), kl (B, D) -> loss (B,)."""
        return distortion + self.multipliers()["kl_weight"] * kl.sum(dim=1)

    def multipliers(self) -> dict[str, Tensor]:
        """The KL weight: at its upper limit as long as the reference is not known."""
        return {
            "kl_weight": torch.where(self.reference == 0, self.log_limits[1], self.log_weight).exp()
        }

    @torch.no_grad()
    def update_multipliers(self, distortion: Tensor, kl: Tensor, progress: float) -> None:
        """Follow the distortion; once there is a reference, move the weight."""
        self.average.copy_(
            torch.where(
                self.average == 0, distortion, torch.lerp(distortion, self.average, self.memory)
            )
        )
        known = self.reference != 0
        limit = self.share * self.reference if self.distortion is None else self.distortion
        constraint = torch.where(known, (self.average - limit) / self.reference, 0.0)
        self.log_weight.sub_(self.speed * constraint).clamp_(*self.log_limits)
        if progress >= self.measure:
            self.reference.copy_(torch.where(known, self.reference, self.average))


def _check_limits(limits: Sequence[float], lowest: float) -> None:
    require(
        len(limits) == 2 and lowest <= limits[0] < limits[1] < math.inf,
        "weight_limits",
        list(limits),
        f"two finite numbers, a lower one >= {lowest:g} and an upper one",
    )
