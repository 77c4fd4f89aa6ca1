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
    needs: str = ""  # what the model must have, such as "encode num_classes"
    data: bool | Callable[[object], bool] = False  # needs the test part; it may depend on the model
    history: bool = False  # needs what the run kept in its folder
    labels: bool = False  # needs data with labels
    judge: bool = False  # needs a classifier trained on the same data
    features: bool = False  # needs features of images
    slow: bool = False  # only given when asked for


def select(
    kind: str, asked: Sequence[str] | str | None, entries: Mapping[str, Entry], model: object
) -> dict[str, Entry]:
    """The entries to give for `kind=asked`: those named, all that suit the model, or (None) the quick ones of them.

    Raises ValueError for a name that does not exist, or does not suit the model.
    """
    suited = {
        name: replace(entry, data=entry.data(model) if callable(entry.data) else entry.data)
        for name, entry in entries.items()
        if all(getattr(model, need, None) for need in entry.needs.split())
    }
    if asked is None or asked == "all":
        return {name: entry for name, entry in suited.items() if asked == "all" or not entry.slow}
    for name in asked:
        if name not in entries:
            raise ValueError(
                f"{kind}: {name} is none of {', '.join(entries)}"
                f"{did_you_mean(nearest(name, entries))}"
            )
        if name not in suited:
            raise ValueError(
                f"{kind}: {name} cannot be had from a {type(model).__name__}, which can give "
                f"{', '.join(suited)}"
            )
    return {name: suited[name] for name in asked}


class Selection:
    """What is asked for of each kind of thing (figures, metrics, ...), as far as the model allows it.

    What turns out to lack something is left out, with one line; asked for by name, it is refused.
    """

    def __init__(
        self, model: object, **kinds: tuple[Sequence[str] | str | None, Mapping[str, Entry]]
    ) -> None:
        """kinds: for each what was asked for, and all its entries; raises ValueError as `select` does."""
        self._asked = {kind: asked for kind, (asked, _) in kinds.items()}
        self._chosen = {
            kind: select(kind, asked, entries, model) for kind, (asked, entries) in kinds.items()
        }

    def __getitem__(self, kind: str) -> dict[str, Entry]:
        return self._chosen[kind]

    def needs(self, what: str) -> bool:
        """Whether anything that is left needs data, history, labels, judge or features."""
        return any(
            getattr(entry, what) for entries in self._chosen.values() for entry in entries.values()
        )

    def leave_out(self, lacking: str, reason: str) -> None:
        """Do without what needs data, history, labels, judge or features (`lacking`), which are not there for this
        reason.

        Raises ValueError where an entry that needs it was asked for by name.
        """
        what = {
            "data": "the data",
            "history": "what a run keeps in its folder as it trains",
            "labels": "labels of the images",
            "judge": "a classifier of these data as judge",
            "features": "features of images",
        }[lacking]
        for kind, entries in self._chosen.items():
            missing, asked = (
                [name for name, entry in entries.items() if getattr(entry, lacking)],
                self._asked[kind],
            )
            if missing and isinstance(asked, Sequence) and asked != "all":
                raise ValueError(f"{kind}: {', '.join(missing)} needs {what}, but {reason}")
            if missing:
                log.info("left out %s %s: %s", kind, ", ".join(missing), reason)
            self._chosen[kind] = {
                name: entry for name, entry in entries.items() if name not in missing
            }
