"""A prior that is a normalising flow: affine coupling layers between latents and N(0, I) noise."""

import torch
from torch import Tensor, nn
from torch.distributions import Normal

from genmodels.errors import require
from genmodels.models.priors import Prior, draw_noise, format_temperature, stddev_of

MAX_LOG_SCALE = 2.0  # of one layer, so that no density overflows early in training


class CouplingLayer(nn.Module):
    """Half of the dimensions are scaled and shifted by functions of the other half.

    RealNVP: Dinh et al. 2017, "Density estimation using Real NVP", eq. 4. It begins as the
    identity.

    Arguments:
    latent_dim: D.
    hidden: units of its network's two hidden layers.
    odd: whether odd dimensions are changed, or even ones.
    num_classes: 0 without classes; else the network is told the label.
    """

    mask: Tensor  # (D,) 1 for dimensions that are changed

    def __init__(self, latent_dim: int, hidden: int, odd: bool, num_classes: int = 0) -> None:
        super().__init__()
        changed = torch.arange(latent_dim) % 2 == int(odd)
        self.register_buffer("mask", changed.float(), persistent=False)
        self.first = nn.Linear(latent_dim, hidden)
        self.second = nn.Linear(hidden, hidden)
        self.last = nn.Linear(hidden, 2 * latent_dim)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)
        # the first row is that of no label
        self.embedding = nn.Embedding(num_classes + 1, hidden) if num_classes else None

    def forward(self, z: Tensor, labels: Tensor | None) -> tuple[Tensor, Tensor]:
        """z (B, D) -> the same nearer to noise (B, D), and log |det of the Jacobian| (B,)."""
        shift, log_scale = self._affine(z, labels)
        return z * log_scale.exp() + shift, log_scale.sum(dim=1)

    def inverse(self, noise: Tensor, labels: Tensor | None) -> Tensor:
        """(B, D) -> (B, D): the z that `forward` takes there."""
        shift, log_scale = self._affine(noise, labels)
        return (noise - shift) * (-log_scale).exp()

    def _affine(self, values: Tensor, labels: Tensor | None) -> tuple[Tensor, Tensor]:
        """Shift and log-scale, (B, D) each: 0 where a dimension is kept."""
        features = self.first(values * (1 - self.mask))
        if self.embedding is not None:
            features = features + self._embed(labels, len(values))
        features = self.second(features.relu()).relu()
        shift, raw = self.last(features).chunk(2, dim=1)
        log_scale = MAX_LOG_SCALE * torch.tanh(raw / MAX_LOG_SCALE)
        return shift * self.mask, log_scale * self.mask

    def _embed(self, labels: Tensor | None, n: int) -> Tensor:
        assert self.embedding is not None
        if labels is None:
            labels = torch.full((n,), -1, device=self.mask.device)
        return self.embedding(labels + 1)


class FlowPrior(Prior):
    """z = f(noise) with noise ~ N(0, I) and an invertible f of coupling layers.

    Xu et al. 2019, "On the necessity and effectiveness of learning the prior of variational
    auto-encoder", section 3. The temperature is the variance of the noise.

    Arguments:
    latent_dim: D, at least 2.
    layers: how many coupling layers.
    hidden: units of their hidden layers.
    num_classes: 0 for a prior without classes.
    """

    def __init__(self, latent_dim: int, layers: int, hidden: int, num_classes: int = 0) -> None:
        super().__init__(latent_dim)
        require(
            latent_dim >= 2,
            "latent_dim",
            latent_dim,
            "at least 2 for a flow (prior=standard_normal takes 1)",
        )
        require(layers >= 1, "layers", layers, "an integer >= 1")
        require(hidden >= 1, "hidden", hidden, "an integer >= 1")
        self.num_classes = num_classes
        couplings = []
        for index in range(layers):
            couplings.append(CouplingLayer(latent_dim, hidden, index % 2 == 1, num_classes))
        self.layers = nn.ModuleList(couplings)

    @torch.no_grad()
    def sample(
        self,
        n: int,
        temperature: float = 1.0,
        generator: torch.Generator | None = None,
        labels: Tensor | None = None,
    ) -> Tensor:
        """z = f(noise) with noise ~ N(0, temperature I), (n, D)."""
        z = stddev_of(temperature) * draw_noise(n, self.latent_dim, generator)
        z = z.to(self.device)
        if labels is not None:
            labels = labels.to(self.device)
        for layer in reversed(list(self.layers)):
            assert isinstance(layer, CouplingLayer)
            z = layer.inverse(z, labels)
        return z

    def log_prob(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """(B, D) -> (B,) nats: log N(noise; 0, I) + log |det of the Jacobian|."""
        noise = z.float()
        log_det = torch.zeros(len(z), device=z.device)
        for layer in self.layers:
            noise, change = layer(noise, labels)
            log_det = log_det + change
        return Normal(0, 1).log_prob(noise).sum(dim=1) + log_det

    def formula(self, temperature: float | str = 1.0) -> str:
        """How many layers."""
        each = " for each class" if self.num_classes else ""
        text = f"flow of {len(self.layers)} coupling layers{each}"
        if temperature == 1:
            return text
        return f"{text} from N(0, {format_temperature(temperature)} I)"
