"""How the API version that rendered an event is counted; pure. shared/stripe_events.py lists those that we have tried.

Stripe renders `data` once, by the version of the endpoint (from the Events API: of the account when the event was made), so
that a new version comes with a change in Stripe's dashboard and not with a release of ours. An event of another version is
handled as long as its shape decodes.
"""

import re

SPELLING = re.compile(r"\d{4}-\d{2}-\d{2}(\.[a-z]{1,20})?", re.ASCII)


def label(api_version: str | None) -> str:
    """Return the version as a metric's label: as Stripe spells it, `none` without one, `other` for what is no version."""
    if api_version is None:
        return "none"
    return api_version if SPELLING.fullmatch(api_version) else "other"
