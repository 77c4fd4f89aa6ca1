"""The figures: (model, FigureOptions) -> FigureResult, or a page. To add one, enter it here."""

import logging
from collections.abc import Callable, Iterable
from pathlib import Path

from torch import nn

from genmodels.explorer.page import explorer
from genmodels.figures import (
    aggregated_posterior,
    confusion,
    dimensions,
    grids,
    interpolation,
    latent_atlas,
    latent_grid,
    latent_scatter,
    movies,
    nearest_neighbours,
    rate_distortion,
    region,
    training_progress,
    traversals,
)
from genmodels.figures.options import FigureOptions
from genmodels.registry import Spec, UnsuitedError

log = logging.getLogger(__name__)

FIGURES = {
    "samples": Spec(grids.samples),
    "class_grid": Spec(grids.class_grid, conditional=True),
    "style_grid": Spec(grids.style_grid, conditional=True),
    "temperature": Spec(grids.temperature),
    "nearest_neighbours": Spec(nearest_neighbours.nearest_neighbours, data=True),
    "reconstructions": Spec(grids.reconstructions, data=True),
    "interpolation": Spec(interpolation.interpolation),
    "traversals": Spec(traversals.traversals, data=True),
    "kl_per_dimension": Spec(dimensions.kl_per_dimension, data=True),
    "aggregated_posterior": Spec(aggregated_posterior.aggregated_posterior, data=True),
    "latent_grid": Spec(latent_grid.latent_grid, data=latent_grid.needs_data),
    "latent_scatter": Spec(latent_scatter.latent_scatter, data=True),
    "latent_atlas": Spec(latent_atlas.latent_atlas, data=True),
    "region": Spec(region.region, slow=True),
    "training_progress": Spec(training_progress.training_progress, history=True),
    "rate_distortion": Spec(rate_distortion.rate_distortion, history=True),
    "confusion": Spec(confusion.confusion, data=True),
    "explorer": Spec(explorer, optional_data=True),
    "training_movie": Spec(movies.training_movie, history=True, slow=True),
    "traversal_movie": Spec(movies.traversal_movie, data=True, slow=True),
    "latent_walk": Spec(movies.latent_walk, slow=True),
}
RENAMED = {"lineage": "training_progress", "nearest": "nearest_neighbours"}


def draw(
    model: nn.Module,
    names: Iterable[str],
    options: FigureOptions,
    folder: Path,
    caption: str,
    file_name: Callable[[str], str] = str,
    refuse: bool = False,
    file_format: str = "png",
) -> list[Path]:
    """Draw these figures into a folder, with their numbers as csv; returns the figures' paths.

    The explorer is a page instead, and movies are GIFs.

    Arguments:
    model: what is drawn.
    names: of the figures.
    options: of all of them.
    folder: for the files.
    caption: under each figure.
    file_name: the name of a figure -> the name of its files, without their ending.
    refuse: whether to raise UnsuitedError for what a part of the model does not allow, instead of
        doing without it.
    file_format: of the figures, one that matplotlib writes.
    """
    paths = []
    for name in names:
        try:
            result = FIGURES[name].call(model, options)
        except UnsuitedError as error:
            if refuse:
                raise UnsuitedError(f"figures: {name}: {error}") from None
            log.info("skipped figures %s: %s", name, error)
            continue
        paths.append(result.save(folder, file_name(name), caption, file_format))
    return paths
