"""The update of a vector-quantised autoencoder."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.nn.functional as F
from genmodels.models.vqvae import VQVAE
from torch import Tensor

from genmodels.data.images import EVALUATION_BATCH, Batch, ImageSet
from genmodels.metrics.diagnosis import diagnose
from genmodels.metrics.evaluation import Evaluation
from genmodels.metrics.verdict import Verdict
from genmodels.trainers.updater import Updater


class VQVAETrainer:
    """Trains encoder and decoder by reconstruction; codes follow the latents that they replace."""

    evaluates = ("code_usage",)

    def __init__(
        self,
        model: VQVAE,
        *,
        updater: Callable[..., Updater[VQVAE]],
        commitment: float,
        decay: float,
    ) -> None:
        """Arguments:
        model: which is trained.
        updater: called with the model.
        commitment: weight of the distance of latents from their codes.
        decay: of the codes towards the mean of their latents.
        """
        self.model = model
        self.commitment = commitment
        self.decay = decay
        self.updater = updater(model=model)

    @property
    def inference_model(self) -> VQVAE:
        """The model with averaged weights."""
        return self.updater.average

    def plan(self, step: int, total: int) -> dict[str, float]:
        """The learning rate."""
        return {"lr": self.updater.learning_rate(step, total)}

    def inputs(self, batch: Batch) -> Tensor:
        """The images as they are."""
        return batch.images

    def update(self, batch: Batch, step: int, total: int) -> dict[str, Tensor]:
        """One step on a batch; returns batch means."""
        quantised = self.model.encode(batch.images)
        images = self.model.generate(quantised.z)
        error = F.binary_cross_entropy(images, batch.images, reduction="sum") / len(images)
        distance = (quantised.latents - quantised.z.detach()).square().sum(dim=1).mean()
        loss = error + self.commitment * distance
        terms = {"loss": loss.detach(), "distortion": error.detach()}
        terms |= self.updater.update(loss, terms, step, total)
        self._move_codes(quantised.latents.detach(), quantised.codes)
        return terms

    def recompute_statistics(self, batches: Iterable[Batch]) -> None:
        """There is no BatchNorm."""

    def evaluate(self, split: ImageSet) -> dict[str, Any]:
        """The share of codes that images use."""
        used = torch.zeros(len(self.model.prior.codebook), dtype=torch.bool)
        with torch.no_grad():
            for images, _ in split.batches(EVALUATION_BATCH):
                used[self.inference_model.encode(images).codes.flatten().cpu()] = True
        return {"code_usage": used.double().mean().item(), "n": len(split)}

    def diagnose(self, evaluation: Evaluation) -> Verdict:
        """By its samples, as of any generative model."""
        return diagnose(self.inference_model, evaluation)

    def facts(self) -> dict[str, Any]:
        """Nothing besides the settings."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """All that a continuation needs."""
        return {"updater": self.updater.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` gave."""
        self.updater.load_state_dict(state["updater"])

    def _move_codes(self, latents: Tensor, codes: Tensor) -> None:
        codebook = self.model.prior.codebook
        groups = latents.view(-1, codebook.shape[1])
        member = F.one_hot(codes.flatten(), len(codebook)).to(groups)  # (B G, K)
        counts = member.sum(dim=0)[:, None]
        means = torch.where(counts > 0, member.T @ groups / counts.clamp(min=1), codebook)
        codebook.lerp_(means, 1 - self.decay)
