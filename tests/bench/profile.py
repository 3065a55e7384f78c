"""`make profile`: where a webhook's and a batch's time goes, as one flame graph for each process under its own full load.

Enters: nothing. Leaves: `.dev/profiles/NAME.svg` for the door and each consumer; open them in a browser. py-spy looks
from outside and costs the process nothing but short pauses; only what ran is drawn, not what waited.
"""

import asyncio
import os
import sys
import tempfile
from pathlib import Path

from deploy.dev.services.stack import Services
from tests.bench import consumers
from tests.bench.door import webhooks_to_send
from tests.bench.ground import Needs, ground, load, started
from tests.journey.pipeline import ROOT

FOLDER = ROOT / ".dev" / "profiles"
PY_SPY = Path(sys.executable).with_name("py-spy")
LOOKS_PER_SECOND, LOOKING_SECONDS = 500, 5
DOOR_SECONDS = 8
EVENTS, LETTERS = 40_000, 6_000  # enough to be busy while it is looked at


class Looked(Needs):
    """Takes a profile of every process as soon as it is ready."""

    def __init__(self):
        super().__init__()
        self._looking = {}

    async def ready(self, name, pid):
        target = FOLDER / f"{name}.svg"
        self._looking[target] = await asyncio.create_subprocess_exec(
            *(PY_SPY, "record", "--rate", str(LOOKS_PER_SECOND), "--duration", str(LOOKING_SECONDS)),
            *("--output", target, "--pid", str(pid)),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )

    async def drawn(self):
        """Name each profile, and end with what py-spy said where it drew none."""
        for target, looking in self._looking.items():
            _, complaint = await looking.communicate()
            if looking.returncode:
                raise SystemExit(f"{target.name} was not drawn: {complaint.decode().strip()}")
            print(target.relative_to(ROOT))


async def main():
    FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="cb-profile-") as folder:
        root = Path(folder)
        os.chmod(root, 0o755)  # noqa: PTH101 - the database server may run as another user, who must be able to walk to its data
        services = Services(root / "box")
        os.environ |= services.start()
        try:
            looked = Looked()
            async with ground(root / "ingress") as (pipeline, _, _), started(pipeline, "ingress", needs=looked):
                await load(root, [pipeline.port], webhooks_to_send(), seconds=DOOR_SECONDS)
            await consumers.payments(root / "payments", EVENTS, looked)
            await consumers.bookings(root / "bookings", EVENTS, looked)
            await consumers.letters(root / "email", LETTERS, looked)
            await looked.drawn()
        finally:
            services.stop()


if __name__ == "__main__":
    asyncio.run(main())
