"""How long the report of a large sweep takes, and how large it is.

    python benchmarks/large_report.py 300 1000

It trains one small run, and copies it under other settings.
"""

import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

import yaml

from genmodels.report.write import write
from genmodels.training import train


def make_sweep(folder: Path, trained: Path, jobs: int) -> None:
    """Run folders with one another's pictures, rows and weights, but their own settings."""
    settings = yaml.safe_load((trained / "config.yaml").read_text())
    summary = json.loads((trained / "summary.json").read_text())
    for index in range(jobs):
        run = shutil.copytree(trained, folder / f"run{index:04d}", copy_function=os.link)
        for changed in ("config.yaml", "summary.json"):
            (run / changed).unlink()  # else the other runs' would change too
        own = settings | {"seed": index % 5, "kl_weight": float(index // 5)}
        (run / "config.yaml").write_text(yaml.safe_dump(own))
        summary["metrics"]["validation"]["elbo"] -= index % 7
        (run / "summary.json").write_text(json.dumps(summary))


def main() -> None:
    """Print a line for each number of jobs."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        trained = folder / "trained"
        train(
            "model=vae_mlp",
            "model.latent_dim=2",
            "max_steps=200",
            "evaluate_every=20",
            f"hydra.run.dir={trained}",
        )
        for jobs in map(int, sys.argv[1:]):
            sweep = folder / str(jobs)
            make_sweep(sweep, trained, jobs)
            start = time.perf_counter()
            write([sweep])
            seconds = time.perf_counter() - start
            size = (sweep / "report.html").stat().st_size
            print(f"{jobs} jobs: {seconds:.1f} s, report.html {size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
