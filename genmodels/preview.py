"""What preview=true draws: the data as a run will see them, and what changes over its steps."""

import logging
from pathlib import Path

from genmodels import run_files
from genmodels.data.images import BatchStream, ImageData
from genmodels.data.statistics import dataset_statistics
from genmodels.figures.dataset import draw_dataset
from genmodels.figures.schedules import draw_plan
from genmodels.fitting import Components, choose_cadence
from genmodels.randomness import reseed
from genmodels.settings import TrainSettings

log = logging.getLogger(__name__)


def draw_preview(
    data: ImageData, settings: TrainSettings, components: Components, folder: Path, caption: str
) -> None:
    """Draw the data set and the schedules of this very run into its folder; train nothing."""
    reseed(settings.seed, "train")
    trainer = components.trainer
    stream = BatchStream(data.train, settings.batch_size, settings.seed, components.augment)
    seen = trainer.inputs(stream.batch(0))
    statistics = dataset_statistics(data)
    log.info("%s", statistics.describe())
    figures = folder / run_files.FIGURES
    log.info("%s", draw_dataset(statistics, seen).save(figures, "data", caption))
    total = choose_cadence(settings, len(data.train)).total
    log.info("%s", draw_plan(trainer.plan, total).save(figures, "preview", caption))
