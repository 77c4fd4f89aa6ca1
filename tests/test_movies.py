"""Moving pictures: their frames, and the files."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import SMALL
from PIL import Image
from planted_models import linear_gaussian
from test_generator_figures import GrayModel, split_of

from genmodels.figures import movies
from genmodels.figures.image_sheet import tile
from genmodels.figures.movies import Movie, latent_walk, training_movie, traversal_movie
from genmodels.figures.options import FigureOptions
from genmodels.figures.training_progress import stored_images, stored_steps


@pytest.mark.parametrize("channels", [1, 3])
def test_a_file(tmp_path: Path, channels: int) -> None:
    """It repeats for ever, each frame for its time, in whole multiples of the pixels."""
    frames = [np.full((40, 50, channels), 80 * index, np.uint8) for index in range(3)]
    path = Movie(frames, [100, 200, 1000]).save(tmp_path, "name", "the caption")
    assert path == tmp_path / "name.gif" and list(tmp_path.iterdir()) == [path]
    with Image.open(path) as movie:
        assert (movie.n_frames, movie.size, movie.info["loop"]) == (3, (100, 80), 0)
        assert movie.info["comment"] == b"the caption"
        for index, milliseconds in enumerate((100, 200, 1000)):
            movie.seek(index)
            assert movie.info["duration"] == milliseconds
            colours = np.unique(np.array(movie.convert("RGB")))
            assert colours == pytest.approx([80 * index], abs=3)


@pytest.mark.parametrize("model", [GrayModel(), GrayModel(4)])
def test_a_walk_goes_through_its_stops_and_back(model: GrayModel) -> None:
    """Changes from frame to frame are small, also from the last to the first."""
    walk = latent_walk(model, FigureOptions())
    assert len(walk.frames) == len(walk.milliseconds) == movies.STOPS * movies.FRAMES_BETWEEN
    frames = torch.tensor(np.stack(walk.frames)).float()
    changes = (frames.roll(-1, dims=0) - frames).abs().amax(dim=(1, 2, 3))
    stops = frames[:: movies.FRAMES_BETWEEN]
    assert changes.max() < 60 < (stops.roll(-1, dims=0) - stops).abs().max()
    assert changes[-1] > 0


def test_traversals_move_one_dimension_in_each_column() -> None:
    """At the frame of value 0 all columns but the moved one have the posterior mean."""
    model = linear_gaussian()
    split = split_of(8, (1, 8, 8))
    options = FigureOptions(test=split)
    movie = traversal_movie(model, options)
    assert len(movie.frames) == movies.TRAVERSAL_FRAMES
    images, labels = split.batch(slice(0, 5))
    z = model.encode(images, labels).mean
    order = options.posteriors(model).kl.mean(dim=0).argsort(descending=True).tolist()
    expected = []
    for mean in z:
        for dimension in order:
            moved = mean.clone()
            moved[dimension] = 3.0 * np.sin(2 * np.pi * 4 / 30)
            expected.append(model.generate(moved[None]))
    sheet = tile(torch.cat(expected).clamp(0, 1), len(order))
    assert np.abs(movie.frames[4].astype(int) - sheet.astype(int)).max() <= 1


def test_a_movie_of_a_training(train_here: Callable[..., Path]) -> None:
    run = train_here(*SMALL, "max_steps=20", "evaluate_every=5")
    steps = stored_steps(run)
    movie = training_movie(GrayModel(), FigureOptions(run=run))
    assert len(movie.frames) == len(steps) == 4
    assert movie.milliseconds == [400, 400, 400, 2500]
    assert (movie.frames[2] == tile(stored_images(run, "samples", steps[2]), 10)).all()
    with pytest.raises(ValueError, match="training_movie"):
        training_movie(GrayModel(), FigureOptions(run=run / "figures"))
