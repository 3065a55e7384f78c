"""Plant known faults into a copy of the project, one at a time, and expect a red test for each: `make sabotage`.

A test suite that has never been seen red proves nothing. Every fault below is one that a system of this kind has shipped
with; faults.py says what is changed and which tests must notice. Prints a line per fault with the test that caught it, and
exits non-zero when one survived or no longer fits the code it was written for.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from tests import conftest
from tests.faults import FAULTS, Fault

ROOT = Path(__file__).parent.parent
COPIES_AT_ONCE = 2
CAUGHT_WITHIN_SECONDS = 300
FAILED = re.compile(r"^(?:FAILED|ERROR) (\S+)", re.MULTILINE)


def main() -> int:
    """Plant every fault, or those whose name contains the given words; return the exit status."""
    parser = argparse.ArgumentParser(prog="make sabotage", description=__doc__)
    parser.add_argument("words", nargs="*", help="only faults whose name contains one of these")
    words = parser.parse_args().words
    chosen = [fault for fault in FAULTS if not words or any(word in fault.name for word in words)]
    box = conftest.first_free_box()
    try:
        with ThreadPoolExecutor(COPIES_AT_ONCE) as pool:
            survived = [fault for fault, caught in pool.map(partial(_try, box.environment), chosen) if not caught]
    finally:
        box.stop()
    print(f"{len(chosen) - len(survived)} of {len(chosen)} planted faults caught")
    return 1 if survived else 0


def _try(box: Mapping[str, str], fault: Fault) -> tuple[Fault, bool]:
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="sabotage-") as folder:
        copy = Path(folder)
        # The database server may run as another user, who must be able to walk to its data.
        copy.chmod(0o755)
        _copy_tracked(copy)
        misfit = _plant(fault, copy)
        if misfit:
            print(f"MISFIT    {fault.name}: {misfit}", flush=True)
            return fault, False
        culprit = _first_red(fault, copy, box)
    seconds = time.monotonic() - started
    print(f"{'caught' if culprit else 'SURVIVED':9} {fault.name} ({seconds:.0f} s) {culprit or ''}", flush=True)
    return fault, culprit is not None


def _copy_tracked(copy: Path) -> None:
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True).stdout
    for name in filter(None, tracked.decode().split("\0")):
        if (ROOT / name).exists():
            target = copy / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target)


def _plant(fault: Fault, copy: Path) -> str | None:
    for name, old, new in fault.replacements:
        file = copy / name
        text = file.read_text()
        if text.count(old) != 1:
            return f"{name} holds the text to replace {text.count(old)} times"
        file.write_text(text.replace(old, new))
    return None


def _first_red(fault: Fault, copy: Path, box: Mapping[str, str]) -> str | None:
    """Run the tests that must notice, on the one box of this run but on tables that the copy's own migrations made."""
    environment = {**os.environ, **box, conftest.TEMPLATE_GIVEN: f"template_{FAULTS.index(fault)}"}
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "--timeout=120", *fault.tests]
    try:
        run = subprocess.run(
            command,
            cwd=copy,
            env=environment,
            check=False,
            capture_output=True,
            text=True,
            timeout=CAUGHT_WITHIN_SECONDS,
        )
    except subprocess.TimeoutExpired:
        print(f"{fault.name}: the tests did not end", flush=True)
        return None
    # 1 = tests ran and some failed. Anything else (nothing collected, a broken conftest) proves nothing.
    failed = FAILED.search(run.stdout)
    if run.returncode == 1 and failed:
        return failed.group(1)
    if run.returncode != 0:
        print(run.stdout[-2000:], run.stderr[-2000:], flush=True)
    return None


if __name__ == "__main__":
    sys.exit(main())
