"""The files of a report, and what the terminal shows of it."""

import logging
import time
from collections.abc import Sequence
from pathlib import Path

from genmodels import files
from genmodels.report import html, influence, influence_figure, overview, tables
from genmodels.report.findings import findings
from genmodels.report.runs import read_runs
from genmodels.report.sweep import Sweep
from genmodels.report.swept_settings import unswept_differences

log = logging.getLogger(__name__)

PAGE = "report.html"
WATCH_SECONDS = 10  # between two versions of a page that is watched
QUIET_SECONDS = 60  # after which a sweep that has no running job is at its end


def write(folders: Sequence[Path], file_format: str = "png") -> Sweep:
    """Report on these run folders, and on those in these folders.

    Writes into the first folder report.html (one self-contained file), report.png, influence.png
    (where several settings were swept), report.csv (one row a run, all metrics) and report.tex (the
    settings over their seeds), and prints the tables. Raises ValueError where there are no runs.

    Arguments:
    folders: of runs, or that hold some.
    file_format: of the two pictures; png, pdf or svg.
    """
    sweep = Sweep(read_runs(folders))
    target = folders[0]
    files.write_csv(target / "report.csv", tables.run_table(sweep, sweep.all_columns))
    files.write_text(target / "report.tex", tables.latex_table(sweep))
    overview.draw(sweep, target / f"report.{file_format}")
    influence_figure.draw(sweep, target / f"influence.{file_format}")
    html.write(sweep, target / PAGE)
    print(f"\n{_summary(sweep)}\n\nreport: {target / PAGE}")
    return sweep


def watch(folders: Sequence[Path], file_format: str = "png") -> Sweep:
    """Write report.html again and again while runs train, then the whole report.

    The page refreshes itself in the browser. Waits for the first run, and between two jobs of a
    sweep. Raises ValueError where no folder is there.
    """
    missing = [folder for folder in folders if not folder.is_dir()]
    if missing:
        raise ValueError(f"{missing[0]}: no such folder")
    print(f"open {folders[0] / PAGE}; it is written every {WATCH_SECONDS} s until the runs end")
    quiet_since = time.monotonic()
    while time.monotonic() - quiet_since < QUIET_SECONDS:
        if _write_page(folders):
            quiet_since = time.monotonic()
        time.sleep(WATCH_SECONDS)
    return write(folders, file_format)


def _write_page(folders: Sequence[Path]) -> bool:
    """Write the page of what there is so far; returns whether a run is being trained."""
    try:
        sweep = Sweep(read_runs(folders))
    except ValueError as error:
        log.warning("%s yet", error)
        return False
    html.write(sweep, folders[0] / PAGE, refresh_seconds=WATCH_SECONDS)
    return any(run.status == "running" for run in sweep.runs)


def _summary(sweep: Sweep) -> str:
    """Tables and findings as text."""
    lines = [tables.text_table(tables.run_table(sweep, sweep.columns))]
    lines += unswept_differences(sweep.runs, sweep.swept)
    for table in (
        influence.shares_table(sweep),
        influence.effects_table(sweep),
        influence.interactions_table(sweep),
        influence.changes_table(sweep),
    ):
        if table:
            lines += ["", tables.text_table(table)]
    return "\n".join([*lines, *sweep.warnings, "", *findings(sweep)])
