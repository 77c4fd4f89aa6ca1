"""Make pictures and numbers from a trained model: `python infer.py checkpoint=runs/NAME`. `--help` lists the rest."""

import logging
import sys
from pathlib import Path

import hydra
from omegaconf import DictConfig

from genmodels import config, doors

log = logging.getLogger(__name__)


@hydra.main(version_base="1.3", config_path="conf", config_name="infer")
def main(cfg: DictConfig) -> None:
    """Hydra's job."""
    doors.job(infer, cfg, "infer")


def infer(cfg: DictConfig, _: Path) -> None:
    """From a checkpoint to results/<run name>/: every figure as png and csv, the metrics as metrics.json."""
    from genmodels import checkpoint, hardware  # here, with all that needs torch: `--help` answers without
    from genmodels.catalogue import select, without
    from genmodels.data.datasets import open_source
    from genmodels.figures import FIGURES, Request, draw
    from genmodels.files import write_json
    from genmodels.metrics import METRICS
    from genmodels.metrics.evidence import Evidence
    from genmodels.tracking import in_words, said

    device = hardware.choose_device(cfg.device)
    model, about = checkpoint.open_run(cfg.checkpoint, device)
    if missing := {"name", "step", "settings", "choices", "classes"} - about.keys():
        raise ValueError(f"checkpoint={cfg.checkpoint}: does not say its {', '.join(sorted(missing))}")
    figures, metrics = (select(kind, cfg[kind], entries, model)
                        for kind, entries in (("figures", FIGURES), ("metrics", METRICS)))
    run = run_folder(cfg.checkpoint)
    if run is None:
        figures = without("history", "figures", cfg.figures, figures, f"there is none at {cfg.checkpoint}")
    data = None
    if any(entry.data for entry in [*figures.values(), *metrics.values()]):
        try:
            data = open_source(about["settings"], cfg.dataset.root, cfg.dataset.cache).load().to(device)
            if data.checksum != about.get("data"):
                log.warning("dataset.root=%s: not the images that %s was trained on, or no longer: its test images may "
                            "be among them", cfg.dataset.root, cfg.checkpoint)
        except ValueError as error:
            figures = without("data", "figures", cfg.figures, figures, str(error))
            metrics = without("data", "metrics", cfg.metrics, metrics, str(error))

    folder = Path("results") / config.clean(about["name"])     # a stranger's file may call itself ../../anything
    wishes = {name: cfg[name] for name in ("n", "seed", "temperature", "center", "spread", "labels")}
    request = Request(**wishes, part=data.test if data else None, classes=about["classes"], run=run)
    for path in draw(model, figures, request, folder, config.caption(about, about["step"])):
        log.info("%s", path)
    if metrics:
        assert data is not None
        evidence = Evidence(data, config.price(about), cfg.k, seed=cfg.seed)
        numbers = {}
        for name, entry in metrics.items():
            numbers[name] = found = entry.call(model, evidence)
            log.info("%s", said(found) if name == "verdict" else f"{name}: {in_words(found)}")
        write_json(folder / "metrics.json", {"checkpoint": about["name"], "step": about["step"], **numbers})
        log.info("%s", folder / "metrics.json")


def run_folder(checkpoint: str) -> Path | None:
    """The folder of a run that is here with what it kept as it trained."""
    from genmodels.figures.lineage import stored_steps
    path = Path(checkpoint)
    folder = path if path.is_dir() else path.parent
    return folder if stored_steps(folder) else None


if __name__ == "__main__":
    sys.exit(doors.enter(main, "infer"))
