"""Changes of nested values and of bytes, as a stranger or a bad disk might make them."""

import contextlib
import copy
import math
from collections.abc import Iterator, Sequence
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

MAX_CHANGES = 3

DEEP: Any = {}
for _ in range(200):
    DEEP = [DEEP]

# What code that expects something else stumbles over
ODD = [
    *(None, True, False, 0, -1, 3, 2**31, 10**9, 10**30, 2.5, -0.0, 1e300, math.nan, math.inf),
    *(
        "",
        "x",
        "0",
        "null",
        "x" * 10_000,
        "../../etc/passwd",
        "\x00",
        "\N{SNOWMAN}",
        "${oc.env:HOME}",
    ),
    *("os.system", "genmodels.models.vae.ConvVAE", "genmodels.models.vae.Nothing", "!!python/none"),
    *([], [1], [[]], ["x"], {}, {"a": 1}, {"_target_": "os.system"}, DEEP, list(range(1000))),
]
SIMPLE = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
VALUES = st.sampled_from(ODD) | st.recursive(
    SIMPLE,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=8,
)


@st.composite
def changed_tree(draw: DrawFn, tree: Any, values: st.SearchStrategy = VALUES) -> Any:
    """The nested value with up to three places replaced, removed, renamed or added to."""
    places = list(paths(tree))
    changed = copy.deepcopy(tree)
    before: list[tuple] = []
    for _ in range(draw(st.integers(1, MAX_CHANGES))):
        path = draw(st.sampled_from(places))
        action = draw(st.sampled_from(["replace", "replace", "remove", "rename", "add"]))
        value, name = draw(values), draw(st.text(max_size=8))
        if any(path[: len(place)] == place for place in before):  # it is gone
            continue
        with contextlib.suppress(KeyError, IndexError, TypeError):  # moved by another change
            changed = _change(changed, path, action, value, name)
            before.append(path)
    return changed


@st.composite
def changed_bytes(draw: DrawFn, content: bytes) -> bytes:
    """The content with some bytes changed, put in, cut out or cut off; sometimes anything else."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.binary(max_size=64))
    changed = bytearray(content)
    for _ in range(draw(st.integers(1, MAX_CHANGES))):
        if not changed:
            break
        place = draw(st.integers(0, min(len(changed), 64) - 1) | st.integers(0, len(changed) - 1))
        action = draw(st.sampled_from(["flip", "set", "insert", "cut", "truncate"]))
        if action == "flip":
            changed[place] ^= 1 << draw(st.integers(0, 7))
        elif action == "set":
            changed[place] = draw(st.sampled_from([0, 1, 127, 128, 255]))
        elif action == "insert":
            changed[place:place] = draw(st.binary(min_size=1, max_size=8))
        elif action == "cut":
            end = place + draw(st.integers(1, 16))
            del changed[place:end]
        else:
            del changed[place:]
    return bytes(changed)


def paths(tree: Any, above: tuple = ()) -> Iterator[tuple]:
    """The keys that lead to each value in nested mappings and lists; () leads to the whole."""
    yield above
    items: Any = ()
    if isinstance(tree, dict):
        items = tree.items()
    elif isinstance(tree, list):
        items = enumerate(tree[:20])
    for key, value in items:
        yield from paths(value, (*above, key))


def _change(tree: Any, path: Sequence, action: str, value: Any, name: str) -> Any:
    if not path:
        return value if action == "replace" else tree
    parent = tree
    for key in path[:-1]:
        parent = parent[key]
    key = path[-1]
    if action == "replace":
        parent[key] = value
    elif action == "remove":
        del parent[key]
    elif isinstance(parent, dict):
        parent[name] = parent.pop(key) if action == "rename" else value
    else:
        parent.append(value)
    return tree
