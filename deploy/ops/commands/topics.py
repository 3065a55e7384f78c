"""`cb-ops topics`: the cluster and the map of topics."""

from typing import Annotated

import typer

from deploy.ops import insights, show
from deploy.ops.commands.runner import Json, group, run
from deploy.ops.errors import kafka_errors_as_ops_errors
from shared import environment, settings
from shared.kafka import provision

app = group("topics", "The cluster and the map of topics.")


Brokers = Annotated[
    int, typer.Option("--brokers", min=1, help="Wait for this many brokers: new topics get as many replicas, three at most.")
]


@app.command("apply")
def topics_apply(*, brokers: Brokers = 1, as_json: Json = False) -> None:
    """Create the topics that are missing and report what differs from the map; nothing is changed, shrunk or deleted."""
    kafka = environment.read(settings.Kafka)

    async def work() -> provision.Report:
        async with kafka_errors_as_ops_errors(kafka):
            await insights.require_kafka(kafka)
            return await provision.apply(kafka, brokers_min=brokers)

    with show.progress("comparing the cluster with the map"):
        report = run(work())
    if as_json:
        show.json(report)
        return
    for name in report.created:
        show.say(f"created    {name}")
    for name in report.unchanged:
        show.say(f"unchanged  {name}")
    for found in report.differences:
        show.say(f"DIFFERS    {found.topic}: {found.setting} is {found.is_now or 'not set'}, the map says {found.should_be}")
    if report.differences:
        show.say(f"{len(report.differences)} differences were left as they are: changing what exists is an operator's decision")
