"""Lists of things that a user can ask for by name: figures, metrics. Which suit a model, and which can be had."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from genmodels.errors import did_you_mean, nearest

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Entry:
    """A function, and what it cannot do without."""

    call: Callable
    needs: str = ""                                     # what the model must have, such as "encode num_classes"
    data: bool | Callable[[object], bool] = False       # needs the test part; it may depend on the model
    history: bool = False                               # needs what the run kept in its folder
    labels: bool = False                                # needs data with labels
    judge: bool = False                                 # needs a classifier trained on the same data
    slow: bool = False                                  # only given when asked for


def select(kind: str, asked: Sequence[str] | str | None, entries: Mapping[str, Entry],
           model: object) -> dict[str, Entry]:
    """The entries to give for `kind=asked`: those named, all that suit the model, or (None) the quick ones of them.

    Raises ValueError for a name that does not exist, or does not suit the model.
    """
    suited = {name: replace(entry, data=entry.data(model) if callable(entry.data) else entry.data)
              for name, entry in entries.items()
              if all(getattr(model, need, None) for need in entry.needs.split())}
    if asked is None or asked == "all":
        return {name: entry for name, entry in suited.items() if asked == "all" or not entry.slow}
    for name in asked:
        if name not in entries:
            raise ValueError(f"{kind}: {name} is none of {', '.join(entries)}"
                             f"{did_you_mean(nearest(name, entries))}")
        if name not in suited:
            raise ValueError(f"{kind}: {name} cannot be had from a {type(model).__name__}, which can give "
                             f"{', '.join(suited)}")
    return {name: suited[name] for name in asked}


def without(lacking: str, kind: str, asked: object, entries: Mapping[str, Entry], reason: str) -> dict[str, Entry]:
    """What is left of a selection where data, history, labels or judge (`lacking`) are not there, for this reason.

    Raises ValueError if an entry that needs it was asked for by name; else says in one line what is left out.
    """
    what = {"data": "the data", "history": "what a run keeps in its folder as it trains",
            "labels": "labels of the images", "judge": "a classifier of these data as judge"}[lacking]
    missing = [name for name, entry in entries.items() if getattr(entry, lacking)]
    if missing and isinstance(asked, Sequence) and asked != "all":
        raise ValueError(f"{kind}: {', '.join(missing)} needs {what}, but {reason}")
    if missing:
        log.info("left out %s %s: %s", kind, ", ".join(missing), reason)
    return {name: entry for name, entry in entries.items() if name not in missing}
