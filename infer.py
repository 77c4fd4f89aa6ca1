"""Make figures and metrics from trained models: `python infer.py checkpoint=runs/NAME`."""

import sys

import hydra
from omegaconf import DictConfig

from genmodels import cli, command_line


@hydra.main(version_base="1.3", config_path="conf", config_name="infer")
def main(cfg: DictConfig) -> None:
    """One job."""
    from genmodels.inference import infer  # torch and all: `--help` answers without

    cli.run_job(infer, cfg)


if __name__ == "__main__":
    sys.exit(cli.run_command(main, "infer", command_line.check_checkpoint))
