"""python -m genmodels.report FOLDER... [--watch] [--format pdf]"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from genmodels.figures.plotting import FORMATS
from genmodels.report.write import watch, write


class _Parser(argparse.ArgumentParser):
    """Raises ValueError where argparse ends the process."""

    def error(self, message: str) -> NoReturn:
        """Raise ValueError with the usage."""
        raise ValueError(f"{message}; {self.format_usage().strip()}")


def main(arguments: Sequence[str]) -> int:
    """The command line; returns the exit status."""
    parser = _Parser(prog="python -m genmodels.report", description=__doc__)
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER", help="of runs or sweeps")
    parser.add_argument("--watch", action="store_true", help="write report.html while runs train")
    parser.add_argument(
        "--format", choices=FORMATS, default="png", help="of report.png and influence.png"
    )
    try:
        options = parser.parse_args(arguments)
        report = watch if options.watch else write
        report(options.folders, options.format)
    except (ValueError, OSError) as error:
        print(f"genmodels.report: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
