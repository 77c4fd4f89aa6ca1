"""Make pictures and numbers from trained models: `python infer.py checkpoint=runs/NAME`. `--help` lists the rest."""

import logging
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from omegaconf import DictConfig

from genmodels import config, doors
from genmodels.errors import TooFewError

if TYPE_CHECKING:
    import torch
    from torch import nn

    from genmodels.data.images import ImageData
    from genmodels.judge import Judge
    from genmodels.metrics.evaluation import Evaluation
    from genmodels.registry import Selection

log = logging.getLogger(__name__)

RESULTS = Path("results")


@hydra.main(version_base="1.3", config_path="conf", config_name="infer")
def main(cfg: DictConfig) -> None:
    """Hydra's job."""
    doors.job(infer, cfg, "infer")


@dataclass(frozen=True)
class Subject:
    """A trained model, what its file says of it, and what is to be made from it."""

    checkpoint: str
    model: "nn.Module"
    about: dict[str, Any]
    chosen: "Selection"
    run: Path | None  # its folder, where that has what it kept as it trained

    @property
    def name(self) -> str:
        """Of its results: a stranger's file may call itself ../../anything."""
        return config.clean(self.about["name"])


def infer(cfg: DictConfig, _: Path) -> None:
    """From each checkpoint to results/<run name>/: every figure as png and csv, the metrics as metrics.json; of several
    checkpoints the metrics in one table too."""
    from genmodels import hardware  # here, with all that needs torch: `--help` answers without
    from genmodels.judge import feature_space
    from genmodels.metrics.evaluation import Evaluation
    from genmodels.metrics.features import usual

    device = hardware.choose_device(cfg.device)
    hardware.keep_freed_memory()
    checkpoints = [cfg.checkpoint] if isinstance(cfg.checkpoint, str) else list(cfg.checkpoint)
    subjects = [open_subject(cfg, checkpoint, device) for checkpoint in checkpoints]
    if len({subject.name for subject in subjects}) < len(subjects):
        raise ValueError(
            f"checkpoint={','.join(checkpoints)}: two of them have the same name, and so the same results"
        )
    data = read_data(cfg, subjects, device)
    judge = find_judge(cfg, subjects, data)
    shared: dict[str, Any] = {"k": cfg.k, "samples": cfg.samples, "seed": cfg.seed}
    if judge is not None and data is not None:
        shared |= {
            "judge": cache(partial(judge.model, device)),
            "school": partial(judge.school, spec=data.spec, device=device),
        }
    if data is not None and any(subject.chosen.needs("features") for subject in subjects):
        name = cfg.features or usual(data.spec.classes)
        shared["features"] = cache(partial(feature_space, name, data, shared.get("judge")))
    measured = {}
    for subject in subjects:
        make_figures(cfg, subject, data)
        if subject.chosen["metrics"]:
            assert data is not None
            evaluation = Evaluation(data, config.price(subject.about), **shared)
            measured[subject.name] = measure(cfg, subject, evaluation)
    if len(measured) > 1:
        compare(measured)


def open_subject(cfg: DictConfig, checkpoint_name: str, device: "torch.device") -> Subject:
    """Load a model, and choose what can be made from it."""
    from genmodels import checkpoint
    from genmodels.figures import FIGURES
    from genmodels.metrics import METRICS
    from genmodels.metrics.ex_post_density import DENSITIES
    from genmodels.models.generative import GenerativeModel
    from genmodels.registry import Selection

    model, about = checkpoint.open_run(checkpoint_name, device)
    if missing := {"name", "step", "settings", "choices", "classes"} - about.keys():
        raise ValueError(
            f"checkpoint={checkpoint_name}: does not say its {', '.join(sorted(missing))}"
        )
    if isinstance(model, GenerativeModel):
        model.check_classes(cfg.labels or [], about["classes"])
    chosen = Selection(
        model,
        figures=(cfg.figures, FIGURES),
        metrics=(cfg.metrics, METRICS),
        density=([cfg.density], DENSITIES),
    )
    run = run_folder(checkpoint_name)
    if run is None:
        chosen.leave_out("history", f"there is none at {checkpoint_name}")
    if not about["classes"]:
        chosen.leave_out("labels", "its data have none")
    return Subject(checkpoint_name, model, about, chosen, run)


def read_data(
    cfg: DictConfig, subjects: Sequence[Subject], device: "torch.device"
) -> "ImageData | None":
    """The data that the models were trained on, if anything needs them; what does is left out where they are not there.

    Raises ValueError where several models were trained on different data.
    """
    from genmodels.data.datasets import open_source

    first = subjects[0]
    for other in subjects:
        if other.about.get("data") != first.about.get("data"):
            raise ValueError(
                f"checkpoint={other.checkpoint}: was trained on other data than {first.checkpoint}; "
                "they cannot be compared"
            )
    if not any(subject.chosen.needs("data") for subject in subjects):
        return None
    try:
        data = (
            open_source(first.about["settings"], cfg.dataset.root, cfg.dataset.cache)
            .load()
            .to(device)
        )
    except ValueError as error:
        for subject in subjects:
            subject.chosen.leave_out("data", str(error))
        return None
    if data.checksum != first.about.get("data"):
        log.warning(
            "dataset.root=%s: not the images that %s was trained on, or no longer: its test images may be "
            "among them",
            cfg.dataset.root,
            first.checkpoint,
        )
    return data


