"""A prior that is a normalising flow: affine coupling layers between latents and noise."""

import torch
from torch import Tensor, nn

from genmodels.errors import require
from genmodels.models.mixtures import GaussianMixture
from genmodels.models.priors import Prior, StandardNormal

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
    """z = f(noise) with an invertible f of coupling layers; the noise is a mixture of Gaussians.

    Xu et al. 2019, "On the necessity and effectiveness of learning the prior of variational
    auto-encoder", section 3, where the noise is N(0, I). Latents lie in separate regions, such as
    those of classes; a continuous f of one Gaussian has to join them, a mixture need not (Izmailov
    et al. 2020, "Semi-supervised learning with normalizing flows"). The temperature is that of the
    noise.

    Arguments:
    latent_dim: D, at least 2.
    layers: how many coupling layers.
    hidden: units of their hidden layers.
    components: of the noise, learned Gaussians; 0 for N(0, I).
    num_classes: 0 for a prior without classes; else the components are divided among them.
    """

    def __init__(
        self,
        latent_dim: int,
        layers: int,
        hidden: int,
        components: int = 0,
        num_classes: int = 0,
    ) -> None:
        super().__init__(latent_dim)
        require(
            latent_dim >= 2,
            "latent_dim",
            latent_dim,
            "at least 2 for a flow (prior=standard_normal takes 1)",
        )
        require(layers >= 1, "layers", layers, "an integer >= 1")
        require(hidden >= 1, "hidden", hidden, "an integer >= 1")
        require(components >= 0, "components", components, "an integer >= 0")
        self.num_classes = num_classes
        couplings = []
        for index in range(layers):
            couplings.append(CouplingLayer(latent_dim, hidden, index % 2 == 1, num_classes))
        self.layers = nn.ModuleList(couplings)
        self.noise: Prior = StandardNormal(latent_dim)
        if components:
            self.noise = GaussianMixture(latent_dim, components, "full", num_classes)

    @torch.no_grad()
    def sample(
        self,
        n: int,
        temperature: float = 1.0,
        generator: torch.Generator | None = None,
        labels: Tensor | None = None,
    ) -> Tensor:
        """z = f(noise), (n, D)."""
        z = self.noise.sample(n, temperature, generator, labels)
        if labels is not None:
            labels = labels.to(self.device)
        for layer in reversed(list(self.layers)):
            assert isinstance(layer, CouplingLayer)
            z = layer.inverse(z, labels)
        return z

    def log_prob(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """(B, D) -> (B,) nats: that of the noise + log |det of the Jacobian|."""
        noise = z.float()
        log_det = torch.zeros(len(z), device=z.device)
        for layer in self.layers:
            noise, change = layer(noise, labels)
            log_det = log_det + change
        return self.noise.log_prob(noise, labels) + log_det

    def formula(self, temperature: float | str = 1.0) -> str:
        """How many layers, and of which noise."""
        noise = self.noise.formula(temperature)
        each = " for each class" if self.num_classes else ""
        return f"flow of {len(self.layers)} coupling layers{each} (noise: {noise})"
