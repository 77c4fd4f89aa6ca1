"""Which classes the images of a figure are of, for models that know classes."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from genmodels.figures.options import FigureOptions
from genmodels.models.generative import GenerativeModel

MAX_NAMED_CLASSES = 4  # in a title; of more it tells the number


@dataclass(frozen=True)
class Labels:
    """The labels of a figure's images; empty for a model without classes.

    Arguments:
    values: (n,) int64, -1 for no label.
    title: which labels they are, for the end of the figure's title.
    """

    values: Tensor | None = None
    title: str = ""

    @property
    def column(self) -> dict[str, list[int]]:
        """The labels as a column of the figure's table."""
        return {} if self.values is None else {"label": self.values.tolist()}

    def repeated(self, times: int) -> "Labels":
        """All labels again for each of `times` rows of images."""
        if self.values is None:
            return self
        return Labels(self.values.repeat(times), self.title)


def labels_in_turn(
    model: GenerativeModel, options: FigureOptions, n: int, max_classes: int | None = None
) -> Labels:
    """Labels for n images: the requested classes in turn.

    Without a request, no label; all classes in turn if the model cannot do without labels. Of more
    than `max_classes` classes, the first ones are used.
    """
    classes = requested_classes(model, options)
    if not model.num_classes:
        return Labels()
    if not classes and not model.label_dropout:
        classes = list(range(model.num_classes))
    classes = classes[:max_classes]
    if not classes:
        return Labels(torch.full((n,), -1, device=model.device), ", without a label")
    repeats = -(-n // len(classes))
    values = torch.tensor(classes, device=model.device).repeat(repeats)[:n]
    return Labels(values, f", {_describe(classes, options)}")


def requested_classes(model: GenerativeModel, options: FigureOptions) -> list[int]:
    """The classes that were asked for, [] for none. Raises ValueError for an unknown class."""
    labels = list(options.labels or [])
    model.check_classes(labels, options.classes)
    return labels


def _describe(classes: Sequence[int], options: FigureOptions) -> str:
    names = ", ".join(options.class_name(label) for label in classes)
    if len(classes) == 1:
        return f"class {names}"
    if len(classes) <= MAX_NAMED_CLASSES:
        return f"classes {names} in turn"
    return f"{len(classes)} classes in turn"
