"""Train a generative model: `python train.py model=vae dataset=mnist kl_weight=3`."""

import sys

import hydra
from omegaconf import DictConfig

from genmodels import cli, sweeps
from genmodels.composition import CONF


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="train")
def main(cfg: DictConfig) -> float | None:
    """One job. What it returns is what a sweeper that searches goes by."""
    from genmodels.training import run_training  # torch and all: `--help` answers without

    return cli.run_job(run_training, cfg).sweep_metric


def command() -> int:
    """The command line, also as `genmodels-train`; returns the exit status."""
    return cli.run_command(main, "train", sweeps.check_jobs, sweeps.write_report)


if __name__ == "__main__":
    sys.exit(command())