def find_judge(
    cfg: DictConfig, subjects: Sequence[Subject], data: "ImageData | None"
) -> "Judge | None":
    """The classifier of the data, if anything needs it; it is trained on demand, but not unasked."""
    from genmodels.judge import Judge
    from genmodels.metrics.features import usual

    if data is None:
        return None
    lacking = ["judge"] + ["features"] * (
        (cfg.features or usual(data.spec.classes)) == "classifier"
    )
    if not any(subject.chosen.needs(what) for subject in subjects for what in lacking):
        return None
    try:
        judge = Judge.of(subjects[0].about, data, cfg.dataset.root, cfg.dataset.cache)
        if cfg.metrics is None and not judge.ready:
            raise ValueError("there is none yet; metrics=all trains it, once")
        return judge
    except ValueError as error:
        for subject in subjects:
            for what in lacking:
                subject.chosen.leave_out(what, str(error))
        return None


def make_figures(cfg: DictConfig, subject: Subject, data: "ImageData | None") -> None:
    """Fit the density that samples are drawn from, and draw what was chosen."""
    from genmodels.figures import FigureOptions, draw
    from genmodels.models.generative import GenerativeModel

    model, about = subject.model, subject.about
    if isinstance(model, GenerativeModel):
        model.density = subject.chosen["density"][cfg.density].call(model, data, cfg.components)
    wishes = {
        name: cfg[name] for name in ("n", "seed", "temperature", "center", "spread", "labels")
    }
    request = FigureOptions(
        **wishes,
        test=data.test if data else None,
        train=data.train if data else None,
        classes=about["classes"],
        run=subject.run,
    )
    for path in draw(
        model,
        subject.chosen["figures"],
        request,
        RESULTS / subject.name,
        config.caption(about, about["step"]),
    ):
        log.info("%s", path)


def measure(cfg: DictConfig, subject: Subject, evaluation: "Evaluation") -> dict[str, Any]:
    """Take the metrics one after the other, say each as it is there, and keep all of them with what they are of."""
    from genmodels.files import write_json
    from genmodels.models.generative import GenerativeModel
    from genmodels.tracking import in_words, said

    density = (
        subject.model.density.formula() if isinstance(subject.model, GenerativeModel) else None
    )
    numbers: dict[str, Any] = {
        "checkpoint": subject.about["name"],
        "step": subject.about["step"],
        "density": density,
        "seed": cfg.seed,
    }
    seconds: dict[str, float] = {}
    for name, entry in subject.chosen["metrics"].items():
        start = time.perf_counter()
        try:
            found = entry.call(subject.model, evaluation)
        except TooFewError as error:
            if cfg.metrics not in (None, "all"):
                raise
            log.info("left out metrics %s: %s", name, error)
            continue
        numbers[name], seconds[name] = found, round(time.perf_counter() - start, 2)
        log.info(
            "%s",
            said(found)
            if name == "verdict"
            else f"{name}: {in_words(found)} ({seconds[name]:.1f} s)",
        )
    path = RESULTS / subject.name / "metrics.json"
    write_json(path, numbers | {"time": seconds})
    log.info("%s", path)
    return numbers


def compare(measured: Mapping[str, Mapping[str, Any]]) -> None:
    """One table of several models' metrics: in the terminal, and as csv in results/."""
    from genmodels.files import write_csv
    from genmodels.report.runs import headlines
    from genmodels.report.tables import text_table

    found = [
        {"run": name}
        | {
            f"{metric}.{key}": value
            for metric, of in numbers.items()
            if isinstance(of, Mapping)
            for key, value in headlines(of).items()
        }
        for name, numbers in measured.items()
    ]
    columns = list(dict.fromkeys(key for row in found for key in row))
    rows: list[dict[str, Any]] = [{key: row.get(key) for key in columns} for row in found]
    path = RESULTS / f"comparison-{config.digest(sorted(measured))}.csv"
    write_csv(path, rows)
    turned: list[dict[str, Any]] = [
        {"metric": key} | {str(index): row[key] for index, row in enumerate(rows, 1)}
        for key in columns
    ]
    log.info("\n%s\n\n%s", text_table(turned), path)


def run_folder(checkpoint: str) -> Path | None:
    """The folder of a run that is here with what it kept as it trained."""
    from genmodels.figures.training_progress import stored_steps

    path = Path(checkpoint)
    folder = path if path.is_dir() else path.parent
    return folder if stored_steps(folder) else None


if __name__ == "__main__":
    sys.exit(doors.enter(main, "infer"))
