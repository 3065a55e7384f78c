"""Compare the webhook endpoint that Stripe has with what we handle; pure.

Enters: what Stripe says of the account and its endpoints, and what our settings say. Leaves: findings, each of which is
wrong (exit status 1) or merely worth knowing. Next: commands/stripe_account.py asks Stripe and shows them.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from shared.stripe_api import Endpoint
from shared.stripe_events import API_VERSION, API_VERSIONS_KNOWN, WEBHOOK_PATH, Kind

EVERY_KIND = "*"


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding; `wrong`: events are lost or misread until it is fixed. `what` is a stable code."""

    wrong: bool
    what: str
    text: str


def check(
    endpoints: Sequence[Endpoint], *, livemode: bool, account_id: str, expected_account_id: str | None
) -> tuple[Finding, ...]:
    """Return everything that is missing, extra or wrong; nothing when all is as it must be."""
    ours = [endpoint for endpoint in endpoints if is_ours(endpoint)]
    return (
        *_account(account_id, expected_account_id),
        *_whole(ours, endpoints, livemode=livemode),
        *(finding for endpoint in ours for finding in _one(endpoint, livemode=livemode)),
    )


def is_ours(endpoint: Endpoint) -> bool:
    """Return whether an endpoint leads to the ingress."""
    return urlsplit(endpoint.url).path == WEBHOOK_PATH


def _account(account_id: str, expected: str | None) -> Iterator[Finding]:
    if expected is not None and expected != account_id:
        yield Finding(
            wrong=True,
            what="another_account",
            text=f"STRIPE_ACCOUNT_ID is {expected}, but the key belongs to {account_id}: customers would pay into the latter",
        )


def _whole(ours: Sequence[Endpoint], every: Sequence[Endpoint], *, livemode: bool) -> Iterator[Finding]:
    """Find faults of all endpoints together: each kind of event must come through at least one that is enabled."""
    if not ours:
        elsewhere = ", ".join(endpoint.url for endpoint in every) or "none at all"
        yield Finding(wrong=True, what="no_endpoint", text=f"no endpoint leads to {WEBHOOK_PATH}; the account has {elsewhere}")
        return
    sent = {kind for endpoint in ours if endpoint.enabled and endpoint.livemode == livemode for kind in endpoint.events}
    missing = [] if EVERY_KIND in sent else [kind for kind in Kind if kind not in sent]
    if missing:
        yield Finding(wrong=True, what="events_missing", text=f"no enabled endpoint sends us {_listed(missing)}")
    for endpoint in every:
        if endpoint not in ours:
            yield Finding(wrong=False, what="elsewhere", text=f"{endpoint.id} leads elsewhere: {endpoint.url}")


def _one(endpoint: Endpoint, *, livemode: bool) -> Iterator[Finding]:
    if not endpoint.enabled:
        yield Finding(wrong=True, what="disabled", text=f"{endpoint.id} is disabled: Stripe sends it nothing")
    if endpoint.livemode != livemode:
        modes = {True: "live", False: "test"}
        text = f"{endpoint.id} is of {modes[endpoint.livemode]} mode, the key of {modes[livemode]} mode: its events are ignored"
        yield Finding(wrong=True, what="another_mode", text=text)
    if EVERY_KIND in endpoint.events:
        text = f"{endpoint.id} sends every kind of event: those that we do not handle are recorded and decide nothing"
        yield Finding(wrong=False, what="events_extra", text=text)
    elif extra := sorted(set(endpoint.events) - set(Kind)):
        yield Finding(wrong=False, what="events_extra", text=f"{endpoint.id} also sends {_listed(extra)}, which decide nothing")
    yield from _version(endpoint)


def _version(endpoint: Endpoint) -> Iterator[Finding]:
    version = endpoint.api_version
    if version is None:
        text = f"{endpoint.id} has the account's default API version: {API_VERSION} should be set on the endpoint itself"
        yield Finding(wrong=False, what="version_unset", text=text)
    elif version not in API_VERSIONS_KNOWN:
        known = f"known are {min(API_VERSIONS_KNOWN)} to {max(API_VERSIONS_KNOWN)}, others are tried and counted"
        text = f"{endpoint.id} has API version {version}; {known}"
        yield Finding(wrong=False, what="version_unknown", text=text)
    elif version != API_VERSION:
        text = f"{endpoint.id} has API version {version}, which we know; ours is {API_VERSION}"
        yield Finding(wrong=False, what="version_older", text=text)


def _listed(kinds: Iterable[str]) -> str:
    return ", ".join(str(kind) for kind in kinds)
