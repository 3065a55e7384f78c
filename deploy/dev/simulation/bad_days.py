"""The bad days of a simulation: how webhooks are disturbed and which calls fail, and when; drawn from the seed; pure.

Enters: a seed and a duration. Leaves: words for the sandbox's switches (deploy/dev/stripe/README.md), each with its second.
Losses are never among them: nobody can be asked about an event that is in no webhook and no list. Next: run.py pulls the
switches.
"""

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

SPELL_SECONDS = 8.0
FAULT_EVERY_SECONDS = 0.8
# Long enough that everything else of the moment goes past it, and shorter than a customer's patience.
HANG_SECONDS = 2.0
REORDER_MS_MAX = 2000
DELAY_MS_MAX = 300
RETRY_SECONDS = [0.5, 1, 2, 4, 8]
ROUTES = ("POST /v1/checkout/sessions", "GET /v1/checkout/sessions/{id}", "POST /v1/refunds")
FAULTS = ("error_before", "error_after", "conflict", "rate_limit", "hang_before", "hang_after", "cut")
REST: Mapping[str, object] = {}


@dataclass(frozen=True)
class Switch:
    """One switch, pulled `after_seconds`: where under /_sandbox, and its words."""

    after_seconds: float
    method: str
    path: str
    words: Mapping[str, object]


def draw(seed: int, *, seconds: float) -> tuple[Switch, ...]:
    """Return every switch that is pulled within so many seconds, in their order."""
    dice = random.Random(f"{seed}/weather")  # noqa: S311 - bad days that can be drawn again
    return tuple(sorted((*_spells(dice, seconds), *_faults(dice, seconds)), key=lambda switch: switch.after_seconds))


def _spells(dice: random.Random, seconds: float) -> Iterator[Switch]:
    after_seconds = 0.0
    while after_seconds < seconds:
        words = {
            "duplicates": dice.randint(1, 2),
            "duplicate_share": dice.choice((0.3, 1.0)),
            "twins": dice.choice((0, 0, 1)),
            "delay_ms": dice.randint(0, DELAY_MS_MAX),
            "reorder_ms": dice.randint(0, REORDER_MS_MAX),
            "order": dice.choice(("as_born", "as_born", "oldest_last", "newest_first")),
            "drop_first": dice.choice((0, 0, 1)),
            "retry_schedule_seconds": RETRY_SECONDS,
            "seed": dice.getrandbits(32),
        }
        yield Switch(after_seconds, "PUT", "deliveries", words)
        after_seconds += SPELL_SECONDS


def _faults(dice: random.Random, seconds: float) -> Iterator[Switch]:
    after_seconds = dice.expovariate(1 / FAULT_EVERY_SECONDS)
    while after_seconds < seconds:
        words = {
            "route": dice.choice(ROUTES),
            "kind": dice.choice(FAULTS),
            "times": dice.choice((1, 1, 1, 3)),
            "seconds": HANG_SECONDS,
        }
        yield Switch(after_seconds, "POST", "faults", words)
        after_seconds += dice.expovariate(1 / FAULT_EVERY_SECONDS)
