"""Settings and numbers as the cells and labels of a report."""

from collections.abc import Mapping

from genmodels.formatting import format_number, format_setting

MAX_LETTERS = 60  # of a cell


def format_cell(value: object) -> str:
    """A value as tables have it, "" for None; long texts are cut."""
    if isinstance(value, float):
        return f"{value:.0f}" if value.is_integer() else format_number(value)
    text = "" if value is None else str(value)
    return text if len(text) <= MAX_LETTERS else text[: MAX_LETTERS - 3] + "..."


def format_settings(settings: Mapping[str, object]) -> str:
    """Settings as a label: "kl_weight 3, lr 0.1"."""
    return ", ".join(f"{key} {format_cell(value)}" for key, value in settings.items())


def sort_key(value: object) -> tuple:
    """A key by which values of any kind can be sorted: numbers first."""
    is_number = isinstance(value, int | float)
    return (0, value, "") if is_number else (1, 0, format_setting(value))
