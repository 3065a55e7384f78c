"""The box that a run of tests stands on: in memory where there is room, empty before and after.

Nothing of it has to outlive the machine, and a run copies and removes hundreds of databases: on a disk that is a fifth of all
its work. Next: conftest.py and sabotage.py start it.
"""

import hashlib
import os
import shutil
from pathlib import Path

from deploy.dev.box import control
from deploy.dev.errors import AlreadyUp
from deploy.dev.services.stack import Services
from deploy.dev.state import Box
from deploy.dev.terminal import Silence

ROOT = Path(__file__).parents[2]
MEMORY = Path("/dev/shm")
FREE_BYTES_MIN = 2 * 1024**3  # a box needs a tenth of it; containers often have 64 MiB in all
BOXES_MAX = 8


class RunBox(Services):
    """PostgreSQL and Kafka for one run; `environment` leads its tests there."""

    @property
    def name(self):
        """What the run's header calls it."""
        return f"the box in {self.box.home}"

    def stop(self):
        """End both, and give back the room that they took; their logs stay."""
        super().stop()
        control.reset(self.box, Silence())


def first_free():
    """Start the first box that no other run of tests has, empty; None when all are up."""
    for number in range(1, BOXES_MAX + 1):
        folder = folder_of_boxes() / f"tests-{number}"
        if Box(folder).is_taken():
            continue
        # A run that was killed left its own behind, and a broker that keeps every earlier run's topics grows slow.
        control.reset(Box(folder), Silence())
        services = RunBox(folder, durable=False)
        try:
            services.environment = services.start()
        except AlreadyUp:
            continue
        return services
    return None


def folder_of_boxes():
    """Return a folder of this clone's own, made, open to others: PostgreSQL runs as another user when root calls it."""
    folder = ROOT / ".dev"
    if _has_room():
        ours = MEMORY / f"culturebridge-tests-{hashlib.sha256(str(ROOT).encode()).hexdigest()[:10]}"
        ours.mkdir(mode=0o755, exist_ok=True)
        if ours.lstat().st_uid == os.geteuid():
            folder = ours
    folder.mkdir(exist_ok=True)
    return folder


def _has_room():
    """Tell whether files can be kept there, and run from there (root's PostgreSQL may need a copy of its binaries)."""
    if not os.access(MEMORY, os.W_OK | os.X_OK) or os.statvfs(MEMORY).f_flag & os.ST_NOEXEC:
        return False
    return shutil.disk_usage(MEMORY).free >= FREE_BYTES_MIN
