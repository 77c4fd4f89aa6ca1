"""The report of a sweep, from the run folders alone: `python -m genmodels.report FOLDER...`

Writes report.html (one self-contained file), report.png, report.csv and report.tex (the settings over their seeds)
beside the runs, and prints the table of runs and the influence of what was swept.
"""

from collections.abc import Sequence
from pathlib import Path

from genmodels import files
from genmodels.report import html, overview, tables
from genmodels.report.runs import Job, differences, grouped, read_jobs, swept_settings


def write(folders: Sequence[Path]) -> list[Job]:
    """Report on these run folders, and on those in these folders; the report lies in the first of them."""
    jobs, target = read_jobs(folders), folders[0]
    swept = swept_settings(jobs)
    table, found = tables.job_table(jobs, swept), tables.influences(jobs, swept)
    files.write_csv(target / "report.csv", table)
    files.write_text(target / "report.tex", tables.latex_table(grouped(jobs, swept)))
    overview.draw(jobs, swept, found, target / "report.png")
    html.write(target / "report.html", jobs, swept, found, target / "report.png")
    groups = grouped(jobs, swept)
    said = [tables.text_table(table), *differences(jobs, swept)]
    if found:
        said += [
            "",
            tables.text_table(tables.influence_table(found)),
            *next(iter(found.values())).warnings,
        ]
    if means := tables.means_of(groups, found):
        said += ["", tables.text_table(means)]
    said += ["", *tables.findings(groups, found)]
    print("\n" + "\n".join(said) + f"\n\nreport: {target / 'report.html'}")
    return jobs
