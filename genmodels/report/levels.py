"""The values of a swept setting as the levels of a factor."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from genmodels.report.cells import format_cell, sort_key

MAX_LEVELS = 6  # distinct numbers of a factor; more are grouped if few runs share a value
QUANTILE_GROUPS = 4


def code_levels(values: Sequence[Any]) -> tuple[np.ndarray, list[str]]:
    """The level of each value, (N,) from 0, and the levels' names.

    A level is a distinct value, or a range between quantiles of many distinct numbers.
    """
    by_text = {repr(value): value for value in values}
    distinct = sorted(by_text.values(), key=sort_key)
    are_numbers = all(type(value) in (int, float) for value in values)
    if are_numbers and len(distinct) > max(MAX_LEVELS, len(values) / 2):
        return _code_quantiles(np.array(values))
    texts = [repr(value) for value in distinct]
    levels = [texts.index(repr(value)) for value in values]
    names = [format_cell(value) for value in distinct]
    return np.array(levels), names


def _code_quantiles(numbers: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """The same for numbers (N,), by QUANTILE_GROUPS quantiles."""
    quantiles = np.linspace(0, 1, QUANTILE_GROUPS + 1)
    edges = np.quantile(numbers, quantiles[1:-1])
    levels = np.searchsorted(edges, numbers)
    levels = np.unique(levels, return_inverse=True)[1]  # without empty ones
    names = []
    for level in range(levels.max() + 1):
        members = numbers[levels == level]
        low = format_cell(float(members.min()))
        high = format_cell(float(members.max()))
        names.append(f"{low} to {high}")
    return levels, names
