"""`cb-ops stripe`: whether Stripe is set up to send what we handle, and what of it never arrived."""

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
from deploy.ops.reconciliation import ReconciliationReport, ReconciliationSettings, Resources, Scope, Window
from deploy.ops.sessions import OverdueReport, SessionState
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
class EndpointReport:
    """What Stripe said, and what follows from it."""

    account_id: str
    livemode: bool
    api_version: str
    endpoints: tuple[Endpoint, ...]
    findings: tuple[Finding, ...]


@app.command()
def check(*, as_json: Json = False) -> None:
    """Compare the endpoint's events, API version and status with what we handle; status 1 when something is wrong."""
    report = run(_check(environment.read(settings.StripeApi)))
    if as_json:
        show.json(report)
    else:
        _show(report)
    if any(finding.wrong for finding in report.findings):
        raise typer.Exit(1)


@app.command()
def reconcile(*, days: Days = DAYS_DEFAULT, again: Again = False, dry_run: DryRun = False, as_json: Json = False) -> None:
    """Bring the events that no webhook brought, and find sessions that are paid without any. Run it hourly; twice is once.

    Status 1 also while a session is paid without an event, or unknown at Stripe.
    """
    configured = environment.read(ReconciliationSettings)
    now = clock.now()
    window = Window(now - timedelta(days=days), now - SETTLED)
    reconciled, overdue = run(_compare(configured, window, Scope.ALL if again else Scope.MISSING, dry_run=dry_run))
    if as_json:
        show.json(asdict(reconciled) | {"sessions": overdue})
    else:
        _show_reconciled(reconciled)
        _show_overdue(overdue, dry_run=dry_run)
    if overdue.unknown:
        show.fail(
            f"Stripe at {configured.stripe_api_base or 'https://api.stripe.com'} does not know "
            f"{len(overdue.unknown)} of our sessions: is the key of their mode and account?"
        )
    if overdue.paid or overdue.unknown:
        raise typer.Exit(1)


async def _compare(
    configured: ReconciliationSettings, window: Window, scope: Scope, *, dry_run: bool
) -> tuple[ReconciliationReport, OverdueReport]:
    async with engine_of(configured) as engine, _client_of(configured) as api:
        resources = Resources(configured, api, engine)
        with show.progress("comparing with Stripe's events") as report_progress:
            reconciled = await reconciliation.reconcile(resources, window, scope, dry_run=dry_run, progress=report_progress)
        with show.progress("asking Stripe for sessions that are over") as report_progress:
            overdue = await sessions.check_overdue(resources, reconciled, dry_run=dry_run, progress=report_progress)
    return reconciled, overdue


@asynccontextmanager
async def _client_of(configured: settings.StripeApi) -> AsyncIterator[StripeApi]:
    api = StripeApi(configured)
    try:
        yield api
    finally:
        await api.close()


def _show_reconciled(reconciled: ReconciliationReport) -> None:
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


def _show_overdue(overdue: OverdueReport, *, dry_run: bool) -> None:
    lines = [(one, SessionState.PAID) for one in overdue.paid] + [(one, SessionState.UNKNOWN) for one in overdue.unknown]
    if lines:
        show.table(("payment", "session", "at Stripe"), [(one.payment_id, one.session_id, state.value) for one, state in lines])
    if overdue.asked:
        show.say(
            f"of {overdue.asked} sessions that should be over and of which no event said so, {len(overdue.paid)} are paid, "
            f"{overdue.expired} expired, {overdue.under_way} under way, {len(overdue.unknown)} unknown at Stripe"
        )
    if overdue.left:
        show.say(f"{overdue.left} more were left to the next run")
    if overdue.paid:
        show.say(f"each that is paid {'would be' if dry_run else 'is'} a matter for a person: `cb-ops attention list`")
    if overdue.moved_on:
        show.say(f"{overdue.moved_on} that were such a matter have moved on")


async def _check(configured: settings.StripeApi) -> EndpointReport:
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
    return EndpointReport(account_id, configured.livemode, API_VERSION, endpoints, findings)


def _show(report: EndpointReport) -> None:
    mode = "live" if report.livemode else "test"
    show.say(f"account {report.account_id}, {mode} mode; our API version is {report.api_version}")
    for one in report.endpoints:
        if endpoint.is_ours(one):
            status = "enabled" if one.enabled else "disabled"
            show.say(f"{one.id} is {status}, {len(one.events)} kinds of events, {one.api_version}: {one.url}")
    for finding in report.findings:
        show.say(f"{'WRONG' if finding.wrong else 'note '}  {finding.text}")
    if not any(finding.wrong for finding in report.findings):
        show.say("Stripe sends us everything that we handle")
