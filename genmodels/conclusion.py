"""The end of a run: its figures, its verdict, its summary."""

import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from genmodels import run_files
from genmodels.caption import caption
from genmodels.data.images import ImageData
from genmodels.fitting import choose_cadence
from genmodels.formatting import invocation
from genmodels.metrics.evaluation import Evaluation
from genmodels.models.classifier import Classifier
from genmodels.reference_classifier import ReferenceClassifier
from genmodels.registry import select
from genmodels.run_folder import Run
from genmodels.settings import TrainSettings
from genmodels.trainers.loop import Trainer

log = logging.getLogger(__name__)


def conclude(
    run: Run,
    data: ImageData,
    settings: TrainSettings,
    trainer: Trainer,
    about: Mapping[str, Any],
    reference: ReferenceClassifier | None,
    metrics: Mapping[str, Any],
) -> None:
    """Draw the figures of a trained model, diagnose it, and write the run's summary."""
    start = time.perf_counter()
    drawing = "" if settings.figures == [] else "drawing its figures, "
    log.info("%sdiagnosing it", drawing)
    total = choose_cadence(settings, len(data.train)).total
    step = run.summary.get("selected", {}).get("step", total)
    if settings.figures != []:
        draw_figures(run.folder, settings, trainer, data, caption(about, step))

    def trained_classifier() -> Classifier | None:
        return reference.load_if_trained() if reference is not None else None

    evaluation = Evaluation(
        trainer.inference_model,
        data,
        kl_weight=about.get("kl_price"),
        binarised_training=about["settings"].get("trainer.binarise"),
        classifier=trained_classifier,
    )
    verdict = trainer.diagnose(evaluation)
    run.update_summary(concluding_seconds=round(time.perf_counter() - start, 3))
    run.finish(metrics, verdict)
    root = settings.dataset.get("root", "data")
    where = "" if root == "data" else f" dataset.root={root}"
    log.info(
        "%s\nfigures in %s; more with: %s checkpoint=%s%s",
        run.headline(),
        run.folder / run_files.FIGURES,
        invocation("infer"),
        run.folder,
        where,
    )


def draw_figures(
    folder: Path, settings: TrainSettings, trainer: Trainer, data: ImageData, text: str
) -> None:
    """Draw the figures that the settings ask for, of the trained model, into its run folder."""
    from genmodels.figures.options import FigureOptions
    from genmodels.figures.registry import FIGURES, draw  # imports matplotlib

    model = trainer.inference_model
    options = FigureOptions(test=data.test, train=data.train, classes=data.spec.classes, run=folder)
    chosen = select("figures", settings.figures, FIGURES, model)
    draw(model, chosen, options, folder / run_files.FIGURES, text)
