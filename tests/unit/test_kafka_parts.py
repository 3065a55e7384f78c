"""A large batch divided into parts that have no key in common."""

from hypothesis import given
from hypothesis import strategies as some

from shared.kafka.parts import divide

# Few keys, so that items are often connected, directly and through others; some items have none.
ITEMS = some.lists(some.lists(some.integers(0, 40), max_size=4), max_size=60)


def connected(items):
    """The items in groups: those that share a key, directly or through others; by brute force."""
    groups = []
    for place, keys in enumerate(items):
        met = [group for group in groups if any(set(keys) & set(items[other]) for other in group)]
        groups = [group for group in groups if group not in met] + [[place, *(other for group in met for other in group)]]
    return groups


@given(ITEMS, some.integers(1, 6))
def test_every_item_is_in_one_part_in_its_order(items, count):
    parts = divide(list(enumerate(items)), lambda item: item[1], count=count)

    assert len(parts) <= count
    assert sorted(place for part in parts for place, _ in part) == list(range(len(items)))
    assert all([place for place, _ in part] == sorted(place for place, _ in part) for part in parts)


@given(ITEMS, some.integers(1, 6))
def test_no_key_is_in_two_parts(items, count):
    parts = divide(items, lambda item: item, count=count)

    keys = [{key for item in part for key in item} for part in parts]
    assert sum(len(one) for one in keys) == len(set().union(*keys))


@given(ITEMS, some.integers(1, 6))
def test_parts_are_about_the_same_size(items, count):
    """Two parts differ by one group of connected items at most."""
    sizes = [len(part) for part in divide(items, lambda item: item, count=count)]

    largest = max((len(group) for group in connected(items)), default=0)
    assert not sizes or max(sizes) - min(sizes) <= largest
