"""Which jobs a sweep has, and where they go: what Hydra calls where train.py is called with -m."""

import sys
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from genmodels import run_files
from genmodels.composition import group_choices, to_dict, without_hydra
from genmodels.run_name import clean, data_name, digest, number_settings

MAX_NAME = 80
# Where Hydra finds the namespace package hydra_plugins of this project
sys.path.append(str(Path(__file__).parent / "plugins"))


class SweepFolder(Callback):
    """Names the folder of a sweep by what is swept and by the settings that are not.

    So the same command finds its finished jobs again, also with another weight in its list.
    """

    current: Path | None = None  # of the sweep that this process runs

    def on_multirun_start(self, config: DictConfig, **_: object) -> None:
        """Set hydra.sweep.dir for the sweep and, as an override, its jobs, unless the user did."""
        overrides = config.hydra.overrides.hydra
        if not any(override.startswith("hydra.sweep.dir=") for override in overrides):
            folder = f"{config.hydra.sweep.dir}/{sweep_name(config)}"
            config.hydra.sweep.dir = folder
            overrides.append(f"hydra.sweep.dir={folder}")
        SweepFolder.current = Path(config.hydra.sweep.dir)


def sweep_name(config: DictConfig) -> str:
    """Data, model and experiment, if they are not swept; what is swept, as far as the experiment
    does not say; a digest."""
    overrides = OverridesParser.create().parse_overrides(list(config.hydra.overrides.task))
    asked = {override.key_or_group for override in overrides if override.is_sweep_override()}
    planned = set(config.hydra.sweeper.get("params") or {})
    swept = sorted(asked | planned)
    choices = group_choices(config.hydra.runtime.choices)
    own = without_hydra(config)
    data = {f"dataset.{key}": value for key, value in to_dict(own.dataset).items()}
    names = {"dataset": data_name(data, choices), "model": choices["model"]}
    parts = [name for group, name in names.items() if group not in swept]
    if planned and "experiment" in choices:
        parts += [choices["experiment"], *sorted(asked)]
    else:
        parts += swept
    settings = number_settings(to_dict(own, resolve=False))
    fixed = {key: value for key, value in settings.items() if key not in swept}
    return f"{clean('-'.join(parts))[:MAX_NAME]}-{digest([fixed, swept])}"


def write_report() -> None:
    """At the end of a sweep, also of one in which jobs failed: a table, and report.html."""
    folder = SweepFolder.current
    if folder is not None and any(folder.glob(f"*/{run_files.SUMMARY}")):
        from genmodels.report.write import write  # imports matplotlib

        write([folder])
