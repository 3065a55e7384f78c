"""``python -m deploy.dev.stripe --webhook URL``, and options that all have a default."""

import argparse
import asyncio
import os
import signal
import sqlite3
import sys
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from deploy.dev.stripe.app import HOST, open_sandbox

PORT_MAX = 65535
SECRET = "STRIPE_WEBHOOK_SECRET"  # noqa: S105 - the name of a variable, the same that a receiver of ours reads
SECRET_DEFAULT = "whsec_sandbox"  # noqa: S105 - a secret that everybody may know


def main() -> int:
    """Serve until SIGTERM or SIGINT; exit 0 then, 2 on bad arguments, 1 where the port or the folder is not ours."""
    parser = argparse.ArgumentParser(prog="python -m deploy.dev.stripe", description="A Stripe on this machine.")
    parser.add_argument("--webhook", required=True, type=_address, metavar="URL", help="who is told of events")
    parser.add_argument("--port", type=_port, default=12111, help="where to listen (%(default)s)")
    parser.add_argument("--host", default=HOST, help="on which address; anybody who reaches it may pay (%(default)s)")
    parser.add_argument(
        "--public-url", type=_address, metavar="URL", help="where a browser finds it, when that is not where it listens"
    )
    parser.add_argument(
        "--secret",
        metavar="whsec_…",
        help=f"signs webhooks; `ps` shows it, {SECRET} or {SECRET}_FILE do not ({SECRET_DEFAULT})",
    )
    parser.add_argument("--state-dir", type=Path, metavar="DIR", help="what survives a restart (nothing does)")
    parser.add_argument("--merchant", default="CultureBridge", metavar="NAME", help="whose name the pages bear (%(default)s)")
    parser.add_argument("--seed", type=int, help="same seed, same ids (of a state that is new)")
    wish = parser.parse_args()
    try:
        wish.secret = wish.secret or _secret(os.environ)  # noqa: TID251 - the sandbox shares nothing with the pipeline
    except (OSError, ValueError) as fault:
        parser.error(f"{SECRET}_FILE: {fault}")
    return asyncio.run(_serve(wish))


async def _serve(wish: argparse.Namespace) -> int:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    opened = open_sandbox(
        wish.port,
        host=wish.host,
        public_url=wish.public_url,
        webhook_url=wish.webhook,
        webhook_secret=wish.secret,
        state_folder=wish.state_dir,
        merchant=wish.merchant,
        seed=wish.seed,
    )
    try:
        async with opened as sandbox:
            sys.stdout.write(f"stripe sandbox ready on {sandbox.settings.public_url}, webhooks to {wish.webhook}\n")
            sys.stdout.flush()
            await stop.wait()
    except (OSError, sqlite3.Error) as fault:
        why = fault.strerror if isinstance(fault, OSError) else fault
        sys.stderr.write(f"stripe sandbox: port {wish.port}, state in {wish.state_dir or 'memory'}: {why}\n")
        return 1
    return 0


def _secret(variables: Mapping[str, str]) -> str:
    """Return what signs webhooks: the variable, or what stands in the file that it names; an empty one counts as unset."""
    if named := variables.get(f"{SECRET}_FILE"):
        said = Path(named).read_text(encoding="utf-8").strip()
        if not said:
            raise ValueError(f"{named} is empty")
        return said
    return variables.get(SECRET) or SECRET_DEFAULT


def _address(typed: str) -> str:
    """Accept an absolute address: without a scheme nothing could be sent there, and nobody would hear of it."""
    parts = urlsplit(typed)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise argparse.ArgumentTypeError(f"not an address: {typed!r}; write it as http://127.0.0.1:5000/")
    return typed


def _port(typed: str) -> int:
    """Accept the number of a port; 0 takes any free one."""
    number = int(typed)
    if not 0 <= number <= PORT_MAX:
        raise argparse.ArgumentTypeError(f"must lie between 0 and {PORT_MAX}")
    return number


if __name__ == "__main__":
    sys.exit(main())
