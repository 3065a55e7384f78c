"""Run the mailbox until SIGTERM or SIGINT: `python -m deploy.dev.mailbox --smtp-port P --http-port P --state-dir DIR`."""

import argparse
import asyncio
import signal
from pathlib import Path

from deploy.dev.mailbox.server import HOST, open_mailbox
from deploy.dev.mailbox.wording import of_box, of_release


async def serve(host: str, smtp_port: int, http_port: int, state_dir: Path, box: Path | None) -> None:
    """Print the two addresses once both answer, then wait for a signal; letters stay in `state_dir`."""
    stop = asyncio.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(signum, stop.set)
    ask_wording = of_release if box is None else of_box(box)
    opened = open_mailbox(state_dir, host=host, smtp_port=smtp_port, http_port=http_port, ask_wording=ask_wording)
    async with opened as mailbox:
        print(f"mailbox: smtp {host}:{mailbox.smtp_port}, page {mailbox.http_url}", flush=True)  # noqa: T201 - its only output
        await stop.wait()


def main() -> None:
    """Read the arguments and serve."""
    parser = argparse.ArgumentParser(
        prog="python -m deploy.dev.mailbox", description="A mail server that delivers nothing and shows everything."
    )
    parser.add_argument("--host", default=HOST, help="the address of both; whoever reaches it may read (%(default)s)")
    parser.add_argument("--smtp-port", type=int, required=True, help="port for SMTP; 0 takes any free one")
    parser.add_argument("--http-port", type=int, required=True, help="port for the page and the API; 0 takes any free one")
    parser.add_argument("--state-dir", type=Path, required=True, help="where letters are kept")
    parser.add_argument("--box", type=Path, help="the box whose database says what letters say; default: the release's files")
    given = parser.parse_args()
    asyncio.run(serve(given.host, given.smtp_port, given.http_port, given.state_dir, given.box))


if __name__ == "__main__":
    main()
