"""Make pictures and numbers from a trained model: `python infer.py checkpoint=runs/NAME`. `--help` lists the rest."""

import logging
import sys
from collections.abc import Callable, Mapping
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from omegaconf import DictConfig

from genmodels import config, doors

if TYPE_CHECKING:
    import torch
    from torch import nn

    from genmodels.catalogue import Entry, Selection
    from genmodels.data.images import ImageData
    from genmodels.metrics.evidence import Evidence
    from genmodels.models.classifier import Classifier

log = logging.getLogger(__name__)


@hydra.main(version_base="1.3", config_path="conf", config_name="infer")
def main(cfg: DictConfig) -> None:
    """Hydra's job."""
    doors.job(infer, cfg, "infer")


def infer(cfg: DictConfig, _: Path) -> None:
    """From a checkpoint to results/<run name>/: every figure as png and csv, the metrics as metrics.json."""
    from genmodels import checkpoint, hardware  # here, with all that needs torch: `--help` answers without
    from genmodels.catalogue import Selection
    from genmodels.figures import FIGURES, Request, draw
    from genmodels.metrics import METRICS
    from genmodels.metrics.evidence import Evidence
    from genmodels.metrics.ex_post import DENSITIES
    from genmodels.models.generative import GenerativeModel

    device = hardware.choose_device(cfg.device)
    model, about = checkpoint.open_run(cfg.checkpoint, device)
    if missing := {"name", "step", "settings", "choices", "classes"} - about.keys():
        raise ValueError(f"checkpoint={cfg.checkpoint}: does not say its {', '.join(sorted(missing))}")
    generative = model if isinstance(model, GenerativeModel) else None
    if generative:
        generative.check_classes(cfg.labels or [], about["classes"])
    chosen = Selection(model, figures=(cfg.figures, FIGURES), metrics=(cfg.metrics, METRICS),
                       density=([cfg.density], DENSITIES))
    run = run_folder(cfg.checkpoint)
    if run is None:
        chosen.leave_out("history", f"there is none at {cfg.checkpoint}")
    if not about["classes"]:
        chosen.leave_out("labels", "its data have none")
    data = read_data(cfg, about, chosen, device)
    judge = find_judge(cfg, about, chosen, data, device)
    if generative:
        generative.density = chosen["density"][cfg.density].call(model, data, cfg.components)

    folder = Path("results") / config.clean(about["name"])     # a stranger's file may call itself ../../anything
    wishes = {name: cfg[name] for name in ("n", "seed", "temperature", "center", "spread", "labels")}
    request = Request(**wishes, part=data.test if data else None, train=data.train if data else None,
                      classes=about["classes"], run=run)
    for path in draw(model, chosen["figures"], request, folder, config.caption(about, about["step"])):
        log.info("%s", path)
    if chosen["metrics"]:
        assert data is not None
        subject = {"checkpoint": about["name"], "step": about["step"],
                   "density": generative.density.formula() if generative else None}
        measure(model, chosen["metrics"], Evidence(data, config.price(about), cfg.k, seed=cfg.seed, judge=judge),
                folder / "metrics.json", subject)


def read_data(cfg: DictConfig, about: Mapping[str, Any], chosen: "Selection",
              device: "torch.device") -> "ImageData | None":
    """The data that a model was trained on, if anything needs them; what does is left out where they are not there."""
    from genmodels.data.datasets import open_source
    if not chosen.needs("data"):
        return None
    try:
        data = open_source(about["settings"], cfg.dataset.root, cfg.dataset.cache).load().to(device)
    except ValueError as error:
        chosen.leave_out("data", str(error))
        return None
    if data.checksum != about.get("data"):
        log.warning("dataset.root=%s: not the images that %s was trained on, or no longer: its test images may be "
                    "among them", cfg.dataset.root, cfg.checkpoint)
    return data


def find_judge(cfg: DictConfig, about: Mapping[str, Any], chosen: "Selection", data: "ImageData | None",
               device: "torch.device") -> "Callable[[], Classifier] | None":
    """What gives the classifier of the data, if any metric needs it; it is trained on demand, but not unasked."""
    from genmodels.judge import Judge
    if data is None or not chosen.needs("judge"):
        return None
    try:
        judge = Judge.of(about, data, cfg.dataset.root, cfg.dataset.cache)
        if cfg.metrics is None and not judge.ready:
            raise ValueError("there is none yet; metrics=all trains it, once")
    except ValueError as error:
        chosen.leave_out("judge", str(error))
        return None
    return cache(partial(judge.model, device))


def measure(model: "nn.Module", metrics: "Mapping[str, Entry]", evidence: "Evidence", path: Path,
            subject: Mapping[str, Any]) -> None:
    """Take the metrics one after the other, say each as it is there, and keep all of them with what they are of."""
    from genmodels.files import write_json
    from genmodels.tracking import in_words, said
    numbers = dict(subject)
    for name, entry in metrics.items():
        numbers[name] = found = entry.call(model, evidence)
        log.info("%s", said(found) if name == "verdict" else f"{name}: {in_words(found)}")
    write_json(path, numbers)
    log.info("%s", path)


def run_folder(checkpoint: str) -> Path | None:
    """The folder of a run that is here with what it kept as it trained."""
    from genmodels.figures.lineage import stored_steps
    path = Path(checkpoint)
    folder = path if path.is_dir() else path.parent
    return folder if stored_steps(folder) else None


if __name__ == "__main__":
    sys.exit(doors.enter(main, "infer"))
