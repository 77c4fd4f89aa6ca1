"""Make figures and metrics from trained models: `python infer.py checkpoint=runs/NAME`."""

import sys

import hydra
from omegaconf import DictConfig

from genmodels import cli, command_line
from genmodels.composition import CONF


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="infer")
def main(cfg: DictConfig) -> None:
    """One job."""
    from genmodels.inference import infer  # torch and all: `--help` answers without

    cli.run_job(infer, cfg)


def command() -> int:
    """The command line, also as `genmodels-infer`; returns the exit status."""
    return cli.run_command(main, "infer", command_line.check_checkpoint)


if __name__ == "__main__":
    sys.exit(command())
