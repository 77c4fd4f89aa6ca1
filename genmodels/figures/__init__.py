"""The figures: (model, Request) -> Picture, all with this one signature. To add one, write it and enter it here."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from genmodels.data.images import ImageSet, to_uint8
from genmodels.figures import grids, latent
from genmodels.figures.canvas import Picture, Request, tile
from genmodels.randomness import CONSTANT_SEED, generator

Draw = Callable[[torch.nn.Module, Request], Picture]


@dataclass(frozen=True)
class Figure:
    """A figure and what it cannot do without."""

    draw: Draw
    encodes: bool = False       # needs a model with `encode`
    data: bool = False          # needs the test part

    def suits(self, model: torch.nn.Module) -> bool:
        """Whether a model of this kind can give it."""
        return not self.encodes or hasattr(model, "encode")


FIGURES = {
    "samples": Figure(grids.samples),
    "reconstructions": Figure(grids.reconstructions, encodes=True, data=True),
    "interpolation": Figure(latent.interpolation),
    "traversals": Figure(latent.traversals, encodes=True, data=True),
}


def draw(model: torch.nn.Module, names: Sequence[str], request: Request, folder: Path, caption: str) -> list[Path]:
    """Draw these figures into a folder; returns the paths of the pictures."""
    return [FIGURES[name].draw(model, request).save(folder, name, caption) for name in names]


@torch.no_grad()
def snapshots(model: torch.nn.Module, part: ImageSet, n: int = 40) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """What a model makes of the same noise, and of the same test images, each time that it is asked.

    For each name a sheet (H', W', C) and the images (n, C, H, W), uint8. Reconstructions lie under their originals.
    """
    columns = 10
    images = model.generate(model.prior(n, generator=generator(CONSTANT_SEED, "snapshots")))
    made = {"samples": (tile(images, columns), to_uint8(images).cpu().numpy())}
    if hasattr(model, "encode"):
        originals, labels = part.batch(slice(0, columns))
        again = model.decode(model.encode(originals, labels).mean, labels).mean
        made["reconstructions"] = (tile(torch.cat([originals, again]), columns), to_uint8(again).cpu().numpy())
    return made
