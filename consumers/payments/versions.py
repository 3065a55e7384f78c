"""Which API versions render an event in a shape that we have tried; pure.

Stripe renders `data` once, by the version of the endpoint (from the Events API: of the account when the event was made), so
that a new version comes with a change in Stripe's dashboard and not with a release of ours. An event of another version is
handled as long as its shape decodes, and counted. Source of the list: https://docs.stripe.com/changelog; every one of them
has its examples in tests/examples/stripe/versions.
"""

import re

KNOWN = frozenset(
    """
    2025-04-30.basil 2025-05-28.basil 2025-06-30.basil 2025-07-30.basil 2025-08-27.basil
    2025-09-30.clover 2025-10-29.clover 2025-11-17.clover 2025-12-15.clover 2026-01-28.clover 2026-02-25.clover
    2026-03-25.dahlia 2026-04-22.dahlia 2026-05-27.dahlia 2026-06-24.dahlia 2026-07-29.dahlia 2026-08-26.dahlia
    2026-09-30.endive 2026-10-28.endive
    """.split()
)
SPELLING = re.compile(r"\d{4}-\d{2}-\d{2}(\.[a-z]{1,20})?", re.ASCII)


def label(api_version: str | None) -> str:
    """Return the version as a metric's label: as Stripe spells it, `none` without one, `other` for what is no version."""
    if api_version is None:
        return "none"
    return api_version if SPELLING.fullmatch(api_version) else "other"
