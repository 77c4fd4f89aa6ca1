"""What every generative model can do: draw latents from a prior, and make images from latents."""

import copy
from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor, nn

from genmodels.errors import require
from genmodels.models.priors import Prior, StandardNormal

LABEL_UNITS = 32  # of a label's embedding
MAX_NAMED_CLASSES = 12  # classes whose names a message lists


def label_units(num_classes: int) -> int:
    """Units of the labels' embedding that the networks of a model are given: 0 without classes."""
    return LABEL_UNITS if num_classes else 0


class GenerativeModel(nn.Module):
    """Images from latents z, which are drawn from `prior`.

    `prior.sample` and `generate` are separate, so that the same z can be shown across temperatures,
    classes, epochs and runs; `sample` composes them.

    A model of `num_classes` > 0 is conditional: it takes labels (B,) int64, of which -1, or None
    for all, is no label. That needs a `label_dropout` > 0. Other models ignore labels.

    Arguments:
    image_shape: (C, H, W).
    latent_dim: D.
    num_classes: 0 for a model without classes.
    label_dropout: share of labels that training hides.
    prior: p(z) over latents (B, D); None for N(0, I).
    """

    def __init__(
        self,
        image_shape: Sequence[int],
        latent_dim: int,
        num_classes: int = 0,
        label_dropout: float = 0.0,
        prior: Prior | None = None,
    ) -> None:
        super().__init__()
        require(num_classes >= 0, "num_classes", num_classes, "an integer >= 0")
        require(0 <= label_dropout < 1, "label_dropout", label_dropout, "a number >= 0 and < 1")
        require(
            num_classes > 0 or label_dropout == 0,
            "label_dropout",
            label_dropout,
            "0 for a model without classes",
        )
        self.image_shape = tuple(image_shape)
        self.latent_dim = latent_dim
        self.num_classes = num_classes
        self.label_dropout = label_dropout
        self.prior = StandardNormal(latent_dim) if prior is None else prior
        self._check_prior()
        if num_classes:
            # the first row is that of no label
            self.label_embedding = nn.Embedding(num_classes + 1, LABEL_UNITS)
            nn.init.normal_(self.label_embedding.weight, std=0.1)

    @property
    def device(self) -> torch.device:
        """Where its weights are."""
        return next(self.parameters()).device

    def with_prior(self, prior: Prior) -> Self:
        """The same networks, with shared weights, under another prior."""
        model = copy.copy(self)
        model._modules = {**self._modules, "prior": prior}
        model._check_prior()
        return model

    def generate(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """Images (B, C, H, W) in [0, 1] for latents (B, D)."""
        raise NotImplementedError

    def condition(self, labels: Tensor | None, n: int) -> tuple[Tensor, ...]:
        """The arguments of networks besides their n inputs: the labels' embedding (n, E), if any.

        Arguments:
        labels: (n,) int64, -1 for no label; None: -1 for all. Ignored without classes.
        n: number of inputs.

        In evaluation mode, raises ValueError for a label that is no class, and for no label where
        training hid none. Training does not check: an accelerator would have to wait for that, and
        its labels are those of the data that the model was made for. An exported model cannot.
        """
        if not self.num_classes:
            return ()
        if labels is None:
            labels = torch.full((n,), -1, device=self.device)
        if not self.training and not torch.compiler.is_exporting():
            self._check_labels(labels)
        return (self.label_embedding(labels + 1),)

    def check_classes(self, labels: Sequence[int], names: Sequence[str] = ()) -> None:
        """Raise ValueError, listing the classes, where one of the labels is no class.

        Arguments:
        labels: that a user asked for.
        names: of all classes, for the message.
        """
        require(
            self.num_classes > 0 or not labels,
            "labels",
            list(labels),
            "null: this model knows no classes",
        )
        listed = []
        for label, name in enumerate(names[:MAX_NAMED_CLASSES]):
            if name != str(label):
                listed.append(f"{label} {name}")
        if len(names) > MAX_NAMED_CLASSES:
            listed.append("...")
        classes = f"classes from 0 to {self.num_classes - 1}"
        if listed:
            classes += f" ({', '.join(listed)})"
        legal = all(0 <= label < self.num_classes for label in labels)
        require(legal, "labels", list(labels), classes)

    @torch.no_grad()
    def sample(self, n: int, labels: Tensor | None = None, temperature: float = 1.0) -> Tensor:
        """Images (n, C, H, W) in [0, 1] of z ~ prior.

        Arguments:
        n: number of images.
        labels: (n,) int64 for a conditional model.
        temperature: of the prior, a factor of its variance.

        Raises ValueError for a negative temperature.
        """
        return self.generate(self.prior.sample(n, temperature, labels=labels), labels)

    def _check_prior(self) -> None:
        require(
            self.prior.latent_dim == self.latent_dim,
            "prior.latent_dim",
            self.prior.latent_dim,
            f"{self.latent_dim}, the model's own",
        )

    def _check_labels(self, labels: Tensor) -> None:
        lowest = -1 if self.label_dropout else 0
        illegal = labels[(labels < lowest) | (labels >= self.num_classes)].tolist()
        hint = ": this model was trained without label_dropout"
        if self.label_dropout:
            hint = ", or -1 for no label"
        legal = f"integers from 0 to {self.num_classes - 1}{hint}"
        require(not illegal, "labels", illegal[:1], legal)
