"""The files of a report, and what the terminal shows of it."""

from collections.abc import Sequence
from pathlib import Path

from genmodels import files
from genmodels.report import html, overview, tables
from genmodels.report.findings import findings
from genmodels.report.runs import read_runs
from genmodels.report.sweep import Sweep
from genmodels.report.swept_settings import unswept_differences


def write(folders: Sequence[Path]) -> Sweep:
    """Report on these run folders, and on those in these folders.

    Writes into the first folder report.html (one self-contained file), report.png, report.csv (one
    row a run, all metrics) and report.tex (the settings over their seeds), and prints the tables.
    Raises ValueError where there are no runs.
    """
    sweep = Sweep(read_runs(folders))
    target = folders[0]
    files.write_csv(target / "report.csv", tables.run_table(sweep, sweep.all_columns))
    files.write_text(target / "report.tex", tables.latex_table(sweep))
    overview.draw(sweep, target / "report.png")
    html.write(sweep, target / "report.html", target / "report.png")
    print(f"\n{_summary(sweep)}\n\nreport: {target / 'report.html'}")
    return sweep


def _summary(sweep: Sweep) -> str:
    """Tables and findings as text."""
    lines = [tables.text_table(tables.run_table(sweep, sweep.columns))]
    lines += unswept_differences(sweep.runs, sweep.swept)
    for table in (tables.anova_table(sweep), tables.means_table(sweep)):
        if table:
            lines += ["", tables.text_table(table)]
    return "\n".join([*lines, *sweep.warnings, "", *findings(sweep)])
