"""Every amount, day and zone that a letter may name, by the code of letters; run in an image, it imports nothing of tests.

Leaves: JSON on stdout, the same wherever the same packages are.
"""

import json
from datetime import UTC, date, datetime, timedelta

from babel.numbers import list_currencies

from consumers.email import compose

MOMENTS = (datetime(2027, 1, 15, 10, tzinfo=UTC), datetime(2027, 7, 15, 10, tzinfo=UTC))  # most zones have two names


def told():
    """By kind and name."""
    zones = {name: compose._zone(name) for name in sorted(compose._zone_names())}
    return {
        "amounts": {code: compose.amount(123_456_000, code) for code in sorted(list_currencies())},
        "zones": {name: [compose._zone_name(at.astimezone(zone)) for at in MOMENTS] for name, zone in zones.items()},
        "days": {str(day): compose._day(day) for day in (date(2027, 1, 1) + timedelta(days=past) for past in range(365))},
    }


if __name__ == "__main__":
    print(json.dumps(told()))
