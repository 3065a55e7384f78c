"""`cb-ops` as the shell calls it. Next: cli.py."""

from shared import garbage


def main() -> None:
    """Run the command."""
    with garbage.uncollected():
        from deploy.ops import cli  # noqa: PLC0415 - what it imports is the point
    cli.main()
