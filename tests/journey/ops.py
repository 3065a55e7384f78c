"""`cb-ops` as an operator beside a pipeline runs it."""

import asyncio

from typer.testing import CliRunner

from deploy.ops.cli import app


async def ops(pipeline, *arguments):
    """Run `cb-ops` in the pipeline's environment, as a thread of ours; return what it answered."""
    ran = await asyncio.to_thread(CliRunner().invoke, app, arguments, env=pipeline.environment("payments"))
    assert ran.exit_code == 0, ran.output
    return ran.stdout
