"""python -m genmodels.report FOLDER..."""

import sys
from collections.abc import Sequence
from pathlib import Path

from genmodels.report.write import write


def main(arguments: Sequence[str]) -> int:
    """The command line; returns the exit status."""
    try:
        if not arguments:
            raise ValueError("usage: python -m genmodels.report FOLDER...")
        write([Path(argument) for argument in arguments])
    except (ValueError, OSError) as error:
        print(f"genmodels.report: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
