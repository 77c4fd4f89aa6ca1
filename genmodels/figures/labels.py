"""Which classes the images of a figure are of, where the model knows classes."""

from dataclasses import dataclass

import torch
from torch import Tensor

from genmodels.figures.options import FigureOptions
from genmodels.models.generative import GenerativeModel

NAMED = 4  # classes that a title names; of more it says how many they are


@dataclass(frozen=True)
class Labels:
    """The labels that a figure makes its images with, and how it says so; nothing for a model without classes."""

    values: Tensor | None = None  # (n,) int64, -1 for no label
    words: str = ""  # for the end of a title

    @property
    def column(self) -> dict[str, list[int]]:
        """For the table behind the figure."""
        return {} if self.values is None else {"label": self.values.tolist()}

    def repeated(self, times: int) -> "Labels":
        """The same ones once for each of so many rows."""
        return self if self.values is None else Labels(self.values.repeat(times), self.words)


def in_turn(
    model: GenerativeModel, options: FigureOptions, n: int, most: int | None = None
) -> Labels:
    """Labels for n images: the classes asked for in turn, at most so many of them.

    Where none is asked for, no label; all classes in turn if the model cannot do without.
    """
    classes = (
        asked(model, options) or ([] if model.label_dropout else list(range(model.num_classes)))
    )[:most]
    if not model.num_classes:
        return Labels()
    if not classes:
        return Labels(torch.full((n,), -1, device=model.device), ", without a label")
    values = torch.tensor(classes, device=model.device).repeat(-(-n // len(classes)))[:n]
    if len(classes) == 1:
        return Labels(values, f", class {class_name(options, classes[0])}")
    names = ", ".join(class_name(options, label) for label in classes)
    return Labels(
        values,
        f", {f'classes {names}' if len(classes) <= NAMED else f'{len(classes)} classes'} in turn",
    )


def asked(model: GenerativeModel, options: FigureOptions) -> list[int]:
    """The classes asked for, [] if none. Raises ValueError where the model does not know them."""
    model.check_classes(options.labels or [], options.classes)
    return list(options.labels or [])


def class_name(options: FigureOptions, label: int) -> str:
    """A class's name, its number where the data do not name it."""
    return options.class_name(label) or str(label)
