"""`python -m deploy.ops`: the same as `cb-ops`, where the command itself is not installed."""

from deploy.ops.cli import main

main()
