"""One self-contained html page from a template, its sources and its data."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2

from genmodels import files


def write_page(
    path: Path, template: Path, sources: Sequence[str], data: Mapping[str, Any], **values: Any
) -> None:
    """Fill in a template of jinja2, and write the page.

    Arguments:
    path: of the page.
    template: the file.
    sources: files beside it that the page holds; the template knows "a.css" as a_css.
    data: what the scripts read as json; the template knows it as data.
    values: what else the template knows.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(template.parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for name in sources:
        text = (template.parent / name).read_text(encoding="utf-8")
        values[name.replace(".", "_")] = text
    escaped = json.dumps(data).replace("<", "\\u003c")  # or "</script>" would end it
    page = environment.get_template(template.name).render(data=escaped, **values)
    files.write_text(path, page)
