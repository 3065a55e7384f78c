"""Divides a large batch into parts that several transactions can handle at once; pure.

Enters: items, and the keys of what each touches. Leaves: parts that have no key in common, so that they hardly ever wait
for a lock of another one; inside a part the items keep their order. Next: batch.py, which handles the parts.
"""

from collections.abc import Callable, Hashable, Sequence
from typing import TypeVar

ItemT = TypeVar("ItemT")


def divide(items: Sequence[ItemT], keys: Callable[[ItemT], Sequence[Hashable]], *, count: int) -> list[list[ItemT]]:
    """Return `count` parts of about the same size, or fewer; items that are connected by keys are in one part.

    Two items are connected when they share a key, or when both are connected to a third.
    """
    group_of: dict[Hashable, list[int]] = {}  # of each key, the places of the items that are connected to it
    groups: list[list[int]] = []
    for place, item in enumerate(items):
        group: list[int] = []
        own = keys(item)
        for key in own:
            met = group_of.get(key, group)
            if met is not group:
                _join(met, group, group_of)
                group = met
        if not group:
            groups.append(group)
        group.append(place)
        for key in own:
            group_of[key] = group
    parts: list[list[int]] = [[] for _ in range(count)]
    for group in groups:
        min(parts, key=len).extend(group)
    return [[items[place] for place in sorted(part)] for part in parts if part]


def _join(into: list[int], group: list[int], group_of: dict[Hashable, list[int]]) -> None:
    """Move what is in a group into another one; rare, since almost every event names all that it touches."""
    if group:
        into += group
        group.clear()
        group_of |= {key: into for key, of in group_of.items() if of is group}
