"""`cb-ops acls`: who may do what in the cluster."""

from collections.abc import Awaitable, Callable

from deploy.ops import insights, show
from deploy.ops.commands.runner import Json, group, run
from deploy.ops.errors import kafka_errors_as_ops_errors
from shared import environment, settings
from shared.kafka import acls

app = group("acls", "Who may do what in the cluster, by the map of topics.")


@app.command("plan")
def acls_plan(*, as_json: Json = False) -> None:
    """Show which ACLs are missing, and which are there that no process of ours needs; nothing is changed."""
    _show(_ask(acls.plan, "comparing the cluster's ACLs with the map"), missing="missing", as_json=as_json)


@app.command("apply")
def acls_apply(*, as_json: Json = False) -> None:
    """Create the ACLs that are missing and report what is beyond them; nothing is changed or deleted."""
    _show(_ask(acls.apply, "letting the processes at their topics"), missing="created", as_json=as_json)


def _ask(question: Callable[[settings.Kafka], Awaitable[acls.Report]], report_progress: str) -> acls.Report:
    kafka = environment.read(settings.Kafka)

    async def work() -> acls.Report:
        async with kafka_errors_as_ops_errors(kafka):
            await insights.require_kafka(kafka)
            return await question(kafka)

    with show.progress(report_progress):
        return run(work())


def _show(report: acls.Report, *, missing: str, as_json: bool) -> None:
    if as_json:
        show.json(report)
        return
    for acl in report.missing:
        show.say(f"{missing:<9}  {acl}")
    for acl in report.unchanged:
        show.say(f"unchanged  {acl}")
    for acl in report.beyond:
        show.say(f"BEYOND     {acl}")
    if report.beyond:
        show.say(
            f"{len(report.beyond)} are beyond what our processes need and stay: taking rights away is an operator's decision"
        )
