"""One table of several models' metrics."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from genmodels import files
from genmodels.report.runs import scalar_metrics
from genmodels.report.tables import text_table


def compare_models(measured: Mapping[str, Mapping[str, Any]], path: Path) -> str:
    """Write the metrics of models as csv, a row a model; returns them as text, a column a model.

    Nothing is ranked. The second row says which split the numbers are of: to choose a model,
    compare them on the validation split.

    Arguments:
    measured: name of a model -> metric -> its numbers, and "split" -> its name.
    path: of the csv file.
    """
    rows: list[dict[str, Any]] = []
    for name, metrics in measured.items():
        row: dict[str, Any] = {"run": name, "split": metrics["split"]}
        for metric, numbers in metrics.items():
            if isinstance(numbers, Mapping):
                for key, value in scalar_metrics(numbers).items():
                    row[f"{metric}.{key}"] = value
        rows.append(row)
    columns = list(dict.fromkeys(key for row in rows for key in row))
    files.write_csv(path, [dict.fromkeys(columns) | row for row in rows])
    table = []
    for key in columns:
        line: dict[str, Any] = {"metric": key}
        for index, row in enumerate(rows, start=1):
            line[str(index)] = row.get(key)
        table.append(line)
    return text_table(table)
