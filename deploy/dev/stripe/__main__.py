"""``python -m deploy.dev.stripe --port P --webhook URL --secret whsec_… --state-dir DIR [--seed N]``."""

import argparse
import asyncio
import signal
import sys
from pathlib import Path

from aiohttp import web

from deploy.dev.stripe.app import runner
from deploy.dev.stripe.sandbox import Settings

HOST = "127.0.0.1"  # loopback only: anybody who reaches a sandbox may pay with it


def main() -> int:
    """Serve until SIGTERM or SIGINT; exit 0 then, 2 on bad arguments, 1 where the port is taken."""
    parser = argparse.ArgumentParser(prog="python -m deploy.dev.stripe", description="A Stripe on this machine.")
    parser.add_argument("--port", type=int, required=True, help="where to listen on 127.0.0.1")
    parser.add_argument("--webhook", required=True, metavar="URL", help="who is told of events")
    parser.add_argument("--secret", required=True, metavar="whsec_…", help="signs webhooks")
    parser.add_argument("--state-dir", type=Path, required=True, metavar="DIR", help="what survives a restart")
    parser.add_argument("--seed", type=int, help="same seed, same ids (of a state that is new)")
    wish = parser.parse_args()
    settings = Settings(
        webhook_url=wish.webhook,
        webhook_secret=wish.secret,
        public_url=f"http://{HOST}:{wish.port}",
        state_folder=wish.state_dir,
        seed=wish.seed,
    )
    return asyncio.run(_serve(settings, wish.port))


async def _serve(settings: Settings, port: int) -> int:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    serving = runner(settings)
    await serving.setup()
    try:
        await web.TCPSite(serving, HOST, port).start()
    except OSError as fault:
        sys.stderr.write(f"stripe sandbox: {HOST}:{port}: {fault.strerror}\n")
        return 1
    else:
        sys.stdout.write(f"stripe sandbox ready on {settings.public_url}, webhooks to {settings.webhook_url}\n")
        sys.stdout.flush()
        await stop.wait()
        return 0
    finally:
        await serving.cleanup()


if __name__ == "__main__":
    sys.exit(main())
