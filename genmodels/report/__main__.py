"""python -m genmodels.report FOLDER... [--watch]"""

import sys
from collections.abc import Sequence
from pathlib import Path

from genmodels.report.write import watch, write

WATCH = "--watch"
USAGE = f"usage: python -m genmodels.report FOLDER... [{WATCH}]"


def main(arguments: Sequence[str]) -> int:
    """The command line; returns the exit status."""
    names = [argument for argument in arguments if argument != WATCH]
    flags = [name for name in names if name.startswith("-")]
    try:
        if not names or flags:
            raise ValueError(USAGE)
        report = watch if WATCH in arguments else write
        report([Path(name) for name in names])
    except (ValueError, OSError) as error:
        print(f"genmodels.report: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
