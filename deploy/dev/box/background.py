"""What `cb-dev up --detach` leaves running: a box kept up without a terminal, until SIGTERM (`cb-dev down`)."""

import argparse
import contextlib
import sys
from pathlib import Path

from deploy.dev.box import control
from deploy.dev.errors import BoxError
from deploy.dev.services import broker
from deploy.dev.terminal import Voice


def main() -> None:
    """Keep the box of the given folder up; on a failure, print it last and exit with status 1."""
    parser = argparse.ArgumentParser(prog="python -m deploy.dev.box.background")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--services-only", action="store_true")
    parser.add_argument("--brokers", type=int, choices=broker.COUNTS)
    parser.add_argument("--secure", action="store_true")
    given = parser.parse_args()
    try:
        keeping = control.kept_up(
            given.folder, Voice(), services_only=given.services_only, brokers=given.brokers, secure=given.secure
        )
        with contextlib.suppress(KeyboardInterrupt), keeping:
            control.wait_for_ever()
    except BoxError as error:
        sys.stdout.write(f"{error}\n")
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
