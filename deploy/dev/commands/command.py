"""`cb-dev` as the shell calls it; from the first moment on, Ctrl-C ends it without a traceback. Next: cli.py."""

import signal

from shared import garbage


def main() -> None:
    """Run the command."""
    # What the commands need takes half a second to import; whoever presses Ctrl-C in it is no friend of tracebacks.
    heard = signal.getsignal(signal.SIGINT)
    if heard is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    with garbage.uncollected():
        from deploy.dev.commands import cli  # noqa: PLC0415 - see above

    signal.signal(signal.SIGINT, heard)
    cli.main()
