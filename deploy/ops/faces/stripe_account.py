"""`cb-ops stripe check`: whether Stripe is set up to tell us what we handle."""

from dataclasses import dataclass

import typer

from deploy.ops import endpoint, show
from deploy.ops.endpoint import Finding
from deploy.ops.errors import StripeSilent
from deploy.ops.faces.asking import Json, group, run
from shared import settings
from shared.stripe_api import Endpoint, StripeApi
from shared.stripe_events import API_VERSION

app = group("stripe", "What Stripe has of us: the webhook endpoint and the account.")


@dataclass(frozen=True, slots=True)
class Checked:
    """What Stripe said, and what follows from it."""

    account_id: str
    livemode: bool
    api_version: str
    endpoints: tuple[Endpoint, ...]
    findings: tuple[Finding, ...]


@app.callback()
def about() -> None:
    """Keep `check` a command of its own, though it is the only one."""


@app.command()
def check(*, as_json: Json = False) -> None:
    """Compare the endpoint's events, API version and status with what we handle; status 1 when something is wrong."""
    webhook = settings.read(settings.Webhook)
    checked = run(_ask(webhook))
    if as_json:
        show.json(checked)
    else:
        _show(checked)
    if any(finding.wrong for finding in checked.findings):
        raise typer.Exit(1)


async def _ask(webhook: settings.Webhook) -> Checked:
    api = StripeApi(webhook)
    try:
        account_id = await api.account_id()
        endpoints = await api.webhook_endpoints()
    finally:
        await api.close()
    for answer in (account_id, endpoints):
        if not isinstance(answer, str | tuple):
            raise StripeSilent(webhook, answer)
    assert isinstance(account_id, str)
    assert isinstance(endpoints, tuple)
    findings = endpoint.check(
        endpoints, livemode=webhook.livemode, account_id=account_id, expected_account_id=webhook.stripe_account_id
    )
    return Checked(account_id, webhook.livemode, API_VERSION, endpoints, findings)


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
        show.say("everything that we handle reaches us")
