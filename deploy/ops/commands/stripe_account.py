"""`cb-ops stripe`: whether Stripe is set up to tell us what we handle, and what it could not tell us."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Annotated

import typer

from deploy.ops import endpoint, reconciliation, sessions, show
from deploy.ops.commands.runner import Json, engine_of, group, run
from deploy.ops.endpoint import Finding
from deploy.ops.errors import StripeUnavailable
from deploy.ops.reconciliation import Reconciled, Reconciling, Resources, Scope, Window
from deploy.ops.sessions import Standing, Swept
from shared import clock, environment, settings
from shared.stripe_api import Endpoint, StripeApi
from shared.stripe_events import API_VERSION

app = group("stripe", "What Stripe has of us: the webhook endpoint, and events that it could not bring.")

DAYS_DEFAULT = 4  # Stripe tries for three
DAYS_MAX = 30  # Stripe keeps no event longer: https://docs.stripe.com/api/events/list
SETTLED = timedelta(minutes=10)  # a younger event may be on its way, or under way here

Days = Annotated[int, typer.Option(min=1, max=DAYS_MAX, help="How far to look back.")]
Again = Annotated[
    bool,
    typer.Option(
        "--again",
        help="For when Kafka lost its records, or PostgreSQL is that of a backup: put back those that we took, too, so "
        "that all is told again.",
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only show what is missing.")]


@dataclass(frozen=True, slots=True)
class Checked:
    """What Stripe said, and what follows from it."""

    account_id: str
    livemode: bool
    api_version: str
    endpoints: tuple[Endpoint, ...]
    findings: tuple[Finding, ...]


@app.command()
def check(*, as_json: Json = False) -> None:
    """Compare the endpoint's events, API version and status with what we handle; status 1 when something is wrong."""
    checked = run(_ask(environment.read(settings.StripeApi)))
    if as_json:
        show.json(checked)
    else:
        _show(checked)
    if any(finding.wrong for finding in checked.findings):
        raise typer.Exit(1)


@app.command()
def reconcile(*, days: Days = DAYS_DEFAULT, again: Again = False, dry_run: DryRun = False, as_json: Json = False) -> None:
    """Bring the events that no webhook brought, and find sessions that are paid without any. Run it hourly; twice is once.

    Status 1 also while a session is paid without an event, or unknown at Stripe.
    """
    configured = environment.read(Reconciling)
    now = clock.now()
    window = Window(now - timedelta(days=days), now - SETTLED)
    reconciled, swept = run(_compare(configured, window, Scope.ALL if again else Scope.MISSING, dry_run=dry_run))
    if as_json:
        show.json(asdict(reconciled) | {"sessions": swept})
    else:
        _show_reconciled(reconciled)
        _show_swept(swept, told=not dry_run)
    if swept.unknown:
        show.fail(
            f"Stripe at {configured.stripe_api_base or 'https://api.stripe.com'} does not know "
            f"{len(swept.unknown)} of our sessions: is the key of their mode and account?"
        )
    if swept.paid or swept.unknown:
        raise typer.Exit(1)


async def _compare(configured: Reconciling, window: Window, scope: Scope, *, dry_run: bool) -> tuple[Reconciled, Swept]:
    async with engine_of(configured) as engine, _client_of(configured) as api:
        resources = Resources(configured, api, engine)
        with show.progress("comparing with Stripe's events") as told:
            reconciled = await reconciliation.reconcile(resources, window, scope, dry_run=dry_run, progress=told)
        with show.progress("asking Stripe for sessions that are over") as told:
            swept = await sessions.sweep(resources, reconciled, dry_run=dry_run, progress=told)
    return reconciled, swept


@asynccontextmanager
async def _client_of(configured: settings.StripeApi) -> AsyncIterator[StripeApi]:
    api = StripeApi(configured)
    try:
        yield api
    finally:
        await api.close()


def _show_reconciled(reconciled: Reconciled) -> None:
    missing = reconciled.missing
    if missing:
        show.table(
            ("event", "kind", "made"), [(one.event_id, one.event_type, f"{show.age(one.created)} ago") for one in missing]
        )
    show.say(
        f"of {reconciled.events} events that Stripe made from {reconciled.since:%Y-%m-%d %H:%M} to "
        f"{reconciled.until:%Y-%m-%d %H:%M} UTC, {len(missing)} never came"
    )
    if missing:
        show.say(
            f"{len(missing)} went to stripe.events; `cb-ops stripe check` tells whether the endpoint is well"
            if reconciled.published
            else f"{len(missing)} would go to stripe.events"
        )
    if reconciled.again:
        goes = "went" if reconciled.published else "would go"
        show.say(
            f"{reconciled.again} that we took {goes} there once more: what came of them is told again, and changes nothing"
        )


def _show_swept(swept: Swept, *, told: bool) -> None:
    lines = [(one, Standing.PAID) for one in swept.paid] + [(one, Standing.UNKNOWN) for one in swept.unknown]
    if lines:
        show.table(
            ("payment", "session", "at Stripe"), [(one.payment_id, one.session_id, stands.value) for one, stands in lines]
        )
    if swept.asked:
        show.say(
            f"of {swept.asked} sessions that should be over and of which no event said so, {len(swept.paid)} are paid, "
            f"{swept.expired} expired, {swept.under_way} under way, {len(swept.unknown)} unknown at Stripe"
        )
    if swept.left:
        show.say(f"{swept.left} more were left to the next run")
    if swept.paid:
        show.say(f"each that is paid {'is' if told else 'would be'} a matter for a person: `cb-ops attention list`")
    if swept.moved_on:
        show.say(f"{swept.moved_on} that were such a matter have moved on")


async def _ask(configured: settings.StripeApi) -> Checked:
    async with _client_of(configured) as api:
        account_id = await api.account_id()
        endpoints = await api.webhook_endpoints()
    for answer in (account_id, endpoints):
        if not isinstance(answer, str | tuple):
            raise StripeUnavailable(configured, answer)
    assert isinstance(account_id, str)
    assert isinstance(endpoints, tuple)
    findings = endpoint.check(
        endpoints, livemode=configured.livemode, account_id=account_id, expected_account_id=configured.stripe_account_id
    )
    return Checked(account_id, configured.livemode, API_VERSION, endpoints, findings)


def _show(checked: Checked) -> None:
    mode = "live" if checked.livemode else "test"
    show.say(f"account {checked.account_id}, {mode} mode; our API version is {checked.api_version}")
    for one in checked.endpoints:
        if endpoint.is_ours(one):
            status = "enabled" if one.enabled else "disabled"
            show.say(f"{one.id} is {status}, {len(one.events)} kinds of events, {one.api_version}: {one.url}")
    for finding in checked.findings:
        show.say(f"{'WRONG' if finding.wrong else 'note '}  {finding.text}")
    if not any(finding.wrong for finding in checked.findings):
        show.say("Stripe sends us everything that we handle")
